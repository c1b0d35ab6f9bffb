"""Writing to the tables. One writer at a time; a video's row in ``videos`` is its commit mark."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from mmretrieve.storage.folder import Manifest, acquire_lock
from mmretrieve.storage.records import FileRecord, VideoEntry
from mmretrieve.storage.schema import TABLES, passage_table, schemas, video_row

KEEP_OLD_VERSIONS = timedelta(minutes=10)
"""Readers that opened the index before a compaction keep their snapshot for this long."""
_STABLE_ROWS = {"new_table_enable_stable_row_ids": "true"}
"""Row ids survive a compaction, so that token codes can name the rows they were made from."""


class IndexWriter:
    """Appends, replaces and removes videos. Holds the writer's lock while open.

    Raises:
        IndexLockedError: another process is writing.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._lock = acquire_lock(folder)
        try:
            import lancedb

            self._schemas = schemas(manifest.one_width)
            database = lancedb.connect(folder / "lance")
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
            pictures = [
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
            self._append("keyframes", pa.Table.from_pylist(pictures, self._schemas["keyframes"]))
            replaced = self._replaced_revisions([entry.video.video_id for entry in entries])
            self._upsert("videos", "video_id", [video_row(entry.video) for entry in entries])
            self._delete_revisions(replaced)
        if files:
            self._upsert("files", "path", [dataclasses.asdict(file) for file in files])

    def remove_videos(self, video_ids: Collection[str]) -> None:
        """Delete videos: first their commit marks, then their content and file notes."""
        from lancedb.expr import col

        if not video_ids:
            return
        revisions = self._replaced_revisions(video_ids)
        for name in ("videos", "files"):
            self._tables[name].delete(col("video_id").isin(sorted(video_ids)))
        self._delete_revisions(revisions)

    def forget_files(self, paths: Collection[str]) -> None:
        """Delete the notes about files."""
        from lancedb.expr import col

        if paths:
            self._tables["files"].delete(col("path").isin(sorted(paths)))

    def optimize(self) -> None:
        """Compact all tables and drop versions that no reader can still hold."""
        for table in self._tables.values():
            table.optimize(cleanup_older_than=KEEP_OLD_VERSIONS)

    def _append(self, name: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self._tables[name].add(rows)

    def _upsert(self, name: str, key: str, rows: list[dict[str, Any]]) -> None:
        table = pa.Table.from_pylist(rows, self._schemas[name])
        merge = self._tables[name].merge_insert(key)
        merge.when_matched_update_all().when_not_matched_insert_all().execute(table)

    def _replaced_revisions(self, video_ids: Collection[str]) -> set[str]:
        keys = self._tables["videos"].to_lance().to_table(columns=["video_id", "revision"])
        pairs = zip(*(keys[c].to_pylist() for c in ("video_id", "revision")), strict=True)
        wanted = set(video_ids)
        return {revision for video_id, revision in pairs if video_id in wanted}

    def _delete_revisions(self, revisions: Collection[str]) -> None:
        from lancedb.expr import col

        if revisions:
            # Passages last: they are what a sweep after a crash goes by.
            for name in ("keyframes", "passages"):
                self._tables[name].delete(col("revision").isin(sorted(revisions)))
