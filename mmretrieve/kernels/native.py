"""The compiled kernels. What is wrong with an array (type, order, lengths, numbers out of range) is a
``ValueError`` from the extension, which checks all it reads: files may be damaged."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Aggregation
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
from mmretrieve.kernels.plain import eight_bit_levels, halfway, inverse_spread

_AGGREGATIONS = {
    Aggregation.TOKEN_MAX: 0,
    Aggregation.MODALITY_MAX: 1,
    Aggregation.WEIGHTED: 2,
}


class NativeKernels:
    """See :class:`mmretrieve.kernels.base.Kernels`. ``extension`` is ``mmretrieve.kernels._native``,
    ``level`` one of its levels, ``threads`` how many threads a call may use, the caller's included.
    Results depend on neither."""

    def __init__(self, extension: ModuleType, level: str, threads: int) -> None:
        self._extension = extension
        self._name = level
        self._how = (extension.levels().index(level), threads)

    @property
    def name(self) -> str:
        return self._name

    def quantize(self, vectors: Vectors) -> Tokens8:
        rows = np.ascontiguousarray(vectors)
        values = np.empty((len(rows), _width(vectors)), np.int8)
        scales = np.empty(len(rows), np.float32)
        self._extension.quantize(*self._how, rows, values, scales)
        return Tokens8(values, scales)

    def encode(
        self,
        vectors: Vectors,
        centroid: NDArray[np.uint16],
        book: Codebook,
    ) -> Bytes:
        rows = np.ascontiguousarray(vectors)
        out = np.empty((len(rows), _width(vectors) // 4), np.uint8)
        self._extension.encode(
            *self._how, rows, centroid, _pair(book.centroids), inverse_spread(book), halfway(book),
            out,
        )  # fmt: skip
        return out

    def assign(self, tokens: Tokens8, centroids: Tokens8) -> tuple[NDArray[np.uint16], Floats]:
        best, product = np.empty(len(tokens), np.uint16), np.empty(len(tokens), np.float32)
        self._extension.assign(*self._how, _pair(tokens), _pair(centroids), best, product)
        return best, product

    def dots(self, tokens: Tokens8, query: Tokens8) -> Floats:
        out = np.empty((len(tokens), len(query)), np.float32)
        self._extension.dots(*self._how, _pair(tokens), _pair(query), out)
        return out

    def maxima(
        self, tokens: Tokens8, begin: Numbers, count: NDArray[np.int32], query: Tokens8
    ) -> Floats:
        out = np.empty((len(begin), len(query)), np.float32)
        self._extension.maxima(*self._how, _pair(tokens), begin, count, _pair(query), out)
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
        out = np.empty((len(begin), len(query)), np.float32)
        self._extension.coded_maxima(
            *self._how, _codes([codes]), ((*eight_bit_levels(book), sims),), begin, count,
            _pair(query), out,
        )  # fmt: skip
        return out

    def exact_maxima(
        self, vectors: Vectors, begin: Numbers, count: NDArray[np.int32], query: Floats
    ) -> Floats:
        out = np.empty((len(begin), len(query)), np.float32)
        self._extension.exact_maxima(*self._how, vectors, begin, count, query, out)
        return out

    def bounds(self, sims: Floats) -> Floats:
        out = np.empty((2, sims.shape[1]), np.float32)
        self._extension.bounds(*self._how, sims, out)
        return out

    def table(self, sims: Floats, rule: Rule, modality: int, floor: Floats, step: float) -> Bytes:
        out = np.empty((len(sims), padded(sims.shape[1])), np.uint8)
        self._extension.table(
            *self._how, sims, _rule(rule), modality, np.ascontiguousarray(floor, np.float32),
            1 / step, out,
        )  # fmt: skip
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
        out = _scores(layout, rule.by_video, only)
        self._extension.score_tokens(
            *self._how, _layout(layout), keep, only, _pairs(tokens), _pairs(queries), _rule(rule),
            out,
        )  # fmt: skip
        return out

    def score_codes(
        self,
        layout: Layout,
        codes: Sequence[Codes | None],
        tables: ByteTables,
        rule: Rule,
        keep: Bytes | None = None,
        only: Numbers | None = None,
    ) -> Floats:
        out = _scores(layout, rule.by_video, only)
        self._extension.score_codes(
            *self._how, _layout(layout), keep, only, _codes(codes), _tables(tables), _rule(rule),
            out,
        )  # fmt: skip
        return out

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
        out = _scores(layout, rule.by_video, only)
        near = tuple(
            None if book is None or mine is None else (*eight_bit_levels(book), mine)
            for book, mine in zip(books, sims, strict=True)
        )
        self._extension.score_residuals(
            *self._how, _layout(layout), keep, only, _codes(codes), near, _pairs(queries),
            _rule(rule), out,
        )  # fmt: skip
        return out

    def score_lists(
        self,
        layout: Layout,
        lists: Sequence[Lists | None],
        active: Sequence[Numbers],
        tables: ByteTables,
        by_video: bool,
        keep: Bytes | None = None,
    ) -> Floats:
        out = _scores(layout, by_video, None)
        given = tuple(
            None if mine is None else (mine.passages, mine.starts, np.asarray(chosen, np.int64))
            for mine, chosen in zip(lists, active, strict=True)
        )
        self._extension.score_lists(
            *self._how, _layout(layout), keep, given, _tables(tables), *tables.floor.shape,
            by_video, out,
        )  # fmt: skip
        return out

    def select(self, scores: Floats, n: int) -> Numbers:
        out = np.empty(max(0, min(n, len(scores))), np.int64)
        n_found: int = self._extension.select(*self._how, scores, out)
        return out[:n_found]


def _width(rows: NDArray[np.generic]) -> int:
    if rows.ndim != 2:
        raise ValueError(f"vectors: expected 2 dimensions, got {rows.ndim}")
    return -(-int(rows.shape[1]) // 4) * 4


def _pair(tokens: Tokens8) -> tuple[NDArray[np.int8], Floats]:
    return tokens.values, tokens.scales


def _pairs(
    tokens: Sequence[Tokens8 | None],
) -> tuple[tuple[NDArray[np.int8], Floats] | None, ...]:
    return tuple(None if mine is None else _pair(mine) for mine in tokens)


def _layout(layout: Layout) -> tuple[NDArray[np.generic], ...]:
    return (
        layout.modality, layout.begin, layout.count, layout.passages, layout.videos,
        layout.timeless,
    )  # fmt: skip


def _codes(
    codes: Sequence[Codes | None],
) -> tuple[tuple[NDArray[np.uint16], Bytes] | None, ...]:
    return tuple(None if mine is None else (mine.centroid, mine.residual) for mine in codes)


def _tables(tables: ByteTables) -> tuple[tuple[Bytes | None, ...], Floats, float]:
    return tuple(tables.values), np.ascontiguousarray(tables.floor, np.float32), tables.step


def _rule(rule: Rule) -> tuple[object, ...]:
    scoring, calibration = rule.scoring, rule.calibration
    return (
        _AGGREGATIONS[scoring.aggregation], scoring.power, scoring.centre, rule.by_video,
        scoring.weight_vector, np.ascontiguousarray(calibration.scale, np.float32),
        np.ascontiguousarray(calibration.null, np.float32),
    )  # fmt: skip


def _scores(layout: Layout, by_video: bool, only: Numbers | None) -> Floats:
    if only is not None:
        return np.empty(len(only), np.float32)
    return np.empty(layout.n_videos if by_video else layout.n_passages, np.float32)
