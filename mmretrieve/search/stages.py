"""Candidates of one segment: which stages run, and what is left after them.

What is kept after each stage was measured against exact scores (docs/search.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from mmretrieve.datatypes import MODALITIES
from mmretrieve.kernels.arrays import Bytes, Floats, Rule
from mmretrieve.kernels.base import Kernels, Numbers
from mmretrieve.search.prepared import PreparedQuery, QueryTables, TableCache
from mmretrieve.search.selection import Selection
from mmretrieve.storage.codes.segment import Segment, SegmentKind


class Path(StrEnum):
    """How the candidates of a segment are found."""

    EXACT = "exact scan"
    RESIDUALS = "scan of residuals"
    CENTROIDS = "centroids, then residuals"
    LISTS = "lists, then centroids, then residuals"


@dataclass(frozen=True, slots=True)
class Limits:
    """When which path is taken, in tokens that take part, and how many documents each stage keeps."""

    residuals_below: int = 200_000
    lists_from: int = 20_000_000
    lists_share: float = 0.1
    """Lists serve when at least this share of a segment takes part."""
    after_lists: int = 4096
    after_centroids: int = 768
    videos_after_centroids: int = 128
    """Up to a million tokens and with equal weights. Of more tokens more documents are alike, and
    more stay (:attr:`growth`). Uneven weights leave the lighter modalities fewer steps of a byte, and
    more stay in proportion to the largest weight by the mean one."""
    growth: float = 0.4
    """Ten times the tokens, ``10 ** growth`` times the documents after centroids."""
    list_share: float = 0.01
    """Of all tokens, those in lists that are followed."""
    passages: int = 128
    videos: int = 64
    """Candidates that may be scored exactly, at least."""
    spare: int = 14
    spare_uncoded: int = 4
    """Documents scored exactly at once, beside as many as are wanted: where some candidates come from
    two-bit residuals, and where none does."""
    margin: float = 2.75
    """Standard deviations of the error of codes by which the next candidate has to be behind."""

    def pool(self, n: int, by_video: bool) -> int:
        """Candidates of which the best ``n`` are sought."""
        return max(self.videos if by_video else self.passages, 3 * n)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best documents of one segment, ascending, with the scores of the last stage."""

    numbers: Numbers
    scores: Floats
    path: Path


def path_of(segment: Segment, selection: Selection, weights: Floats, limits: Limits) -> Path:
    """The path for a segment of which ``selection`` takes part, with ``weights`` of modalities."""
    if segment.kind is SegmentKind.EXACT:
        return Path.EXACT
    kept, total = (
        int(n[weights > 0].sum()) for n in (selection.n_tokens, np.array(segment.n_tokens))
    )
    if kept <= limits.residuals_below:
        return Path.RESIDUALS
    listed = any(one is not None for one in segment.lists)
    if listed and total >= limits.lists_from and kept >= limits.lists_share * total:
        return Path.LISTS
    return Path.CENTROIDS


@dataclass(frozen=True, slots=True)
class Stages:
    """Runs the stages for one query and rule."""

    kernels: Kernels
    limits: Limits
    query: PreparedQuery
    rule: Rule
    tables: TableCache
    typical: float = 0.0
    """What documents of the index score by chance; see :class:`mmretrieve.search.chance.Level`."""

    def candidates(self, segment: Segment, selection: Selection, n: int) -> Candidates:
        """The best ``n`` documents, or all where there are fewer."""
        path = path_of(segment, selection, self.rule.scoring.weight_vector, self.limits)
        only = selection.videos if self.rule.by_video else selection.passages
        limits = self.limits
        left = limits.videos_after_centroids if self.rule.by_video else limits.after_centroids
        kept = max(1.0, int(selection.n_tokens.sum()) / 1e6) ** limits.growth
        left = int(left * kept * _unevenness(self.rule.scoring.weight_vector))
        if path is Path.LISTS:
            only = self._by_lists(segment, selection, max(limits.after_lists, 4 * n, 2 * left))
        if path in (Path.LISTS, Path.CENTROIDS):
            only = self._by_centroids(segment, selection, only, max(left, 2 * n))
        scores = self.scores(segment, selection, only)
        best = self.kernels.select(scores, n)
        return Candidates(best if only is None else only[best], scores[best], path)

    def scores(self, segment: Segment, selection: Selection, only: Numbers | None) -> Floats:
        """The finest scores that the segment's codes give."""
        if segment.kind is SegmentKind.EXACT:
            return self.kernels.score_tokens(
                segment.layout, segment.tokens, self.query.tokens, self.rule, selection.keep, only
            )
        tables = self.tables.of(segment.books)
        return self.kernels.score_residuals(
            segment.layout, segment.codes, tables.books, tables.sims, tables.stretched, self.rule,
            selection.keep, only,
        )  # fmt: skip

    def _by_centroids(
        self, segment: Segment, selection: Selection, only: Numbers | None, n: int
    ) -> Numbers:
        tables = self.tables.of(segment.books).bytes
        scores = self.kernels.score_codes(
            segment.layout, segment.codes, tables, self.rule, selection.keep, only
        )
        best = self.kernels.select(scores, n)
        return best if only is None else only[best]

    def _by_lists(self, segment: Segment, selection: Selection, n: int) -> Numbers:
        tables = self.tables.of(segment.books)
        budget = self.limits.list_share * sum(segment.n_tokens)
        active = _active(segment, tables, budget)
        scores = self.kernels.score_lists(
            segment.layout, segment.lists, active, tables.bytes, self.rule.by_video,
            selection.keep_passages,
        )  # fmt: skip
        return self.kernels.select(np.where(scores > 0, scores, -np.inf).astype(np.float32), n)


def _unevenness(weights: Floats) -> float:
    """The largest weight by the mean of those that take part, from 1 on."""
    used = weights[weights > 0]
    return float(used.max() / used.mean()) if len(used) else 1.0


def _active(segment: Segment, tables: QueryTables, budget: float) -> list[Numbers]:
    """The centroids worth most to any query token, whose lists hold ``budget`` tokens together."""
    worth: dict[int, Bytes] = {}
    held = np.zeros(256)
    for m in range(len(MODALITIES)):
        table, listed = tables.bytes.values[m], segment.lists[m]
        if table is not None and listed is not None:
            worth[m] = table.max(axis=1)
            held += np.bincount(worth[m], np.diff(listed.starts), 256)
    fits = np.flatnonzero(held[::-1].cumsum()[::-1] <= budget)
    least = max(1, int(fits[0])) if len(fits) else 255
    none = np.empty(0, np.int64)
    return [
        np.flatnonzero(worth[m] >= least) if m in worth else none for m in range(len(MODALITIES))
    ]
