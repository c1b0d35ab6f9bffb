"""The log of an index: what was done to it and what went wrong, one JSON object a line.

Lines hold ASCII alone, so nothing in a file name or an error can end a line or reach a terminal. The log is
cut into files of a bounded size, of which a few are kept. It is never read by the program to decide anything.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LOG_FILE = "log.jsonl"
LARGEST_BYTES = 1 << 20
KEPT = 3
"""Files beside the newest one."""
LOG_NAMES = (LOG_FILE, *(f"log.{n}.jsonl" for n in range(1, KEPT + 1)))
OFF = "off"
_LONGEST_TEXT = 2_000
_MOST_ITEMS = 100


@dataclass(frozen=True, slots=True)
class Journal:
    """Appends to a log; ``path`` None keeps none."""

    path: Path | None

    @classmethod
    def of(cls, folder: Path, log_file: str = "") -> Journal:
        """The log of the index in ``folder``: there, or where ``log_file`` says; ``off`` for none."""
        if log_file == OFF:
            return cls(None)
        return cls(Path(log_file) if log_file else folder / LOG_FILE)

    def note(self, event: str, **facts: Any) -> None:
        """Append one event. A log that cannot be written stops nothing: what matters is told by errors
        and reports, too."""
        if self.path is None or not self.path.parent.is_dir():
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = {"at": now, "event": event, "pid": os.getpid(), **facts}
        line = json.dumps(_bounded(record), allow_nan=False).encode("ascii") + b"\n"
        with suppress(OSError):
            self._append(line)

    def _append(self, line: bytes) -> None:
        assert self.path is not None
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size > LARGEST_BYTES:
                self._rotate(handle)
            elif size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line  # a killed process left half a line
            os.write(handle, line)
        finally:
            os.close(handle)

    def _rotate(self, handle: int) -> None:
        """Make room; what is written to ``handle`` then still lands in the file that was full."""
        assert self.path is not None
        with suppress(BlockingIOError):  # another process is doing it
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino != self.path.stat().st_ino:
                return
            for number in range(KEPT, 0, -1):
                older = self._numbered(number - 1)
                if older.exists():
                    older.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        assert self.path is not None
        return self.path.with_suffix(f".{number}{self.path.suffix}") if number else self.path

    def events(self) -> Iterator[dict[str, Any]]:
        """What was noted, newest first; lines that are no records are left out."""
        if self.path is None:
            return
        for number in range(KEPT + 1):
            with suppress(OSError):
                lines = self._numbered(number).read_bytes().splitlines()
                for line in reversed(lines):
                    with suppress(ValueError):
                        record = json.loads(line)
                        if isinstance(record, dict) and isinstance(record.get("event"), str):
                            yield record

    def last(self, event: str) -> dict[str, Any] | None:
        """The newest event of a name."""
        return next((found for found in self.events() if found["event"] == event), None)


def _bounded(value: Any) -> Any:
    """A value that JSON has, with texts and lists cut."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else value[:_LONGEST_TEXT] + "..."
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _bounded(v) for k, v in list(value.items())[:_MOST_ITEMS]}
    if isinstance(value, tuple | list | set | frozenset):
        return [_bounded(v) for v in list(value)[:_MOST_ITEMS]]
    return _bounded(str(value))
