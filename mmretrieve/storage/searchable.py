"""What a search runs over: segments that hold every video of the index, sealed or still to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmretrieve.storage.codes.build import Source, tail_segment
from mmretrieve.storage.codes.reading import open_codes
from mmretrieve.storage.codes.sample import Part, draw
from mmretrieve.storage.codes.segment import Segment


@dataclass(frozen=True, slots=True)
class LiveSegment:
    """A segment, and for each of its videos the number among the snapshot's, -1 for one that the index
    no longer has: ``video`` ``(n_videos,)``."""

    segment: Segment
    video: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Searchable:
    """``segments`` hold every video that has tokens; every video of a sample is one document that chance
    is measured on; ``notes`` say what was wrong with the codes on disk."""

    segments: tuple[LiveSegment, ...]
    sample_passages: Segment | None
    sample_videos: Segment | None
    notes: tuple[str, ...]

    @property
    def n_passages(self) -> int:
        """Passages of all live videos."""
        return sum(
            int(np.diff(live.segment.layout.videos)[live.video >= 0].sum())
            for live in self.segments
        )

    @property
    def description(self) -> str:
        """Kinds of segments with their number and tokens, for people."""
        found: dict[str, list[int]] = {}
        for live in self.segments:
            found.setdefault(live.segment.kind.value, []).append(sum(live.segment.n_tokens))
        told = (f"{len(n)} {kind} ({sum(n):,} tokens)" for kind, n in found.items())
        return ", ".join(told) or "nothing yet"


NOTHING = Searchable((), None, None, ())


def load(folder: Path, source: Source, ids: Mapping[str, str]) -> Searchable:
    """Open what is sealed, and read the rest from the tables. ``ids`` maps the revisions of the
    snapshot's videos, in their order, to video ids."""
    codes = open_codes(folder, source.manifest, ids.keys())
    parts = [Part(s, alive) for s, alive in zip(codes.segments, codes.alive, strict=True)]
    if codes.uncovered:
        tail = tail_segment(source.dataset, codes.uncovered, source.manifest, source.kernels)
        parts.append(Part(tail, np.ones(tail.layout.n_videos, bool)))
    samples = codes.samples or draw(source, parts, ids)
    number = {revision.encode(): i for i, revision in enumerate(ids)}
    live = (LiveSegment(part.segment, _numbers(part, number)) for part in parts)
    return Searchable(
        tuple(one for one in live if (one.video >= 0).any()),
        samples.passages,
        samples.videos,
        codes.notes,
    )


def _numbers(part: Part, number: Mapping[bytes, int]) -> NDArray[np.int32]:
    found = [number.get(revision, -1) for revision in part.segment.revision.tolist()]
    return np.where(part.alive, np.array(found, np.int32), -1).astype(np.int32)
