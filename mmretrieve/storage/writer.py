"""Writing to the tables. One writer at a time; a video's row in ``videos`` is its commit mark."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from mmretrieve.storage import upkeep
from mmretrieve.storage.extractions import extraction_row
from mmretrieve.storage.folder import Manifest, acquire_lock
from mmretrieve.storage.records import FileRecord, VideoEntry
from mmretrieve.storage.schema import TABLES, passage_table, schemas, video_row

_CACHE_BYTES = 16 << 20
"""Of what LanceDB remembers of versions: a run makes thousands, and looks at none twice."""
TEND_EVERY = 16
"""Commits after which the tables are looked at in the course of a run."""
_STABLE_ROWS = {"new_table_enable_stable_row_ids": "true"}
"""Row ids survive a compaction, so that token codes can name the rows they were made from."""


class IndexWriter:
    """Appends, replaces and removes videos. Holds the writer's lock while open.

    Raises:
        IndexLockedError: another process is writing.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._lock = acquire_lock(folder)
        self._folder = folder
        self._n_commits = 0
        self._notes: dict[str, None] = {}
        self._revisions: dict[str, str] | None = None
        self._paths: set[str] | None = None
        try:
            import lancedb

            self._schemas = schemas(manifest.one_width)
            session = lancedb.Session(_CACHE_BYTES, _CACHE_BYTES)
            database = lancedb.connect(folder / "lance", session=session)
            self._tables: dict[str, Any] = {
                name: database.create_table(
                    name,
                    schema=self._schemas[name],
                    exist_ok=True,
                    storage_options=_STABLE_ROWS if name == "passages" else None,
                )
                for name in reversed(TABLES)  # videos last: who sees it may open all of them
            }
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()

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
        from lancedb.expr import col

        if not video_ids:
            return
        known = self._known_revisions()
        revisions = {known.pop(key) for key in set(video_ids) if key in known}
        for name in ("videos", "files"):
            self._tables[name].delete(col("video_id").isin(sorted(video_ids)))
        self._paths = None
        self._delete_revisions(revisions)

    def forget_files(self, paths: Collection[str]) -> None:
        """Delete the notes about files."""
        from lancedb.expr import col

        if paths:
            self._tables["files"].delete(col("path").isin(sorted(paths)))
            self._known_paths().difference_update(paths)

    def tend(self) -> tuple[str, ...]:
        """Compact what is due and drop versions that no reader can still hold, on the schedule of
        :mod:`mmretrieve.storage.upkeep`; what went wrong since the lock was taken, if anything."""
        self._notes |= dict.fromkeys(upkeep.tend(self._folder))
        for table in self._tables.values():
            table.checkout_latest()
        return tuple(self._notes)

    def optimize(self) -> None:
        """Compact all tables as far as it goes, and drop versions that no reader can still hold."""
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
        self._delete_revisions(replaced)

    def _note(self, files: Sequence[FileRecord]) -> None:
        known, paths = self._known_paths(), {file.path for file in files}
        rows = [dataclasses.asdict(file) for file in files]
        self._put("files", "path", rows, is_new=known.isdisjoint(paths))
        known |= paths

    def _append(self, name: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self._tables[name].add(rows)

    def _put(self, name: str, key: str, rows: list[dict[str, Any]], *, is_new: bool) -> None:
        """Rows that replace those of the same key; appended where none has it, which costs no scan."""
        table = pa.Table.from_pylist(rows, self._schemas[name])
        if is_new and len(set(table[key].to_pylist())) == len(rows):
            self._tables[name].add(table)
            return
        merge = self._tables[name].merge_insert(key)
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
        from lancedb.expr import col

        if revisions:
            # Passages last: they are what a sweep after a crash goes by.
            for name in ("keyframes", "extractions", "passages"):
                self._tables[name].delete(col("revision").isin(sorted(revisions)))
