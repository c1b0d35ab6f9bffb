"""Documents and their cells: whole videos, or passages together with their video's metadata."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES
from mmretrieve.kernels.arrays import Bytes, Floats, Layout
from mmretrieve.kernels.base import Numbers


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents as pairs of (cell, document): ``cell`` and ``document`` are aligned and sorted so that
    each (modality, document) is one run. ``video``/``passage`` ``(n_documents,)`` say what a document is
    (the passage is -1 for a whole video, or for one that has metadata alone)."""

    cell: NDArray[np.int64]
    document: NDArray[np.int64]
    video: NDArray[np.int32]
    passage: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.video)


def pairs(layout: Layout, numbers: Numbers, by_video: bool) -> tuple[Numbers, Numbers]:
    """(cell, position in ``numbers``) of all cells with tokens of the documents ``numbers``: videos, or
    passages with the timeless passage of their video."""
    if by_video:
        low, high = (layout.passages[layout.videos[numbers + i]] for i in (0, 1))
        cell, owner = _ranges(low, high)
    else:
        cell, owner = _ranges(layout.passages[numbers], layout.passages[numbers + 1])
        first = layout.videos[np.searchsorted(layout.videos, numbers, side="right") - 1]
        beside = np.flatnonzero((layout.timeless[first] == 1) & (first != numbers))
        about = first[beside]
        more, more_owner = _ranges(layout.passages[about], layout.passages[about + 1])
        cell = np.concatenate([cell, more])
        owner = np.concatenate([owner, beside[more_owner]])
    filled = layout.count[cell] > 0
    return cell[filled], owner[filled]


def similarities(documents: Documents, modality: Bytes, maxima: Floats) -> Floats:
    """``(n_documents, n_modalities, nq)``: maxima over each document's cells, ``-inf`` where it has none
    in a modality; ``modality`` ``(n_cells,)``, ``maxima`` ``(n_cells, nq)``."""
    shape = (len(documents), len(MODALITIES), maxima.shape[1])
    out = np.full(shape, -np.inf, np.float32)
    if len(documents.cell):
        mine = modality[documents.cell].astype(np.int64)
        starts = np.flatnonzero(np.diff(mine * len(documents) + documents.document, prepend=-1))
        best = np.maximum.reduceat(maxima[documents.cell], starts, axis=0)
        out[documents.document[starts], mine[starts]] = best
    return out


def in_runs(
    cell: Numbers,
    document: Numbers,
    modality: Bytes,
    video: NDArray[np.int32],
    passage: NDArray[np.int32],
) -> Documents:
    """Documents of pairs in any order; ``modality`` ``(n_cells,)``."""
    order = np.lexsort((cell, document, modality[cell]))
    return Documents(cell[order], document[order], video, passage)


def _ranges(low: Numbers, high: Numbers) -> tuple[Numbers, Numbers]:
    """All numbers of the ranges ``low[i]:high[i]``, and the ``i`` of each."""
    length = high - low
    owner = np.repeat(np.arange(len(low)), length)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(length) - length, length)
    return low[owner] + within, owner
