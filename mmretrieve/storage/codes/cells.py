"""Reading cells and their tokens from table ``passages``, a bounded number of tokens at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmretrieve.datatypes import METADATA_PASSAGE, MODALITIES
from mmretrieve.errors import IndexFormatError
from mmretrieve.storage.codes.segment import Array
from mmretrieve.storage.vectors import FlatVectors, flat_vectors

_BLOCK_TOKENS = 1 << 14
_FIRST_ROWS = 32
_MOST_ROWS = 1 << 10
_FILTERED_REVISIONS = 1000
"""Up to so many revisions are looked for by the table itself; beyond, all keys are read."""
_COLUMNS = ["revision", "modality", "passage", "start_s", "end_s"]
_NAMES = pa.array([m.value for m in MODALITIES])


@dataclass(frozen=True, slots=True)
class Keys:
    """What cells are, without their tokens: about 33 bytes a cell.

    Ordered by (video, passage, modality); ``video`` (int32) indexes ``revision`` ``(n_videos,)``
    bytes; ``modality`` (uint8) indexes :data:`MODALITIES`; ``row`` (uint64) is the row id; times are
    float64, NaN where there are none. Every video has a cell.
    """

    revision: NDArray[np.bytes_]
    video: NDArray[np.int32]
    passage: NDArray[np.int32]
    modality: NDArray[np.uint8]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    row: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.row)


def read_keys(dataset: Any, revisions: Collection[str]) -> Keys:
    """The cells of videos, which come in the order of the table.

    Raises:
        IndexFormatError: a video has two rows of one passage and modality, or an unknown modality.
    """
    blocks = [_block(rows) for rows in _rows_of(dataset, revisions, _COLUMNS)]
    columns = {
        name: np.concatenate([np.empty(0, kind), *(block[name] for block in blocks)])
        for name, kind in _KINDS.items()
    }
    return _ordered(columns, np.array([r.encode() for r in sorted(revisions)], np.bytes_))


def count_tokens(dataset: Any, revisions: Collection[str]) -> NDArray[np.int64]:
    """``(n_modalities,)`` tokens of videos, without reading a vector."""
    out = np.zeros(len(MODALITIES), np.int64)
    for rows in _rows_of(dataset, revisions, ["revision", "modality", "token_segment"]):
        n = pc.fill_null(pc.list_value_length(rows["token_segment"]), 0).to_numpy()
        out += np.bincount(_modalities(rows), n, len(MODALITIES)).astype(np.int64)
    return out


def layout_arrays(keys: Keys, count: NDArray[np.int32]) -> dict[str, Array]:
    """The arrays of a segment's layout for cells with so many tokens."""
    begin = np.zeros(len(keys), np.int64)
    for m in range(len(MODALITIES)):
        mine = keys.modality == m
        begin[mine] = np.cumsum(count[mine], dtype=np.int64) - count[mine]
    starts_video = _changes(keys.video)
    first = np.flatnonzero(starts_video | _changes(keys.passage))
    return {
        "modality": keys.modality,
        "begin": begin,
        "count": count,
        "row": keys.row,
        "passages": np.append(first, len(keys)).astype(np.int64),
        "number": keys.passage[first],
        "start_s": keys.start_s[first],
        "end_s": keys.end_s[first],
        "timeless": (keys.passage[first] == METADATA_PASSAGE).astype(np.uint8),
        "videos": np.append(np.flatnonzero(starts_video[first]), len(first)).astype(np.int64),
        "revision": keys.revision,
    }


def read_rows(dataset: Any, rows: NDArray[np.uint64]) -> Iterator[tuple[slice, FlatVectors]]:
    """The vectors of rows in the given order, in blocks of some :data:`_BLOCK_TOKENS` tokens, with the
    places of those rows in ``rows``.

    Raises:
        IndexFormatError: a row is not there.
    """
    start, n_rows, n_tokens = 0, _FIRST_ROWS, 0
    while start < len(rows):
        block = slice(start, min(start + n_rows, len(rows)))
        table = dataset._take_rows(rows[block].tolist(), columns=["vectors"])
        if table.num_rows != block.stop - block.start:
            raise IndexFormatError(
                f"{block.stop - block.start - table.num_rows} rows of table 'passages' that token "
                "codes name are not there: open the index again, or restore the folder"
            )
        found = flat_vectors(table["vectors"].combine_chunks())
        yield block, found
        start, n_tokens = block.stop, n_tokens + int(found.count.sum())
        n_rows = int(np.clip(_BLOCK_TOKENS * start // max(n_tokens, 1), 1, _MOST_ROWS))


def fetch_vectors(
    dataset: Any, rows: NDArray[np.uint64], widths: Sequence[int]
) -> list[NDArray[np.float16]]:
    """The tokens of cells as they were stored, ``(n_tokens, widths[i])`` float16 for row id
    ``rows[i]``; tokens that are not finite are zeros.

    Raises:
        IndexFormatError: a row is not there, or its tokens are not so wide.
    """
    out: list[NDArray[np.float16]] = []
    for block, found in read_rows(dataset, rows):
        finite = _all_finite(found.values)
        for i in range(block.stop - block.start):
            tokens = tokens_of([found.row(i)], widths[block.start + i])
            out.append(tokens if finite else usable(tokens)[0])
    return out


def tokens_of(rows: Sequence[NDArray[np.float16]], width: int) -> NDArray[np.float16]:
    """``(n_tokens, width)``: the tokens of several rows.

    Raises:
        IndexFormatError: they are not so wide.
    """
    full = [row for row in rows if len(row)]
    if len(full) == 1 and full[0].shape[1] == width:
        return full[0]
    wrong = {row.shape[1] for row in full} - {width}
    if wrong:
        raise IndexFormatError(
            f"table 'passages' has tokens of width {wrong.pop()} where the manifest says {width}: "
            "index again into a new folder"
        )
    return np.concatenate([np.empty((0, width), np.float16), *full])


def usable(tokens: NDArray[np.float16]) -> tuple[NDArray[np.float16], int]:
    """The tokens with zeros for those that are not finite, and the number of these."""
    bad = np.logical_not(np.isfinite(tokens).all(axis=1, keepdims=True))
    if not bad.any():
        return tokens, 0
    return np.where(bad, np.float16(0), tokens), int(bad.sum())


def _all_finite(values: NDArray[np.float16]) -> bool:
    """By their bits, since NumPy is slow with float16: infinities and NaN have the largest exponent."""
    return not len(values) or int((values.view(np.uint16) << 1).max()) < 0x7C00 << 1


_KINDS: dict[str, type] = {
    "video": np.int32,
    "passage": np.int32,
    "modality": np.uint8,
    "start_s": np.float64,
    "end_s": np.float64,
    "row": np.uint64,
}


def _rows_of(dataset: Any, revisions: Collection[str], columns: list[str]) -> Iterator[pa.Table]:
    """Rows of videos in pieces, with columns ``_rowid`` and ``video``, a number among the sorted
    revisions."""
    wanted = pa.array(sorted(revisions), pa.string())
    if not len(wanted):
        return
    few = len(wanted) <= _FILTERED_REVISIONS
    where = pc.field("revision").isin(wanted) if few else None
    for batch in dataset.scanner(columns=columns, with_row_id=True, filter=where).to_batches():
        rows = pa.Table.from_batches([batch])
        video = pc.index_in(rows["revision"], value_set=wanted)
        yield rows.append_column("video", video).filter(pc.is_valid(video))


def _block(rows: pa.Table) -> dict[str, Array]:
    named = {"row": "_rowid"}
    out = {"modality": _modalities(rows)}
    for name in ("video", "passage", "start_s", "end_s", "row"):
        out[name] = rows[named.get(name, name)].to_numpy().astype(_KINDS[name])
    return out


def _modalities(rows: pa.Table) -> NDArray[np.uint8]:
    found = pc.index_in(rows["modality"], value_set=_NAMES)
    if found.null_count:
        raise IndexFormatError(
            "table 'passages' has a modality that this program does not know: update with "
            "`pip install -U mmretrieve`"
        )
    return np.asarray(found.to_numpy(), np.uint8)


def _ordered(columns: dict[str, Array], revision: NDArray[np.bytes_]) -> Keys:
    present, first, video = np.unique(columns["video"], return_index=True, return_inverse=True)
    place = np.argsort(first)  # videos in the order of the table, so that reads go forward
    rank = np.empty(len(place), np.int32)
    rank[place] = np.arange(len(place))
    columns["video"] = rank[video]
    order = np.lexsort((columns["modality"], columns["passage"], columns["video"]))
    found = {name: column[order] for name, column in columns.items()}
    fresh = _changes(found["video"])
    for name in ("passage", "modality"):
        fresh |= _changes(found[name])
    if not fresh.all():
        twice = revision[present[place]][found["video"][~fresh][0]].decode()
        raise IndexFormatError(
            f"table 'passages' has two rows of one passage and modality in revision {twice}: "
            "index that video again with --force"
        )
    return Keys(revision[present[place]], **found)


def _changes(values: Array) -> NDArray[np.bool_]:
    """Where a value differs from the one before it; true at the start."""
    return np.concatenate([np.ones(min(len(values), 1), bool), np.diff(values) != 0])
