"""Measures of moments: how well a stretch of a video meets the right one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmretrieve.errors import UsageError


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one video, in seconds from its start."""

    video_id: str
    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        """Check the times.

        Raises:
            UsageError: the end is before the start, or a time is NaN.
        """
        if not self.start_s <= self.end_s:
            raise UsageError(f"span {self.start_s}-{self.end_s} s: expected start_s <= end_s")


def temporal_iou(one: Span, other: Span) -> float:
    """Seconds in both / seconds in either; 0 for different videos. Two spans without length have
    an overlap of 1 when they are the same instant."""
    if one.video_id != other.video_id:
        return 0.0
    if one == other:
        return 1.0
    both = max(0.0, min(one.end_s, other.end_s) - max(one.start_s, other.start_s))
    either = (one.end_s - one.start_s) + (other.end_s - other.start_s) - both
    return both / either if either > 0 else 0.0


def success_at_iou(answers: Sequence[Span], truth: Sequence[Span], k: int, least: float) -> float:
    """``R@k, IoU >= least`` of video corpus moment retrieval (Escorcia et al., 2019; Lei et al.,
    2020): 1 if any of the first ``k`` answers meets a true moment with at least that overlap."""
    return float(any(temporal_iou(a, t) >= least for a in answers[:k] for t in truth))


OVERLAPS = (0.3, 0.5, 0.7)
DEPTHS = (1, 5)
NAMES = (*(f"R@{k},IoU>={least}" for k in DEPTHS for least in OVERLAPS), "mIoU")
"""What :func:`moment_values` gives, in its order."""


def moment_values(
    answers: Mapping[str, Sequence[Span]], truth: Mapping[str, Sequence[Span]]
) -> dict[str, tuple[float, ...]]:
    """Query id -> the values of :data:`NAMES`; ``mIoU`` is the overlap of the first answer with the
    true moment that it meets best. A query without answers scores 0."""
    found = {}
    for query_id, right in truth.items():
        given = answers.get(query_id, ())
        reached = [success_at_iou(given, right, k, least) for k in DEPTHS for least in OVERLAPS]
        first = max((temporal_iou(a, t) for a in given[:1] for t in right), default=0.0)
        found[query_id] = (*reached, first)
    return found
