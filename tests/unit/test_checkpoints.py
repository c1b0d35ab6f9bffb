"""When a long run brings what is derived up to date."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmretrieve.checkpoints import GROWTH, LEAST_S, Checkpoints
from mmretrieve.storage.nulls import NEAR, put_nulls


class _Run:
    """Commits of 100 tokens, ``every_s`` after one another."""

    def __init__(self, folder: Path, every_s: float, already: int = 0) -> None:
        self.folder, self.every_s = folder, every_s
        self.now_s, self.total, self.taken = 0.0, already, list[int]()
        put_nulls(folder, 1, already, {})
        self.checkpoints = Checkpoints(folder, self.take, lambda: self.now_s)

    def take(self) -> Sequence[str]:
        put_nulls(self.folder, 2, self.total, {})
        self.taken.append(self.total)
        return ("told",)

    def commit(self) -> tuple[str, ...]:
        self.now_s += self.every_s
        self.total += 100
        return self.checkpoints.committed(100)


def test_checkpoints_grow_with_the_logarithm_of_the_index(tmp_path: Path) -> None:
    run = _Run(tmp_path, LEAST_S)
    told = [run.commit() for _ in range(1_000)]
    assert run.taken[0] == 100
    assert 12 < len(run.taken) < 24
    assert sum(len(notes) for notes in told) == len(run.taken)
    for before, after in zip(run.taken, run.taken[1:], strict=False):
        assert before * (1 + GROWTH) < after <= max(before * (1 + GROWTH) + 100, before + 100)
        assert after <= NEAR * before, "between them every state is near the one before"


def test_a_run_that_is_soon_over_has_none(tmp_path: Path) -> None:
    run = _Run(tmp_path, LEAST_S / 100)
    for _ in range(99):
        assert run.commit() == ()
    assert run.taken == []
    for _ in range(2):
        run.commit()
    assert len(run.taken) == 1


def test_little_that_is_new_in_a_large_index_is_none_either(tmp_path: Path) -> None:
    run = _Run(tmp_path, LEAST_S, already=100_000)
    for _ in range(500):
        run.commit()
    assert run.taken == []
    run.commit()
    assert run.taken == [150_100]
