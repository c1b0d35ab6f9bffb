"""The rows of the tables against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from mmretrieve.datatypes import MODALITIES
from mmretrieve.errors import IndexFormatError
from mmretrieve.health.files import FileState
from mmretrieve.health.findings import Finding, Part, error, note
from mmretrieve.storage.folder import Manifest
from mmretrieve.storage.schema import TABLES, content_tables, file_record, schemas, video_record
from mmretrieve.storage.tables import open_table, unreadable_deletions

REINDEX = "mmretrieve repair, then mmretrieve index on its file"
_SHOWN = 3


@dataclass(slots=True)
class Tables:
    """The tables of an index, those that could be opened, and what was found on the way. ``needed``: files
    of their newest versions, by path below ``lance/``."""

    opened: dict[str, Any] = field(default_factory=dict)
    needed: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Files whose checksum is not known or right, and which cannot be read: what is wrong."""


@dataclass(slots=True)
class Rows:
    """What the rows say. ``videos``: revision -> video id; ``claimed`` and ``found``: (revision,
    modality) -> tokens as the video's row and its passages say."""

    videos: dict[str, str] = field(default_factory=dict)
    claimed: dict[tuple[str, str], int] = field(default_factory=dict)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    n_passages: int = 0
    is_unsettled: bool = False
    """Whether a writer is at work or was killed, so that a note may be ahead of a video."""
    suspect: set[str] = field(default_factory=set)
    """Revisions of which something is not as it should be."""


def open_tables(folder: Path, manifest: Manifest, files: FileState) -> Tables:
    """Open the newest versions, and see what files they are made of."""
    tables, expected = Tables(), schemas(manifest.one_width)
    for name in TABLES:
        where = f"table {name}"
        if not files.can_open(name):
            continue
        try:
            dataset = open_table(folder, name)
            needed = files_of(dataset, name)
        except (IndexFormatError, OSError, ValueError, RuntimeError) as failure:
            tables.findings.append(error(Part.TABLES, f"cannot be opened ({failure})", where))
            continue
        tables.needed |= needed
        lost = [path for path in sorted(needed) if not (folder / "lance" / path).is_file()]
        for path in lost:
            if path not in files.missing:  # told there
                tables.findings.append(error(Part.FILES, "is not there", f"lance/{path}"))
        unreadable = unreadable_deletions(dataset)
        for path, told in sorted(unreadable.items()):
            if f"{name}.lance/{path}" not in files.damaged:  # told there
                where = f"lance/{name}.lance/{path}"
                tables.findings.append(error(Part.FILES, told, where))
        tables.unreadable |= {f"{name}.lance/{path}": told for path, told in unreadable.items()}
        if set(dataset.schema.names) != set(expected[name].names):
            told = f"has columns {dataset.schema.names}, expected {expected[name].names}"
            tables.findings.append(error(Part.TABLES, told, where, "index again into a new folder"))
        elif not lost and not unreadable and not needed & files.damaged.keys():
            tables.opened[name] = dataset
    return tables


def files_of(dataset: Any, name: str) -> set[str]:
    """Data and deletion files of the version that is open, by path below ``lance/``."""
    found = set()
    for fragment in dataset.get_fragments():
        found |= {f"{name}.lance/data/{file.path}" for file in fragment.data_files()}
        deletions = fragment.deletion_file()
        if deletions:
            found.add(f"{name}.lance/{deletions}")
    return found


def check_rows(tables: Tables, rows: Rows) -> Iterator[Finding]:
    """Every passage and keyframe belongs to a video, every note about a file to one that is there, every
    video has what it says it has."""
    if "videos" not in tables.opened:
        return
    yield from _videos(tables.opened["videos"], rows)
    if "passages" in tables.opened:
        yield from _passages(tables.opened["passages"], rows)
        yield from _counts(rows)
    for name in content_tables():
        if name in tables.opened and name != "passages":
            stored = tables.opened[name].to_table(columns=["revision"])
            left = set(stored["revision"].to_pylist()) - rows.videos.keys()
            if left:
                told = (
                    f"rows of {len(left)} extractions that no video names: a killed run left them"
                )
                yield note(Part.ROWS, told, f"table {name}")
    if "files" in tables.opened:
        yield from _files(tables.opened["files"], rows)


def _videos(dataset: Any, rows: Rows) -> Iterator[Finding]:
    ids: Counter[str] = Counter()
    for row in dataset.to_table().to_pylist():
        ids[row["video_id"]] += 1
        where = f"video {row['video_id']} ({row['uri']})"
        try:
            record = video_record(row)
        except (ValueError, TypeError, KeyError, AttributeError) as failure:
            rows.suspect.add(row["revision"])
            yield error(Part.ROWS, f"its row cannot be read ({failure})", where, REINDEX)
            continue
        if record.revision in rows.videos:
            yield error(Part.ROWS, "shares its revision with another video", where, REINDEX)
            rows.suspect.add(record.revision)
        rows.videos[record.revision] = record.video_id
        for modality, count in record.n_tokens.items():
            if count:
                rows.claimed[record.revision, modality.value] = count
    for video_id, count in ids.items():
        if count > 1:
            rows.suspect |= {r for r, v in rows.videos.items() if v == video_id}
            yield error(Part.ROWS, f"is there {count} times", f"video {video_id}", REINDEX)


def _passages(dataset: Any, rows: Rows) -> Iterator[Finding]:
    known = {m.value for m in MODALITIES}
    seen: set[tuple[str, int, str]] = set()
    unmarked: set[str] = set()
    columns = ["video_id", "revision", "passage", "modality"]
    lengths = ["token_segment", "char_start", "char_end"]
    for batch in dataset.to_batches(columns=columns + lengths):
        sizes = [pc.fill_null(pc.list_value_length(batch[n]), 0).to_numpy() for n in lengths]
        uneven = (sizes[0] != sizes[1]) | (sizes[0] != sizes[2])
        for i, row in enumerate(batch.select(columns).to_pylist()):
            rows.n_passages += 1
            revision, key = row["revision"], (row["revision"], row["passage"], row["modality"])
            if revision not in rows.videos:
                unmarked.add(revision)
                continue
            where = f"video {row['video_id']}, passage {row['passage']} {row['modality']}"
            told = _wrong(row, key in seen, bool(uneven[i]), known, rows)
            if told:
                rows.suspect.add(revision)
                yield error(Part.ROWS, told, where, REINDEX)
            seen.add(key)
            rows.found[revision, row["modality"]] += int(sizes[0][i])
    left = unmarked - rows.suspect
    if left:
        yield note(
            Part.ROWS, f"{len(left)} extractions that no video names: a killed run left them, or one "
            "is at work", "table passages",
        )  # fmt: skip


def _wrong(row: dict[str, Any], twice: bool, uneven: bool, known: set[str], rows: Rows) -> str:
    if row["modality"] not in known:
        return "its modality is unknown"
    if twice:
        return "is there twice"
    if uneven:
        return "its lists of tokens differ in length"
    if rows.videos[row["revision"]] != row["video_id"]:
        return "belongs to another video than its revision"
    return ""


def _counts(rows: Rows) -> Iterator[Finding]:
    wrong: dict[str, list[str]] = {}
    for key in rows.claimed.keys() | rows.found.keys():
        claimed, found = rows.claimed.get(key, 0), rows.found[key]
        if claimed != found:
            wrong.setdefault(key[0], []).append(f"{key[1]} {found} of {claimed}")
    for revision, told in sorted(wrong.items(), key=lambda item: rows.videos[item[0]]):
        rows.suspect.add(revision)
        yield error(
            Part.ROWS, f"tokens there: {', '.join(sorted(told))}",
            f"video {rows.videos[revision]}", REINDEX,
        )  # fmt: skip


def _files(dataset: Any, rows: Rows) -> Iterator[Finding]:
    videos = set(rows.videos.values())
    records = [file_record(row) for row in dataset.to_table().to_pylist()]
    dangling = [f.path for f in records if f.error is None and f.video_id not in videos]
    if dangling:
        shown = ", ".join(dangling[:_SHOWN]) + (", ..." if len(dangling) > _SHOWN else "")
        told = f"notes that {len(dangling)} files are indexed, but they are not: {shown}"
        if rows.is_unsettled:
            yield note(Part.ROWS, told, "table files")
        else:
            yield error(Part.ROWS, told, "table files", "mmretrieve repair, then index them again")
    paths = Counter(f.path for f in records)
    for path in sorted(p for p, n in paths.items() if n > 1):
        yield error(Part.ROWS, f"is noted {paths[path]} times", f"file {path}")
    homeless = videos - {f.video_id for f in records}
    if homeless:
        yield note(Part.ROWS, f"{len(homeless)} videos that no file has any more", "table videos",
                   "the next `mmretrieve index` of files drops them")  # fmt: skip


def row_ids(dataset: Any, most: int | None) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Row ids of a table, all or evenly spread ones."""
    ids = dataset.to_table(columns=[], with_row_id=True)["_rowid"].to_numpy()
    if most is None or len(ids) <= most:
        return np.asarray(ids, np.uint64)
    return np.asarray(ids[np.linspace(0, len(ids) - 1, most).astype(np.int64)], np.uint64)
