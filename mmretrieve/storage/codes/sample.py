"""The documents that stand for chance: evenly spread over the index in the order of (video id,
passage), whatever segments they lie in and in whatever order these are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.storage.codes.build import Source, write_segment
from mmretrieve.storage.codes.cells import Keys
from mmretrieve.storage.codes.files import MemorySink, Sink
from mmretrieve.storage.codes.segment import NO_BOOKS, Segment, segment_of


@dataclass(frozen=True, slots=True)
class SampleSize:
    """At most ``most`` documents; half as many, and half of that, while they have more than
    ``n_tokens`` tokens, but not less than ``fewest``."""

    most: int
    fewest: int
    n_tokens: int


PASSAGES = SampleSize(1024, 128, 1 << 15)
VIDEOS = SampleSize(256, 8, 1 << 16)


@dataclass(frozen=True, slots=True)
class Part:
    """A segment, and which of its videos are alive, ``(n_videos,)`` bool."""

    segment: Segment
    alive: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Samples:
    """Exact segments in which every video is one document: a passage with its video's metadata, or
    a whole video. ``revision`` says of which video; one may occur several times."""

    passages: Segment
    videos: Segment


@dataclass(frozen=True, slots=True)
class Picks:
    """A document each: the cells ``cells[i]`` of part ``part[i]``."""

    part: tuple[int, ...]
    cells: tuple[NDArray[np.int64], ...]


def draw(source: Source, parts: Sequence[Part], ids: Mapping[str, str]) -> Samples:
    """Samples in memory of what is alive; ``ids`` maps a revision to its video id.

    Raises:
        IndexFormatError: the table does not hold what it should.
    """
    found = []
    for name, picks in (
        ("passages", pick_passages(parts, ids, PASSAGES)),
        ("videos", pick_videos(parts, ids, VIDEOS)),
    ):
        sink = MemorySink()
        write_sample(source, parts, picks, sink)
        found.append(segment_of(f"sample of {name}", sink.arrays(), NO_BOOKS))
    return Samples(*found)


def write_sample(source: Source, parts: Sequence[Part], picks: Picks, sink: Sink) -> None:
    """Append the arrays of a segment of these documents."""
    write_segment(source, _keys(parts, picks), sink)
    sink.append("without_rows", np.empty(0, "S1"))


def pick_passages(parts: Sequence[Part], ids: Mapping[str, str], size: SampleSize) -> Picks:
    """Passages, each with its video's metadata; of a video that has nothing else, the metadata."""
    videos = _videos(parts, ids)
    counts = [_n_documents(part.segment) for part in parts]
    ends = np.cumsum([counts[p][v] for p, v in videos], dtype=np.int64)

    def picked(chosen: NDArray[np.int64]) -> Picks:
        part, cells = [], []
        owner = np.searchsorted(ends, chosen, side="right")
        for i, number in zip(owner.tolist(), chosen.tolist(), strict=True):
            p, v = videos[i]
            part.append(p)
            cells.append(_cells(parts[p].segment, v, int(ends[i]) - number))
        return Picks(tuple(part), tuple(cells))

    return _spread(parts, int(ends[-1]) if len(ends) else 0, picked, size)


def pick_videos(parts: Sequence[Part], ids: Mapping[str, str], size: SampleSize) -> Picks:
    """Whole videos."""
    videos = _videos(parts, ids)

    def picked(chosen: NDArray[np.int64]) -> Picks:
        part, cells = [], []
        for p, v in (videos[i] for i in chosen.tolist()):
            layout = parts[p].segment.layout
            part.append(p)
            cells.append(np.arange(*layout.passages[layout.videos[v : v + 2]]))
        return Picks(tuple(part), tuple(cells))

    return _spread(parts, len(videos), picked, size)


def _videos(parts: Sequence[Part], ids: Mapping[str, str]) -> list[tuple[int, int]]:
    """(part, video) of what is alive, in the order of video ids."""

    def alive() -> Iterator[tuple[str, int, int]]:
        for p, part in enumerate(parts):
            for v in np.flatnonzero(part.alive).tolist():
                yield ids[part.segment.revision[v].decode()], p, v

    return [(p, v) for _, p, v in sorted(alive())]


def _n_documents(segment: Segment) -> NDArray[np.int64]:
    """``(n_videos,)``: timed passages, or one where there is metadata alone."""
    layout = segment.layout
    n_passages = np.diff(layout.videos)
    found: NDArray[np.int64] = n_passages - (
        (layout.timeless[layout.videos[:-1]] == 1) & (n_passages > 1)
    )
    return found


def _cells(segment: Segment, video: int, from_end: int) -> NDArray[np.int64]:
    """Cells of a document: the ``from_end``-th passage of a video counted from its last one, and the
    metadata."""
    layout = segment.layout
    first, last = layout.videos[video : video + 2].tolist()
    passage = last - from_end
    own = np.arange(*layout.passages[passage : passage + 2])
    if passage == first or not layout.timeless[first]:
        return own
    return np.concatenate([np.arange(*layout.passages[first : first + 2]), own])


def evenly(
    n_documents: int, n_tokens: Callable[[NDArray[np.int64]], int], size: SampleSize
) -> NDArray[np.int64]:
    """Numbers of evenly spread documents, as many as ``size`` allows; ``n_tokens`` counts the tokens of
    some."""
    n = size.most
    while True:
        even = np.linspace(0, n_documents - 1, min(n, n_documents)).astype(np.int64)
        if n // 2 < size.fewest or n_tokens(even) <= size.n_tokens:
            return even
        n //= 2


def _spread(
    parts: Sequence[Part],
    n_documents: int,
    picked: Callable[[NDArray[np.int64]], Picks],
    size: SampleSize,
) -> Picks:
    def n_tokens(chosen: NDArray[np.int64]) -> int:
        found = picked(chosen)
        return sum(
            int(parts[p].segment.layout.count[cells].sum())
            for p, cells in zip(found.part, found.cells, strict=True)
        )

    return picked(evenly(n_documents, n_tokens, size))


def _keys(parts: Sequence[Part], picks: Picks) -> Keys:
    columns: dict[str, list[NDArray[np.generic]]] = {
        name: [np.empty(0, kind)]
        for name, kind in (
            ("passage", np.int32),
            ("modality", np.uint8),
            ("start_s", np.float64),
            ("end_s", np.float64),
            ("row", np.uint64),
        )
    }
    revision = []
    for p, cells in zip(picks.part, picks.cells, strict=True):
        segment = parts[p].segment
        passage = np.searchsorted(segment.layout.passages, cells, side="right") - 1
        video = int(np.searchsorted(segment.layout.videos, passage[0], side="right")) - 1
        revision.append(segment.revision[video])
        columns["passage"].append(segment.number[passage])
        columns["modality"].append(segment.layout.modality[cells])
        columns["start_s"].append(segment.start_s[passage])
        columns["end_s"].append(segment.end_s[passage])
        columns["row"].append(segment.row[cells])
    sizes = [len(cells) for cells in picks.cells]
    joined = {name: np.concatenate(parts_) for name, parts_ in columns.items()}
    video_of = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return Keys(np.array(revision, np.bytes_), video_of, **joined)
