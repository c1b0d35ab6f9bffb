"""``maxsim-cpu``: exact MaxSim in Rust with libxsmm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import maxsim_cpu
import numpy as np

from benchmarks.peers.subject import Array, Dial, Numbers, best
from benchmarks.search_corpus import Corpus


class MaxsimCpu:
    """Every passage is an array of its own, as the package wants them."""

    def build(self, corpus: Corpus, folder: Path, threads: int) -> None:
        """Nothing to build."""

    def open(self, corpus: Corpus, folder: Path, threads: int) -> None:
        ends = zip(corpus.offsets[:-1].tolist(), corpus.offsets[1:].tolist(), strict=True)
        self._passages = [np.asarray(corpus.vectors[a:b], np.float32) for a, b in ends]

    def dials(self) -> Sequence[Dial]:
        return (Dial("exact"),)

    def search(self, query: Array, k: int, dial: Dial, case: str) -> Numbers:
        return best(np.asarray(maxsim_cpu.maxsim_scores_variable(query, self._passages)), k)

    def facts(self) -> Mapping[str, str | int | float]:
        return {"hot_bytes": sum(p.nbytes for p in self._passages)}
