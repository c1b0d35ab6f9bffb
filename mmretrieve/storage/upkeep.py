"""Keeping the tables small: fragments merged in tiers, deleted rows let go of, old versions removed.

A fragment is rewritten only together with others of its size, so that a row is rewritten a number of
times that grows with the logarithm of its table, however small the commits are; what is large and
whole is left alone. What a merge writes stands beside what it replaces until no reader can hold that, so
that a merge of all at once would double a table: it is done in portions, as room allows. Decided from
numbers alone (:func:`due`, :func:`portion`), so that it can be tested as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from mmretrieve.storage.schema import TABLES
from mmretrieve.storage.tables import open_table, table_exists

KEEP_OLD_VERSIONS = timedelta(minutes=10)
"""Readers that opened the index before a compaction keep their snapshot for this long."""
KEEP_AT_LEAST = timedelta(seconds=5)
"""And for this long where old versions take more room than :class:`UpkeepLimits` allows: a search opens the
newest state when it begins, is over in a fraction of that, and asks again where it was not
(:mod:`mmretrieve.storage.lasting`)."""


_SMALL_BYTES = 1 << 16
"""Waste of a table that is not worth looking at."""


@dataclass(frozen=True, slots=True)
class UpkeepLimits:
    """``fan_in``: fragments of one tier that are merged, each tier holding so many times the rows of the
    one below; ``portions``: a fragment with this part of its table's rows is merged no further;
    ``dead_share``: of a fragment's rows, from which on it is rewritten without them;
    ``versions``: of a table, from which on old ones are looked at; ``waste``: bytes on disk per byte in
    use from which on old versions are kept for :data:`KEEP_AT_LEAST` only, and merges wait."""

    fan_in: int = 16
    portions: int = 8
    dead_share: float = 0.25
    versions: int = 32
    waste: float = 1.5


@dataclass(frozen=True, slots=True)
class Fragment:
    """Rows in a fragment's files, how many of them are deleted, and bytes of the files."""

    n_rows: int
    n_deleted: int
    n_bytes: int = 0

    def is_worn(self, limits: UpkeepLimits) -> bool:
        """Whether so many rows are deleted that it is rewritten without them."""
        return self.n_deleted > limits.dead_share * self.n_rows


def due(fragments: Sequence[Fragment], limits: UpkeepLimits) -> int | None:
    """Rows below which fragments are to be merged now; 0 where only deleted rows are to go; None where
    there is nothing to do."""
    rows = [fragment.n_rows - fragment.n_deleted for fragment in fragments]
    largest = max(sum(rows) // limits.portions, limits.fan_in)
    counts: dict[int, int] = {}
    for n in rows:
        if n < largest:
            tier, most = 0, limits.fan_in
            while n >= most:
                tier, most = tier + 1, most * limits.fan_in
            counts[tier] = counts.get(tier, 0) + 1
    full = [tier for tier, count in counts.items() if count >= limits.fan_in]
    if full:
        return min(int(limits.fan_in ** (1 + max(full))), largest)
    return 0 if any(f.is_worn(limits) for f in fragments) else None


def portion(tasks: Sequence[int], live: int, beside: int, limits: UpkeepLimits) -> int:
    """How many merges, in their order, may be done now. ``tasks``: bytes that each writes; ``live``: bytes
    of the table in use; ``beside``: of old versions on disk. One that is too large by itself is done where
    hardly anything is beside, and the others wait until readers have let go of what is old."""
    room = (limits.waste - 1) * live + _SMALL_BYTES - beside
    done = int(np.searchsorted(np.cumsum(tasks), room, side="right"))
    hardly = beside <= (limits.waste - 1) / 2 * live + _SMALL_BYTES
    return max(done, int(hardly and len(tasks) > 0))


def tend(folder: Path, limits: UpkeepLimits | None = None) -> tuple[str, ...]:
    """Do what is due in all tables of the index in ``folder``. The caller holds the writer's lock.
    What went wrong, if anything: the tables hold all the same, and the next run tries again."""
    limits, notes = limits or UpkeepLimits(), []
    for name in TABLES:
        if not table_exists(folder, name):
            continue
        try:
            _tend(folder, name, limits)
        except (OSError, RuntimeError, ValueError) as error:
            notes.append(
                f"table {name!r} of {folder} could not be compacted ({error}): nothing is lost, it "
                "takes more room than it should; the next run tries again"
            )
    return tuple(notes)


def _tend(folder: Path, name: str, limits: UpkeepLimits) -> None:
    dataset = open_table(folder, name)
    fragments = _fragments(dataset)
    target = due(fragments, limits)
    if target is not None:
        # What a merge writes comes on top: let go of what is old before, so that they do not add up.
        read = [f for f in fragments if f.n_rows < target or f.is_worn(limits)]
        _let_go(folder, name, limits, coming=sum(f.n_bytes for f in read))
        _merge(folder, name, target, limits)
    _let_go(folder, name, limits)


def _merge(folder: Path, name: str, target: int, limits: UpkeepLimits) -> None:
    """Merge into fragments of ``target`` rows, as many as there is room for."""
    from lance.optimize import Compaction, CompactionOptions

    dataset = open_table(folder, name)
    options = CompactionOptions(
        target_rows_per_fragment=max(target, 1),
        materialize_deletions=True,
        materialize_deletions_threshold=limits.dead_share,
        num_threads=1,
    )
    tasks = Compaction.plan(dataset, options).tasks
    sizes = [sum(_n_bytes(fragment) for fragment in task.fragments) for task in tasks]
    live = sum(f.n_bytes for f in _fragments(dataset))
    chosen = tasks[: portion(sizes, live, _size(_place(folder, name)) - live, limits)]
    if chosen:
        Compaction.commit(dataset, [task.execute(dataset) for task in chosen], options)


def _let_go(folder: Path, name: str, limits: UpkeepLimits, coming: int = 0) -> None:
    """Remove old versions where they, and so many bytes to come, take more than they may."""
    dataset, place = open_table(folder, name), _place(folder, name)
    live = sum(f.n_bytes for f in _fragments(dataset))
    wasteful = _size(place) + coming > limits.waste * live + _SMALL_BYTES
    if wasteful or sum(1 for _ in (place / "_versions").iterdir()) >= limits.versions:
        kept = min(KEEP_AT_LEAST, KEEP_OLD_VERSIONS) if wasteful else KEEP_OLD_VERSIONS
        # Nobody else writes while the lock is held: what no version names is left by a crash.
        dataset.cleanup_old_versions(older_than=kept, delete_unverified=True)


def _fragments(dataset: Any) -> list[Fragment]:
    return [
        Fragment(f.physical_rows, f.num_deletions, _n_bytes(f.metadata))
        for f in dataset.get_fragments()
    ]


def _n_bytes(fragment: Any) -> int:
    return sum(file.file_size_bytes or 0 for file in fragment.files)


def _place(folder: Path, name: str) -> Path:
    return folder / "lance" / f"{name}.lance"


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
