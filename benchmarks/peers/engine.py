"""mmretrieve itself, as the benchmark sees it.

So far a stand-in that scores everything exactly in NumPy: it says what the right answers and the
ways of being asked are. The adapter to the search structure takes its place, with the same methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers.subject import Array, Dial, Numbers, best
from benchmarks.search_cases import CASES, MERGED
from benchmarks.search_corpus import Block, Corpus
from benchmarks.search_truth import Questions, measure_chance, scores, similarities

_BY_NAME = {case.name: case for case in (*CASES, MERGED)}


class Engine:
    """All cases, add and delete."""

    def build(self, corpus: Corpus, folder: Path, threads: int) -> None:
        """Nothing to build."""

    def open(self, corpus: Corpus, folder: Path, threads: int) -> None:
        self._corpus = corpus
        self._added: list[Block] = []
        self._deleted: set[int] = set()

    def dials(self) -> Sequence[Dial]:
        return (Dial("default"),)

    def search(self, query: Array, k: int, dial: Dial, case: str) -> Numbers:
        wanted = _BY_NAME[case]
        questions = Questions([query])
        chance = measure_chance(self._corpus, questions, wanted.by_video)
        null = chance.null(wanted.scoring)
        kept = self._corpus.kept(wanted.share) if wanted.share < 1 else None
        ids, found = [], []
        for block in self._blocks():
            passages, first = np.unique(block.passage, return_index=True)
            videos = block.video[first]
            keep = ~np.isin(videos, list(self._deleted))
            if kept is not None:
                keep &= kept[videos]
            if not keep.any():
                continue
            similarity = similarities(block, questions.tokens)[keep]
            of = passages[keep]
            if wanted.by_video:
                of, starts = np.unique(videos[keep], return_index=True)
                similarity = np.maximum.reduceat(similarity, starts, axis=0)
            ids.append(of)
            found.append(scores(similarity, wanted, null, questions)[:, 0])
        everything = np.concatenate(found)
        chosen = best(everything, k)
        return np.concatenate(ids)[chosen[np.isfinite(everything[chosen])]]

    def facts(self) -> Mapping[str, str | int | float]:
        return {"hot_bytes": 2 * self._corpus.n_tokens * self._corpus.dim}

    def add(self, block: Block) -> None:
        self._added.append(block)

    def delete(self, videos: Sequence[int]) -> None:
        self._deleted.update(videos)

    def _blocks(self) -> Sequence[Block]:
        return [*self._corpus.blocks(4), *self._added]
