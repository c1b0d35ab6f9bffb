"""The last candidates of all segments, and how many of them have to be scored exactly.

Codes rank nearly as vectors do. The documents that were scored both ways tell how far codes are off for
this query; reading goes on while the next document could still be among the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.kernels.arrays import Floats
from mmretrieve.kernels.base import Numbers
from mmretrieve.search.exact import Chosen
from mmretrieve.search.stages import Candidates
from mmretrieve.storage.codes.segment import SegmentKind

_ENOUGH = 8
"""Documents of one kind of segment that tell how far its scores are off; with fewer, all do."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one segment contributes: ``chosen.numbers`` are those of ``candidates``."""

    chosen: Chosen
    candidates: Candidates


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates, best first: ``part`` indexes ``found``, ``number`` its documents; ``coarse`` the scores
    of its last stage, ``coded`` whether these come from two-bit residuals."""

    found: tuple[Found, ...]
    part: NDArray[np.int64]
    number: Numbers
    coarse: Floats
    coded: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.part)

    def slice(self, start: int, stop: int) -> tuple[list[Chosen], NDArray[np.int64]]:
        """Candidates ``start:stop`` by segment, and their places in the pool in that order."""
        place = np.arange(start, min(stop, len(self)))
        place = place[np.argsort(self.part[place], kind="stable")]
        chosen = []
        for p, one in enumerate(self.found):
            mine = self.number[place[self.part[place] == p]]
            chosen.append(Chosen(one.chosen.live, one.chosen.selection, mine))
        return chosen, place

    def settled(self, place: NDArray[np.int64], exact: Floats, n: int, margin: float) -> bool:
        """Whether the best ``n`` are known after candidates ``place`` (in the order of ``exact``, the first
        ``len(place)`` of the pool) were scored exactly, but for errors of more than ``margin`` standard
        deviations."""
        left = np.arange(len(place), len(self))
        if not len(left):
            return True
        usable = np.isfinite(exact)
        if np.count_nonzero(usable) < n:
            return False
        least = np.partition(exact[usable], -n)[-n]
        off, kind = (exact - self.coarse[place])[usable], self.coded[place][usable]
        for coded in (False, True):
            rest = self.coarse[left[self.coded[left] == coded]]
            mine = off[kind == coded] if np.count_nonzero(kind == coded) >= _ENOUGH else off
            if len(rest) and rest[0] + mine.mean() + margin * mine.std() > least:
                return False
        return True


def pool_of(found: Sequence[Found], n: int) -> Pool:
    """The best ``n`` candidates of all segments."""
    sizes = [len(one.candidates.numbers) for one in found]
    kinds = [one.chosen.live.segment.kind is SegmentKind.CODED for one in found]
    number = np.concatenate([np.empty(0, np.int64), *(one.candidates.numbers for one in found)])
    coarse = np.concatenate([np.empty(0, np.float32), *(one.candidates.scores for one in found)])
    part = np.repeat(np.arange(len(found)), sizes)
    coded = np.repeat(np.array(kinds, bool), sizes)
    best = np.argsort(-coarse, kind="stable")[:n]
    return Pool(tuple(found), part[best], number[best], coarse[best], coded[best])
