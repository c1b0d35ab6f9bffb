"""When tables are compacted, and what is told when that fails."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from mmretrieve.storage import upkeep
from mmretrieve.storage.upkeep import Fragment, UpkeepLimits, due, portion

LIMITS = UpkeepLimits(fan_in=4, dead_share=0.25)


def whole(*rows: int) -> list[Fragment]:
    return [Fragment(n, 0) for n in rows]


def test_fragments_of_a_size_are_merged_when_there_are_enough() -> None:
    assert due(whole(1, 1, 1), LIMITS) is None
    assert due(whole(1, 2, 3, 1), LIMITS) == 4
    assert due(whole(100, 1, 1, 1), LIMITS) is None
    assert due(whole(5, 7, 9, 15, 1, 100), LIMITS) == 16
    assert due([], LIMITS) is None


def test_a_merge_touches_a_part_of_a_table_only() -> None:
    assert due(whole(*[20] * 5), LIMITS) is None
    assert due(whole(*[20] * 5, 10, 10, 10, 10), LIMITS) == 16
    assert due(whole(*[5] * 8), LIMITS) is None, "each is an eighth"


def test_merges_are_done_as_room_allows() -> None:
    limits, live, small = UpkeepLimits(waste=1.5), 10 << 20, upkeep._SMALL_BYTES
    mib = 1 << 20
    assert portion([2 * mib, 2 * mib, 2 * mib], live, 0, limits) == 2
    assert portion([2 * mib, 2 * mib], live, 4 * mib, limits) == 0
    assert portion([20 * mib, 1], live, small, limits) == 1, "else it would never be done"
    assert portion([20 * mib, 1], live, 4 * mib, limits) == 0
    assert portion([], live, 0, limits) == 0


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


def test_a_merge_waits_for_readers_of_what_it_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is let go of: half a table more is all that merges may take, and rows are left as they are."""
    monkeypatch.setattr(upkeep, "KEEP_AT_LEAST", timedelta(minutes=1))
    place, limits = tmp_path / "lance" / "videos.lance", UpkeepLimits(fan_in=4)
    rng = np.random.default_rng(0)
    for n in range(0, 160, 10):
        rows = pa.table(
            {"n": np.arange(n, n + 10), "picture": [rng.bytes(8_192) for _ in range(10)]}
        )
        lance.write_dataset(rows, place, mode="append", enable_stable_row_ids=True)
    before = lance.dataset(place).to_table(with_row_id=True)
    sizes = []
    for _ in range(8):
        upkeep._tend(tmp_path, "videos", limits)
        sizes.append(upkeep._size(place))
    needed = 160 * 8_192
    assert 1.1 * needed < sizes[0] < 1.6 * needed + upkeep._SMALL_BYTES
    assert len(set(sizes)) < 8 and sizes[-1] < 1.6 * needed + upkeep._SMALL_BYTES
    monkeypatch.setattr(upkeep, "KEEP_AT_LEAST", timedelta(0))
    for _ in range(8):
        upkeep._tend(tmp_path, "videos", limits)
    merged = lance.dataset(place)
    assert len(merged.get_fragments()) <= 8
    assert upkeep._size(place) < limits.waste * needed + upkeep._SMALL_BYTES
    assert merged.to_table(with_row_id=True).sort_by("n").equals(before)
