"""Opening token codes. What is missing, damaged or of another version is left out with a note: its
videos then count as not covered, and are read from the tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES
from mmretrieve.errors import CodesError
from mmretrieve.kernels.arrays import Codebook, Tokens8
from mmretrieve.storage.codes.catalogue import (
    CODES,
    Catalogue,
    SegmentEntry,
    digest,
    read_catalogue,
)
from mmretrieve.storage.codes.check import check_book, check_segment
from mmretrieve.storage.codes.files import Folder, map_arrays
from mmretrieve.storage.codes.sample import Samples
from mmretrieve.storage.codes.segment import (
    NO_BOOKS,
    Array,
    Books,
    Segment,
    SegmentKind,
    of_modality,
    segment_of,
)
from mmretrieve.storage.folder import Manifest

REPAIR = "run `mmretrieve codes --rebuild`; until then these videos are searched without codes"
CHECKED_BYTES = 1 << 26
"""Checksums of larger files are compared by :func:`verify` alone."""
_RETRIES = 5


@dataclass(frozen=True, slots=True)
class CodeSet:
    """Token codes as one moment saw them. ``alive[i]`` ``(n_videos,)`` bool says which videos of
    ``segments[i]`` are valid; every revision is alive at most once. ``samples`` is None where they
    were not drawn from just the live videos, ``uncovered`` are live revisions in no segment.
    """

    segments: tuple[Segment, ...]
    alive: tuple[NDArray[np.bool_], ...]
    samples: Samples | None
    uncovered: frozenset[str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """Segments that can be used with their entries, those that cannot and why, and samples."""

    catalogue: Catalogue
    books: Books
    segments: tuple[tuple[SegmentEntry, Segment], ...]
    samples: Samples | None
    faults: tuple[str, ...]


def nothing_opened(catalogue: Catalogue, *faults: str) -> Opened:
    """Nothing that can be used, of what a catalogue names."""
    return Opened(catalogue, NO_BOOKS, (), None, faults)


def open_codes(folder: Path, manifest: Manifest, live: Collection[str]) -> CodeSet:
    """The codes of the index in ``folder``, of which the revisions ``live`` are valid."""
    opened = open_all(folder / CODES, manifest)
    covered: set[str] = set()
    segments, alive = [], []
    wanted = np.array(sorted(r.encode() for r in live), np.bytes_)
    for _, segment in opened.segments:
        names = [r.decode() for r in segment.revision.tolist()]
        mask = np.isin(segment.revision, wanted)
        mask &= np.array([name not in covered for name in names], bool)
        covered |= {name for name, is_alive in zip(names, mask, strict=True) if is_alive}
        covered |= {r.decode() for r in segment.without_rows.tolist()} & set(live)
        segments.append(segment)
        alive.append(mask)
    current = opened.catalogue.sampled == digest(live)
    return CodeSet(
        tuple(segments),
        tuple(alive),
        opened.samples if current else None,
        frozenset(live) - covered,
        tuple(f"{fault}: {REPAIR}" for fault in opened.faults),
    )


def verify(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """Read all files of the codes and compare them with what was written: what is wrong, if
    anything."""
    return open_all(folder / CODES, manifest, check_bytes=1 << 62).faults


def open_all(codes: Path, manifest: Manifest, check_bytes: int = CHECKED_BYTES) -> Opened:
    """Everything that the catalogue names and that is sound."""
    for _ in range(_RETRIES):
        try:
            catalogue = read_catalogue(codes)
        except CodesError as error:
            return nothing_opened(Catalogue(), f"token codes are not used: {error}")
        opened = _open(codes, catalogue, manifest, check_bytes)
        # A writer may have replaced the catalogue and removed what the old one named.
        if not opened.faults or _read_again(codes) == catalogue:
            break
    return opened


def _read_again(codes: Path) -> Catalogue | None:
    try:
        return read_catalogue(codes)
    except CodesError:
        return None


def _open(codes: Path, catalogue: Catalogue, manifest: Manifest, check_bytes: int) -> Opened:
    faults: list[str] = []
    books, segments, samples = NO_BOOKS, [], None
    if catalogue.codebook is not None:
        try:
            books = _books(codes, catalogue.codebook, manifest, check_bytes)
        except (OSError, CodesError, KeyError) as error:
            faults.append(_fault(catalogue.codebook.name, error))
    for entry in catalogue.segments:
        try:
            segments.append((entry, _segment(codes, entry, books, manifest, check_bytes)))
        except (OSError, CodesError, KeyError) as error:
            faults.append(_fault(entry.folder.name, error))
    if catalogue.sample_passages is not None and catalogue.sample_videos is not None:
        try:
            entries = [
                SegmentEntry(folder, SegmentKind.EXACT)
                for folder in (catalogue.sample_passages, catalogue.sample_videos)
            ]
            samples = Samples(
                *(_segment(codes, entry, NO_BOOKS, manifest, check_bytes) for entry in entries)
            )
        except (OSError, CodesError, KeyError) as error:
            faults.append(_fault("samples", error))
    return Opened(catalogue, books, tuple(segments), samples, tuple(faults))


def _fault(name: str, error: Exception) -> str:
    told = f"array {error} is not there" if isinstance(error, KeyError) else str(error)
    return f"token codes {name} are not used: {told}"


def _segment(
    codes: Path, entry: SegmentEntry, books: Books, manifest: Manifest, check_bytes: int
) -> Segment:
    arrays = map_arrays(codes, entry.folder, check_bytes)
    segment = segment_of(entry.folder.name, arrays, books)
    check_segment(segment, manifest)
    return segment


def _books(codes: Path, folder: Folder, manifest: Manifest, check_bytes: int) -> Books:
    arrays = map_arrays(codes, folder, check_bytes)
    found: list[Codebook | None] = []
    for modality in MODALITIES:
        if of_modality("values", modality) not in arrays:
            found.append(None)
            continue
        names = ("values", "scales", "spread", "levels")
        values, scales, spread, levels = (arrays[of_modality(n, modality)] for n in names)
        book = Codebook(Tokens8(values, scales), spread, levels)
        check_book(folder.name, book, manifest.width(modality))
        found.append(book)
    return tuple(found)


def book_arrays(books: Iterable[Codebook | None]) -> dict[str, Array]:
    """The arrays of codebooks, by name."""
    out: dict[str, Array] = {}
    for modality, book in zip(MODALITIES, books, strict=True):
        if book is not None:
            named: dict[str, Array] = {
                "values": book.centroids.values,
                "scales": book.centroids.scales,
                "spread": book.spread,
                "levels": book.levels,
            }
            out |= {of_modality(name, modality): array for name, array in named.items()}
    return out
