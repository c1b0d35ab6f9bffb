"""``tachiom``: token-aware clustering and hierarchical product quantization (Martinico et al., 2026)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tachiom

from benchmarks.peers.subject import Array, Dial, Numbers
from benchmarks.search_corpus import Corpus

_SETTINGS = (
    (10, 100, 0.45),
    (20, 500, 0.45),
    (40, 1000, 0.45),
    (80, 2000, 0.45),
    (80, 2000, 0.3),
    (160, 4000, 0.0),
    (320, 8000, 0.0),
)
"""Centroids a query token, passages to score, and how far below the best a candidate may lie (0: all)."""


class Tachiom:
    """Built with the ids of the true word pieces, as its authors do. One thread answers a query."""

    def build(self, corpus: Corpus, folder: Path, threads: int) -> None:
        index = tachiom.Tachiom.build_from_arrays(
            np.asarray(corpus.vectors).view(np.uint16),
            corpus.pieces.astype(np.uint32),
            np.diff(corpus.offsets).astype(np.int32),
        )
        index.save(str(folder / "index.bin"))

    def open(self, corpus: Corpus, folder: Path, threads: int) -> None:
        self._index = tachiom.Tachiom.load(str(folder / "index.bin"))
        self._bytes = (folder / "index.bin").stat().st_size

    def dials(self) -> Sequence[Dial]:
        return [_dial(*setting) for setting in _SETTINGS]

    def search(self, query: Array, k: int, dial: Dial, case: str) -> Numbers:
        _, found = self._index.search(query, k, **dial.values)
        return np.asarray(found[found != np.iinfo(np.uint32).max], np.int64)

    def facts(self) -> Mapping[str, str | int | float]:
        return {"hot_bytes": self._bytes, "centroids": self._index.n_centroids}


def _dial(centroids: int, passages: int, alpha: float) -> Dial:
    values = {
        "k_centroids": centroids,
        "k_docs_to_score": passages,
        "alpha": alpha,
        "ef_search": max(30, 2 * centroids),
    }
    return Dial(f"{centroids} centroids, {passages} passages, alpha {alpha:g}", values)
