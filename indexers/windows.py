"""Time windows of a video and the segments that fall into each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from mmretrieve.config import PassageSettings
from mmretrieve.datatypes import Segment

_LEAST_COVERED_S = 1.0


@dataclass(frozen=True, slots=True)
class Window:
    """Where a passage begins and ends, in seconds of the video."""

    number: int
    start_s: float
    end_s: float


def extend(
    windows: Sequence[Window], segments: Sequence[Segment], settings: PassageSettings
) -> tuple[Window, ...]:
    """``windows`` and further ones for the timed segments that begin after the last of them: for a
    video without pictures all of them, else for sound that goes on when the picture has ended."""
    out = list(windows)
    covered_s = out[-1].end_s if out else 0.0
    for segment in segments:
        if segment.start_s is None or segment.end_s is None or segment.start_s < covered_s:
            continue
        last = out[-1] if len(out) > len(windows) else None
        if last is not None and segment.end_s - last.start_s <= settings.target_s:
            out[-1] = Window(last.number, last.start_s, max(last.end_s, segment.end_s))
        else:
            out.append(Window(len(out), segment.start_s, segment.end_s))
    return tuple(out)


def cover(windows: Sequence[Window], end_s: float, settings: PassageSettings) -> tuple[Window, ...]:
    """``windows`` and further ones of equal length up to ``end_s``, without gaps: where what is heard
    counts by itself. A rest of less than a second is left."""
    out = list(windows)
    covered_s = out[-1].end_s if out else 0.0
    rest_s = end_s - covered_s
    n = max(1, round(rest_s / settings.target_s)) if rest_s >= _LEAST_COVERED_S else 0
    for i in range(n):
        start_s, stop_s = (covered_s + rest_s * at / n for at in (i, i + 1))
        out.append(Window(len(out), start_s, stop_s))
    return tuple(out)


def distribute(
    windows: Sequence[Window], segments: Sequence[Segment]
) -> dict[int, tuple[Segment, ...]]:
    """Window number -> the segments whose middle lies in it (or that are nearest to it)."""
    out: dict[int, list[Segment]] = {}
    homes = _Homes(windows)
    for segment in segments:
        if segment.start_s is None or not windows:
            continue
        middle = (segment.start_s + (segment.end_s or segment.start_s)) / 2
        out.setdefault(homes.at(middle).number, []).append(segment)
    return {number: tuple(found) for number, found in out.items()}


class _Homes:
    """Finds the window that a time lies in, else the nearest; of equals the first. There may be a
    hundred thousand windows, and as many times."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = sorted(windows, key=lambda w: w.start_s)
        self._ends = list(accumulate((w.end_s for w in self._windows), max))

    def at(self, time_s: float) -> Window:
        """The window for a time; there must be one."""
        # No window before this one reaches the time, and the latest end before it comes first there.
        after = bisect_left(self._ends, time_s)
        if after == 0:
            return self._windows[0]
        before = self._windows[bisect_left(self._ends, self._ends[after - 1])]
        if after == len(self._windows):
            return before
        next_one = self._windows[after]
        missed_s = time_s - before.end_s
        return before if missed_s <= max(0.0, next_one.start_s - time_s) else next_one
