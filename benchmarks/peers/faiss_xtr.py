"""Token-level retrieval with FAISS, missing scores imputed as in XTR (Lee et al., 2023,
arXiv 2304.01982), then as many of the best as wanted scored exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.subject import Array, Dial, Numbers, best
from benchmarks.search_corpus import Corpus

_TRAIN_TOKENS_A_LIST = 64
_ADD_TOKENS = 1 << 17
_SETTINGS = (
    (4, 128, 0),
    (8, 256, 0),
    (16, 1024, 0),
    (8, 256, 32),
    (16, 512, 64),
    (16, 1024, 128),
    (32, 2048, 128),
    (64, 4096, 256),
    (128, 8192, 512),
)
"""Lists to look into, tokens for each query token, passages to score exactly."""


class FaissXtr:
    """IVF over tokens in eight bits a dimension: nothing but the lists costs recall."""

    code = "SQ8"

    def build(self, corpus: Corpus, folder: Path, threads: int) -> None:
        faiss.omp_set_num_threads(threads)
        n_lists = 1 << round(np.log2(4 * corpus.n_tokens**0.5))
        index = faiss.index_factory(
            corpus.dim, f"IVF{n_lists},{self.code}", faiss.METRIC_INNER_PRODUCT
        )
        n_train = min(corpus.n_tokens, _TRAIN_TOKENS_A_LIST * n_lists)
        some = np.sort(np.random.default_rng(0).choice(corpus.n_tokens, n_train, replace=False))
        index.train(corpus.vectors[some].astype(np.float32))
        for start in range(0, corpus.n_tokens, _ADD_TOKENS):
            index.add(corpus.vectors[start : start + _ADD_TOKENS].astype(np.float32))
        faiss.write_index(index, str(folder / "tokens.faiss"))

    def open(self, corpus: Corpus, folder: Path, threads: int) -> None:
        faiss.omp_set_num_threads(threads)
        self._index: Any = faiss.read_index(str(folder / "tokens.faiss"))
        self._passage = np.repeat(
            np.arange(corpus.n_passages, dtype=np.int32), np.diff(corpus.offsets)
        )
        self._offsets = corpus.offsets
        self._vectors = corpus.vectors
        self._bytes = (folder / "tokens.faiss").stat().st_size + self._passage.nbytes

    def dials(self) -> Sequence[Dial]:
        return [
            Dial(
                f"nprobe {probes}, {tokens} a token, {exact} exact",
                {"nprobe": probes, "tokens": tokens, "exact": exact},
            )
            for probes, tokens, exact in _SETTINGS
        ]

    def search(self, query: Array, k: int, dial: Dial, case: str) -> Numbers:
        self._index.nprobe = int(dial.values["nprobe"])
        scores, tokens = self._index.search(query, int(dial.values["tokens"]))
        candidates, imputed = impute(scores, self._passage[tokens], tokens >= 0)
        if not (n_exact := int(dial.values["exact"])):
            return candidates[best(imputed, k)]
        chosen = candidates[best(imputed, max(k, n_exact))]
        return chosen[best(self._exact(query, chosen), k)]

    def facts(self) -> Mapping[str, str | int | float]:
        return {"hot_bytes": self._bytes, "lists": self._index.nlist}

    def _exact(self, query: Array, passages: Numbers) -> Array:
        parts = [self._vectors[self._offsets[p] : self._offsets[p + 1]] for p in passages.tolist()]
        lengths = [len(p) for p in parts]
        products = np.concatenate(parts).astype(np.float32) @ query.T
        starts = np.cumsum([0, *lengths[:-1]])
        return np.asarray(np.maximum.reduceat(products, starts, axis=0).sum(axis=1), np.float32)


class FaissXtrPq(FaissXtr):
    """IVF over tokens in 32 bytes, scanned from registers."""

    code = "PQ64x4fsr"


def impute(scores: Array, passages: Numbers, found: NDArray[np.bool_]) -> tuple[Numbers, Array]:
    """Passages that any token was found of, and their scores.

    ``scores`` ``(n_query_tokens, n)``, best first, of tokens of ``passages``; where ``found`` is False
    there was none. A query token that found nothing in a passage counts with the least that it found
    anywhere: what is missing cannot be better.
    """
    candidates, column = np.unique(passages[found], return_inverse=True)
    least = np.where(found, scores, np.inf).min(axis=1)
    least[~np.isfinite(least)] = 0
    table = np.repeat(least[:, None], len(candidates), axis=1).astype(np.float32)
    place = np.nonzero(found)[0] * len(candidates) + column
    # Of several values for one place the last one stays: go from the worst to the best. (Copies,
    # since NumPy may turn around what it walks backwards.)
    table.reshape(-1)[place[::-1].copy()] = scores[found][::-1].copy()
    return candidates.astype(np.int64), table.sum(axis=0)
