"""Making segments from the rows of cells: all tokens pass through memory once, in blocks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES
from mmretrieve.errors import IndexFormatError
from mmretrieve.kernels.base import Kernels
from mmretrieve.storage.codes.cells import (
    Keys,
    layout_arrays,
    read_keys,
    read_rows,
    tokens_of,
    usable,
)
from mmretrieve.storage.codes.files import MemorySink, Sink
from mmretrieve.storage.codes.segment import NO_BOOKS, Books, Segment, of_modality, segment_of
from mmretrieve.storage.folder import Manifest
from mmretrieve.storage.vectors import FlatVectors


@dataclass(frozen=True, slots=True)
class Source:
    """Where tokens come from, and what turns them into codes."""

    dataset: Any
    manifest: Manifest
    kernels: Kernels


@dataclass(slots=True)
class Tally:
    """What passed: tokens a modality ``(n_modalities,)``, those that were not usable, and for coded
    ones of watched cells the number and the sum of similarities to their centroids."""

    n_tokens: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(MODALITIES), np.int64))
    n_unusable: int = 0
    watched: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(MODALITIES), np.int64))
    similarity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(MODALITIES)))


def write_segment(
    source: Source,
    keys: Keys,
    sink: Sink,
    books: Books | None = None,
    watch: NDArray[np.bool_] | None = None,
) -> Tally:
    """Append the arrays of a segment with these cells: in eight bits, or coded with ``books``.
    ``watch`` ``(n_cells,)`` says whose similarities to centroids are added up (None: all).

    Raises:
        IndexFormatError: the table does not hold what it should.
    """
    count = np.zeros(len(keys), np.int32)
    tally = Tally()
    for block, found in read_rows(source.dataset, keys.row):
        count[block] = found.count
        watched = None if watch is None else watch[block]
        _write_tokens(source, keys.modality[block], found, sink, books, watched, tally)
    for name, array in layout_arrays(keys, count).items():
        sink.append(name, array)
    return tally


def tail_segment(
    dataset: Any, revisions: Collection[str], manifest: Manifest, kernels: Kernels
) -> Segment:
    """Videos that no sealed segment has, in eight bits in memory. Row ids hold for ``dataset`` alone
    where its rows have no stable ids.

    Raises:
        IndexFormatError: the table does not hold what it should.
    """
    keys = read_keys(dataset, revisions)
    sink = MemorySink()
    write_segment(Source(dataset, manifest, kernels), keys, sink)
    sink.append("without_rows", without_rows(revisions, keys))
    return segment_of("tail", sink.arrays(), NO_BOOKS)


def without_rows(revisions: Collection[str], keys: Keys) -> NDArray[np.bytes_]:
    """Those of the revisions that have no cell."""
    found = set(keys.revision.tolist())
    return np.array(sorted(r.encode() for r in revisions if r.encode() not in found), np.bytes_)


def _write_tokens(
    source: Source,
    modality: NDArray[np.uint8],
    found: FlatVectors,
    sink: Sink,
    books: Books | None,
    watch: NDArray[np.bool_] | None,
    tally: Tally,
) -> None:
    for m, name in enumerate(MODALITIES):
        cells = np.flatnonzero((modality == m) & (found.count > 0))
        if not len(cells):
            continue
        rows = [found.row(i) for i in cells.tolist()]
        tokens, n_unusable = usable(tokens_of(rows, source.manifest.width(name)))
        tally.n_tokens[m] += len(tokens)
        tally.n_unusable += n_unusable
        eight = source.kernels.quantize(tokens)
        if books is None:
            sink.append(of_modality("values", name), eight.values)
            sink.append(of_modality("scales", name), eight.scales)
            continue
        book = books[m]
        if book is None:
            raise IndexFormatError(
                f"table 'passages' has more vectors of {name.value} than it names tokens: index "
                "again into a new folder"
            )
        centroid, similarity = source.kernels.assign(eight, book.centroids)
        sink.append(of_modality("centroid", name), centroid)
        sink.append(of_modality("residual", name), source.kernels.encode(tokens, centroid, book))
        seen = centroid > 0
        if watch is not None:
            seen &= np.repeat(watch[cells], found.count[cells])
        tally.watched[m] += int(seen.sum())
        tally.similarity[m] += float(similarity[seen].sum(dtype=np.float64))
