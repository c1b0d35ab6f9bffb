"""Arrow schemas of the tables, and the conversion of records to rows and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mmretrieve.datatypes import Box, Modality, Passage, Probe, Segment, TokenEmbeddings
from mmretrieve.storage.records import FileRecord, VideoEntry, VideoRecord
from mmretrieve.storage.vectors import vector_column

TABLES = ("videos", "passages", "keyframes", "files", "extractions")

_SEGMENT = pa.struct(
    [
        ("text", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("confidence", pa.float32()),
        ("box", pa.list_(pa.float32(), 4)),
        ("field", pa.string()),
    ]
)


def schemas(dim: int | None) -> dict[str, pa.Schema]:
    """Table name -> schema; ``dim`` is the width of a token embedding, None where spaces differ."""
    vector = pa.list_(pa.float16()) if dim is None else pa.list_(pa.float16(), dim)
    key = [("video_id", pa.string()), ("revision", pa.string())]
    return {
        "videos": pa.schema(
            [
                *key,
                ("uri", pa.string()),
                ("title", pa.string()),
                ("duration_s", pa.float64()),
                ("probe", pa.string()),
                ("facts", pa.string()),
                ("sources", pa.string()),
                ("n_tokens", pa.string()),
                ("settings_key", pa.string()),
                ("warnings", pa.list_(pa.string())),
                ("indexed_at", pa.string()),
            ]
        ),
        "passages": pa.schema(
            [
                *key,
                ("passage", pa.int32()),
                ("modality", pa.string()),
                ("start_s", pa.float64()),
                ("end_s", pa.float64()),
                ("source", pa.string()),
                ("text", pa.string()),
                ("segments", pa.list_(_SEGMENT)),
                ("vectors", pa.list_(vector)),
                ("token_segment", pa.list_(pa.int32())),
                ("char_start", pa.list_(pa.int32())),
                ("char_end", pa.list_(pa.int32())),
            ]
        ),
        "keyframes": pa.schema(
            [*key, ("time_s", pa.float64()), ("passage", pa.int32()), ("thumbnail", pa.binary())]
        ),
        "files": pa.schema(
            [
                ("path", pa.string()),
                ("size_bytes", pa.int64()),
                ("mtime_ns", pa.int64()),
                ("sidecars", pa.string()),
                ("settings_key", pa.string()),
                ("video_id", pa.string()),
                ("error", pa.string()),
            ]
        ),
        "extractions": pa.schema(
            [
                *key,
                ("sidecars", pa.string()),
                ("keys", pa.string()),
                ("seen", pa.binary()),
                ("heard", pa.binary()),
                ("trace_s", pa.list_(pa.float32())),
                ("trace", pa.binary()),
            ]
        ),
    }


def content_tables() -> tuple[str, ...]:
    """Tables whose rows belong to one extraction of a video: passages last, since a sweep after a crash
    goes by them."""
    keyed = [name for name, schema in schemas(1).items() if "revision" in schema.names]
    return (*(n for n in keyed if n not in ("videos", "passages")), "passages")


def video_row(video: VideoRecord) -> dict[str, Any]:
    """A row of ``videos``."""
    return {
        "video_id": video.video_id,
        "revision": video.revision,
        "uri": video.path,
        "title": video.title,
        "duration_s": video.duration_s,
        "probe": json.dumps(dataclasses.asdict(video.probe)),
        "facts": json.dumps(dict(video.facts)),
        "sources": json.dumps(dict(video.sources)),
        "n_tokens": json.dumps(dict(video.n_tokens)),
        "settings_key": video.settings_key,
        "warnings": list(video.warnings),
        "indexed_at": video.indexed_at,
    }


def video_record(row: Mapping[str, Any]) -> VideoRecord:
    """The inverse of :func:`video_row`."""
    facts = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(row["facts"]).items()}
    return VideoRecord(
        video_id=row["video_id"],
        revision=row["revision"],
        path=row["uri"],
        title=row["title"],
        duration_s=row["duration_s"],
        probe=Probe(**json.loads(row["probe"])),
        facts=facts,
        sources={Modality(k): v for k, v in json.loads(row["sources"]).items()},
        n_tokens={Modality(k): v for k, v in json.loads(row["n_tokens"]).items()},
        settings_key=row["settings_key"],
        warnings=tuple(row["warnings"] or ()),
        indexed_at=row["indexed_at"],
    )


def file_record(row: Mapping[str, Any]) -> FileRecord:
    """A row of ``files`` as a record."""
    return FileRecord(**row)


def passage_table(entries: Iterable[VideoEntry], schema: pa.Schema) -> pa.Table:
    """Rows of ``passages`` for some videos; vectors are stored as float16."""
    rows, vectors = [], []
    for entry in entries:
        for passage, tokens in entry.passages:
            rows.append(_passage_row(entry.video, passage, tokens))
            vectors.append(tokens.vectors.astype(np.float16))
    columns = [
        vector_column(vectors, schema.field("vectors").type)
        if name == "vectors"
        else pa.array([row[name] for row in rows], schema.field(name).type)
        for name in schema.names
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _passage_row(video: VideoRecord, passage: Passage, tokens: TokenEmbeddings) -> dict[str, Any]:
    return {
        "video_id": video.video_id,
        "revision": video.revision,
        "passage": passage.number,
        "modality": passage.modality.value,
        "start_s": passage.start_s,
        "end_s": passage.end_s,
        "source": passage.source,
        "text": "\n".join(s.text for s in passage.segments if s.text),
        "segments": [dataclasses.asdict(s) for s in passage.segments],
        "token_segment": tokens.segment,
        "char_start": tokens.char_start,
        "char_end": tokens.char_end,
    }


def passage_record(row: Mapping[str, Any]) -> Passage:
    """A row of ``passages`` (without its tokens) as a record."""
    return Passage(
        number=row["passage"],
        modality=Modality(row["modality"]),
        start_s=row["start_s"],
        end_s=row["end_s"],
        segments=tuple(_segment(s) for s in row["segments"]),
        source=row["source"],
    )


def _segment(row: Mapping[str, Any]) -> Segment:
    box: Box | None = tuple(row["box"]) if row["box"] is not None else None
    return Segment(row["text"], row["start_s"], row["end_s"], row["confidence"], box, row["field"])
