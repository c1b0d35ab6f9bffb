"""Waiting for files that are still being written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmretrieve.errors import InputError
from mmretrieve.indexers.media import probe

_PATIENCE = 10.0
"""An unreadable file that has not changed for so many times the usual wait is no half of a file."""


@dataclass(frozen=True, slots=True)
class _Held:
    size_bytes: int
    mtime_ns: int
    since_s: float


class Settler:
    """Holds back files until their size and time of change have stood still for ``settle_s`` seconds and
    their container can be read. A file that never can be is let go in the end, and fails as such.

    Args:
        settle_s: how long nothing may change.
        on_held: told once of each file that is waited for.
        clock: seconds of any origin.
    """

    def __init__(
        self,
        settle_s: float,
        on_held: Callable[[Path], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settle_s = settle_s
        self._on_held = on_held
        self._clock = clock
        self._held: dict[Path, _Held] = {}
        self._told: set[Path] = set()
        self._asked: set[Path] = set()

    def begin(self) -> None:
        """A round of questions begins; files that nobody asks for in it are forgotten."""
        self._asked = set()

    def end(self) -> None:
        """The round is over."""
        self._held = {path: held for path, held in self._held.items() if path in self._asked}
        self._told &= self._held.keys()

    @property
    def waiting(self) -> tuple[Path, ...]:
        """Files that are held back."""
        return tuple(sorted(self._held))

    def hold(self, path: Path) -> bool:
        """Whether a file is to be left alone for now."""
        try:
            facts = path.stat()
        except OSError:
            return True  # gone again; the next round knows
        self._asked.add(path)
        now_s, state = self._clock(), (facts.st_size, facts.st_mtime_ns)
        before = self._held.get(path)
        if before is None or (before.size_bytes, before.mtime_ns) != state:
            # A file that was finished long ago need not be waited for.
            age_s = time.time() - facts.st_mtime
            since_s = now_s - self._settle_s if before is None and age_s > _PATIENCE else now_s
            before = self._held[path] = _Held(*state, since_s)
        still_s = now_s - before.since_s
        long = still_s >= _PATIENCE * self._settle_s
        if still_s >= self._settle_s and (long or _is_readable(path)):
            self._held.pop(path, None)
            return False
        if path not in self._told:
            self._told.add(path)
            self._on_held(path)
        return True


def _is_readable(path: Path) -> bool:
    try:
        probe(path)
    except InputError:
        return False
    return True
