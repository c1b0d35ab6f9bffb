"""Choosing the frames that stand for a shot, and telling pictures apart.

Per shot and stretch of time the sharpest frame that is neither blank nor in a transition is
picked. A picture that has come to rest and differs from the last pick (a slide, a dialog, a
title) is picked at once. Picks feed text recognition; keyframes are the picks that do not nearly
repeat one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mmretrieve.datatypes import Keyframe
from mmretrieve.indexers.shots import ShotFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmretrieve.config import VisualSettings
    from mmretrieve.indexers.media import SampledFrame

KEYFRAME_SIDE_PX = 288
"""Shorter side of a keyframe's image, at most."""

_BLOCK_PX = 5
_BLOCK_CHANGE = 9.0
"""Mean difference of luma over a block that counts as a change, above coding noise."""
_MIN_CHANGED = 0.004
NEAR_DUPLICATE = 0.10
_REST_S = 0.5
_REST_CHANGE = 0.02
_REST_NOVELTY = 0.03
_PICK_GAP_S = 1.0
_SHORT_SHARE = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """The small luma picture ``(h, w)`` uint8 of one moment."""

    time_s: float
    small: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pick:
    """A frame picked for ``start_s..end_s`` of its shot. ``frame`` still has the full picture;
    ``samples`` are all that were looked at in that stretch, without the full pictures."""

    frame: SampledFrame
    start_s: float
    end_s: float
    starts_shot: bool
    is_blank: bool
    samples: tuple[Sample, ...]


def changed_share(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Share of small blocks that differ between two luma pictures ``(h, w)`` uint8, 0..1."""
    if a.shape != b.shape:
        return 1.0
    size = (max(1, a.shape[1] // _BLOCK_PX), max(1, a.shape[0] // _BLOCK_PX))
    blocks = cv2.resize(cv2.absdiff(a, b), size, interpolation=cv2.INTER_AREA)
    return float((blocks >= _BLOCK_CHANGE).mean())


def sharpness(small: NDArray[np.uint8]) -> float:
    """Mean strength of fine detail in a luma picture ``(h, w)`` uint8; 0 when flat."""
    return float(np.abs(cv2.Laplacian(small, cv2.CV_16S)).mean())


@dataclass(slots=True)
class _Window:
    """The stretch of a shot that the next pick will stand for."""

    start_s: float
    starts_shot: bool
    best: ShotFrame | None = None
    best_score: float = -1.0
    samples: list[Sample] = field(default_factory=list)

    def offer(self, shot_frame: ShotFrame) -> None:
        self.samples.append(Sample(shot_frame.frame.time_s, shot_frame.frame.small))
        score = sharpness(shot_frame.frame.small) + 0.01
        score *= 1.0 - 0.8 * min(1.0, shot_frame.change)
        score *= 0.01 if shot_frame.is_blank else 1.0
        if score > self.best_score:
            self.best, self.best_score = shot_frame, score


class KeyframeChooser:
    """Turns the frames of a video into picks, online.

    Args:
        settings: spacing and bounds.
        duration_s: length of the video if known, else 0; a short one gets picks closer together.
        warn: told once when :attr:`VisualSettings.max_keyframes` makes picks sparser.
    """

    def __init__(
        self, settings: VisualSettings, duration_s: float, warn: Callable[[str], None]
    ) -> None:
        every_s = settings.keyframe_every_s
        if 0 < duration_s < _SHORT_SHARE * every_s:
            every_s = max(settings.min_shot_s, duration_s / _SHORT_SHARE)
        self._every_s = every_s
        self._duration_s = duration_s
        self._max = settings.max_keyframes
        self._warn = warn
        self._n_picks = 0
        self._last: SampledFrame | None = None
        self._window: _Window | None = None

    def choose(self, shot_frames: Iterable[ShotFrame]) -> Iterator[Pick]:
        """Yield picks in order of time; their stretches cover the video without gaps."""
        last_s = closed_s = 0.0
        for shot_frame in shot_frames:
            time_s = shot_frame.frame.time_s
            window = self._window
            crowded = window is not None and time_s - window.start_s < self._pace_s(time_s)
            if shot_frame.starts_shot and not crowded:
                yield from self._close(time_s)
                window = self._open(time_s, starts_shot=True)
            elif window is None:
                window = self._open(closed_s, starts_shot=False)
            elif time_s - window.start_s >= self._spacing_s(time_s):
                yield from self._close(time_s)
                window = self._open(time_s, starts_shot=False)
            window.offer(shot_frame)
            if self._rests(window, shot_frame):
                window.best = shot_frame
                yield from self._close(time_s)
                self._window, closed_s = None, time_s
            last_s = time_s
        yield from self._close(max(last_s, self._duration_s))

    def _open(self, time_s: float, *, starts_shot: bool) -> _Window:
        self._window = _Window(time_s, starts_shot)
        return self._window

    def _close(self, end_s: float) -> Iterator[Pick]:
        window = self._window
        if window is None or window.best is None:
            return
        if self._n_picks >= self._max:
            return
        best = window.best
        self._n_picks += 1
        self._last = best.frame
        yield Pick(
            best.frame,
            window.start_s,
            end_s,
            window.starts_shot,
            best.is_blank,
            tuple(window.samples),
        )

    def _rests(self, window: _Window, shot_frame: ShotFrame) -> bool:
        """Whether the picture has been all but still for a while and shows something new."""
        time_s, small = shot_frame.frame.time_s, shot_frame.frame.small
        earlier = [s for s in window.samples if s.time_s <= time_s - _REST_S]
        early = time_s - window.start_s < self._gap_s(time_s)
        if early or not earlier or shot_frame.is_blank:
            return False
        if changed_share(earlier[-1].small, small) > _REST_CHANGE:
            return False
        before = self._last.small if self._last is not None else None
        return before is None or changed_share(before, small) > self._novelty(window, small)

    def _novelty(self, window: _Window, small: NDArray[np.uint8]) -> float:
        """Least change for a pick: more where things keep moving, so that slow motion is none."""
        moving = changed_share(window.samples[-2].small, small)
        return max(_MIN_CHANGED, 5 * moving, _REST_NOVELTY * (moving > 0))

    def _gap_s(self, time_s: float) -> float:
        return max(_PICK_GAP_S, self._pace_s(time_s))

    def _spacing_s(self, time_s: float) -> float:
        return max(self._every_s, self._pace_s(time_s))

    def _pace_s(self, time_s: float) -> float:
        """Seconds between picks that the remaining allowance lasts for; 0 while it is ample."""
        if self._n_picks < self._max // 2:
            return 0.0
        if self._n_picks == self._max // 2:
            self._warn(
                f"long or busy video: keyframes are spread thinner to stay below {self._max}"
            )
            self._n_picks += 1
        return max(0.0, self._duration_s - time_s) / max(1, self._max - self._n_picks)


def keyframes(
    picks: Iterable[Pick], near_duplicate: float = NEAR_DUPLICATE
) -> tuple[Keyframe, ...]:
    """The picks as keyframes: near-duplicates, which differ in less than that share of their
    blocks, give their time to the one they repeat; blank ones go unless nothing else is there."""
    kept: list[tuple[Pick, float]] = []
    every = list(picks)
    for pick in [p for p in every if not p.is_blank] or every[:1]:
        for at, (earlier, _) in enumerate(kept):
            if changed_share(earlier.frame.small, pick.frame.small) < near_duplicate:
                kept[at] = (earlier, pick.end_s)
                break
        else:
            kept.append((pick, pick.end_s))
    return tuple(
        Keyframe(p.frame.time_s, p.start_s, end_s, p.frame.rgb_within(KEYFRAME_SIDE_PX))
        for p, end_s in kept
    )
