"""Turns between threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmretrieve.lifecycle.turns import Turns

WAIT_S = 10


def test_one_key_is_held_by_one_thread_and_others_go_on() -> None:
    turns, started, may_end, order = Turns(), threading.Event(), threading.Event(), []

    def first() -> None:
        with turns.of("a"):
            started.set()
            assert may_end.wait(WAIT_S)
            order.append("first")

    def second() -> None:
        with turns.of("a"):
            order.append("second")

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(first)]
        assert started.wait(WAIT_S)
        jobs.append(pool.submit(second))
        with turns.of("b"):
            order.append("other")
        may_end.set()
        for job in jobs:
            job.result(WAIT_S)
    assert order == ["other", "first", "second"]


def test_a_turn_ends_with_an_error_and_is_forgotten() -> None:
    turns = Turns()
    with pytest.raises(OSError, match="gone"), turns.of(1):
        raise OSError("gone")
    with turns.of(1):
        assert turns.held == {1}
    assert not turns.held
