"""The whole index in memory as the tables hold it: for what looks at every token, which a search does
not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES

if TYPE_CHECKING:
    from mmretrieve.storage.reader import Snapshot


@dataclass(frozen=True, slots=True)
class Cells:
    """The tokens of the index, cut into cells: a cell holds the tokens of one passage and modality.

    Cells are ordered by (modality, video, passage), tokens in the order of cells. ``modality`` indexes
    ``MODALITIES``, ``video`` the snapshot's videos; ``start_s``/``end_s`` are NaN where a passage has no
    times; cell ``i`` owns token rows ``offsets[i]:offsets[i + 1]``; ``row`` is its row id in the table.
    """

    modality: NDArray[np.uint8]
    video: NDArray[np.int32]
    passage: NDArray[np.int32]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    offsets: NDArray[np.int64]
    row: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.modality)


@dataclass(frozen=True, slots=True)
class Library:
    """``vectors``: ``(n_tokens, dim)`` float32, rows of unit length as stored in float16; narrower ones
    are followed by zeros."""

    cells: Cells
    vectors: NDArray[np.float32]


def read_library(snapshot: Snapshot) -> Library:
    """All cells of a snapshot with their vectors, read at once."""
    number = {video.revision: i for i, video in enumerate(snapshot.videos)}
    codes = {m.value: i for i, m in enumerate(MODALITIES)}
    found = sorted(
        (codes[row["modality"]], number[row["revision"]], row["passage"], row["_rowid"],
         row["start_s"], row["end_s"])
        for row in snapshot.cells.table_keys()
        if row["revision"] in number
    )  # fmt: skip
    modality, video, passage, row = np.array([f[:4] for f in found], np.int64).reshape(-1, 4).T
    times = np.array([f[4:] for f in found], np.float64).reshape(-1, 2)
    rows = row.astype(np.uint64)
    vectors = snapshot.cells.vectors(rows, modality.astype(np.uint8)) if len(rows) else ()
    offsets = np.cumsum([0, *(len(v) for v in vectors)]).astype(np.int64)
    flat = np.zeros((int(offsets[-1]), snapshot.manifest.dim), np.float32)
    for start, tokens in zip(offsets[:-1].tolist(), vectors, strict=True):
        flat[start : start + len(tokens), : tokens.shape[1]] = tokens
    cells = Cells(
        modality.astype(np.uint8),
        video.astype(np.int32),
        passage.astype(np.int32),
        times[:, 0],
        times[:, 1],
        offsets,
        rows,
    )
    return Library(cells, flat)
