"""Rows of table ``extractions``: what was read from each video, before anything was embedded.

The table is what changes are worked out from, never what is searched; an index that has none (made by an
older version) is searched all the same, and its videos are read anew when something about them changes.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmretrieve.datatypes import Box, Segment, TracePoint
from mmretrieve.errors import IndexFormatError
from mmretrieve.storage.records import Extraction, Heard, Seen, VideoEntry
from mmretrieve.storage.tables import open_table, table_exists

NAME = "extractions"


def extraction_row(entry: VideoEntry) -> dict[str, Any]:
    """The row of an entry that has an extraction."""
    extraction = entry.extraction
    assert extraction is not None
    return {
        "video_id": entry.video.video_id,
        "revision": entry.video.revision,
        "sidecars": extraction.sidecars,
        "keys": json.dumps(dict(extraction.keys), sort_keys=True),
        "seen": _packed(extraction.seen),
        "heard": _packed(extraction.heard),
        "trace_s": [point.time_s for point in extraction.seen.trace],
        "trace": zlib.compress(b"".join(point.luma for point in extraction.seen.trace)),
    }


def read_origins(folder: Path) -> dict[str, Extraction]:
    """Revision -> signature of sidecars and keys of stages, of all videos, without what was read."""
    if not table_exists(folder, NAME):
        return {}
    rows = open_table(folder, NAME).to_table(columns=["revision", "sidecars", "keys"]).to_pylist()
    return {r["revision"]: Extraction(r["sidecars"], json.loads(r["keys"])) for r in rows}


def read_extractions(folder: Path, revisions: Collection[str]) -> dict[str, Extraction]:
    """Revision -> all that was read, of those revisions that have it.

    Raises:
        IndexFormatError: a row cannot be understood.
    """
    import pyarrow.compute as pc

    if not revisions or not table_exists(folder, NAME):
        return {}
    wanted = pc.field("revision").isin(sorted(revisions))
    rows = open_table(folder, NAME).to_table(filter=wanted).to_pylist()
    try:
        return {row["revision"]: _extraction(row) for row in rows}
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise IndexFormatError(
            f"table {NAME!r} of {folder} is damaged ({error}): index with --force, which reads every "
            "file anew"
        ) from error


def _extraction(row: Mapping[str, Any]) -> Extraction:
    seen, heard = (json.loads(zlib.decompress(row[name])) for name in ("seen", "heard"))
    return Extraction(
        row["sidecars"],
        json.loads(row["keys"]),
        Seen(
            tuple((start, end) for start, end in seen["windows"]),
            tuple(tuple(_segment(s) for s in lines) for lines in seen["lines"]),
            tuple(seen["warnings"]),
            tuple(_points(row)),
        ),
        Heard(
            tuple(_segment(s) for s in heard["segments"]),
            heard["source"],
            heard["language"],
            tuple(heard["warnings"]),
        ),
    )


def read_traces(folder: Path) -> dict[str, tuple[TracePoint, ...]]:
    """Revision -> coarse pictures over time, of all videos that have some.

    Raises:
        IndexFormatError: the index was made before there were any.
    """
    if not table_exists(folder, NAME):
        return {}
    table = open_table(folder, NAME)
    if "trace_s" not in table.schema.names:
        raise IndexFormatError(
            f"{folder} was made by a version that kept nothing to compare videos by: index again into a "
            "new folder"
        )
    rows = table.to_table(columns=["revision", "trace_s", "trace"]).to_pylist()
    return {row["revision"]: tuple(_points(row)) for row in rows if row["trace_s"]}


def _points(row: Mapping[str, Any]) -> Iterator[TracePoint]:
    times = row["trace_s"] or []
    luma = zlib.decompress(row["trace"]) if times else b""
    size = len(luma) // max(len(times), 1)
    for number, time_s in enumerate(times):
        yield TracePoint(time_s, luma[number * size : (number + 1) * size])


def _packed(value: Seen | Heard) -> bytes:
    if isinstance(value, Seen):
        value = dataclasses.replace(value, trace=())  # has columns of its own
    return zlib.compress(json.dumps(dataclasses.asdict(value)).encode())


def _segment(row: Mapping[str, Any]) -> Segment:
    box: Box | None = tuple(row["box"]) if row["box"] is not None else None
    return Segment(row["text"], row["start_s"], row["end_s"], row["confidence"], box, row["field"])
