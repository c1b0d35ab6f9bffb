"""``fast-plaid``: PLAID (Santhanam et al., 2022) in Rust."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from fast_plaid.search import FastPlaid

from benchmarks.peers.subject import Array, Dial
from benchmarks.search_corpus import Corpus

_SETTINGS = (
    (1, 64),
    (2, 128),
    (2, 256),
    (4, 1024),
    (8, 4096),
    (16, 4096),
    (32, 8192),
    (64, 16384),
)
"""Lists to look into for each query token, passages to score with residuals."""


class Plaid:
    """Four bits a dimension, the package's default."""

    n_bits = 4

    def build(self, corpus: Corpus, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        ends = corpus.offsets.tolist()
        everything = torch.from_numpy(corpus.vectors.copy())
        passages = [everything[a:b] for a, b in itertools.pairwise(ends)]
        index = FastPlaid(str(folder), device="cpu")
        index.create(documents_embeddings=passages, nbits=self.n_bits)

    def open(self, corpus: Corpus, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._index = FastPlaid(str(folder), device="cpu")

    def dials(self) -> Sequence[Dial]:
        return [
            Dial(f"{probes} probes, {full} full", {"n_ivf_probe": probes, "n_full_scores": full})
            for probes, full in _SETTINGS
        ]

    def search(self, query: Array, k: int, dial: Dial, case: str) -> Sequence[int]:
        (found,) = self._index.search(
            torch.from_numpy(query)[None],
            top_k=k,
            n_ivf_probe=int(dial.values["n_ivf_probe"]),
            n_full_scores=int(dial.values["n_full_scores"]),
            show_progress=False,
        )
        return [int(passage) for passage, _ in found]

    def facts(self) -> Mapping[str, str | int | float]:
        return {"torch": torch.__version__}


class Plaid8(Plaid):
    """Eight bits a dimension: twice the bytes, for who wants more recall than four bits can give."""

    n_bits = 8
