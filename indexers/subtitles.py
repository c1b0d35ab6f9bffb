"""Subtitles as text segments: files beside a video, and text tracks inside one.

``.srt`` and ``.vtt`` share one reader, ``.ass`` and ``.ssa`` another, JSON is what Whisper, WhisperX,
whisper.cpp and Hugging Face pipelines write. The readers are forgiving on purpose, and therefore no
general library: in-cue time stamps, cue names, notes, style blocks and single broken lines of real
files must not cost the rest. Every size is bounded, because subtitle files come from anywhere.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmretrieve.datatypes import Segment
from mmretrieve.errors import SidecarError
from mmretrieve.indexers.captions import Cue, bounded, clean, mend, split_long, timed_words
from mmretrieve.indexers.warn import Warn
from mmretrieve.regular import open_regular

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from charset_normalizer import CharsetMatches


SUBTITLE_SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")
MAX_FILE_BYTES = 20_000_000
MAX_CUES = 100_000
MAX_CUE_LINES = 100
TEXT_CODECS = frozenset({"ass", "ssa", "subrip", "srt", "mov_text", "webvtt", "text"})

_CLOCK = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,6}))?"
_TIMING = re.compile(rf"^\s*(-)?{_CLOCK}\s*-{{1,2}}>\s*(-)?{_CLOCK}(?:\s|$)")
_TIME = re.compile(rf"(-)?{_CLOCK}")
_VTT_BLOCK = re.compile(r"(NOTE|STYLE|REGION)\b")
_NUMBER = re.compile(r"\s*\d+\s*")
_ENCODINGS = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
)
_NOT_WESTERN = re.compile("[¹³¼½¾¬šž\ufffd\x80-\x9f]|\\w[¿£¥¯»¢º]\\w")
"""What Central European text shows when it is taken for Western European."""
_SAMPLE_BYTES = 64_000
_MAX_ASS_LINE, _MAX_ASS_COLUMNS = 20_000, 30


@dataclass(frozen=True, slots=True)
class EmbeddedTrack:
    """A text subtitle track inside a video. ``stream`` is its index in the file, ``language`` the
    tag as written there, ``forced`` marks tracks that only translate foreign parts."""

    stream: int
    language: str | None
    forced: bool
    segments: tuple[Segment, ...]


def read_subtitles(path: Path, duration_s: float | None = None) -> tuple[Segment, ...]:
    """The lines of a subtitle file in order of time, clean of markup, without rolling repeats.

    ``duration_s`` bounds the times; ``None`` or 0 when it is not known.

    Raises:
        SidecarError: too large, unreadable, or not what its suffix says.
    """
    text = read_text(path)
    if path.suffix.casefold() == ".json":
        cues = _json_cues(path, text)
    elif path.suffix.casefold() in (".ass", ".ssa"):
        cues = _ass_cues(text)
    else:
        cues = list(_timed_cues(text))
    if not cues and text.strip() and text.strip() != "WEBVTT":
        kind = path.suffix.lstrip(".").upper()
        raise SidecarError(f"{path.name}: holds no timed lines; expected {kind} subtitles")
    return tuple(bounded(split_long(mend(cues, duration_s))))


def is_transcript(path: Path) -> bool:
    """Whether a JSON file holds timed speech rather than a description of the video."""
    try:
        return bool(_json_cues(path, read_text(path)))
    except SidecarError:
        return False


def read_text(path: Path, max_bytes: int = MAX_FILE_BYTES) -> str:
    """A text file in whatever encoding it was saved.

    Raises:
        SidecarError: cannot be read, is no regular file in its folder, or is larger than ``max_bytes``.
    """
    try:
        with open_regular(path, inside=path.parent) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise SidecarError(f"{path.name}: cannot be read: {error.strerror or error}") from error
    if len(data) > max_bytes:
        limit = f"{max_bytes / 1e6:g} MB"
        raise SidecarError(f"{path.name}: larger than {limit}, expected a text file below that")
    return decode_text(data).replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def decode_text(data: bytes) -> str:
    """Bytes to text: byte order mark, UTF-8, UTF-16 without mark, else the likeliest encoding."""
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8"),
        (b"\xff\xfe\0\0", "utf-32-le"),
        (b"\0\0\xfe\xff", "utf-32-be"),
        (b"\xff\xfe", "utf-16-le"),
        (b"\xfe\xff", "utf-16-be"),
    ):
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    head = data[:2000]
    if len(head) >= 4 and head.count(0) > len(head) // 4:
        wide = "utf-16-be" if head[::2].count(0) > head[1::2].count(0) else "utf-16-le"
        return data.decode(wide, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        damaged = data.count(0xC3) + data.count(0xE2) > 20 and error.start > len(data) // 2
        return data.decode("utf-8" if damaged else _likely_encoding(data), "replace")


def _likely_encoding(data: bytes) -> str:
    from charset_normalizer import from_bytes

    # Only lines with something other than ASCII say anything about the encoding.
    telling = b"\n".join(line for line in data.splitlines() if not line.isascii())
    sample = telling[:_SAMPLE_BYTES]
    matches = from_bytes(sample, cp_isolation=list(_ENCODINGS))
    best = matches.best()
    if best is None:
        return "cp1252"
    if best.encoding in ("cp1250", "cp1254") and _looks_western(sample, matches):
        return "cp1252"
    return best.encoding


def _looks_western(sample: bytes, matches: CharsetMatches) -> bool:
    """Tell Western from Central European: the library takes the first of equals."""
    scores = {match.encoding: match.coherence for match in matches}
    if scores.get("cp1252", 1.0) < max(scores.values()):
        return False
    text = sample.decode("cp1252", "replace")
    hungarian = "õ" in text and "ã" not in text and "ä" not in text
    return not hungarian and not _NOT_WESTERN.search(text)


def _seconds(sign: str | None, hours: str | None, minutes: str, seconds: str, part: str) -> float:
    fraction = int(part or 0) / float(10 ** len(part or "0"))
    value = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + fraction
    return -value if sign else value


def _timed_cues(text: str) -> Iterator[Cue]:
    """Cues of SRT and WebVTT: a line of two times, then text up to the next cue."""
    is_vtt = text.lstrip("\ufeff \t\n").startswith("WEBVTT")
    times: tuple[float, float] | None = None
    lines: list[str] = []
    n_cues, in_block = 0, False
    for line in text.split("\n"):
        timing = _TIMING.match(line[:200]) if "->" in line[:200] else None
        if timing:
            if times is not None:
                yield Cue(*times, clean(_without_name(lines, is_vtt)))
            if n_cues >= MAX_CUES:
                return
            groups = timing.groups()
            times, lines, in_block = (_seconds(*groups[:5]), _seconds(*groups[5:])), [], False
            n_cues += 1
        elif is_vtt and not line:
            in_block = False
            lines = [*lines[: MAX_CUE_LINES - 1], ""]
        elif is_vtt and _VTT_BLOCK.match(line) and (not lines or not lines[-1]):
            in_block = True
        elif not in_block and len(lines) < MAX_CUE_LINES:
            lines.append(line)
    if times is not None:
        yield Cue(*times, clean(_without_name(lines, is_vtt, last=True)))


def _without_name(lines: list[str], is_vtt: bool, last: bool = False) -> list[str]:
    """Cut off what stands before the *next* cue: its number or its name."""
    if is_vtt:
        return lines[: lines.index("")] if "" in lines else lines
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    alone = len(lines) == 1 or (len(lines) > 1 and not lines[-2].strip())
    if lines and not last and alone and _NUMBER.fullmatch(lines[-1][:20]):
        return lines[:-1]
    return lines


def _ass_cues(text: str) -> list[Cue]:
    """Dialogue of a Substation Alpha script; the ``Format`` line says which column is which."""
    columns = ["layer", "start", "end", "style", "name", "l", "r", "v", "effect", "text"]
    cues: list[Cue] = []
    for line in text.split("\n"):
        kind, _, rest = line[:_MAX_ASS_LINE].partition(":")
        if kind.strip() == "Format" and "Text" in rest:
            columns = [name.strip().casefold() for name in rest.split(",")][:_MAX_ASS_COLUMNS]
        elif kind.strip() == "Dialogue" and len(cues) < MAX_CUES:
            values = dict(zip(columns, rest.split(",", len(columns) - 1), strict=False))
            start = _TIME.fullmatch(values.get("start", "").strip())
            end = _TIME.fullmatch(values.get("end", "").strip())
            if start and end:
                spoken = clean([values.get("text", "")], ass=True)
                cues.append(Cue(_seconds(*start.groups()), _seconds(*end.groups()), spoken))
    return cues


def _json_cues(path: Path, text: str) -> list[Cue]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SidecarError(f"{path.name}: no valid JSON: {error}") from error
    rows = data
    if isinstance(data, dict):
        names = ("segments", "transcription", "chunks")
        rows = next((data[name] for name in names if isinstance(data.get(name), list)), None)
    if not isinstance(rows, list):
        want = '{"segments": [{"start": 0.0, "end": 1.5, "text": "..."}]}'
        raise SidecarError(f"{path.name}: holds no transcript; expected {want}")
    return [cue for row in rows[:MAX_CUES] if isinstance(row, dict) for cue in _json_row(row)]


def _json_row(row: dict[str, Any]) -> Iterator[Cue]:
    words = timed_words(row.get("words"))
    text = row.get("text")
    start, end = _number(row.get("start")), _number(row.get("end"))
    offsets, stamp = row.get("offsets"), row.get("timestamp")
    if isinstance(offsets, dict):
        start, end = _number(offsets.get("from"), 1000), _number(offsets.get("to"), 1000)
    elif isinstance(stamp, list) and len(stamp) == 2:
        start, end = _number(stamp[0]), _number(stamp[1])
    if isinstance(text, str) and start is not None:
        yield Cue(start, start if end is None else end, clean([text]), words)


def _number(value: object, scale: float = 1.0) -> float | None:
    """A finite number that may have been written as text."""
    try:
        number = float(value) / scale  # type: ignore[arg-type] # anything may stand in JSON
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) < 1e7 else None


def read_embedded(path: Path, duration_s: float | None, warn: Warn) -> tuple[EmbeddedTrack, ...]:
    """All text subtitle tracks of a video, decoded in one pass over the file.

    Picture tracks (DVD, Blu-ray) are left out with a warning.

    Raises:
        MediaError: the file cannot be opened.
    """
    from mmretrieve.indexers.media import open_media

    with open_media(path) as container:
        wanted = _text_streams(path, container, warn)
        if not wanted:
            return ()
        cues: dict[int, list[Cue]] = {index: [] for index in wanted}
        for packet in _packets(container, wanted):
            found = cues[packet.stream.index]
            if len(found) < MAX_CUES // len(wanted):
                found.extend(_packet_cues(container, packet))
        return tuple(
            EmbeddedTrack(
                i, language, forced, tuple(bounded(split_long(mend(cues[i], duration_s))))
            )
            for i, (language, forced) in wanted.items()
        )


def _text_streams(
    path: Path, container: InputContainer, warn: Warn
) -> dict[int, tuple[str | None, bool]]:
    from av.stream import Disposition

    found: dict[int, tuple[str | None, bool]] = {}
    for stream in container.streams.subtitles:
        context: Any = stream.codec_context
        codec = context.name if context is not None else "unknown"
        if codec in TEXT_CODECS:
            forced = bool(stream.disposition & Disposition.forced)
            found[stream.index] = (stream.metadata.get("language"), forced)
        else:
            warn(f"{path.name}: subtitle stream {stream.index} ({codec}) holds no text; skipped")
    return found


def _packets(container: InputContainer, wanted: Iterable[int]) -> Iterator[Packet[Any]]:
    import av

    streams = [container.streams[index] for index in wanted]
    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets, None)
        except MemoryError:
            raise
        except (av.FFmpegError, OSError):
            return
        if packet is None:
            return
        yield packet


def _packet_cues(container: InputContainer, packet: Packet[Any]) -> list[Cue]:
    import av

    from mmretrieve.indexers.media import origin_s

    if packet.pts is None:
        return []
    start = float(packet.pts * packet.time_base - origin_s(container))
    length = float((packet.duration or 0) * packet.time_base)
    try:
        decoded: Sequence[Any] = packet.decode()
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError):
        return []
    texts = [getattr(part, "dialogue", b"").decode("utf-8", "replace") for part in decoded]
    return [Cue(start, start + length, clean(text.split("\n"), ass=True)) for text in texts if text]
