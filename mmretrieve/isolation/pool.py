"""Workers for a run: as many as files are read at once, each used for many files."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmretrieve.errors import SetupError, StoppedError, UsageError
from mmretrieve.indexers.reading import EVERYTHING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmretrieve.config import Settings
    from mmretrieve.datatypes import Probe, Sound
    from mmretrieve.indexers.hearing import Span
    from mmretrieve.indexers.reading import Listener, Reading, Wanted
    from mmretrieve.indexers.warn import Warn
    from mmretrieve.isolation.process import Worker

_FILES_A_WORKER = 500
"""What libraries leak stays bounded: a worker that read so many files gives way to a new one."""


class IsolatedReader:
    """A :class:`mmretrieve.indexers.reading.Reader` whose work is done by processes of their own; may
    be shared by threads.

    A worker that dies, hangs or takes too much memory over a file costs that file alone.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closed = False
        self.n_lost = 0
        """Workers that died or had to be killed."""
        self.peak_bytes = 0
        """The most memory that a worker took, where the system tells."""

    def warm_up(self, n_workers: int) -> None:
        """Start workers that will be needed, without waiting for them.

        Raises:
            SetupError: a process cannot be started.
        """
        for _ in range(max(0, n_workers - len(self._idle) - len(self._busy))):
            worker = self._new()
            with self._lock:
                self._idle.append(worker)

    def read(self, path: Path, listener: Listener, wanted: Wanted = EVERYTHING) -> Reading:
        """See :class:`mmretrieve.indexers.reading.Reader`.

        Raises:
            InputError: also if a bound was reached or the worker died.
            SetupError: also if no worker can be started.
        """
        with self._started() as worker:
            return worker.read(path, listener, wanted)

    def hear(
        self, path: Path, probe: Probe, spans: Sequence[Span], warn: Warn
    ) -> Iterator[Sound | None]:
        """See :class:`mmretrieve.indexers.reading.Reader`. A worker is busy with it until the end, or until
        the iterator is closed.

        Raises:
            InputError: also if a bound was reached or the worker died.
            SetupError: also if no worker can be started.
        """
        with self._started() as worker:
            yield from worker.hear(path, probe, spans, warn)

    def picture(self, path: Path) -> NDArray[np.uint8]:
        """A picture ``(height, width, 3)`` uint8 RGB as displayed.

        Raises:
            InputError: it cannot be read, a bound was reached or the worker died.
            SetupError: no worker can be started.
        """
        with self._started() as worker:
            return worker.picture(path)

    @contextlib.contextmanager
    def _started(self) -> Iterator[Worker]:
        """A worker that can read. One that is killed before it saw any file, which is neither the fault of
        a file nor of the installation, is replaced once.

        Raises:
            SetupError: it does not start.
        """
        with contextlib.ExitStack() as held:
            worker = held.enter_context(self._borrowed())
            try:
                worker.await_ready()
            except SetupError:
                if not worker.was_killed():
                    raise
                held.close()
                worker = held.enter_context(self._borrowed())
            yield worker

    def close(self) -> None:
        """Kill all workers; who waits for one gets an error at once."""
        with self._lock:
            self._closed = True
            idle, busy = list(self._idle), list(self._busy)
            self._idle.clear()
        for worker in busy:
            worker.kill()  # closed by the thread that uses it
        for worker in idle:
            worker.close()

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[Worker]:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or self._new()
        with self._lock:
            self._busy.add(worker)
            if self._closed:
                worker.kill()
        try:
            if not worker.is_alive() and self._closed:
                raise StoppedError("the run was stopped")
            yield worker
        finally:
            self._give_back(worker)

    def _give_back(self, worker: Worker) -> None:
        peak = worker.peak_bytes()
        with self._lock:
            self._busy.discard(worker)
            self.peak_bytes = max(self.peak_bytes, peak)
            self.n_lost += not self._closed and not worker.is_alive()
            keep = not self._closed and worker.is_alive() and worker.n_files < _FILES_A_WORKER
            if keep:
                self._idle.append(worker)
        if not keep:
            worker.close()

    def _new(self) -> Worker:
        from mmretrieve.isolation.process import Worker

        self._check()
        return Worker(self._settings)

    def _check(self) -> None:
        limits = self._settings.limits
        if min(limits.memory_mb, limits.time_floor_s, limits.time_factor, limits.time_cap_s) <= 0:
            raise UsageError(
                f"[limits] of the settings must be above zero, got memory_mb = {limits.memory_mb}, "
                f"time_floor_s = {limits.time_floor_s}, time_factor = {limits.time_factor}, "
                f"time_cap_s = {limits.time_cap_s}"
            )
