"""The one grammar of times: ``75.5``, ``1:15``, ``00:01:15.250``."""

from __future__ import annotations

import math
import re

from mmretrieve.errors import UsageError

_NUMBER = r"[0-9]+(?:\.[0-9]*)?"
_TIME = re.compile(rf"(?:(?:(?P<hours>[0-9]+):)?(?P<minutes>[0-9]+):)?(?P<seconds>{_NUMBER})")


def parse_time(text: str) -> float:
    """Seconds from the start of a video.

    Raises:
        UsageError: not a time; only its first part may exceed 59.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"time {text!r}: expected seconds or [HH:]MM:SS, as in 75.5 or 1:15")
    hours, minutes, seconds = found["hours"], found["minutes"], float(found["seconds"])
    if (minutes is not None and seconds >= 60) or (hours is not None and float(minutes) >= 60):
        raise UsageError(f"time {text!r}: only its first part may be 60 or more, as in 90:00")
    total = float(hours or 0) * 3600 + float(minutes or 0) * 60 + seconds
    if not math.isfinite(total):
        raise UsageError(f"time {text[:12]!r}...: no video is that long")
    return total


def clock(seconds: float) -> str:
    """``mm:ss``, from one hour on ``h:mm:ss``; the second that the time lies in."""
    whole = int(max(0.0, seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def clock_range(start_s: float | None, end_s: float | None) -> str:
    """``00:08-00:15``; ``whole video`` for an answer without times."""
    if start_s is None:
        return "whole video"
    if end_s is None or end_s <= start_s:
        return clock(start_s)
    return f"{clock(start_s)}-{clock(end_s)}"


def took(seconds: float) -> str:
    """A stretch of time for people: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole // 60 % 60:02} min"
