"""Machine output: JSON, JSON lines, CSV and plain paths."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence

from mmretrieve.cli.console import emit, emit_path, say
from mmretrieve.cli.evidence import best_modality, best_quote
from mmretrieve.cli.options import Format
from mmretrieve.cli.records import (
    SCHEMA,
    Record,
    hit_record,
    number,
    search_record,
    shown_modalities,
    to_json,
    video_record,
)
from mmretrieve.cli.text import clean
from mmretrieve.datatypes import Hit, Modality, SearchResult
from mmretrieve.reports import VideoInfo

_HIT_COLUMNS = (
    "rank", "path", "start_s", "end_s", "best_s", "score", "confidence", "p", "modality", "title",
    "quote", "unmatched", "video_id",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What spreadsheets take for the beginning of a formula, in both widths."""

Cell = str | float | int | bool | None


def write_hits(result: SearchResult, index: str, chosen: Format, *, explain: bool) -> None:
    """The answer in one of the machine formats."""
    if chosen is Format.JSON:
        emit(to_json(search_record(result, index, explain=explain), indent=2))
        return
    writers: dict[Format, Callable[[], None]] = {
        Format.NDJSON: lambda: _lines(hit_record(hit, explain=explain) for hit in result.hits),
        Format.CSV: lambda: _csv(_HIT_COLUMNS, (_hit_row(h, result.query) for h in result.hits)),
        Format.PATHS: lambda: _paths(hit.video.path for hit in result.hits),
    }
    writers[chosen]()


def write_videos(videos: Sequence[VideoInfo], index: str, chosen: Format) -> None:
    """The videos of an index in one of the machine formats."""
    if chosen is Format.JSON:
        record = {"schema": SCHEMA, "index": index, "videos": [video_record(v) for v in videos]}
        emit(to_json(record, indent=2))
        return
    writers: dict[Format, Callable[[], None]] = {
        Format.NDJSON: lambda: _lines(video_record(video) for video in videos),
        Format.CSV: lambda: _videos_csv(videos),
        Format.PATHS: lambda: _paths(video.path for video in videos),
    }
    writers[chosen]()


def csv_text(text: str) -> str:
    """Text as a cell that no spreadsheet takes for a formula."""
    line = clean(text).strip()
    return f"'{line}" if line.startswith(_FORMULA) else line


def _lines(records: Iterable[Record]) -> None:
    for record in records:
        emit(to_json(record))


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    for row in (columns, *rows):
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(row)
        emit(line.getvalue())


def _videos_csv(videos: Sequence[VideoInfo]) -> None:
    shown = shown_modalities(video.n_tokens for video in videos)
    columns = (
        "path", "title", "duration_s", *(f"{m.value}_tokens" for m in shown), "sources", "missing",
        "indexed_at", "video_id",
    )  # fmt: skip
    _csv(columns, (_video_row(video, shown) for video in videos))


def _paths(paths: Iterable[str]) -> None:
    for path in dict.fromkeys(paths):
        if "\n" in path:  # what reads lines would take it for two files, one of its owner's choice
            say(f"left out: {path}: a line break in its name; --format json has it")
        else:
            emit_path(path)


def _hit_row(hit: Hit, query: str) -> tuple[Cell, ...]:
    quote, modality = best_quote(hit, query), best_modality(hit)
    return (
        hit.rank,
        csv_text(hit.video.path),
        number(hit.moment.start_s),
        number(hit.moment.end_s),
        number(hit.moment.best_s),
        number(hit.score),
        hit.confidence.label.value,
        number(hit.confidence.p),
        None if modality is None else modality.value,
        csv_text(hit.video.title),
        None if quote is None else csv_text(quote.text),
        csv_text(" ".join(hit.unmatched)),
        hit.video.video_id,
    )


def _video_row(video: VideoInfo, shown: Sequence[Modality]) -> tuple[Cell, ...]:
    return (
        csv_text(video.path),
        csv_text(video.title),
        number(video.duration_s),
        *(video.n_tokens.get(modality, 0) for modality in shown),
        csv_text(" ".join(f"{m.value}={source}" for m, source in video.sources.items())),
        str(video.missing).lower(),
        video.indexed_at,
        video.video_id,
    )
