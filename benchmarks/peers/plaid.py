"""``fast-plaid``: PLAID (Santhanam et al., 2022) in Rust."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from fast_plaid.search import FastPlaid

from benchmarks.peers.subject import Array, Dial
from benchmarks.search_corpus import Corpus


class Plaid:
    """Four bits a dimension, the package's default."""

    def build(self, corpus: Corpus, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        ends = corpus.offsets.tolist()
        everything = torch.from_numpy(corpus.vectors.copy())
        passages = [everything[a:b] for a, b in itertools.pairwise(ends)]
        FastPlaid(str(folder), device="cpu").create(documents_embeddings=passages)

    def open(self, corpus: Corpus, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._index = FastPlaid(str(folder), device="cpu")

    def dials(self) -> Sequence[Dial]:
        settings = ((2, 256), (4, 1024), (8, 4096), (16, 4096), (32, 8192), (64, 16384))
        return [
            Dial(f"{probes} probes, {full} full", {"n_ivf_probe": probes, "n_full_scores": full})
            for probes, full in settings
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
