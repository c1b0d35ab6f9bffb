"""What is known about a video without looking at it: names, tags, chapters, descriptions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmretrieve.datatypes import Probe, Segment
from mmretrieve.errors import MediaError, SidecarError
from mmretrieve.indexers.languages import language_code
from mmretrieve.indexers.names import (
    folder_words,
    iso_date,
    name_date,
    name_words,
    printable,
    shorten_urls,
)
from mmretrieve.indexers.sidecars import Sidecars
from mmretrieve.indexers.subtitles import is_transcript, read_text
from mmretrieve.indexers.warn import Warn

Fact = str | float | tuple[str, ...]

MAX_SEGMENT_CHARS = 400
MAX_DESCRIPTION_CHARS = 20_000
MAX_CHAPTERS = 1_000
MAX_TAGS = 200
MAX_FACTS = 100
MAX_FACT_CHARS = 500
_MAX_TEXT_BYTES = 1_000_000
_WEAK = 0.5

_TAG_FIELDS = {
    "artist": "artist", "album_artist": "artist", "author": "artist", "performer": "artist",
    "composer": "composer", "director": "director", "actor": "actor", "album": "album",
    "show": "show", "network": "channel", "publisher": "channel", "genre": "genre",
    "comment": "comment", "subject": "subject", "keywords": "tags", "location": "location",
    "location-eng": "location", "com.apple.quicktime.location.name": "location",
    "title": "title", "description": "description", "synopsis": "description",
    "com.apple.quicktime.title": "title", "com.apple.quicktime.description": "description",
}  # fmt: skip
_USELESS_TAGS = re.compile(
    r"(major|minor|compatible)_(brand|version)s?|(handler|vendor|encod|creation|bps|duration|_stat"
    r"|number_of|language|timecode|software|purchase|com\.android|media_type|gapless|itun|hw|source"
    r"|minor|tool|writing|alpha|stereo_mode|compilation|date|year|com\.apple\.quicktime\.creation)"
    r".*|name"
)
_USELESS_TEXT = re.compile(
    r".*(handler\b|lavf|lavc|libav|handbrake|mainconcept|l-smash|gpac|google inc|created (with|by|in)"
    r"|quicktime|videohandler|soundhandler)|(video|audio|stereo|mono|surround|und|untitled|track)"
    r"[\s\d#]*|chapter\s*\d*|\W*",
    re.IGNORECASE | re.DOTALL,
)
_INFO_NOISE = re.compile(
    r"_.*|.*(url|thumbnail|format|filename|fragment|header|cookie|protocol|codec|playlist_|requested"
    r"|container|resolution|aspect|dynamic_range|_br$|^[avt]br$|^ext$|_ext$|epoch|^fps$|^width$"
    r"|^height$|filesize|quality|asr|audio_channels|stretched).*"
)
_KNOWN_INFO = frozenset(
    {"title", "fulltitle", "description", "tags", "categories", "chapters", "language", "channel"}
)
_SENTENCE = re.compile(r"(?<=[.!?\u3002])\s+")
_MARKDOWN = re.compile(
    r"!?\[([^\[\]\n]{0,500})\]\([^()\n]{0,500}\)|^[#>*\-\s]+|[*_`]{1,3}", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class VideoMetadata:
    """What is known about a video. ``segments`` carry the name of their ``field``; chapters carry
    times too. ``facts`` are for filters: ``date`` (``YYYY-MM-DD``), ``language``, ``channel``,
    ``tags``, ``categories``, ``url``, and the scalar fields of the info file by their names."""

    title: str
    segments: tuple[Segment, ...]
    facts: Mapping[str, Fact] = field(default_factory=dict)


def read_metadata(path: Path, probe: Probe, sidecars: Sidecars, warn: Warn) -> VideoMetadata:
    """Everything that names, tags and sidecars tell. Sidecars that cannot be used are reported
    through ``warn``; the rest is read all the same."""
    info = _read_info(sidecars, warn)
    tags = {name: value for name, value in probe.tags.items() if _useful(name, value)}
    words = name_words(path.stem)
    title = _text(info.get("title")) or _text(info.get("fulltitle"))
    title = title or next((_text(tags[n]) for n in tags if _TAG_FIELDS.get(n) == "title"), "")
    segments = [Segment(title or words, field="title"), Segment(words, field="file_name")]
    segments += _info_segments(info)
    segments += _tag_segments(tags)
    segments += [
        Segment(folder_words(path.resolve().parent.name), field="folder", confidence=_WEAK)
    ]
    segments += _description(_descriptions(info, sidecars, warn))
    segments += _info_chapters(info, probe.duration_s) or _file_chapters(path)
    return VideoMetadata(
        title or words, tuple(_distinct(segments)), _facts(path, probe, info, tags)
    )


def _read_info(sidecars: Sidecars, warn: Warn) -> dict[str, Any]:
    """The description as JSON: yt-dlp's, else a ``talk.json`` that is no transcript."""
    path = sidecars.info
    if path is None and sidecars.data is not None and not is_transcript(sidecars.data):
        path = sidecars.data
    if path is None:
        return {}
    try:
        return _parse(path)
    except SidecarError as error:
        warn(str(error))
        return {}


def _parse(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise SidecarError(f"{path.name}: no valid JSON: {error}") from error
    if not isinstance(data, dict):
        kind = type(data).__name__
        raise SidecarError(f'{path.name}: holds a {kind}, expected an object like {{"title": ...}}')
    return {str(name): value for name, value in data.items()}


def _text(value: object, max_chars: int = MAX_SEGMENT_CHARS) -> str:
    """One line of text from whatever stands in a field."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    # Half of a surrogate pair can come from JSON and cannot be stored.
    raw = str(value)[: max_chars * 2].encode("utf-8", "replace").decode("utf-8")
    return " ".join(shorten_urls(printable(raw)).replace("\0", " ").split())[:max_chars].strip()


def _texts(value: object) -> tuple[str, ...]:
    rows = value.split(",") if isinstance(value, str) else value
    if not isinstance(rows, list | tuple):
        return ()
    return tuple(dict.fromkeys(text for row in rows[:MAX_TAGS] if (text := _text(row, 100))))


def _info_segments(info: Mapping[str, Any]) -> Iterator[Segment]:
    tags, categories = _texts(info.get("tags")), _texts(info.get("categories"))
    yield Segment(", ".join(tags)[: MAX_SEGMENT_CHARS * 4], field="tags")
    yield Segment(", ".join(categories)[:MAX_SEGMENT_CHARS], field="categories")
    for name, label in (
        ("channel", "channel"),
        ("uploader", "channel"),
        ("artist", "artist"),
        ("creator", "artist"),
        ("album", "album"),
        ("track", "track"),
        ("series", "series"),
        ("season", "season"),
        ("episode", "episode"),
        ("playlist_title", "playlist"),
        ("location", "location"),
    ):
        yield Segment(_text(info.get(name)), field=label)


def _useful(name: str, value: str) -> bool:
    return not _USELESS_TAGS.fullmatch(name) and not _USELESS_TEXT.fullmatch(value[:200])


def _tag_segments(tags: Mapping[str, str]) -> Iterator[Segment]:
    for name, value in tags.items():
        label = _TAG_FIELDS.get(name)
        if label == "description":
            yield from _description([("description", value)])
        elif label is not None:
            yield Segment(_text(value), field=label)


def _descriptions(
    info: Mapping[str, Any], sidecars: Sidecars, warn: Warn
) -> Iterator[tuple[str, str]]:
    """Long texts with the field that they belong to."""
    described = info.get("description")
    if isinstance(described, str):
        yield "description", described
    for path in sidecars.texts:
        if path.suffix.casefold() == ".description" and isinstance(described, str):
            continue
        try:
            text = read_text(path, _MAX_TEXT_BYTES)
        except SidecarError as error:
            warn(str(error))
            continue
        is_description = path.suffix.casefold() == ".description"
        plain = _MARKDOWN.sub(r"\1", text) if path.suffix.casefold() == ".md" else text
        yield "description" if is_description else "notes", plain


def _description(texts: Iterable[tuple[str, str]]) -> Iterator[Segment]:
    """One segment a line, long lines cut at sentences; bounded in total."""
    left = MAX_DESCRIPTION_CHARS
    for label, text in texts:
        for line in text[: MAX_DESCRIPTION_CHARS * 4].splitlines():
            for part in _parts(_text(line, MAX_DESCRIPTION_CHARS)):
                if left <= 0:
                    return
                left -= len(part)
                yield Segment(part, field=label)


def _parts(line: str) -> Iterator[str]:
    part = ""
    for sentence in _SENTENCE.split(line):
        if part and len(part) + len(sentence) > MAX_SEGMENT_CHARS:
            yield part
            part = ""
        part = f"{part} {sentence}".strip()
        while len(part) > MAX_SEGMENT_CHARS:
            cut = part.rfind(" ", 1, MAX_SEGMENT_CHARS)
            cut = cut if cut > 0 else MAX_SEGMENT_CHARS
            yield part[:cut]
            part = part[cut:].strip()
    if part:
        yield part


def _info_chapters(info: Mapping[str, Any], duration_s: float) -> list[Segment]:
    rows = info.get("chapters")
    if not isinstance(rows, list):
        return []
    end_s = duration_s if duration_s > 0 else math.inf
    found = [_chapter(row, end_s) for row in rows[:MAX_CHAPTERS] if isinstance(row, dict)]
    return [chapter for chapter in found if chapter is not None]


def _chapter(row: Mapping[str, Any], limit_s: float) -> Segment | None:
    start, end = _number(row.get("start_time")), _number(row.get("end_time"))
    if start is None or start >= limit_s:
        return None
    start = max(0.0, start)
    end = min(end if end is not None and end > start else limit_s, limit_s)
    text = _text(row.get("title"))
    return _titled_chapter(text, start, end if math.isfinite(end) else start)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        return None
    return float(value) if math.isfinite(value) else None


def _titled_chapter(text: str, start_s: float, end_s: float) -> Segment | None:
    if _USELESS_TEXT.fullmatch(text):
        return None
    return Segment(text, start_s, end_s, field="chapter")


def _file_chapters(path: Path) -> list[Segment]:
    from mmretrieve.indexers.media import open_media, origin_s

    try:
        with open_media(path) as container:
            origin, rows = origin_s(container), container.chapters()[:MAX_CHAPTERS]
    except MediaError:
        return []
    found = []
    for row in rows:
        base = row["time_base"]
        start, end = (
            float(row[side] * base - origin) if base else 0.0 for side in ("start", "end")
        )
        text = _text(row["metadata"].get("title"))
        found.append(_titled_chapter(text, max(0.0, start), max(0.0, start, end)))
    return [chapter for chapter in found if chapter is not None]


def _distinct(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Without empty ones, and without saying the same twice; chapters stay, they have times."""
    seen: set[str] = set()
    for segment in segments:
        key = segment.text.casefold()
        if key and (key not in seen or segment.start_s is not None):
            seen.add(key)
            yield segment


def _facts(
    path: Path, probe: Probe, info: Mapping[str, Any], tags: Mapping[str, str]
) -> dict[str, Fact]:
    facts: dict[str, Fact] = {}
    for name, value in info.items():
        if len(facts) >= MAX_FACTS or name in _KNOWN_INFO or _INFO_NOISE.fullmatch(name):
            continue
        fact = _scalar(value)
        if fact not in (None, ""):
            facts[_text(name, 100)] = iso_date(str(fact)) or fact if "date" in name else fact
    for name, value in list(tags.items())[:MAX_FACTS]:
        label = _TAG_FIELDS.get(name, name)
        if label not in ("title", "description", "comment") and label not in facts:
            facts[label] = _text(value, MAX_FACT_CHARS)
    own = {
        "date": _date(path, probe, info),
        "language": language_code(_text(info.get("language")) or probe.tags.get("language")),
        "channel": _text(info.get("channel")) or _text(info.get("uploader")),
        "tags": _texts(info.get("tags")) or _texts(tags.get("keywords")),
        "categories": _texts(info.get("categories")),
        "url": _address(info),
    }
    facts.update({name: fact for name, fact in own.items() if fact})
    return facts


def _scalar(value: object) -> str | float | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        stored = value[:MAX_FACT_CHARS].encode("utf-8", "replace").decode("utf-8")
        return " ".join(stored.replace("\0", " ").split())
    return _number(value)


def _address(info: Mapping[str, Any]) -> str:
    found = (info.get(name) for name in ("webpage_url", "original_url", "url"))
    return next((str(_scalar(a)) for a in found if isinstance(a, str) and "://" in a[:10]), "")


def _date(path: Path, probe: Probe, info: Mapping[str, Any]) -> str | None:
    """When it was published, else recorded: info file, file name, container, in that order."""
    named = ("upload_date", "release_date", "date", "modified_date")
    stated = [iso_date(_text(info.get(name))) for name in named]
    tagged = [iso_date(probe.tags.get(name, "")) for name in ("date", "creation_time")]
    return next((day for day in (*stated, name_date(path.stem), *tagged) if day), None)
