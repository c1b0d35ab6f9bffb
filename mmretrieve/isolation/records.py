"""Records as plain data and back. What comes back is checked: a worker that a hostile file has taken
over can send wrong words about that file, but nothing of another type, size or form.

Every ``read_*`` raises :class:`MalformedError` for what its ``plain_*`` cannot have written.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Fact, Keyframe, Probe, Segment, TracePoint
from mmretrieve.indexers.metadata import VideoMetadata
from mmretrieve.indexers.reading import EVERYTHING, Reading, Wanted
from mmretrieve.indexers.speech import SpeechTrack
from mmretrieve.indexers.visual import VisualPassage
from mmretrieve.reports import Stage

MAX_TEXT_CHARS = 200_000
MAX_SEGMENTS = 300_000
MAX_ENTRIES = 5_000
MAX_PIXELS = 64 << 20
_TRACE_HEX = re.compile("[0-9a-f]{216}")
"""108 bytes."""
Plain = dict[str, Any]
_READING = frozenset(
    (
        "title",
        "about",
        "facts",
        "track",
        "heard",
        "seen_warnings",
        "heard_warnings",
        "whole",
        "seconds",
    )
)
T = TypeVar("T")


class MalformedError(Exception):
    """Data that no honest worker sends."""


def plain_probe(probe: Probe) -> Plain:
    """A probe as JSON data."""
    plain = dataclasses.asdict(probe)
    plain["tags"] = dict(probe.tags)
    return plain


def read_probe(plain: object) -> Probe:
    """The inverse of :func:`plain_probe`."""
    row = _fields(plain, Probe)
    return Probe(
        duration_s=_seconds(row["duration_s"]),
        container=_text(row["container"]),
        size_bytes=_count(row["size_bytes"]),
        width=_or_none(row["width"], _count),
        height=_or_none(row["height"], _count),
        fps=_or_none(row["fps"], _seconds),
        video_codec=_or_none(row["video_codec"], _text),
        audio_codec=_or_none(row["audio_codec"], _text),
        rotation_deg=_count(row["rotation_deg"]) % 360,
        n_audio_streams=_count(row["n_audio_streams"]),
        n_subtitle_streams=_count(row["n_subtitle_streams"]),
        tags=_mapping(row["tags"], _text),
    )


def plain_segments(segments: Sequence[Segment]) -> list[list[Any]]:
    """Segments as rows of JSON data."""
    return [[s.text, s.start_s, s.end_s, s.confidence, s.box, s.field] for s in segments]


def read_segments(plain: object) -> tuple[Segment, ...]:
    """The inverse of :func:`plain_segments`."""
    return tuple(_segment(row) for row in _rows(plain, MAX_SEGMENTS))


def _segment(row: object) -> Segment:
    text, start, end, confidence, box, field = _row(row, 6)
    start_s, end_s = _or_none(start, _seconds), _or_none(end, _seconds)
    if start_s is not None and end_s is not None:
        end_s = max(start_s, end_s)
    edges = None if box is None else tuple(_number(edge) for edge in _row(box, 4))
    return Segment(
        _text(text),
        start_s,
        end_s,
        min(1.0, max(0.0, _number(confidence))),
        edges,  # type: ignore[arg-type] # four of them
        _or_none(field, _text),
    )


def plain_passage(passage: VisualPassage) -> tuple[Plain, list[bytes]]:
    """A passage of pictures as JSON data, and the bytes of its pictures."""
    frames = [[k.time_s, k.start_s, k.end_s, *k.image.shape[:2]] for k in passage.keyframes]
    body = {
        "number": passage.number,
        "start_s": passage.start_s,
        "end_s": passage.end_s,
        "keyframes": frames,
        "ocr": plain_segments(passage.ocr),
        "trace": [[point.time_s, point.luma.hex()] for point in passage.trace],
    }
    return body, [np.ascontiguousarray(k.image).tobytes() for k in passage.keyframes]


def read_passage(plain: object, blobs: Sequence[bytes]) -> VisualPassage:
    """The inverse of :func:`plain_passage`."""
    row = _fields(plain, VisualPassage)
    frames = _rows(row["keyframes"], len(blobs))
    if len(frames) != len(blobs):
        raise MalformedError(f"{len(frames)} keyframes with {len(blobs)} pictures")
    keyframes = tuple(_keyframe(f, blob) for f, blob in zip(frames, blobs, strict=True))
    start_s, end_s = _seconds(row["start_s"]), _seconds(row["end_s"])
    trace = tuple(_trace_point(point) for point in _rows(row["trace"], MAX_SEGMENTS))
    return VisualPassage(
        _count(row["number"]), start_s, end_s, keyframes, read_segments(row["ocr"]), trace
    )


def _trace_point(row: object) -> TracePoint:
    time, luma = _row(row, 2)
    if not isinstance(luma, str) or not _TRACE_HEX.fullmatch(luma):
        raise MalformedError("a point of the trace of another size")
    return TracePoint(_seconds(time), bytes.fromhex(luma))


def _keyframe(row: object, blob: bytes) -> Keyframe:
    time, start, end, height, width = _row(row, 5)
    image = _pixels(height, width, blob)
    return Keyframe(_seconds(time), _seconds(start), _seconds(end), image)


def plain_picture(pixels: NDArray[np.uint8]) -> tuple[Plain, list[bytes]]:
    """The size of a picture ``(height, width, 3)`` as JSON data, and the bytes of its pixels."""
    return {"size": list(pixels.shape[:2])}, [np.ascontiguousarray(pixels).tobytes()]


def read_picture(plain: object, blobs: Sequence[bytes]) -> NDArray[np.uint8]:
    """The inverse of :func:`plain_picture`."""
    if not isinstance(plain, dict) or set(plain) != {"size"} or len(blobs) != 1:
        raise MalformedError("a picture with other fields")
    height, width = _row(plain["size"], 2)
    return _pixels(height, width, blobs[0])


def _pixels(height: object, width: object, blob: bytes) -> NDArray[np.uint8]:
    rows, columns = _count(height), _count(width)
    if not 0 < rows * columns <= MAX_PIXELS or len(blob) != rows * columns * 3:
        raise MalformedError(f"a picture of {rows} x {columns} in {len(blob)} bytes")
    return np.frombuffer(blob, np.uint8).reshape(rows, columns, 3)


def plain_wanted(wanted: Wanted) -> Plain:
    """What is to be read, as JSON data."""
    heard = None if wanted.heard is None else _plain_track(wanted.heard)
    return {"pictures": wanted.pictures, "written": wanted.written, "heard": heard}


def read_wanted(plain: Plain) -> Wanted:
    """The inverse of :func:`plain_wanted`."""
    heard = _or_none(plain["heard"], _track)
    return Wanted(plain["pictures"] is True, plain["written"] is True, heard)


def plain_reading(reading: Reading, wanted: Wanted = EVERYTHING) -> Plain:
    """What was read, as JSON data; the probe is sent on its own, what was known is not sent back."""
    metadata, known = reading.metadata, reading.track is wanted.heard
    return {
        "title": metadata.title,
        "about": plain_segments(metadata.segments),
        "facts": {k: list(v) if isinstance(v, tuple) else v for k, v in metadata.facts.items()},
        "track": None if known else _plain_track(reading.track),
        "heard": None if reading.heard is None else _plain_track(reading.heard),
        "seen_warnings": list(reading.seen_warnings),
        "heard_warnings": list(reading.heard_warnings),
        "whole": reading.whole,
        "seconds": {stage.value: spent for stage, spent in reading.seconds.items()},
    }


def read_reading(plain: object, probe: Probe, wanted: Wanted = EVERYTHING) -> Reading:
    """The inverse of :func:`plain_reading`."""
    if not isinstance(plain, dict) or set(plain) != _READING:
        raise MalformedError("a reading with other fields")
    about = read_segments(plain["about"])
    metadata = VideoMetadata(_text(plain["title"]), about, _mapping(plain["facts"], _fact))
    track = _or_none(plain["track"], _track) or wanted.heard
    if track is None or not isinstance(plain["whole"], bool):
        raise MalformedError("a reading without speech that was not known")
    spent = _mapping(plain["seconds"], _seconds)
    try:
        seconds = {Stage(name): value for name, value in spent.items()}
    except ValueError as error:
        raise MalformedError("a stage that does not exist") from error
    seen, heard = (_texts(plain[name]) for name in ("seen_warnings", "heard_warnings"))
    said = _or_none(plain["heard"], _track)
    return Reading(probe, metadata, track, seconds, said, seen, heard, plain["whole"])


def _plain_track(track: SpeechTrack) -> list[Any]:
    return [plain_segments(track.segments), track.source, track.language]


def _track(plain: object) -> SpeechTrack:
    segments, source, language = _row(plain, 3)
    return SpeechTrack(read_segments(segments), _text(source), _or_none(language, _text))


def _texts(plain: object) -> tuple[str, ...]:
    return tuple(_text(row) for row in _rows(plain, MAX_ENTRIES))


def _fact(value: object) -> Any:
    if isinstance(value, list):
        return _texts(value)
    fact: Fact = _text(value) if isinstance(value, str) else _number(value)
    return fact


def _fields(plain: object, kind: type[Any]) -> Plain:
    names = {field.name for field in dataclasses.fields(kind)}
    if not isinstance(plain, dict) or set(plain) != names:
        raise MalformedError(f"a {kind.__name__} with other fields")
    return plain


def _rows(value: object, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise MalformedError(f"expected a list of at most {most}")
    return value


def _row(value: object, length: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise MalformedError(f"expected a row of {length}")
    return value


def _mapping(value: object, read: Callable[[object], T]) -> Mapping[str, T]:
    if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
        raise MalformedError(f"expected an object of at most {MAX_ENTRIES} entries")
    return {_text(name): read(entry) for name, entry in value.items()}


def _or_none(value: object, read: Callable[[object], T]) -> T | None:
    return None if value is None else read(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARS:
        raise MalformedError(f"expected a text of at most {MAX_TEXT_CHARS} characters")
    # Half of a surrogate pair cannot be stored.
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e18:
        raise MalformedError("expected a finite number")
    if not math.isfinite(value):
        raise MalformedError("expected a finite number")
    return float(value)


def _seconds(value: object) -> float:
    return max(0.0, _number(value))


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise MalformedError("expected a count")
    return value
