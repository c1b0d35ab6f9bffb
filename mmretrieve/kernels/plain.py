"""The kernels in NumPy: what compiled ones are tested against, and what runs where none were built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES
from mmretrieve.kernels.arrays import (
    Bytes,
    ByteTables,
    Codebook,
    Codes,
    Floats,
    Layout,
    Lists,
    Rule,
    Tokens8,
    Vectors,
    padded,
)
from mmretrieve.kernels.base import Numbers
from mmretrieve.scoring.aggregation import Calibration, aggregate, evidence

_BLOCK_TOKENS = 1 << 15
TINY = np.float32(1e-30)
"""Lengths below this are 0: their inverses would not be finite."""

Range = Callable[[int, int], Floats]
"""Values ``(stop - start, nq)`` of tokens ``start:stop`` of one modality."""


class PlainKernels:
    """See :class:`mmretrieve.kernels.base.Kernels`."""

    name = "numpy"

    def quantize(self, vectors: Vectors) -> Tokens8:
        rows = _finite(vectors)
        largest = np.abs(rows).max(axis=1, initial=0)
        factor = np.divide(127, largest, out=np.zeros_like(largest), where=largest > TINY)
        values = np.zeros((len(rows), -(-rows.shape[1] // 4) * 4), np.int8)
        values[:, : rows.shape[1]] = np.rint(rows * factor[:, None])
        return Tokens8(values, (largest / np.float32(127)).astype(np.float32))

    def encode(
        self,
        vectors: Vectors,
        centroid: NDArray[np.uint16],
        book: Codebook,
    ) -> Bytes:
        rows, levels = _finite(vectors), halfway(book)
        out = np.empty((len(rows), book.centroids.values.shape[1] // 4), np.uint8)
        for start in range(0, len(rows), _BLOCK_TOKENS):
            block, named = rows[start : start + _BLOCK_TOKENS], centroid[start:][:_BLOCK_TOKENS]
            near = book.centroids.scales[named, None] * book.centroids.values[named]
            rest = np.pad(block, ((0, 0), (0, near.shape[1] - block.shape[1]))) - near
            level = ((rest * inverse_spread(book))[:, :, None] > levels).sum(axis=2, dtype=np.uint8)
            parts = level.reshape(len(block), -1, 4) << np.array([0, 2, 4, 6], np.uint8)
            out[start : start + _BLOCK_TOKENS] = parts.sum(axis=2, dtype=np.uint8)
        return out

    def dots(self, tokens: Tokens8, query: Tokens8) -> Floats:
        out = np.empty((len(tokens), len(query)), np.float32)
        for start in range(0, len(tokens), _BLOCK_TOKENS):
            out[start : start + _BLOCK_TOKENS] = _dots(tokens, query, start, start + _BLOCK_TOKENS)
        return out

    def maxima(
        self, tokens: Tokens8, begin: Numbers, count: NDArray[np.int32], query: Tokens8
    ) -> Floats:
        return _maxima(lambda a, b: _dots(tokens, query, a, b), begin, count, len(query))

    def exact_maxima(
        self, vectors: Vectors, begin: Numbers, count: NDArray[np.int32], query: Floats
    ) -> Floats:
        out = np.full((len(begin), len(query)), -np.inf, np.float32)
        # One product a cell: in a larger one the last bits would depend on its neighbours.
        for i, (start, n) in enumerate(zip(begin.tolist(), count.tolist(), strict=True)):
            if n:
                rows = vectors[start : start + n].astype(np.float32)
                out[i] = (rows @ query.T).max(axis=0)
        return out

    def coded_maxima(
        self,
        codes: Codes,
        book: Codebook,
        sims: Floats,
        query: Tokens8,
        begin: Numbers,
        count: NDArray[np.int32],
    ) -> Floats:
        return _maxima(_coded(codes, book, sims, query), begin, count, len(query))

    def bounds(self, sims: Floats) -> Floats:
        mean = np.asarray(sims.mean(axis=0, dtype=np.float64), np.float32)
        return np.stack([mean, np.asarray(sims.max(axis=0))])

    def table(self, sims: Floats, rule: Rule, modality: int, floor: Floats, step: float) -> Bytes:
        out = np.zeros((len(sims), padded(sims.shape[1])), np.uint8)
        values = (values_of(sims, rule, modality) - floor) * np.float32(1 / step)
        out[:, : sims.shape[1]] = np.clip(np.rint(values), 0, 255)
        return out

    def score_tokens(
        self,
        layout: Layout,
        tokens: Sequence[Tokens8 | None],
        queries: Sequence[Tokens8 | None],
        rule: Rule,
        keep: Bytes | None = None,
        only: Numbers | None = None,
    ) -> Floats:
        def similarity(m: int) -> Range | None:
            mine, query = tokens[m], queries[m]
            if mine is None or query is None:
                return None
            return lambda a, b: _dots(mine, query, a, b)

        found = _similarities(layout, similarity, rule, keep)
        return _chosen(
            aggregate(evidence(found, rule.calibration, rule.scoring), rule.scoring), only
        )

    def score_codes(
        self,
        layout: Layout,
        codes: Sequence[Codes | None],
        tables: ByteTables,
        rule: Rule,
        keep: Bytes | None = None,
        only: Numbers | None = None,
    ) -> Floats:
        nq = tables.floor.shape[1]
        weights = np.maximum(rule.scoring.weight_vector, 1e-9)

        def value(m: int) -> Range | None:
            mine, table = codes[m], tables.values[m]
            if mine is None or table is None:
                return None
            return lambda a, b: (
                (table[mine.centroid[a:b], :nq] * np.float32(tables.step) + tables.floor[m])
                / weights[m]
            )

        return _chosen(aggregate(_similarities(layout, value, rule, keep), rule.scoring), only)

    def score_residuals(
        self,
        layout: Layout,
        codes: Sequence[Codes | None],
        books: Sequence[Codebook | None],
        sims: Sequence[Floats | None],
        queries: Sequence[Tokens8 | None],
        rule: Rule,
        keep: Bytes | None = None,
        only: Numbers | None = None,
    ) -> Floats:
        def similarity(m: int) -> Range | None:
            mine, book, near, query = codes[m], books[m], sims[m], queries[m]
            if mine is None or book is None or near is None or query is None:
                return None
            return _coded(mine, book, near, query)

        found = _similarities(layout, similarity, rule, keep)
        return _chosen(
            aggregate(evidence(found, rule.calibration, rule.scoring), rule.scoring), only
        )

    def score_lists(
        self,
        layout: Layout,
        lists: Sequence[Lists | None],
        active: Sequence[Numbers],
        tables: ByteTables,
        by_video: bool,
        keep: Bytes | None = None,
    ) -> Floats:
        best = np.zeros((layout.n_passages, padded(tables.floor.shape[1])), np.uint8)
        for mine, centroids, table in zip(lists, active, tables.values, strict=True):
            if mine is None or table is None:
                continue
            for c in centroids.tolist():
                named = mine.passages[mine.starts[c] : mine.starts[c + 1]]
                best[named] = np.maximum(best[named], table[c])
        if keep is not None:
            best[keep == 0] = 0
        if by_video:
            best = np.maximum.reduceat(best, layout.videos[:-1], axis=0)
            return np.asarray(best.sum(axis=1, dtype=np.float32))
        first = layout.videos[:-1]
        shared = np.repeat(
            np.where(layout.timeless[first, None] == 1, best[first], 0),
            np.diff(layout.videos),
            axis=0,
        )
        joined = np.maximum(best, shared).sum(axis=1, dtype=np.float32)
        return joined if keep is None else np.where(keep, joined, 0)

    def select(self, scores: Floats, n: int) -> Numbers:
        order = np.argsort(-scores, kind="stable")[:n]
        return np.sort(order[scores[order] > -np.inf])

    def assign(self, tokens: Tokens8, centroids: Tokens8) -> tuple[NDArray[np.uint16], Floats]:
        best = np.empty(len(tokens), np.uint16)
        product = np.empty(len(tokens), np.float32)
        for start in range(0, len(tokens), 1024):
            block = _dots(tokens, centroids, start, start + 1024)
            mine = slice(start, start + len(block))
            best[mine] = block.argmax(axis=1)
            product[mine] = block.max(axis=1)
        return best, product


def values_of(sims: Floats, rule: Rule, modality: int) -> Floats:
    """``(n, nq)``: what similarities in one modality are worth, its weight included."""
    own = Calibration(rule.calibration.null[[modality]], rule.calibration.scale[[modality]])
    values = evidence(sims[:, None, :], own, rule.scoring)[:, 0]
    return np.asarray(values * rule.scoring.weight_vector[modality], np.float32)


def eight_bit_levels(book: Codebook) -> tuple[NDArray[np.int8], np.float32]:
    """The levels of a codebook as integers, and what one is worth."""
    largest = np.abs(book.levels).max()
    return np.rint(book.levels * (127 / largest)).astype(np.int8), np.float32(largest / 127)


def halfway(book: Codebook) -> Floats:
    """``(3,)``: what lies between two levels; a value above it is nearer to the upper one."""
    return np.asarray((book.levels[1:] + book.levels[:-1]) * np.float32(0.5), np.float32)


def inverse_spread(book: Codebook) -> Floats:
    """``(width,)``; 0 where there is no spread, so that the level nearest to 0 is taken."""
    spread = np.asarray(book.spread, np.float32)
    return np.divide(1, spread, out=np.zeros_like(spread), where=spread > TINY)


def unpack(residual: Bytes) -> Bytes:
    """``(n, width)`` numbers of levels from ``(n, width / 4)`` bytes."""
    shifts = np.array([0, 2, 4, 6], np.uint8)
    parts = (residual[:, :, None] >> shifts) & np.uint8(3)
    return np.asarray(parts.reshape(len(residual), 4 * residual.shape[1]), np.uint8)


def _coded(codes: Codes, book: Codebook, sims: Floats, query: Tokens8) -> Range:
    levels, scale = eight_bit_levels(book)

    def of(start: int, stop: int) -> Floats:
        residual = Tokens8(levels[unpack(codes.residual[start:stop])], np.full(stop - start, scale))
        return sims[codes.centroid[start:stop]] + _dots(residual, query, 0, stop - start)

    return of


def _dots(tokens: Tokens8, query: Tokens8, start: int, stop: int) -> Floats:
    # Products of integers below 2^24 are exact in float32, and a matrix product of floats is fast.
    exact = np.float32 if tokens.values.shape[1] <= 1024 else np.float64
    products = tokens.values[start:stop].astype(exact) @ query.values.T.astype(exact)
    scaled = products.astype(np.float32) * tokens.scales[start:stop, None]
    return np.asarray(scaled * query.scales, np.float32)


def _finite(vectors: Vectors) -> Floats:
    rows = np.asarray(vectors, np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("vectors: a value is not finite")
    return rows


def _maxima(of: Range, begin: Numbers, count: NDArray[np.int32], nq: int) -> Floats:
    """``(n_cells, nq)`` for cells in any order; -inf for those without tokens."""
    out = np.full((len(begin), nq), -np.inf, np.float32)
    for group in _runs(begin, count):
        start, stop = int(begin[group[0]]), int(begin[group[-1]] + count[group[-1]])
        out[group] = np.maximum.reduceat(of(start, stop), begin[group] - start, axis=0)
    return out


def _runs(begin: Numbers, count: NDArray[np.int32]) -> Iterator[Numbers]:
    """Cells with tokens in groups whose tokens lie one after the other, of a bounded number."""
    cells = np.flatnonzero(count > 0)
    if not len(cells):
        return
    ends = begin[cells] + count[cells]
    breaks = begin[cells[1:]] != ends[:-1]
    size = np.cumsum(count[cells]) // _BLOCK_TOKENS
    yield from np.split(cells, np.flatnonzero(breaks | (np.diff(size) > 0)) + 1)


def _similarities(
    layout: Layout, of: Callable[[int], Range | None], rule: Rule, keep: Bytes | None
) -> Floats:
    """``(n_documents, n_modalities, nq)``, -inf where a document has nothing that takes part."""
    nq = rule.calibration.null.shape[1]
    best = np.full((layout.n_passages, len(MODALITIES), nq), -np.inf, np.float32)
    passage = np.repeat(np.arange(layout.n_passages), np.diff(layout.passages))
    takes_part = (layout.count > 0) & (rule.scoring.weight_vector[layout.modality] > 0)
    if keep is not None:
        takes_part &= keep != 0
    for m in range(len(MODALITIES)):
        values = of(m)
        cells = np.flatnonzero(takes_part & (layout.modality == m))
        if values is not None and len(cells):
            found = _maxima(values, layout.begin[cells], layout.count[cells], nq)
            np.maximum.at(best[:, m], passage[cells], found)
    if not layout.n_videos:
        return best
    if rule.by_video:
        return np.maximum.reduceat(best, layout.videos[:-1], axis=0)
    return _with_metadata(layout, best)


def _with_metadata(layout: Layout, best: Floats) -> Floats:
    """Timed passages that have something of their own get what their video's timeless one has; the
    others are no documents."""
    present = np.isfinite(best[:, :, 0]).any(axis=1)
    video = np.repeat(np.arange(layout.n_videos), np.diff(layout.videos))
    timed = present & (layout.timeless == 0)
    first = layout.videos[video]
    shared = np.where(layout.timeless[first, None, None] == 1, best[first], -np.inf)
    with_timed = np.bincount(video, timed, layout.n_videos)[video] > 0
    alone = (layout.timeless == 1) & ~with_timed
    joined = np.where(timed[:, None, None], np.maximum(best, shared), -np.inf)
    return np.where(alone[:, None, None], best, joined).astype(np.float32)


def _chosen(scores: Floats, only: Numbers | None) -> Floats:
    return scores if only is None else scores[only]
