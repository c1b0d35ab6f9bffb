"""Telling about a run of indexing while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable

from mmretrieve.reports import FileResult, Progress


class Teller:
    """Counts what is done and under way, and tells about it from the thread that runs the run."""

    def __init__(self, on_progress: Callable[[Progress], None] | None, n_total: int) -> None:
        self._on_progress = on_progress
        self._n_total = n_total
        self._n_done = 0
        self._done_s = 0.0
        self._busy: dict[str, float] = {}
        self._start = time.perf_counter()

    def expect(self, n_more: int) -> None:
        """Further files have turned out to need work."""
        self._n_total += n_more

    def reached(self, path: str) -> Callable[[float], None]:
        """A function that notes the second which the work on a file has reached."""
        self._busy[path] = 0.0
        return lambda second: self._busy.__setitem__(path, second)

    def of(self, result: FileResult | None) -> None:
        """Tell that a file is done, or just where things are."""
        if result is not None:
            self._n_done += 1
            self._done_s += result.duration_s
            self._busy.pop(result.path, None)
        if self._on_progress is None:
            return
        elapsed, busy = time.perf_counter() - self._start, dict(self._busy)
        left = self._n_total - self._n_done
        self._on_progress(
            Progress(
                n_done=self._n_done,
                n_total=self._n_total,
                done_s=self._done_s + sum(busy.values()),
                elapsed_s=elapsed,
                eta_s=elapsed / self._n_done * left if self._n_done else None,
                result=result,
                busy=tuple(busy),
            )
        )
