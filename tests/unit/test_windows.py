from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmretrieve.config import PassageSettings
from mmretrieve.datatypes import Segment
from mmretrieve.indexers.captions import MAX_CHARS, MAX_CHARS_A_MINUTE, bounded
from mmretrieve.indexers.windows import Window, distribute, extend

_TIMES = st.integers(0, 40).map(lambda n: n / 2)


@st.composite
def _windows(draw: st.DrawFn) -> list[Window]:
    starts = sorted(draw(st.lists(_TIMES, min_size=1, max_size=8)))
    return [Window(i, s, s + draw(_TIMES)) for i, s in enumerate(starts)]


@given(_windows(), st.lists(st.tuples(_TIMES, _TIMES), max_size=8))
def test_segments_go_to_the_nearest_window_and_of_equals_to_the_first(
    windows: list[Window], spans: list[tuple[float, float]]
) -> None:
    segments = [Segment(str(i), s, s + length) for i, (s, length) in enumerate(spans)]
    expected: dict[int, list[Segment]] = {}
    for segment in segments:
        assert segment.start_s is not None and segment.end_s is not None
        middle = (segment.start_s + segment.end_s) / 2
        home = min(windows, key=lambda w: max(w.start_s - middle, middle - w.end_s, 0.0))
        expected.setdefault(home.number, []).append(segment)
    found = distribute(windows, segments)
    assert found == {number: tuple(mine) for number, mine in expected.items()}


def test_a_hundred_thousand_lines_far_apart_take_no_square_of_steps() -> None:
    segments = [Segment("x", 40.0 * i, 40.0 * i + 1) for i in range(100_000)]
    start = time.process_time()
    windows = extend((), segments, PassageSettings())
    assert len(windows) == len(distribute(windows, segments)) == 100_000
    # A hundred thousand squared would take hours.
    assert time.process_time() - start < 300


def test_lines_beyond_what_can_be_read_are_left_out() -> None:
    crowd = [Segment("word " * 20, 30.0 + i / 1000, 31.0) for i in range(5_000)]
    after = [Segment("after", 61.0, 62.0)]
    kept = list(bounded([*crowd, *after]))
    assert kept[-1] == after[0]
    n_chars = sum(len(s.text) + 1 for s in kept[:-1])
    assert MAX_CHARS_A_MINUTE - 101 < n_chars <= MAX_CHARS_A_MINUTE


def test_all_lines_of_a_video_together_are_bounded() -> None:
    endless = (Segment("x" * 10_000, 60.0 * i, 60.0 * i + 1) for i in range(10**6))
    kept = list(bounded(endless))
    assert sum(len(s.text) for s in kept) == pytest.approx(MAX_CHARS, abs=10_001)


def test_ordinary_lines_are_all_kept() -> None:
    lines = [
        Segment("what somebody says in three seconds", 3.0 * i, 3.0 * i + 3) for i in range(9_000)
    ]
    assert list(bounded(lines)) == lines
