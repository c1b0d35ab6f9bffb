"""A segment: an immutable set of whole videos, as arrays that kernels work on.

Every array has a name, which is its file's name on disk: those of :data:`LAYOUT` say what the cells
are, ``values-ocr`` and its kind hold the tokens of one modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.kernels.arrays import Codebook, Codes, Layout, Lists, Tokens8

Array = NDArray[Any]
Books = tuple[Codebook | None, ...]
NO_BOOKS: Books = (None,) * len(MODALITIES)

LAYOUT: Mapping[str, str] = {
    "modality": "u1",
    "begin": "<i8",
    "count": "<i4",
    "row": "<u8",
    "passages": "<i8",
    "number": "<i4",
    "start_s": "<f8",
    "end_s": "<f8",
    "timeless": "u1",
    "videos": "<i8",
    "revision": "S",
    "without_rows": "S",
}
"""Array -> dtype; S is of any length."""
TOKENS: Mapping[str, str] = {
    "values": "i1",
    "scales": "<f4",
    "centroid": "<u2",
    "residual": "u1",
    "listed": "<u4",
    "starts": "<i8",
}
"""The same for the arrays of a modality."""
BOOK: Mapping[str, str] = {"values": "i1", "scales": "<f4", "spread": "<f4", "levels": "<f4"}
"""The same for those of its codebook."""


class SegmentKind(StrEnum):
    """How tokens are kept: in eight bits a number, or as centroids with residuals."""

    EXACT = "exact"
    CODED = "coded"


@dataclass(frozen=True, slots=True)
class Segment:
    """Videos with their cells in the order of (video, passage, modality), metadata first.

    ``revision`` ``(n_videos,)`` bytes; ``number`` ``(n_passages,)`` int32 is a passage's number, -1
    for metadata, ``start_s``/``end_s`` ``(n_passages,)`` float64 its times, NaN where it has none;
    ``row`` ``(n_cells,)`` uint64 is a cell's row id in table ``passages``. Of ``tokens``, ``codes``,
    ``lists`` and ``books`` each has one entry a modality, None where there is nothing. Videos in
    ``without_rows`` (bytes) have no rows in the table, so nothing more is to be found of them.
    """

    name: str
    layout: Layout
    revision: NDArray[np.bytes_]
    number: NDArray[np.int32]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    row: NDArray[np.uint64]
    tokens: tuple[Tokens8 | None, ...]
    codes: tuple[Codes | None, ...]
    lists: tuple[Lists | None, ...]
    books: Books
    n_tokens: tuple[int, ...]
    without_rows: NDArray[np.bytes_]

    @property
    def kind(self) -> SegmentKind:
        """A segment without tokens is exact."""
        coded = any(codes is not None for codes in self.codes)
        return SegmentKind.CODED if coded else SegmentKind.EXACT


def of_modality(what: str, modality: Modality) -> str:
    """The name of a modality's array."""
    return f"{what}-{modality.value}"


def segment_of(name: str, arrays: Mapping[str, Array], books: Books = NO_BOOKS) -> Segment:
    """The segment that arrays are of; nothing is copied.

    Raises:
        KeyError: an array of the layout is missing, or half of a pair.
    """
    tokens = tuple(_tokens(arrays, m) for m in MODALITIES)
    codes = tuple(_codes(arrays, m) for m in MODALITIES)
    layout = Layout(
        *(arrays[n] for n in ("modality", "begin", "count", "passages", "videos", "timeless"))
    )
    found = (t if t is not None else c for t, c in zip(tokens, codes, strict=True))
    return Segment(
        name,
        layout,
        arrays["revision"],
        arrays["number"],
        arrays["start_s"],
        arrays["end_s"],
        arrays["row"],
        tokens,
        codes,
        tuple(_lists(arrays, m) for m in MODALITIES),
        tuple(b if c is not None else None for b, c in zip(books, codes, strict=True)),
        tuple(0 if part is None else len(part) for part in found),
        arrays["without_rows"],
    )


def tokens_of_videos(segment: Segment, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """``(n_modalities,)`` tokens of the chosen ``(n_videos,)`` videos."""
    layout = segment.layout
    mine = np.repeat(chosen, np.diff(layout.passages[layout.videos]))
    sizes = np.bincount(layout.modality[mine], layout.count[mine], len(MODALITIES))
    return sizes.astype(np.int64)


def _tokens(arrays: Mapping[str, Array], modality: Modality) -> Tokens8 | None:
    if of_modality("values", modality) not in arrays:
        return None
    return Tokens8(*(arrays[of_modality(n, modality)] for n in ("values", "scales")))


def _codes(arrays: Mapping[str, Array], modality: Modality) -> Codes | None:
    if of_modality("centroid", modality) not in arrays:
        return None
    return Codes(*(arrays[of_modality(n, modality)] for n in ("centroid", "residual")))


def _lists(arrays: Mapping[str, Array], modality: Modality) -> Lists | None:
    if of_modality("listed", modality) not in arrays:
        return None
    return Lists(*(arrays[of_modality(n, modality)] for n in ("listed", "starts")))
