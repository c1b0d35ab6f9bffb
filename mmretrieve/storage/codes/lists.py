"""Inverted lists: for every centroid the passages that hold one of its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES
from mmretrieve.storage.codes.files import Sink
from mmretrieve.storage.codes.segment import Segment, of_modality

_RANGE_TOKENS = 1 << 23
"""Centroids are taken in ranges that hold about so many tokens: each is one pass over the ids of
centroids, and nothing larger is ever in memory or sorted."""
_BLOCK_TOKENS = 1 << 20


def write_lists(segment: Segment, sink: Sink, range_tokens: int = _RANGE_TOKENS) -> None:
    """Append the lists of a coded segment (see :class:`mmretrieve.kernels.arrays.Lists`)."""
    layout = segment.layout
    passage = np.repeat(np.arange(layout.n_passages, dtype=np.uint32), np.diff(layout.passages))
    for m, (codes, book) in enumerate(zip(segment.codes, segment.books, strict=True)):
        if codes is None or book is None:
            continue
        cells = np.flatnonzero((layout.modality == m) & (layout.count > 0))
        sizes = np.zeros(len(book.centroids), np.int64)
        tokens = _Tokens(codes.centroid, passage[cells], layout.count[cells])
        for centroid, _ in tokens.blocks():
            sizes += np.bincount(centroid, minlength=len(sizes))
        starts = [np.zeros(1, np.int64)]
        listed = of_modality("listed", MODALITIES[m])
        sink.append(listed, np.empty(0, np.uint32))
        for low, high in _ranges(sizes, range_tokens):
            pairs = tokens.pairs(low, high)
            sink.append(listed, (pairs & 0xFFFFFFFF).astype(np.uint32))
            n = np.bincount((pairs >> 32).astype(np.int64) - low, minlength=high - low)
            starts.append(starts[-1][-1] + np.cumsum(n))
        sink.append(of_modality("starts", MODALITIES[m]), np.concatenate(starts))


class _Tokens:
    """The tokens of one modality with their passages."""

    def __init__(
        self,
        centroid: NDArray[np.uint16],
        passage: NDArray[np.uint32],
        count: NDArray[np.int32],
    ) -> None:
        self._centroid = centroid
        self._passage = passage
        self._count = count

    def blocks(self) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.uint32]]]:
        """Centroids and passages of tokens, cell after cell; no cell is in two blocks."""
        ends = np.cumsum(self._count, dtype=np.int64)
        cuts = np.flatnonzero(np.diff(ends // _BLOCK_TOKENS)) + 1
        bounds = [0, *cuts.tolist(), len(ends)]
        for first, last in pairwise(bounds):
            if first < last:
                start = int(ends[first] - self._count[first])
                passage = np.repeat(self._passage[first:last], self._count[first:last])
                yield self._centroid[start : int(ends[last - 1])], passage

    def pairs(self, low: int, high: int) -> NDArray[np.uint64]:
        """``centroid << 32 | passage`` of centroids ``low:high``, ascending, each once."""
        found = [np.empty(0, np.uint64)]
        for centroid, passage in self.blocks():
            mine = (centroid >= low) & (centroid < high)
            keys = centroid[mine].astype(np.uint64) << np.uint64(32)
            found.append(np.unique(keys | passage[mine]))
        return np.sort(np.concatenate(found))


def _ranges(sizes: NDArray[np.int64], range_tokens: int) -> Iterator[tuple[int, int]]:
    group = np.cumsum(sizes) // range_tokens
    bounds = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(sizes)]
    yield from pairwise(bounds)
