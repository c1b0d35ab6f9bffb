"""Writing new folders: segments, codebooks, samples."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmretrieve.storage.codes.build import Source, Tally, without_rows, write_segment
from mmretrieve.storage.codes.catalogue import SegmentEntry
from mmretrieve.storage.codes.cells import read_keys
from mmretrieve.storage.codes.files import Folder, FolderSink, map_arrays
from mmretrieve.storage.codes.lists import write_lists
from mmretrieve.storage.codes.reading import book_arrays
from mmretrieve.storage.codes.sample import (
    PASSAGES,
    VIDEOS,
    Part,
    pick_passages,
    pick_videos,
    write_sample,
)
from mmretrieve.storage.codes.segment import NO_BOOKS, Books, Segment, SegmentKind, segment_of


@dataclass(frozen=True, slots=True)
class Sealed:
    """A new segment, and what passed while it was written."""

    entry: SegmentEntry
    segment: Segment
    tally: Tally


@dataclass(slots=True)
class Sealer:
    """Writes folders with numbers from ``number`` on, to be named by the catalogue or discarded."""

    codes: Path
    source: Source
    number: int
    lists_from: int
    _written: list[Path] = field(default_factory=list)

    def discard(self) -> None:
        """Remove what was written, as far as the system lets us: the next writer removes the rest."""
        for path in self._written:
            with suppress(OSError):
                shutil.rmtree(path)
        self._written.clear()

    def segment(
        self,
        revisions: Collection[str],
        books: Books | None,
        fresh: Collection[str],
    ) -> Sealed:
        """A segment of these videos, coded if there are codebooks. The tally watches ``fresh`` ones.

        Raises:
            OSError: no space, for one.
            IndexFormatError: the table does not hold what it should.
        """
        keys = read_keys(self.source.dataset, revisions)
        is_fresh = np.array([r.decode() in fresh for r in keys.revision.tolist()], bool)
        kind = SegmentKind.EXACT if books is None else SegmentKind.CODED
        with self._new("segment") as sink:
            tally = write_segment(self.source, keys, sink, books, is_fresh[keys.video])
            sink.append("without_rows", without_rows(revisions, keys))
            folder = Folder(sink.path.name, sink.flush())
            segment = self._mapped(folder, books)
            if books is not None and sum(segment.n_tokens) >= self.lists_from:
                write_lists(segment, sink)
                folder = Folder(sink.path.name, sink.flush())
                segment = self._mapped(folder, books)
        return Sealed(SegmentEntry(folder, kind, tally.n_unusable), segment, tally)

    def codebook(self, books: Books) -> Folder:
        """A folder with codebooks."""
        with self._new("codebook") as sink:
            for name, array in book_arrays(books).items():
                sink.append(name, array)
            return Folder(sink.path.name, sink.flush())

    def samples(self, parts: Sequence[Part], ids: Mapping[str, str]) -> tuple[Folder, Folder]:
        """Folders with the samples of passages and of videos."""
        found = []
        for picks in (pick_passages(parts, ids, PASSAGES), pick_videos(parts, ids, VIDEOS)):
            with self._new("sample") as sink:
                write_sample(self.source, parts, picks, sink)
                found.append(Folder(sink.path.name, sink.flush()))
        return found[0], found[1]

    @contextmanager
    def _new(self, what: str) -> Iterator[FolderSink]:
        path = self.codes / f"{what}-{self.number}"
        self.number += 1
        self._written.append(path)
        sink = FolderSink(path)
        try:
            yield sink
        finally:
            sink.close()

    def _mapped(self, folder: Folder, books: Books | None) -> Segment:
        arrays = map_arrays(self.codes, folder, check_bytes=0)
        return segment_of(folder.name, arrays, books or NO_BOOKS)
