"""Content of videos given as rows of JSON: the joined rows of CLaMR's data, and our own form.

::

    {"video_id": "a1", "title": "...", "speech": "...", "ocr": [...], "description": "...",
     "images": ["frames/a1-0.jpg"], "facts": {"language": "en"}, "duration_s": 61.5}

``asr`` is another word for ``speech``, ``id`` for ``video_id``. A text is a string, or a list of
strings or of ``{"text", "start_s", "end_s"}``. Pictures are named from the folder of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmretrieve.datatypes import Fact, Modality, Segment
from mmretrieve.documents import Document, Picture
from mmretrieve.errors import UsageError
from mmretrieve.evaluation.datasets.fields import Row, json_rows

IDS = ("video_id", "id", "_id")
FILE = "documents.jsonl"
_TEXTS = {
    Modality.SPEECH: ("speech", "asr"),
    Modality.OCR: ("ocr",),
    Modality.METADATA: ("description",),
}


def read_documents(path: Path) -> tuple[Document, ...]:
    """One document a video; rows that repeat a video (as for several queries) have to agree.

    Raises:
        UsageError: a row that cannot be read or contradicts an earlier one, with file and line.
    """
    return documents_of(json_rows(path), path.parent)


def documents_of(rows: Iterable[Row], folder: Path) -> tuple[Document, ...]:
    """Documents of rows; ``folder`` is where their pictures are named from.

    Raises:
        UsageError: see :func:`read_documents`.
    """
    found: dict[str, Document] = {}
    for row in rows:
        document = _document(row, folder)
        before = found.setdefault(document.doc_id, document)
        if before != document:
            raise UsageError(
                f"{row.where}: {document.doc_id!r} was there before with other content"
            )
    return tuple(found.values())


def beside(folder: Path) -> tuple[Document, ...]:
    """The documents of ``documents.jsonl`` in a folder; none where there is no such file."""
    file = (folder if folder.is_dir() else folder.parent) / FILE
    return read_documents(file) if file.is_file() else ()


def _document(row: Row, folder: Path) -> Document:
    segments = {m: tuple(_segments(row, m, names)) for m, names in _TEXTS.items()}
    duration = row.number("duration_s") if row.fields.get("duration_s") is not None else None
    try:
        return Document(
            row.text(*IDS),
            title=row.text("title") if row.fields.get("title") else "",
            segments={m: found for m, found in segments.items() if found},
            pictures=tuple(_pictures(row, folder)),
            facts=dict(_facts(row)),
            duration_s=duration,
        )
    except UsageError as error:
        if str(error).startswith(row.where):
            raise
        raise UsageError(f"{row.where}: {error}") from error


def _segments(row: Row, modality: Modality, names: tuple[str, ...]) -> Iterator[Segment]:
    name = next((n for n in names if row.fields.get(n) is not None), None)
    if name is None:
        return
    given = row.fields[name]
    field = name if modality is Modality.METADATA else None
    for item in given if isinstance(given, list) else [given]:
        yield from _segment(row, name, item, field)


def _segment(row: Row, name: str, item: Any, field: str | None) -> Iterator[Segment]:
    start_s = end_s = None
    text = item
    if isinstance(item, dict):
        text = item.get("text")
        if item.get("start_s") is not None:
            part = Row(item, row.where)
            start_s, end_s = part.number("start_s"), part.number("end_s")
    if not isinstance(text, str):
        shown = json.dumps(item)[:60]
        raise UsageError(f'{row.where}: "{name}": expected text or a list of texts, found {shown}')
    if text.strip():
        yield Segment(text.strip(), start_s, end_s, field=field)


def _pictures(row: Row, folder: Path) -> Iterator[Picture]:
    given = row.fields.get("images") or []
    for name in given if isinstance(given, list) else [given]:
        if not isinstance(name, str) or not name.strip():
            raise UsageError(f'{row.where}: "images": expected a list of files, found {name!r}')
        yield Picture(folder / name)


def _facts(row: Row) -> Iterator[tuple[str, Fact]]:
    given = row.fields.get("facts") or {}
    if not isinstance(given, dict):
        raise UsageError(f'{row.where}: "facts": expected a JSON object')
    for name, value in given.items():
        if isinstance(value, list):
            yield name, tuple(str(v) for v in value)
        elif isinstance(value, (str, int, float)):
            yield name, value
        else:
            raise UsageError(f'{row.where}: fact "{name}": expected text, a number or a list')
