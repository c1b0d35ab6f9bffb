"""An index that follows its folders."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmretrieve.engine import Engine
from mmretrieve.errors import IndexLockedError, InputError, UsageError
from mmretrieve.lifecycle.interrupts import orderly_interrupts
from mmretrieve.lifecycle.settling import Settler
from mmretrieve.lifecycle.signals import Bell, concern
from mmretrieve.reports import IndexReport, Progress

LOCKED_RETRY_S = 2.0
FALLBACK_POLL_S = 10.0


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """``settle_s``: how long a file must stand still; ``quiet_s``: how long a burst of changes must have
    ended; ``poll_s``: look so often instead of being told by the system, which cannot tell of changes
    on network mounts."""

    exclude: tuple[str, ...] = ()
    prune: bool = False
    settle_s: float = 3.0
    quiet_s: float = 0.5
    poll_s: float | None = None


class Watch:
    """Indexes what changes below ``roots`` until it is stopped.

    The writer's lock is taken only while there is something to write; another writer just makes it wait.

    Args:
        engine: the index.
        roots: folders.
        options: see :class:`WatchOptions`.
        say: told one line at a time what goes on.
        on_progress: as for :meth:`Engine.index`.
    """

    def __init__(
        self,
        engine: Engine,
        roots: Sequence[Path],
        options: WatchOptions,
        say: Callable[[str], None],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._engine = engine
        self._roots = [Path(os.path.abspath(root)) for root in roots]  # noqa: PTH100 - as indexing does
        self._options = options
        self._say = say
        self._on_progress = on_progress
        self._settler = Settler(
            options.settle_s, lambda path: say(f"waiting for {path}: it may be half a file")
        )
        self._bell = Bell(concern(self._roots, engine.folder, options.exclude))
        self._poll_s = options.poll_s
        self._stopped = threading.Event()
        self._trouble: str | None = None

    def stop(self) -> None:
        """End :meth:`run` as soon as may be."""
        self._stopped.set()
        self._bell.ring()

    def run(self) -> None:
        """Index, wait for changes, and so on. SIGINT and SIGTERM end it; what is done is kept.

        Raises:
            SetupError: the index or the installation does not allow it; waiting would not help.
        """
        how = "told by the system" if self._poll_s is None else f"looking every {self._poll_s:g} s"
        self._say(f"watching {', '.join(str(root) for root in self._roots)} ({how})")
        if self._poll_s is None:
            self._bell.listen(self._roots)
        try:
            with orderly_interrupts(terminated=True):
                while not self._stopped.is_set():
                    self._wait(self._round())
        except KeyboardInterrupt:
            self._stopped.set()
        finally:
            self._bell.close()
        self._say("watching ended; what was done is kept")

    def _round(self) -> float | None:
        """Index what is ready. Seconds until the next round even if nothing changes, if any."""
        self._settler.begin()
        try:
            report = self._engine.index(
                self._roots, exclude=self._options.exclude, prune=self._options.prune,
                hold=self._settler.hold, on_progress=self._on_progress,
            )  # fmt: skip
        except IndexLockedError:
            self._tell_trouble("another process is writing to the index: waiting for it")
            return LOCKED_RETRY_S
        except (UsageError, InputError, OSError) as error:
            # A folder that went away (a disk that was unplugged) may come back.
            self._tell_trouble(f"{error}; trying again")
            return max(LOCKED_RETRY_S, self._poll_s or 0.0)
        self._settler.end()
        self._trouble = None
        self._tell(report)
        if report.interrupted:
            self._stopped.set()
        return self._options.settle_s / 2 if self._settler.waiting else None

    def _wait(self, next_s: float | None) -> None:
        if self._stopped.is_set():
            return
        if self._bell.fault is not None and self._poll_s is None:
            self._poll_s = FALLBACK_POLL_S
            self._say(
                f"the system does not tell of changes ({self._bell.fault}): looking every "
                f"{self._poll_s:g} s from now on"
            )
        waits = [s for s in (next_s, self._poll_s) if s is not None]
        rung = self._bell.wait(min(waits) if waits else None)
        while rung and not self._stopped.is_set():
            rung = self._bell.wait(self._options.quiet_s)

    def _tell_trouble(self, told: str) -> None:
        if told != self._trouble:
            self._say(told)
        self._trouble = told

    def _tell(self, report: IndexReport) -> None:
        if report.n_pruned:
            self._say(f"pruned {report.n_pruned} videos whose files are gone")
        for warning in report.warnings:
            self._say(f"warning: {warning}")
