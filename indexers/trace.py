"""A coarse trace of the pictures over time, by which copies of a video are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2

from mmretrieve.datatypes import TracePoint

if TYPE_CHECKING:
    from mmretrieve.indexers.media import SampledFrame

GRID = (12, 9)
"""Width and height of a picture in the trace."""
EVERY_S = 1 / 3
MOST_POINTS = 1800
"""A longer video gets its points further apart."""
_TICK_S = 0.01


class Tracer:
    """Takes notes of frames that pass by."""

    def __init__(self, duration_s: float) -> None:
        self._every_s = max(EVERY_S, duration_s / MOST_POINTS)
        self._next_s = 0.0
        self._points: list[TracePoint] = []

    def watch(self, frames: Iterator[SampledFrame]) -> Iterator[SampledFrame]:
        """The same frames."""
        for frame in frames:
            if frame.time_s >= self._next_s - _TICK_S:
                small = cv2.resize(frame.small, GRID, interpolation=cv2.INTER_AREA)
                self._points.append(TracePoint(frame.time_s, small.tobytes()))
                # On a grid of its own, so that a late frame does not delay all that follow.
                while self._next_s <= frame.time_s + _TICK_S:
                    self._next_s += self._every_s
            yield frame

    def take(self) -> tuple[TracePoint, ...]:
        """What was noted since the last time."""
        points, self._points = tuple(self._points), []
        return points
