"""What may be ranked at all, decided before any score is computed."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Sequence
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, Filter, Modality
from mmretrieve.errors import UsageError
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import Fact, VideoRecord

_CONDITION = re.compile(r"\s*([\w.-]+)\s*(>=|<=|!=|=|>|<|~)\s*(.*?)\s*", re.DOTALL)
_EDGES = (r"(?<!\w)", r"(?!\w)")
_FIRST_UNSPACED = "\u2e80"
"""From here on Unicode has the scripts of East Asia, which put no spaces between words."""
_COMPARE: dict[str, Callable[[object, object], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,  # type: ignore[dict-item]
    "<": operator.lt,  # type: ignore[dict-item]
    ">=": operator.ge,  # type: ignore[dict-item]
    "<=": operator.le,  # type: ignore[dict-item]
}


def keep_cells(snapshot: Snapshot, wanted: Filter) -> NDArray[np.bool_]:
    """``(n_cells,)``: which cells take part. A time range keeps the passages that overlap it and
    their metadata; a phrase keeps the passages (and their metadata) that hold it in speech or on screen.

    Raises:
        UsageError: a condition or time range that cannot be read.
    """
    cells = snapshot.cells
    codes = [i for i, m in enumerate(MODALITIES) if m in wanted.modalities]
    if not codes:
        raise UsageError(f"no modality to search in: expected some of {', '.join(MODALITIES)}")
    keep = np.isin(cells.modality, codes) & _keep_videos(snapshot, wanted)[cells.video]
    if wanted.from_s is not None or wanted.to_s is not None:
        keep &= _in_time(snapshot, wanted)
    if wanted.phrase is not None:
        keep &= _with_phrase(snapshot, wanted)
    return keep


def parse_condition(text: str) -> tuple[str, str]:
    """``"duration_s>=60"`` -> ``("duration_s>=", "60")``, as :class:`Filter` keeps it.

    Raises:
        UsageError: not of the form FIELD OPERATOR VALUE.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise UsageError(
            f"condition {text!r}: expected FIELD=VALUE with one of = != > < >= <= ~ (contains), "
            "for example channel=NASA or upload_date>=2024-01-01"
        )
    return found[1] + found[2], found[3]


def holds(video: VideoRecord, path: str, field_operator: str, value: str) -> bool:
    """Whether a video meets one condition; a field that it does not have meets only ``!=``."""
    field = field_operator.rstrip("=!<>~")
    sign = field_operator[len(field) :] or "="
    if sign not in _COMPARE and sign != "~":
        raise UsageError(
            f"condition {field_operator!r}: expected one of = != > < >= <= ~ at its end"
        )
    fact = _fact(video, path, field)
    if fact is None:
        return sign == "!="
    options = fact if isinstance(fact, tuple) else (fact,)
    if sign == "!=":
        return all(_compare("!=", option, value) for option in options)
    return any(_compare(sign, option, value) for option in options)


def _compare(sign: str, fact: str | float, value: str) -> bool:
    if sign == "~":
        return value.casefold() in str(fact).casefold()
    if isinstance(fact, bool):
        return _COMPARE[sign](str(fact).casefold(), value.casefold())
    if isinstance(fact, (int, float)):
        try:
            return _COMPARE[sign](float(fact), float(value))
        except ValueError:
            return sign == "!="
    return _COMPARE[sign](fact.casefold(), value.casefold())


def _fact(video: VideoRecord, path: str, field: str) -> Fact | None:
    own: dict[str, Fact | None] = {
        "video_id": video.video_id,
        "title": video.title,
        "path": path,
        "name": PurePath(path).name,
        "duration_s": video.duration_s,
        "width": video.probe.width,
        "height": video.probe.height,
        "fps": video.probe.fps,
        "video_codec": video.probe.video_codec,
        "audio_codec": video.probe.audio_codec,
        "container": video.probe.container,
        "size_bytes": video.probe.size_bytes,
    }
    return own[field] if field in own else video.facts.get(field)


def _keep_videos(snapshot: Snapshot, wanted: Filter) -> NDArray[np.bool_]:
    keep = np.ones(len(snapshot.videos), bool)
    if wanted.video_glob is None and not wanted.where:
        return keep
    for i, video in enumerate(snapshot.videos):
        path = snapshot.paths[video.video_id]
        if wanted.video_glob is not None:
            keep[i] = matches(video.video_id, path, wanted.video_glob)
        keep[i] &= all(holds(video, path, name, value) for name, value in wanted.where)
    return keep


def matches(video_id: str, path: str, glob: str) -> bool:
    """Whether a video is meant by its id, its path, its file name, or a glob over either."""
    names = (video_id, path, PurePath(path).name)
    return glob in names or any(fnmatch.fnmatchcase(name, glob) for name in names)


def _in_time(snapshot: Snapshot, wanted: Filter) -> NDArray[np.bool_]:
    low = 0.0 if wanted.from_s is None else wanted.from_s
    high = np.inf if wanted.to_s is None else wanted.to_s
    if not low <= high:
        raise UsageError(f"time range from {low:g} s to {high:g} s is empty: swap its ends")
    cells = snapshot.cells
    overlaps = (cells.start_s <= high) & (cells.end_s >= low)
    timeless = np.isnan(cells.start_s)
    # What is known about a video counts where some of the video is in the range, or has no times.
    elsewhere = np.isin(cells.video, np.setdiff1d(cells.video[~timeless], cells.video[overlaps]))
    return overlaps | (timeless & ~elsewhere)


def _with_phrase(snapshot: Snapshot, wanted: Filter) -> NDArray[np.bool_]:
    cells = snapshot.cells
    words = (wanted.phrase or "").split()
    if not words:
        raise UsageError("the phrase is empty: give at least one word")
    pattern = _phrase_pattern(words)
    spoken_or_written = [MODALITIES.index(m) for m in (Modality.SPEECH, Modality.OCR)]
    text_cells = np.flatnonzero(np.isin(cells.modality, spoken_or_written))
    found = [bool(pattern.search(text)) for text in snapshot.texts(text_cells)]
    hits = text_cells[np.array(found, bool)]
    passages = set(zip(cells.video[hits].tolist(), cells.passage[hits].tolist(), strict=True))
    videos = set(cells.video[hits].tolist())
    pairs = zip(cells.video.tolist(), cells.passage.tolist(), strict=True)
    timeless = np.isnan(cells.start_s)
    return np.array(
        [pair in passages or (timeless[i] and pair[0] in videos) for i, pair in enumerate(pairs)],
        bool,
    )


def _phrase_pattern(words: Sequence[str]) -> re.Pattern[str]:
    """Whole words, whatever stands between them; scripts written without spaces match anywhere."""
    spaced = [
        word[0].isalnum() and word[0] < _FIRST_UNSPACED for word in (words[0], words[-1][::-1])
    ]
    before, after = (edge if needed else "" for needed, edge in zip(spaced, _EDGES, strict=True))
    return re.compile(before + r"\W+".join(map(re.escape, words)) + after, re.IGNORECASE)
