"""All documents of an index in memory, and which of their cells a filter keeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import METADATA_PASSAGE, MODALITIES, Filter
from mmretrieve.search.documents import Documents, in_runs
from mmretrieve.search.selection import select
from mmretrieve.storage.library import Cells
from mmretrieve.storage.reader import Snapshot


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


def keep_cells(snapshot: Snapshot, wanted: Filter) -> NDArray[np.bool_]:
    """``(n_cells,)``: which cells of the library take part; see :func:`mmretrieve.search.selection.select`.

    Raises:
        UsageError: a condition, time range or phrase that cannot be used.
    """
    cells = snapshot.library.cells
    codes = [i for i, m in enumerate(MODALITIES) if m in wanted.modalities]
    kept = [
        live.segment.row if selection.keep is None else live.segment.row[selection.keep == 1]
        for live, selection in zip(
            snapshot.searchable.segments, select(snapshot, wanted), strict=True
        )
    ]
    rows = np.concatenate([np.empty(0, np.uint64), *kept])
    return np.asarray(np.isin(cells.modality, codes) & np.isin(cells.row, rows))


def _sorted(
    cells: Cells,
    cell: NDArray[np.int64],
    document: NDArray[np.int64],
    video: NDArray[np.int32],
    passage: NDArray[np.int32],
) -> Documents:
    return in_runs(cell, document, cells.modality.astype(np.uint8), video, passage)
