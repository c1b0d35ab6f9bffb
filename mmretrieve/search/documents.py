"""What is ranked: whole videos, or passages together with their video's metadata.

Both are groups of cells; a document's similarity in a modality is the maximum over its cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import METADATA_PASSAGE, MODALITIES
from mmretrieve.storage.reader import Cells

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents as pairs of (cell, document): ``cell`` and ``document`` are aligned and sorted so
    that each (modality, document) is one run. ``video``/``passage`` ``(n_documents,)`` say what a
    document is (the passage is -1 for a whole video, or for one that has metadata alone)."""

    cell: NDArray[np.int64]
    document: NDArray[np.int64]
    video: NDArray[np.int32]
    passage: NDArray[np.int32]


def videos(cells: Cells) -> Documents:
    """One document a video that has any cell."""
    present, document = np.unique(cells.video, return_inverse=True)
    passage = np.full(len(present), METADATA_PASSAGE, np.int32)
    return _sorted(cells, np.arange(len(cells)), document, present.astype(np.int32), passage)


def passages(cells: Cells) -> Documents:
    """One document a passage: its cells and those of its video's metadata. A video without timed
    passages is one document of its metadata."""
    timed = np.flatnonzero(cells.passage != METADATA_PASSAGE)
    untimed = np.flatnonzero(cells.passage == METADATA_PASSAGE)
    lone = untimed[~np.isin(cells.video[untimed], cells.video[timed])]
    owners = np.concatenate([timed, lone])
    keys = np.stack([cells.video[owners], cells.passage[owners]], axis=1).astype(np.int64)
    present, document = np.unique(keys.reshape(-1, 2), axis=0, return_inverse=True)
    cell, document = owners, document.reshape(-1)
    shared = untimed[np.isin(cells.video[untimed], cells.video[timed])]
    first = np.searchsorted(present[:, 0], cells.video[shared], side="left")
    count = np.searchsorted(present[:, 0], cells.video[shared], side="right") - first
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    cell = np.concatenate([cell, np.repeat(shared, count)])
    document = np.concatenate([document, np.repeat(first, count) + within])
    columns = present.astype(np.int32)
    return _sorted(cells, cell, document, columns[:, 0], columns[:, 1])


def similarities(documents: Documents, cells: Cells, maxima: Array) -> Array:
    """``(n_documents, n_modalities, n_query_tokens)``: maxima over each document's cells, ``-inf``
    where it has none in a modality; ``maxima`` is ``(n_cells, n_query_tokens)``."""
    shape = (len(documents.video), len(MODALITIES), maxima.shape[1])
    out = np.full(shape, -np.inf, np.float32)
    if len(documents.cell):
        modality = cells.modality[documents.cell].astype(np.int64)
        key = modality * len(documents.video) + documents.document
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        best = np.maximum.reduceat(maxima[documents.cell], starts, axis=0)
        out[documents.document[starts], modality[starts]] = best
    return out


def subset(documents: Documents, chosen: NDArray[np.int64]) -> Documents:
    """Only the documents with these (ascending) numbers, numbered anew."""
    number = np.full(len(documents.video), -1, np.int64)
    number[chosen] = np.arange(len(chosen))
    mine = number[documents.document] >= 0
    return Documents(
        documents.cell[mine],
        number[documents.document[mine]],
        documents.video[chosen],
        documents.passage[chosen],
    )


def _sorted(
    cells: Cells,
    cell: NDArray[np.int64],
    document: NDArray[np.int64],
    video: NDArray[np.int32],
    passage: NDArray[np.int32],
) -> Documents:
    order = np.lexsort((cell, document, cells.modality[cell]))
    return Documents(cell[order], document[order], video, passage)
