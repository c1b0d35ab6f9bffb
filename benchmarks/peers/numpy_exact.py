"""The baseline of every ratio: exact float32 MaxSim in NumPy, written as fast as NumPy allows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.peers.subject import Array, Dial, Numbers, best
from benchmarks.search_corpus import Corpus

_SIZES = (512, 1024, 2048, 4096, 8192, 16384)
_TRIAL_TOKENS = 200_000
_GEMM = 1024


class NumpyExact:
    """Products of blocks that stay in the cache, then ``np.maximum.reduceat``; one block size of several
    is chosen by trial, and each thread takes a part of the passages (NumPy lets go of the interpreter
    lock). Three to four times as fast as one product of everything."""

    def build(self, corpus: Corpus, folder: Path, threads: int) -> None:
        """Nothing to build: the float16 tokens of the corpus are read as they are."""

    def open(self, corpus: Corpus, folder: Path, threads: int) -> None:
        self._vectors: Array = np.empty(corpus.vectors.shape, np.float32)
        for start in range(0, len(self._vectors), 1 << 16):
            self._vectors[start : start + (1 << 16)] = corpus.vectors[start : start + (1 << 16)]
        self._offsets = corpus.offsets
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)
        self._size = self._fastest()

    def dials(self) -> Sequence[Dial]:
        return (Dial("exact"),)

    def search(self, query: Array, k: int, dial: Dial, case: str) -> Numbers:
        return best(self._scores(query, self._offsets, self._size), k)

    def facts(self) -> Mapping[str, str | int | float]:
        return {
            "hot_bytes": self._vectors.nbytes,
            "block of tokens": self._size,
            "BLAS kernel": _kernel(),
            f"GFLOPS of a square product of {_GEMM}, one thread": _gflops(),
        }

    def _scores(self, query: Array, offsets: Numbers, size: int) -> Array:
        turned = np.ascontiguousarray(query.T)
        scores = np.empty(len(offsets) - 1, np.float32)
        ends = (
            offsets[0] + (offsets[-1] - offsets[0]) * np.arange(self._threads + 1) // self._threads
        )
        parts = np.searchsorted(offsets, ends)

        def work(part: int) -> None:
            self._part(turned, offsets, size, (parts[part], parts[part + 1]), scores)

        list(self._pool.map(work, range(self._threads)))
        return scores

    def _part(
        self, turned: Array, offsets: Numbers, size: int, part: tuple[int, int], scores: Array
    ) -> None:
        """Scores of passages ``part[0] : part[1]``."""
        first, last = part
        room = np.empty((size + int(np.diff(offsets).max()), turned.shape[1]), np.float32)
        while first < last:
            end = int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1
            end = min(last, max(first + 1, end))
            low, high = int(offsets[first]), int(offsets[end])
            products = np.matmul(self._vectors[low:high], turned, out=room[: high - low])
            maxima = np.maximum.reduceat(products, offsets[first:end] - low, axis=0)
            maxima.sum(axis=1, out=scores[first:end])
            first = end

    def _fastest(self) -> int:
        some = self._offsets[: np.searchsorted(self._offsets, _TRIAL_TOKENS) + 1]
        query = self._vectors[:32]
        took = {size: min(self._trial(query, some, size) for _ in range(3)) for size in _SIZES}
        return min(took, key=lambda size: took[size])

    def _trial(self, query: Array, offsets: Numbers, size: int) -> float:
        start = time.perf_counter()
        self._scores(query, offsets, size)
        return time.perf_counter() - start


def _gflops() -> float:
    square = np.random.default_rng(0).random((_GEMM, _GEMM), np.float32)
    best_s = np.inf
    for _ in range(5):
        start = time.perf_counter()
        square @ square
        best_s = min(best_s, time.perf_counter() - start)
    return round(float(2 * _GEMM**3 / best_s / 1e9), 1)


def _kernel() -> str:
    """Which kernels BLAS chose for this processor."""
    from threadpoolctl import threadpool_info

    found = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    return ", ".join(
        f"{lib['internal_api']} {lib['version']} {lib['architecture']}" for lib in found
    )
