"""What a search runs over: segments that hold every video of the index, sealed or still to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.kernels.base import Kernels
from mmretrieve.storage.codes import Segment, tail_segment
from mmretrieve.storage.folder import Manifest


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


def load(
    folder: Path, manifest: Manifest, passages: Any, revisions: Sequence[str], kernels: Kernels
) -> Searchable:
    """Open what is sealed, and read the rest from the tables. ``revisions``: of the snapshot's videos in
    their order."""
    tail = tail_segment(passages, list(revisions), manifest, kernels)
    number = {r: i for i, r in enumerate(revisions)}
    video = np.array([number[r.decode()] for r in tail.revision], np.int32)
    return Searchable((LiveSegment(tail, video),), tail, tail, ())
