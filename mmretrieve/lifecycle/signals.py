"""Noticing that something below some folders changed: told by the system, or not at all (polling)."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

STEP_MS = 50
DEBOUNCE_MS = 400


class Bell:
    """Rings when something that counts changed. Close it in the end."""

    def __init__(self, counts: Callable[[Path], bool]) -> None:
        """``counts``: whether a changed path is any concern."""
        self._counts = counts
        self._rung = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.fault: str | None = None
        """Why the system does not tell of changes any more, if it ever did."""

    def listen(self, folders: Sequence[Path]) -> None:
        """Be told by the system of changes below ``folders``; :attr:`fault` says when that ends."""
        self._thread = threading.Thread(
            target=self._listen, args=(folders,), name="watch", daemon=True
        )
        self._thread.start()

    def ring(self) -> None:
        """End a wait."""
        self._rung.set()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for a ring; whether there was one."""
        rung = self._rung.wait(timeout_s)
        self._rung.clear()
        return rung

    def close(self) -> None:
        """Listen no longer."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _listen(self, folders: Sequence[Path]) -> None:
        from watchfiles import watch

        try:
            for changes in watch(
                *folders, watch_filter=None, debounce=DEBOUNCE_MS, step=STEP_MS,
                stop_event=self._stop, raise_interrupt=False, ignore_permission_denied=True,
                rust_timeout=500, yield_on_timeout=False,
            ):  # fmt: skip
                if any(self._counts(Path(path)) for _, path in changes):
                    self._rung.set()
        except (OSError, RuntimeError) as error:
            self.fault = str(error)
            self._rung.set()


def concern(roots: Sequence[Path], index: Path, exclude: Sequence[str]) -> Callable[[Path], bool]:
    """Whether a changed path may change what is indexed: not if it lies in the index itself, is hidden
    or excluded."""
    real = {root: root.resolve() for root in roots}
    index = index.resolve()

    def counts(path: Path) -> bool:
        if path.resolve().is_relative_to(index):
            return False
        for root, resolved in real.items():
            for top in (root, resolved):
                if path.is_relative_to(top):
                    return not _left_out(path.relative_to(top), exclude)
        return True

    return counts


def _left_out(below: Path, exclude: Sequence[str]) -> bool:
    for n, part in enumerate(below.parts, 1):
        told = (part, Path(*below.parts[:n]).as_posix())
        globs = (glob.rstrip("/") for glob in exclude)
        if part.startswith(".") or any(fnmatch.fnmatchcase(t, g) for g in globs for t in told):
            return True
    return False
