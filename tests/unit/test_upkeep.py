"""When tables are compacted, and what is told when that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmretrieve.storage import upkeep
from mmretrieve.storage.upkeep import Fragment, UpkeepLimits, due

LIMITS = UpkeepLimits(fan_in=4, dead_share=0.25)


def whole(*rows: int) -> list[Fragment]:
    return [Fragment(n, 0) for n in rows]


def test_fragments_of_a_size_are_merged_when_there_are_enough() -> None:
    assert due(whole(1, 1, 1), LIMITS) is None
    assert due(whole(1, 2, 3, 1), LIMITS) == 4
    assert due(whole(100, 1, 1, 1), LIMITS) is None
    assert due(whole(5, 7, 9, 15, 1), LIMITS) == 16
    assert due([], LIMITS) is None


def test_deleted_rows_go_when_they_are_many() -> None:
    assert due([Fragment(100, 25)], LIMITS) is None
    assert due([Fragment(100, 26)], LIMITS) == 0


def test_a_row_is_rewritten_a_few_times_only() -> None:
    """One row a commit: what compaction writes grows as n log n, not as n squared."""
    fragments: list[int] = []
    written, n = 0, 4_096
    for _ in range(n):
        fragments.append(1)
        target = due(whole(*fragments), LIMITS)
        if target is not None:
            small = [f for f in fragments if f < target]
            fragments = [f for f in fragments if f >= target]
            while small:
                made = 0
                while small and made < target:
                    made += small.pop()
                fragments.append(made)
                written += made
    assert sum(fragments) == n and len(fragments) <= 4 * 7
    assert written <= 6 * n


def test_a_failing_compaction_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "table_exists", lambda folder, name: name == "videos")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(upkeep, "_tend", fails)
    (note,) = upkeep.tend(tmp_path)
    assert "table 'videos'" in note and "No space left on device" in note
