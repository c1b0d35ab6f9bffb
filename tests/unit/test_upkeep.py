"""When tables are compacted, and what is told when that fails."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
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


def test_what_is_old_goes_before_a_merge_writes_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a table takes the room of its old versions and of its new one at once."""
    monkeypatch.setattr(upkeep, "KEEP_AT_LEAST", timedelta(0))
    place = tmp_path / "lance" / "videos.lance"
    rng = np.random.default_rng(0)

    def rows(n: int) -> pa.Table:
        return pa.table({"n": np.arange(n), "picture": [rng.bytes(4_096) for _ in range(n)]})

    table = lance.write_dataset(rows(400), place)
    for _ in range(3):
        table.delete("n < 110")
        table = lance.write_dataset(rows(110), place, mode="append")
    sizes: list[int] = []
    let_go = upkeep._let_go

    def watched(folder: Path, name: str, limits: UpkeepLimits, coming: int = 0) -> None:
        before = upkeep._size(place)
        let_go(folder, name, limits, coming)
        sizes.extend((before, upkeep._size(place)))

    monkeypatch.setattr(upkeep, "_let_go", watched)
    upkeep._tend(tmp_path, "videos", UpkeepLimits())
    before, without_old, with_merged, last = sizes
    needed = 400 * 4_096
    assert before > 1.7 * needed
    assert without_old < 1.4 * needed
    assert with_merged < 2.5 * needed
    assert last < 1.2 * needed
    assert lance.dataset(place).count_rows() == 400
