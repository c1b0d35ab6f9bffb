"""How many candidates are scored exactly."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmretrieve.search.exact import Chosen
from mmretrieve.search.pool import Found, Pool, pool_of
from mmretrieve.search.stages import Candidates, Path
from mmretrieve.storage.codes.cells import _all_finite
from mmretrieve.storage.codes.segment import SegmentKind


def found(scores: list[float], kind: SegmentKind, first: int = 0) -> Found:
    """Documents ``first``, ``first + 1``, ... with these scores, of a segment of that kind."""
    numbers = np.arange(first, first + len(scores))
    live: Any = SimpleNamespace(segment=SimpleNamespace(kind=kind))
    nothing: Any = None
    candidates = Candidates(numbers, np.array(scores, np.float32), Path.CENTROIDS)
    return Found(Chosen(live, nothing, numbers), candidates)


def coded(scores: list[float]) -> Pool:
    return pool_of([found(scores, SegmentKind.CODED)], len(scores))


def test_candidates_of_all_segments_come_best_first() -> None:
    one = found([3.0, 1.0, 5.0], SegmentKind.CODED)
    other = found([4.0, 2.0], SegmentKind.EXACT, first=7)
    pool = pool_of([one, other], 4)
    assert pool.number.tolist() == [2, 7, 0, 8]
    assert pool.coded.tolist() == [True, False, True, False]
    chosen, place = pool.slice(0, 3)
    assert [c.numbers.tolist() for c in chosen] == [[2, 0], [7]]
    assert place.tolist() == [0, 2, 1]
    assert pool.coarse[place].tolist() == [5.0, 3.0, 4.0]


def test_reading_ends_when_the_next_cannot_be_among_the_best() -> None:
    near = coded([10.0, 9.0, 8.0, 7.95])
    far = coded([10.0, 9.0, 8.0, 2.0])
    place = np.arange(3)
    exact = np.array([9.9, 9.1, 8.0], np.float32)  # errors of 0.1: 0.08 in the standard deviation
    assert not near.settled(place, exact, 3, 2.5)
    assert far.settled(place, exact, 3, 2.5)
    assert near.settled(place, exact, 2, 2.5)  # 9.1 is out of reach for it


def test_a_wider_margin_reads_on() -> None:
    pool = coded([10.0, 9.0, 8.0, 7.5])
    exact = np.array([9.7, 9.3, 8.0], np.float32)
    assert pool.settled(np.arange(3), exact, 3, 1.0)
    assert not pool.settled(np.arange(3), exact, 3, 3.0)


def test_all_are_read_where_too_few_can_be_scored() -> None:
    pool = coded([4.0, 3.0, 2.0, 1.0])
    exact = np.array([4.0, -np.inf, 2.0], np.float32)
    assert not pool.settled(np.arange(3), exact, 3, 2.5)
    assert pool.settled(np.arange(4), np.array([4.0, -np.inf, 2.0, -np.inf], np.float32), 3, 2.5)


def test_each_kind_of_segment_is_judged_by_its_own_errors() -> None:
    """Eight bits are nearly exact; two-bit residuals promise half a point too much."""
    eight_bits = found([10.0 - 0.2 * i for i in range(10)], SegmentKind.EXACT)
    two_bits = found([9.0 - 0.2 * i for i in range(10)], SegmentKind.CODED, first=20)
    pool = pool_of([eight_bits, two_bits], 20)
    n_read = 18
    exact = pool.coarse[:n_read] - np.where(pool.coded[:n_read], 0.5, 0.0).astype(np.float32)
    least = np.sort(exact)[-10]
    rest = pool.coarse[n_read:]
    assert rest.max() - 0.5 < least
    assert pool.settled(np.arange(n_read), exact, 10, 2.5)


def test_an_empty_pool_is_settled() -> None:
    nothing: list[Found] = []
    pool = pool_of(nothing, 10)
    assert pool.settled(np.empty(0, np.int64), np.empty(0, np.float32), 10, 2.5)
    assert pool.slice(0, 5)[0] == []


@pytest.mark.parametrize("start", range(0, 1 << 16, 1 << 12))
def test_bits_tell_what_is_finite(start: int) -> None:
    """For every value that float16 has."""
    values = np.arange(start, start + (1 << 12), dtype=np.uint16).view(np.float16)
    each = [_all_finite(values[i : i + 1]) for i in range(len(values))]
    np.testing.assert_array_equal(each, np.isfinite(values))
    assert _all_finite(values) == bool(np.isfinite(values).all())
