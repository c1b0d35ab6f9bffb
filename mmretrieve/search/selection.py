"""What may be ranked at all, decided for each segment before any score is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, Filter
from mmretrieve.errors import UsageError
from mmretrieve.kernels.arrays import Bytes, Floats
from mmretrieve.kernels.base import Numbers
from mmretrieve.search.filters import keep_videos
from mmretrieve.search.phrases import rows_with_phrase
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.searchable import LiveSegment


@dataclass(frozen=True, slots=True)
class Selection:
    """What takes part of one segment. ``keep`` ``(n_cells,)`` and ``keep_passages`` ``(n_passages,)`` uint8,
    ``passages`` and ``videos`` ascending numbers of those that have something that takes part; all None where
    everything does. ``n_tokens`` ``(n_modalities,)`` and ``n_videos`` count what takes part."""

    keep: Bytes | None
    keep_passages: Bytes | None
    passages: Numbers | None
    videos: Numbers | None
    n_tokens: NDArray[np.int64]
    n_videos: int


def select(snapshot: Snapshot, wanted: Filter) -> tuple[Selection, ...]:
    """One selection a segment. Modalities are left to the weights. A time range keeps the passages that
    overlap it, a phrase those that hold it in speech or on screen; the metadata of their videos stays.

    Raises:
        UsageError: a condition, time range or phrase that cannot be used.
    """
    _check_range(wanted)
    videos = keep_videos(snapshot, wanted)
    rows = None if wanted.phrase is None else rows_with_phrase(snapshot, wanted.phrase)
    found = []
    for live in snapshot.searchable.segments:
        mine = (live.video >= 0) & (videos[live.video] if len(videos) else False)
        passages = None if mine.all() else np.repeat(mine, np.diff(live.segment.layout.videos))
        if wanted.from_s is not None or wanted.to_s is not None:
            passages = _both(passages, _in_time(live, wanted))
        if rows is not None:
            passages = _both(passages, _with_rows(live, rows))
        found.append(_everything(live) if passages is None else _selection(live, passages))
    return tuple(found)


def n_videos(live: LiveSegment, selection: Selection, weights: Floats) -> int:
    """How many videos have something that takes part in a modality of positive weight."""
    layout = live.segment.layout
    if (weights > 0).all():
        return selection.n_videos
    counts = (weights[layout.modality] > 0) & (layout.count > 0)
    if selection.keep is not None:
        counts &= selection.keep == 1
    first_cells = layout.passages[layout.videos]
    before = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return int(np.count_nonzero(np.diff(before[first_cells])))


def _selection(live: LiveSegment, passages: NDArray[np.bool_]) -> Selection:
    layout = live.segment.layout
    keep = np.repeat(passages, np.diff(layout.passages))
    tokens = np.where(keep, layout.count, 0)
    counts = np.bincount(layout.modality, tokens, len(MODALITIES)).astype(np.int64)
    per_video = np.add.reduceat(passages, layout.videos[:-1], dtype=np.int64)
    videos = np.flatnonzero(per_video)
    return Selection(
        keep.astype(np.uint8),
        passages.astype(np.uint8),
        np.flatnonzero(passages),
        videos,
        counts,
        len(videos),
    )


def _everything(live: LiveSegment) -> Selection:
    counts = np.array(live.segment.n_tokens, np.int64)
    return Selection(None, None, None, None, counts, live.segment.layout.n_videos)


def _both(first: NDArray[np.bool_] | None, second: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return second if first is None else first & second


def _check_range(wanted: Filter) -> None:
    if not wanted.modalities:
        raise UsageError(f"no modality to search in: expected some of {', '.join(MODALITIES)}")
    low, high = _range(wanted)
    if not low <= high:
        raise UsageError(f"time range from {low:g} s to {high:g} s is empty: swap its ends")


def _range(wanted: Filter) -> tuple[float, float]:
    low = 0.0 if wanted.from_s is None else wanted.from_s
    return low, np.inf if wanted.to_s is None else wanted.to_s


def _in_time(live: LiveSegment, wanted: Filter) -> NDArray[np.bool_]:
    low, high = _range(wanted)
    overlaps = (live.segment.start_s <= high) & (live.segment.end_s >= low)
    return overlaps | (_timeless(live) & _beside(live, overlaps, where_alone=True))


def _with_rows(live: LiveSegment, rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Passages with a cell among ``rows``, and the metadata beside them."""
    layout = live.segment.layout
    cells = np.flatnonzero(np.isin(live.segment.row, rows))
    hits = np.zeros(layout.n_passages, bool)
    hits[np.searchsorted(layout.passages, cells, side="right") - 1] = True
    return hits | (_timeless(live) & _beside(live, hits, where_alone=False))


def _timeless(live: LiveSegment) -> NDArray[np.bool_]:
    return np.asarray(live.segment.layout.timeless == 1)


def _beside(live: LiveSegment, passages: NDArray[np.bool_], where_alone: bool) -> NDArray[np.bool_]:
    """``(n_passages,)``: whether the video of each has some of ``passages``, or (``where_alone``) has no
    timed ones at all."""
    layout = live.segment.layout
    if not layout.n_videos:
        return np.zeros(0, bool)
    starts, lengths = layout.videos[:-1], np.diff(layout.videos)
    some = np.add.reduceat(passages, starts, dtype=np.int64) > 0
    if where_alone:
        some |= np.add.reduceat(layout.timeless == 0, starts, dtype=np.int64) == 0
    return np.repeat(some, lengths)
