"""Writing to the tables. One writer at a time; a video's row in ``videos`` is its commit mark."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from mmretrieve.errors import IndexFormatError, IndexWriteError
from mmretrieve.storage import upkeep
from mmretrieve.storage.extractions import extraction_row
from mmretrieve.storage.folder import Manifest, acquire_lock
from mmretrieve.storage.ledger import bring_up_to_date
from mmretrieve.storage.leftovers import remove_unfinished
from mmretrieve.storage.migrations import migrate
from mmretrieve.storage.quarantine import PENDING
from mmretrieve.storage.records import FileRecord, VideoEntry
from mmretrieve.storage.schema import TABLES, content_tables, passage_table, schemas, video_row
from mmretrieve.storage.tables import open_table, unreadable_deletions

TEND_EVERY = 16
"""Commits after which the tables are looked at in the course of a run."""
CACHE_BYTES = 4 << 20
"""Of what Lance remembers of the tables. It would keep something of every version that was committed, so that
a long run would take ever more memory; a commit looks at the newest version alone."""
_STABLE_ROWS = {"new_table_enable_stable_row_ids": "true"}
"""Row ids survive a compaction, so that token codes can name the rows they were made from."""


@contextmanager
def named_errors(folder: Path) -> Iterator[None]:
    """Lance tells of full and failing disks by errors of all kinds, with places in its source.

    Raises:
        IndexWriteError: in their place.
    """
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        told = str(error).partition(", /")[0]
        raise IndexWriteError(
            f"{folder} cannot be written to ({told}): what was committed before holds; make room or mend "
            "the disk, then run the same command again"
        ) from error


class IndexWriter:
    """Appends, replaces and removes videos. Holds the writer's lock while open. First it brings the
    index to this program's format, and removes what a writer left that was killed.

    Raises:
        IndexLockedError: another process is writing.
        IndexFormatError: a repair was interrupted.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, recover: bool = True) -> None:
        """``recover=False`` leaves that to the caller, who wants to look at what was left first."""
        self._folder = folder
        self._lock = acquire_lock(folder)
        self._n_commits = 0
        self._notes: dict[str, None] = {}
        self._revisions: dict[str, str] | None = None
        self._paths: set[str] | None = None
        self._sound: set[str | None] = set()
        try:
            if recover and (folder / PENDING).exists():
                raise IndexFormatError(
                    f"a repair of {folder} was interrupted: run `mmretrieve repair` again before "
                    "anything is written (searching works meanwhile)"
                )
            with named_errors(folder):
                migrate(folder)
                self._schemas = schemas(manifest.one_width)
                self._tables = self._open_tables()
            if recover and self._lock.left_behind is not None:
                self.recover()
        except BaseException:
            self._lock.release(clean=False)
            raise

    def _open_tables(self) -> dict[str, Any]:
        import lancedb

        session = lancedb.Session(
            index_cache_size_bytes=CACHE_BYTES, metadata_cache_size_bytes=CACHE_BYTES
        )
        self._session = session
        database = lancedb.connect(self._folder / "lance", session=session)
        return {
            name: database.create_table(
                name,
                schema=self._schemas[name],
                exist_ok=True,
                storage_options=_STABLE_ROWS if name == "passages" else None,
            )
            for name in reversed(TABLES)  # videos last: who sees it may open all of them
        }

    @property
    def cached_bytes(self) -> int:
        """What Lance remembers of the tables."""
        return int(self._session.size_bytes)

    @property
    def recovered_from(self) -> str | None:
        """The writer before, if it did not end well."""
        return self._lock.left_behind

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(clean=error is None)

    def close(self) -> None:
        """Bring the ledger up to date and release the lock.

        Raises:
            IndexWriteError: the ledger cannot be written; what was committed holds.
        """
        self._end(clean=True)

    def _end(self, *, clean: bool) -> None:
        """After an error the next writer recovers."""
        done = False
        try:
            if clean:
                with named_errors(self._folder):
                    bring_up_to_date(self._folder)
                done = True
        finally:
            self._lock.release(clean=done)

    def recover(self) -> None:
        """Remove what a killed writer left: extractions that no video names, notes that files have a
        video which is not there, files that were to replace others."""
        marks = self._tables["videos"].to_lance().to_table(columns=["video_id", "revision"])
        videos, revisions = (set(marks[c].to_pylist()) for c in ("video_id", "revision"))
        for name in content_tables():
            stored = self._tables[name].to_lance().to_table(columns=["revision"])
            left = set(stored["revision"].to_pylist()) - revisions
            self._delete_from(name, "revision", left)
        files = self._tables["files"].to_lance().to_table(columns=["path", "video_id", "error"])
        dangling = {
            file["path"]
            for file in files.to_pylist()
            if file["error"] is None and file["video_id"] not in videos
        }
        self.forget_files(dangling)
        remove_unfinished(self._folder)

    def sweep(self, unmarked: Collection[tuple[str, str]]) -> None:
        """Delete what a crash left: passages and keyframes of (video_id, revision) pairs that no
        video row names."""
        self._delete_revisions({revision for _, revision in unmarked})

    def commit(self, entries: Sequence[VideoEntry], files: Sequence[FileRecord]) -> None:
        """Make videos visible, all at once, and note the state of files.

        An entry replaces the video of the same id. Interrupted at any point, either none of the
        entries is visible or all are, and :meth:`sweep` removes what was left.
        """
        if entries:
            self._append("passages", passage_table(entries, self._schemas["passages"]))
            self._append("keyframes", self._pictures(entries))
            read = [extraction_row(entry) for entry in entries if entry.extraction is not None]
            self._append("extractions", pa.Table.from_pylist(read, self._schemas["extractions"]))
            self._mark(entries)
        if files:
            self._note(files)
        self._n_commits += 1
        if self._n_commits % TEND_EVERY == 0:
            self.tend()

    def remove_videos(self, video_ids: Collection[str]) -> None:
        """Delete videos: first their commit marks, then their content and file notes."""
        if not video_ids:
            return
        known = self._known_revisions()
        revisions = {known.pop(key) for key in set(video_ids) if key in known}
        for name in ("videos", "files"):
            self._delete_from(name, "video_id", video_ids)
        self._paths = None
        self._delete_revisions(revisions)

    def forget_files(self, paths: Collection[str]) -> None:
        """Delete the notes about files."""
        self._delete_from("files", "path", paths)
        if paths:
            self._known_paths().difference_update(paths)

    def put_back(self, name: str, rows: pa.Table) -> None:
        """Append rows as they were read from a table."""
        self._append(name, rows.select(self._schemas[name].names).cast(self._schemas[name]))
        self._revisions = self._paths = None

    def tend(self) -> tuple[str, ...]:
        """Compact what is due and drop versions that no reader can still hold, on the schedule of
        :mod:`mmretrieve.storage.upkeep`; what went wrong since the lock was taken, if anything."""
        self._notes |= dict.fromkeys(upkeep.tend(self._folder))
        for table in self._tables.values():
            table.checkout_latest()
        return tuple(self._notes)

    def optimize(self) -> None:
        """Compact all tables as far as it goes, and drop versions that no reader can still hold."""
        with named_errors(self._folder):
            for table in self._tables.values():
                table.optimize(cleanup_older_than=upkeep.KEEP_OLD_VERSIONS)

    def _pictures(self, entries: Sequence[VideoEntry]) -> pa.Table:
        rows = [
            {
                "video_id": entry.video.video_id,
                "revision": entry.video.revision,
                "time_s": picture.time_s,
                "passage": picture.passage,
                "thumbnail": picture.jpeg,
            }
            for entry in entries
            for picture in entry.thumbnails
        ]
        return pa.Table.from_pylist(rows, self._schemas["keyframes"])

    def _mark(self, entries: Sequence[VideoEntry]) -> None:
        """Write the commit marks in one transaction, then delete what they replace."""
        known = self._known_revisions()
        replaced = {known[key] for e in entries if (key := e.video.video_id) in known}
        rows = [video_row(entry.video) for entry in entries]
        self._put("videos", "video_id", rows, is_new=not replaced)
        known.update({entry.video.video_id: entry.video.revision for entry in entries})
        # A row can be written anew for content that stays.
        self._delete_revisions(replaced - {entry.video.revision for entry in entries})

    def _note(self, files: Sequence[FileRecord]) -> None:
        known, paths = self._known_paths(), {file.path for file in files}
        rows = [dataclasses.asdict(file) for file in files]
        self._put("files", "path", rows, is_new=known.isdisjoint(paths))
        known |= paths

    def _append(self, name: str, rows: pa.Table) -> None:
        if rows.num_rows:
            with named_errors(self._folder):
                self._tables[name].add(rows)

    def _put(self, name: str, key: str, rows: list[dict[str, Any]], *, is_new: bool) -> None:
        """Rows that replace those of the same key; appended where none has it, which costs no scan."""
        table = pa.Table.from_pylist(rows, self._schemas[name])
        if is_new and len(set(table[key].to_pylist())) == len(rows):
            self._append(name, table)
            return
        merge = self._tables[name].merge_insert(key)
        with self._whole(name):
            merge.when_matched_update_all().when_not_matched_insert_all().execute(table)

    def _known_revisions(self) -> dict[str, str]:
        """Video id -> revision of the videos there are: read once, as nobody else writes."""
        if self._revisions is None:
            keys = self._tables["videos"].to_lance().to_table(columns=["video_id", "revision"])
            columns = (keys[c].to_pylist() for c in ("video_id", "revision"))
            self._revisions = dict(zip(*columns, strict=True))
        return self._revisions

    def _known_paths(self) -> set[str]:
        if self._paths is None:
            rows = self._tables["files"].to_lance().to_table(columns=["path"])
            self._paths = set(rows["path"].to_pylist())
        return self._paths

    def _delete_revisions(self, revisions: Collection[str]) -> None:
        for name in content_tables():
            self._delete_from(name, "revision", revisions)

    def _delete_from(self, name: str, column: str, values: Collection[str]) -> None:
        from lancedb.expr import col

        if values:
            with self._whole(name):
                self._tables[name].delete(col(column).isin(sorted(values)))

    @contextmanager
    def _whole(self, name: str) -> Iterator[None]:
        """A change that deletes rows is taken back if the system did not write all of it."""
        table = self._tables[name]
        with named_errors(self._folder):
            version = table.version
            yield
            dataset = open_table(self._folder, name)
            wrong = unreadable_deletions(dataset, self._sound)
            if wrong:
                dataset.checkout_version(version).restore()
                raise OSError(f"{name}: {next(iter(wrong.values()))}")
            self._sound |= {f.deletion_file() for f in dataset.get_fragments()}
