"""Exact similarities of the last candidates, from the vectors as they were stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.kernels.arrays import Bytes, Floats
from mmretrieve.kernels.base import Kernels, Numbers
from mmretrieve.search.documents import Documents, in_runs, pairs
from mmretrieve.search.prepared import PreparedQuery, TableCache
from mmretrieve.search.selection import Selection
from mmretrieve.storage.codes.segment import Segment, SegmentKind
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.searchable import LiveSegment

Stored = NDArray[np.float16]

MAX_CELLS = 48
"""A document of more cells (a long video) is rescored from those that hold the best tokens."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Documents of one segment by number: passages or videos."""

    live: LiveSegment
    selection: Selection
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class ExactCells:
    """The cells of some documents: ``modality`` ``(n_cells,)``, ``row`` their row ids, ``vectors[i]``
    ``(n_tokens, dim)`` as stored, ``maxima`` ``(n_cells, nq)`` exact."""

    modality: Bytes
    row: NDArray[np.uint64]
    vectors: tuple[Stored, ...]
    maxima: Floats


@dataclass(frozen=True, slots=True)
class Rescorer:
    """Fetches what a query needs to be exact."""

    snapshot: Snapshot
    kernels: Kernels

    def cells(
        self, chosen: Sequence[Chosen], query: PreparedQuery, weights: Floats, by_video: bool,
        tables: TableCache,
    ) -> tuple[Documents, ExactCells]:  # fmt: skip
        """All documents in the order of ``chosen``, and their cells."""
        rows, modality, cell, owner, video, passage = [], [], [], [], [], []
        n_cells = n_documents = 0
        for part in chosen:
            segment = part.live.segment
            own, document = self._pairs(part, query, weights, by_video, tables)
            unique, position = np.unique(own, return_inverse=True)
            rows.append(segment.row[unique])
            modality.append(segment.layout.modality[unique])
            cell.append(position + n_cells)
            owner.append(document + n_documents)
            video.append(_videos(part, by_video))
            passage.append(_passages(part, by_video))
            n_cells, n_documents = n_cells + len(unique), n_documents + len(part.numbers)
        kinds = np.concatenate([np.empty(0, np.uint8), *modality])
        ids = np.concatenate([np.empty(0, np.uint64), *rows])
        none = np.empty(0, np.int64)
        documents = in_runs(
            np.concatenate([none, *cell]), np.concatenate([none, *owner]), kinds,
            np.concatenate([np.empty(0, np.int32), *video]),
            np.concatenate([np.empty(0, np.int32), *passage]),
        )  # fmt: skip
        vectors = self.snapshot.cells.vectors(ids, kinds)
        return documents, ExactCells(
            kinds, ids, vectors, exact_maxima(self.kernels, kinds, vectors, query)
        )

    def _pairs(
        self,
        part: Chosen,
        query: PreparedQuery,
        weights: Floats,
        by_video: bool,
        tables: TableCache,
    ) -> tuple[Numbers, Numbers]:
        layout = part.live.segment.layout
        cell, document = pairs(layout, part.numbers, by_video)
        takes_part = weights[layout.modality[cell]] > 0
        if part.selection.keep is not None:
            takes_part &= part.selection.keep[cell] == 1
        cell, document = cell[takes_part], document[takes_part]
        many = np.bincount(document, minlength=len(part.numbers)) > MAX_CELLS
        if not many.any():
            return cell, document
        best = self._with_best_tokens(part.live.segment, cell, document, query, tables)
        stays = best | ~many[document]
        return cell[stays], document[stays]

    def _with_best_tokens(
        self, segment: Segment, cell: Numbers, document: Numbers, query: PreparedQuery,
        tables: TableCache,
    ) -> NDArray[np.bool_]:  # fmt: skip
        """``(n_pairs,)``: which cells are the best of their document for some query token."""
        found = np.zeros(len(cell), bool)
        modality = segment.layout.modality[cell]
        for m in np.unique(modality).tolist():
            mine = np.flatnonzero(modality == m)
            mine = mine[np.argsort(document[mine], kind="stable")]
            maxima = coded_maxima(self.kernels, segment, cell[mine], m, query, tables)
            starts = np.flatnonzero(np.diff(document[mine], prepend=-1))
            best = np.repeat(
                np.maximum.reduceat(maxima, starts, axis=0), np.diff([*starts, len(mine)]), axis=0
            )
            found[mine] = (maxima >= best).any(axis=1)
        return found


def coded_maxima(
    kernels: Kernels,
    segment: Segment,
    cells: Numbers,
    m: int,
    query: PreparedQuery,
    tables: TableCache,
) -> Floats:
    """``(n_cells, nq)``: maxima over cells of modality ``m`` as the segment's codes give them."""
    begin, count = segment.layout.begin[cells], segment.layout.count[cells]
    if segment.kind is SegmentKind.EXACT:
        tokens = segment.tokens[m]
        assert tokens is not None
        return kernels.maxima(tokens, begin, count, query.tokens[m])
    made, codes = tables.of(segment.books), segment.codes[m]
    book, sims, stretched = made.books[m], made.sims[m], made.stretched[m]
    assert codes is not None and book is not None and sims is not None and stretched is not None
    return kernels.coded_maxima(codes, book, sims, stretched, begin, count)


def exact_maxima(
    kernels: Kernels, modality: Bytes, vectors: Sequence[Stored], query: PreparedQuery
) -> Floats:
    """``(n_cells, nq)``: the largest dot product of each query token with the tokens of each cell."""
    out = np.full((len(vectors), query.n_tokens), -np.inf, np.float32)
    for m in np.unique(modality).tolist():
        cells = np.flatnonzero(modality == m)
        mine = [vectors[i] for i in cells.tolist()]
        count = np.array([len(v) for v in mine], np.int32)
        begin = np.cumsum(count, dtype=np.int64) - count
        out[cells] = kernels.exact_maxima(np.concatenate(mine), begin, count, query.vectors[m])
    return out


def _videos(part: Chosen, by_video: bool) -> NDArray[np.int32]:
    if by_video:
        return part.live.video[part.numbers]
    videos = part.live.segment.layout.videos
    return part.live.video[np.searchsorted(videos, part.numbers, side="right") - 1]


def _passages(part: Chosen, by_video: bool) -> NDArray[np.int32]:
    if by_video:
        return np.full(len(part.numbers), -1, np.int32)
    return part.live.segment.number[part.numbers]
