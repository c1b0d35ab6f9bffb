"""From a query to ranked documents. Filters, weights and calibration act before any cut; what is left
after the stages of the segments is scored exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import COMMON, MODALITIES, Modality, QueryTokens
from mmretrieve.kernels.arrays import Floats, Rule
from mmretrieve.kernels.base import Kernels, Numbers
from mmretrieve.scoring.aggregation import (
    Calibration,
    Scoring,
    aggregate,
    contributions,
    evidence,
)
from mmretrieve.search.chance import Chance
from mmretrieve.search.documents import Documents, in_runs, similarities
from mmretrieve.search.exact import Chosen, ExactCells, Rescorer
from mmretrieve.search.pool import Found, pool_of
from mmretrieve.search.prepared import PreparedQuery, TableCache, query_tables
from mmretrieve.search.selection import Selection
from mmretrieve.search.stages import Limits, Path, Stages
from mmretrieve.storage.reader import Snapshot


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best documents of one kind for one query, scored exactly.

    ``similarity`` ``(n_documents, n_modalities, nq)``; ``scores`` ``(n_documents,)``; ``order`` document
    numbers, best first, ties by video id and passage. ``paths``: how they were found; ``typical``: what
    others score by chance.
    """

    query: QueryTokens
    scoring: Scoring
    documents: Documents
    cells: ExactCells
    similarity: Floats
    calibration: Calibration
    scores: Floats
    order: NDArray[np.int64]
    paths: tuple[Path, ...] = ()
    typical: float = 0.0

    def parts(self, document: int) -> Floats:
        """``(n_modalities, nq)``: contributions that add up to the document's score."""
        values = evidence(self.similarity[[document]], self.calibration, self.scoring)
        parts: Floats = contributions(values, self.scoring)[0]
        return parts

    def above_chance(self, document: int) -> Floats:
        """``(nq,)``: how far each query token got above chance in any weighted modality, in units of
        the scale."""
        above = self.similarity[document] - self.calibration.null
        usable = self.scoring.weight_vector > 0
        reached: Floats = (above[usable] / self.calibration.scale[usable, None]).max(axis=0)
        return reached


@dataclass(frozen=True)
class Ranker:
    """Ranks the videos or passages of one snapshot."""

    snapshot: Snapshot
    kernels: Kernels
    limits: Limits

    @cached_property
    def _chance(self) -> dict[bool, Chance]:
        samples = {
            True: self.snapshot.searchable.sample_videos,
            False: self.snapshot.searchable.sample_passages,
        }
        return {by_video: Chance(sample, self.kernels) for by_video, sample in samples.items()}

    @cached_property
    def _has_sound(self) -> bool:
        place = MODALITIES.index(Modality.AUDIO)
        return any(live.segment.n_tokens[place] for live in self.snapshot.searchable.segments)

    def stages(self, query: PreparedQuery, scoring: Scoring, by_video: bool) -> Stages:
        """The stages for one query and kind of document."""
        scoring = self._of_index(scoring)
        level = self._chance[by_video].levels(query, scoring)
        rule = Rule(scoring, level.calibration, by_video)
        tables = TableCache(lambda books: query_tables(self.kernels, query, books, rule))
        return Stages(self.kernels, self.limits, query, rule, tables, level.typical)

    def _of_index(self, scoring: Scoring) -> Scoring:
        """The same scoring without weight on sound where the index has none: it then costs nothing, and
        what an index without sound answers is as if there were no such modality."""
        others = any(scoring.weights.get(m, 1.0) > 0 for m in COMMON)
        if self._has_sound or not others or scoring.weights.get(Modality.AUDIO) == 0:
            return scoring
        return replace(scoring, weights={**scoring.weights, Modality.AUDIO: 0.0})

    def rank(self, stages: Stages, selections: Sequence[Selection], n: int) -> Ranking:
        """The best ``n`` documents of what ``selections`` (one a segment) let take part, and those that
        had to be scored exactly to know them."""
        limits = self.limits
        n_pool = limits.pool(n, stages.rule.by_video)
        found = []
        for live, selection in zip(self.snapshot.searchable.segments, selections, strict=True):
            if selection.n_videos:
                mine = stages.candidates(live.segment, selection, n_pool)
                found.append(Found(Chosen(live, selection, mine.numbers), mine))
        pool = pool_of(found, n_pool)
        step = n + (limits.spare if pool.coded.any() else limits.spare_uncoded)
        chosen, place = pool.slice(0, step)
        paths = tuple(dict.fromkeys(one.candidates.path for one in found))
        ranking = self.exact(stages, chosen, paths)
        while not pool.settled(place, ranking.scores, n, limits.margin):
            chosen, more = pool.slice(len(place), len(place) + step)
            ranking = joined(ranking, self.exact(stages, chosen, paths))
            place = np.concatenate([place, more])
        return ranking

    def best_passages(
        self, stages: Stages, selections: Sequence[Selection], videos: Sequence[int]
    ) -> Ranking:
        """The best passage of each video (number of the snapshot) that takes part; ``stages`` are for
        passages."""
        chosen = []
        for number, (live, selection) in enumerate(
            zip(self.snapshot.searchable.segments, selections, strict=True)
        ):
            mine = self.passages_of(number, videos)
            if not len(mine):
                continue
            scores = stages.scores(live.segment, selection, mine)
            layout = live.segment.layout
            owner = np.searchsorted(layout.videos, mine, side="right") - 1
            order = np.lexsort((mine, -scores, owner))
            first = order[np.flatnonzero(np.diff(owner[order], prepend=-1))]
            first = first[np.isfinite(scores[first])]
            chosen.append(Chosen(live, selection, np.sort(mine[first])))
        return self.exact(stages, chosen)

    def passages_at(
        self, stages: Stages, selections: Sequence[Selection], video: int, at_s: float
    ) -> Ranking:
        """The passages of one video that hold a second of it."""
        chosen = []
        for number, (live, selection) in enumerate(
            zip(self.snapshot.searchable.segments, selections, strict=True)
        ):
            mine = self.passages_of(number, [video])
            segment = live.segment
            there = (segment.start_s[mine] <= at_s) & (segment.end_s[mine] >= at_s)
            chosen.append(Chosen(live, selection, mine[there]))
        return self.exact(stages, chosen)

    def passages_of(self, segment: int, videos: Sequence[int]) -> Numbers:
        """Numbers of all passages of some videos in one segment."""
        live = self.snapshot.searchable.segments[segment]
        mine = np.isin(live.video, videos)
        return np.flatnonzero(np.repeat(mine, np.diff(live.segment.layout.videos)))

    def exact(
        self, stages: Stages, chosen: Sequence[Chosen], paths: tuple[Path, ...] = ()
    ) -> Ranking:
        """Documents scored from their vectors as stored."""
        rule, query = stages.rule, stages.query
        rescorer = Rescorer(self.snapshot, self.kernels)
        documents, cells = rescorer.cells(
            chosen, query, rule.scoring.weight_vector, rule.by_video, stages.tables
        )
        similarity = similarities(documents, cells.modality, cells.maxima)
        values = evidence(similarity, rule.calibration, rule.scoring)
        scores = aggregate(values, rule.scoring)
        return Ranking(
            query.query, rule.scoring, documents, cells, similarity, rule.calibration, scores,
            _order(documents, scores), paths, stages.typical,
        )  # fmt: skip

    def rank_of(
        self, stages: Stages, selections: Sequence[Selection], video: int, passage: int
    ) -> int:
        """The rank of one passage among all, from 1, as far as their codes tell."""
        own, every = np.float32(np.inf), []
        for number, (live, selection) in enumerate(
            zip(self.snapshot.searchable.segments, selections, strict=True)
        ):
            scores = stages.scores(live.segment, selection, None)
            every.append(scores)
            mine = self.passages_of(number, [video])
            for found in mine[live.segment.number[mine] == passage]:
                own = scores[found]
        return 1 + sum(int(np.count_nonzero(scores > own)) for scores in every)


def joined(a: Ranking, b: Ranking) -> Ranking:
    """The documents of two rankings of one query, which share none."""
    cells = ExactCells(
        np.concatenate([a.cells.modality, b.cells.modality]),
        np.concatenate([a.cells.row, b.cells.row]),
        (*a.cells.vectors, *b.cells.vectors),
        np.concatenate([a.cells.maxima, b.cells.maxima]),
    )
    documents = in_runs(
        np.concatenate([a.documents.cell, b.documents.cell + len(a.cells.row)]),
        np.concatenate([a.documents.document, b.documents.document + len(a.documents)]),
        cells.modality,
        np.concatenate([a.documents.video, b.documents.video]),
        np.concatenate([a.documents.passage, b.documents.passage]),
    )
    scores = np.concatenate([a.scores, b.scores])
    similarity = np.concatenate([a.similarity, b.similarity])
    order = _order(documents, scores)
    return replace(
        a, documents=documents, cells=cells, similarity=similarity, scores=scores, order=order
    )


def _order(documents: Documents, scores: Floats) -> NDArray[np.int64]:
    """Best first, ties by video and passage; without documents that have no score."""
    order = np.lexsort((documents.passage, documents.video, -scores))
    return order[np.isfinite(scores[order])]
