"""From raw subtitle cues to segments: markup off, times mended, rolling repeats collapsed."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mmretrieve.datatypes import Segment

MAX_LINE_CHARS = 2_000
MAX_SEGMENT_S = 10.0
MAX_CHARS_A_MINUTE = 20_000
"""Ten times what the fastest speaker says."""
MAX_CHARS = 1_500_000
"""More than a day of speech."""

_ROLLING_GAP_S = 0.3
_READING_S_PER_CHAR = 0.07
_LONGEST_GUESS_S = 7.0
_PAUSE_S = 1.2
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}[^{]*")
_OVERRIDE = re.compile(r"\{[^{}]*\}")
_SRT_OVERRIDE = re.compile(r"\{\\[^{}]*\}|\{[yYcCfFsSpP]:[^{}]*\}")
_TAG = re.compile(r"<(?:/?[a-zA-Z][^<>]*|/|\d[\d:.,]*)>")
_ASS_BREAK = re.compile(r"\\[Nn]")
_INVISIBLE = re.compile(
    "[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\u00ad\x00-\x08\x0b-\x1f\x7f]"
)
_NOTES = re.compile("[♩♪♫♬♭♯]+")
_ONLY_MUSIC = re.compile(r"[\[(]\s*(?:music|musik|musique|música|musica|音楽|музыка)\s*[\])]", re.I)
_SPEAKER_CHANGE = re.compile(r"^(?:>>+|[-–—])\s*")
_SENTENCE_END = re.compile("[.!?\u3002\uff01\uff1f\u2026][\"'\u201d\u2019)\\]]*$")
_CLAUSE_END = re.compile("[,;:\u3001\uff0c\uff1b\uff1a][\"'\u201d\u2019)\\]]*$")


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its times in seconds; ``text`` keeps the space before it, if it has one."""

    text: str
    start_s: float
    end_s: float
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class Cue:
    """What a subtitle shows at a time, before anything is mended: one entry a line."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]
    words: tuple[Word, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(self.lines)


def clean(lines: Iterable[str], ass: bool = False) -> tuple[str, ...]:
    r"""Lines without markup, positions, drawings, notes of music and empty ones.

    ``ass`` takes ``{...}`` for commands and ``\N`` for a new line, as in Substation Alpha.
    """
    cleaned: list[str] = []
    for line in lines:
        raw = line[: MAX_LINE_CHARS * 2]
        if ass or "{\\" in raw:
            raw = _DRAWING.sub("", raw)
        raw = (_OVERRIDE if ass else _SRT_OVERRIDE).sub("", raw)
        parts = _ASS_BREAK.split(raw) if ass or "\\N" in raw else [raw]
        cleaned += [_clean_line(part) for part in parts]
    return tuple(line for line in cleaned if line)


def _clean_line(line: str) -> str:
    text = html.unescape(_TAG.sub("", line)).replace("\\h", " ")
    text = _NOTES.sub(" ", _INVISIBLE.sub("", text))
    text = _SPEAKER_CHANGE.sub("", " ".join(text.split()))[:MAX_LINE_CHARS]
    # Half of a surrogate pair can come from JSON and cannot be stored.
    text = text.encode("utf-8", "ignore").decode("utf-8").strip()
    return "" if _ONLY_MUSIC.fullmatch(text) else text


def timed_words(rows: object) -> tuple[Word, ...]:
    """The ``words`` of a WhisperX or Whisper segment; none unless every word is usable."""
    if not isinstance(rows, list):
        return ()
    words: list[Word] = []
    for row in rows[:MAX_LINE_CHARS]:
        text = (row.get("word") or row.get("text")) if isinstance(row, dict) else None
        if not isinstance(text, str) or not text.strip():
            return ()
        previous = words[-1].end_s if words else None
        # WhisperX gives no times to numbers: they follow the word before.
        start, end = row.get("start", previous), row.get("end", row.get("start", previous))
        if not (_finite(start) and _finite(end)):
            return ()
        words.append(Word(" " + text.strip(), float(start), float(end)))
    return tuple(words)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e7 and math.isfinite(value)


def mend(cues: Iterable[Cue], duration_s: float | None) -> list[Cue]:
    """Cues in order of time, inside ``0..duration_s``, with repeats collapsed."""
    end_s = duration_s if duration_s and duration_s > 0 else math.inf
    kept = [c for c in cues if c.lines and c.start_s < end_s and max(c.start_s, c.end_s) > 0]
    kept.sort(key=lambda cue: cue.start_s)
    timed: list[Cue] = []
    for i, cue in enumerate(kept):
        start, end = max(0.0, cue.start_s), cue.end_s
        if end <= start:
            next_start = kept[i + 1].start_s if i + 1 < len(kept) else math.inf
            guess = start + min(_LONGEST_GUESS_S, max(1.0, len(cue.text) * _READING_S_PER_CHAR))
            end = min(guess, next_start) if next_start > start else guess
        timed.append(replace(cue, start_s=start, end_s=min(end, end_s)))
    return list(_collapse(timed))


def _collapse(cues: Sequence[Cue]) -> Iterator[Cue]:
    """Join what rolls: a line shown again, or one that grows, is one line with a longer time."""
    last: Cue | None = None
    shown: tuple[str, ...] = ()
    for cue in cues:
        near = last is not None and cue.start_s <= last.end_s + _ROLLING_GAP_S
        if last is None or not near:
            if last is not None:
                yield last
            last, shown = cue, cue.lines
            continue
        new = _new_lines(shown, cue.lines)
        shown = cue.lines
        if not new or (len(cue.lines) == 1 and cue.text == last.text):
            last = replace(last, end_s=max(last.end_s, cue.end_s), words=())
        elif cue.text.startswith(last.text + " ") and len(new) == len(cue.lines):
            last = replace(cue, start_s=last.start_s, end_s=max(last.end_s, cue.end_s), words=())
        else:
            yield last
            words = cue.words if new == cue.lines else ()
            last = replace(cue, lines=new, words=words)
    if last is not None:
        yield last


def _new_lines(before: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    """The lines of ``now`` that do not continue the end of ``before``."""
    for size in range(min(len(before), len(now)), 0, -1):
        if before[-size:] == now[:size]:
            return now[size:]
    return now


def split_long(cues: Iterable[Cue], max_s: float = MAX_SEGMENT_S) -> Iterator[Segment]:
    """Segments of about a sentence: by words where there are times, else as the cue stands."""
    for cue in cues:
        if cue.words and cue.end_s - cue.start_s > max_s:
            yield from (s for s in split_words(cue.words, max_s) if s.text)
        else:
            yield Segment(cue.text[: MAX_LINE_CHARS * 4], cue.start_s, cue.end_s)


def bounded(segments: Iterable[Segment]) -> Iterator[Segment]:
    """The segments up to :data:`MAX_CHARS_A_MINUTE` and :data:`MAX_CHARS`: no one reads faster, and
    every character costs the engine memory and time."""
    total = minute_chars = 0
    minute = -1
    for segment in segments:
        now = int((segment.start_s or 0.0) // 60)
        minute, minute_chars = now, minute_chars if now == minute else 0
        minute_chars += len(segment.text) + 1
        if minute_chars > MAX_CHARS_A_MINUTE:
            continue
        total += len(segment.text) + 1
        if total > MAX_CHARS:
            return
        yield segment


def split_words(words: Sequence[Word], max_s: float = MAX_SEGMENT_S) -> Iterator[Segment]:
    """Cut timed words into sentences of at most ``max_s``, long ones at their best pause.

    ``confidence`` is the mean probability of the words.
    """
    first = 0
    for i, word in enumerate(words):
        ends = _SENTENCE_END.search(word.text.rstrip()) and word.end_s - words[first].start_s >= 1
        pause = i + 1 < len(words) and words[i + 1].start_s - word.end_s > _PAUSE_S
        while i > first and word.end_s - words[first].start_s > max_s:
            cut = _best_cut(words, first, i)
            yield _sentence(words[first:cut])
            first = cut
        if ends or pause:
            yield _sentence(words[first : i + 1])
            first = i + 1
    if first < len(words):
        yield _sentence(words[first:])


def _best_cut(words: Sequence[Word], first: int, last: int) -> int:
    """Where the second part starts: after a clause or at the longest pause, not too early."""

    def quality(i: int) -> float:
        pause = max(0.0, words[i].start_s - words[i - 1].end_s)
        clause = 0.5 if _CLAUSE_END.search(words[i - 1].text.rstrip()) else 0.0
        return pause + clause + (i - first) / (last - first)

    return max(range(first + 1, last + 1), key=quality)


def _sentence(words: Sequence[Word]) -> Segment:
    text = " ".join("".join(word.text for word in words).split())
    mean = sum(word.probability for word in words) / len(words)
    start = max(0.0, words[0].start_s)
    end = max(start, max(word.end_s for word in words))
    return Segment(text, start, end, confidence=min(1.0, max(0.0, mean)))
