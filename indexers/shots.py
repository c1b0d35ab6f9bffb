"""Shot boundaries, found online on the small sampled pictures.

Two neighbouring samples are compared in two ways: how little their coarse luma layouts correlate
(blind to brightness) and how far their colour histograms are apart (blind to motion). A cut is
where the sum stands out from what happens around it, which keeps action scenes whole; blank
stretches bound shots, so fades do; and a slow dissolve is two quiet pictures a second apart that
have nothing in common. Bars above, below or beside the picture take no part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmretrieve.indexers.media import SampledFrame

CUT = 0.42
"""Least distance of two neighbouring samples for a cut."""
DISSOLVE = 0.45
"""Least distance of two quiet pictures :data:`_LAG` samples apart for a dissolve."""
QUIET = 0.1
_STANDS_OUT = 1.6
_AROUND = 2
_LAG = 8
_BLANK_STD = 2.0
_GRID = (32, 18)
_DARK = 24.0


@dataclass(frozen=True, slots=True)
class ShotFrame:
    """A sampled frame and its place. ``change`` in 0..1.5 is its distance from the sample before
    or after, whichever is larger; ``starts_shot`` marks the first sample of a shot."""

    frame: SampledFrame
    starts_shot: bool
    change: float
    is_blank: bool


@dataclass(slots=True)
class _Look:
    """What is compared of one frame: ``luma`` ``(18, 32)`` float32 and a colour histogram."""

    frame: SampledFrame
    luma: NDArray[np.float32]
    histogram: NDArray[np.float32]
    is_blank: bool
    change: float = 0.0
    starts_shot: bool = False


def blank(small: NDArray[np.uint8]) -> bool:
    """Whether a luma picture ``(h, w)`` uint8 is one flat tone, black and white included."""
    return float(small.std()) < _BLANK_STD and int(small.max()) - int(small.min()) < 40


def _look(frame: SampledFrame) -> _Look:
    luma = cv2.resize(frame.small, _GRID, interpolation=cv2.INTER_AREA).astype(np.float32)
    chroma = np.clip((frame.chroma.astype(np.int16) - 64) >> 4, 0, 7).astype(np.int32)
    codes = (frame.small >> 5).astype(np.int32) * 64 + chroma[..., 0] * 8 + chroma[..., 1]
    histogram = np.bincount(codes.ravel(), minlength=512).astype(np.float32) / codes.size
    cube = histogram.reshape(8, 8, 8)
    for axis in range(3):
        padded = np.pad(cube, [(1, 1) if a == axis else (0, 0) for a in range(3)], "edge")
        left, middle, right = (padded.take(range(i, i + 8), axis) for i in range(3))
        cube = (left + 2 * middle + right) / 4
    soft = cv2.GaussianBlur(luma, (0, 0), 1.0).astype(np.float32)
    return _Look(frame, soft, cube.astype(np.float32), blank(frame.small))


def distance(a: _Look, b: _Look) -> float:
    """How different two pictures are, 0 (the same) to 1.5 (nothing in common)."""
    colour = 0.5 * float(np.abs(a.histogram - b.histogram).sum())
    if a.is_blank and b.is_blank:
        return min(1.0, abs(float(a.luma.mean() - b.luma.mean())) / 255)
    lit = (a.luma > _DARK) | (b.luma > _DARK)
    if not lit.any():
        lit = np.ones_like(lit)
    x, y = a.luma[lit] - a.luma[lit].mean(), b.luma[lit] - b.luma[lit].mean()
    spread_x, spread_y = float(np.sqrt((x * x).mean())), float(np.sqrt((y * y).mean()))
    if min(spread_x, spread_y) < 2.0:
        layout = min(1.0, float(np.abs(a.luma - b.luma)[lit].mean()) / 32)
    else:
        layout = min(1.0, 1.0 - float((x * y).mean()) / (spread_x * spread_y))
    return layout / 2 + colour


class ShotDetector:
    """Marks the first sample of every shot; feed it frames in order.

    Args:
        min_shot_s: no shot is shorter than this, in seconds.
    """

    def __init__(self, min_shot_s: float) -> None:
        self._min_shot_s = min_shot_s
        self._looks: deque[_Look] = deque()
        self._steps: deque[float] = deque()
        self._start_s = 0.0
        self._first = True

    def detect(self, frames: Iterable[SampledFrame]) -> Iterator[ShotFrame]:
        """Yield every frame, about :data:`_LAG` samples late, with its place in its shot."""
        for frame in frames:
            self._push(_look(frame))
            if len(self._looks) > _LAG + 3:
                yield self._pop()
        self._judge(len(self._looks) - 1)
        self._judge(len(self._looks))
        while self._looks:
            yield self._pop()

    def _push(self, look: _Look) -> None:
        step = distance(self._looks[-1], look) if self._looks else 0.0
        if self._looks:
            self._looks[-1].change = max(self._looks[-1].change, step)
        look.change = step
        self._looks.append(look)
        self._steps.append(step)
        self._judge(len(self._looks) - _AROUND)
        self._judge_dissolve()

    def _judge(self, at: int) -> None:
        """Decide whether the step into sample ``at`` of the buffer is a cut."""
        if at < 1 or at >= len(self._looks):
            return
        steps, looks = list(self._steps), self._looks
        near = [s for s in steps[max(1, at - _AROUND) : at + _AROUND + 1]]
        near.remove(steps[at])
        usual = sum(near) / len(near) if near else 0.0
        is_cut = steps[at] >= CUT and steps[at] >= _STANDS_OUT * usual
        turns_blank = looks[at].is_blank != looks[at - 1].is_blank
        if is_cut or turns_blank:
            self._mark(looks[at])

    def _judge_dissolve(self) -> None:
        looks, steps = self._looks, list(self._steps)
        if len(looks) < _LAG + 3 or max(steps[-2:] + steps[-_LAG - 2 : -_LAG]) > QUIET:
            return
        between = list(looks)[-_LAG:]
        if any(look.starts_shot for look in between) or max(steps[-_LAG:]) >= CUT:
            return
        if distance(looks[-_LAG - 1], looks[-1]) >= DISSOLVE:
            self._mark(between[_LAG // 2])

    def _mark(self, look: _Look) -> None:
        if look.frame.time_s - self._start_s >= self._min_shot_s:
            look.starts_shot = True
            self._start_s = look.frame.time_s

    def _pop(self) -> ShotFrame:
        look = self._looks.popleft()
        self._steps.popleft()
        starts = look.starts_shot or self._first
        self._first = False
        return ShotFrame(look.frame, starts, look.change, look.is_blank)
