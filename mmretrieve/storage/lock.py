"""The writer's lock: one writer at a time, whatever happened to the one before.

The lock is the system's (``flock``): it ends with its holder, however that ends, so a reboot or a reused
process number cannot leave it behind. The file says who holds it. A record that is still there when the
lock is taken means that the writer before did not end well; the next one then recovers. Where the lock
lies on a disk of the network, the system's lock may count on each machine alone; a record of another
machine whose heart still beats is therefore respected, too.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmretrieve.errors import IndexLockedError

LOCK_FILE = "writer.lock"
BEAT_S = 20.0
SILENT_S = 120.0
"""A writer of another machine that has not touched its lock for so long is taken for dead."""
_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class Owner:
    """Who writes. ``boot`` names the machine's current run, ``started`` is when the process began, in
    clock ticks since then: together they tell a process from a later one of the same number."""

    host: str
    boot: str
    pid: int
    started: int
    since: str

    def is_alive(self) -> bool:
        """Whether that process still runs; only this machine's can be told."""
        if self.boot != _boot() or self.host != platform.node():
            return False
        if _started(self.pid) is None:
            return False
        return self.started in (0, _started(self.pid))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class WriterLock:
    """Held from :func:`take` until :meth:`release`. ``left_behind``: the writer before, if it did not
    end well."""

    def __init__(self, path: Path, handle: int, left_behind: str | None) -> None:
        self._path = path
        self._handle: int | None = handle
        self.left_behind = left_behind
        self._ended = threading.Event()
        self._beat = threading.Thread(target=self._beating, name="lock", daemon=True)
        self._beat.start()

    def release(self, *, clean: bool = True) -> None:
        """Let go. ``clean=False`` leaves the record, so that the next writer recovers. May be called
        more than once."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        self._ended.set()
        self._beat.join()
        try:
            if clean:
                os.ftruncate(handle, 0)
        finally:
            os.close(handle)

    def _beating(self) -> None:
        while not self._ended.wait(BEAT_S):
            with suppress(OSError):  # a disk that fails is told of by whoever writes to it
                os.utime(self._path)


def take(folder: Path) -> WriterLock:
    """The writer's lock of the index in ``folder``.

    Raises:
        IndexLockedError: another process holds it; the message says which.
    """
    path = folder / LOCK_FILE
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _flock(handle, folder)
        before = os.pread(handle, 1 << 16, 0)
        owner = _owner(before)
        if owner is not None and owner.host != platform.node() and _is_beating(path, folder):
            raise IndexLockedError(_told(folder, owner))
        _write(handle, _me())
    except BaseException:
        os.close(handle)
        raise
    told = str(owner) if owner is not None else "an unknown process"
    return WriterLock(path, handle, told if before.strip() else None)


def left_behind(folder: Path) -> bool:
    """Whether a writer ended without tidying up, or one is at work: cheap to ask."""
    try:
        return (folder / LOCK_FILE).stat().st_size > 0
    except OSError:
        return False


def holder(folder: Path) -> Owner | None:
    """Who writes to the index now; None where nobody does."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        owner = _owner(os.read(handle, 1 << 16))
        if owner is not None and owner.host != platform.node():
            return owner if _is_beating(folder / LOCK_FILE, folder) else None
        return owner if owner is not None and owner.is_alive() and _is_held(handle) else None
    finally:
        os.close(handle)


def _flock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise IndexLockedError(_told(folder, _owner(os.pread(handle, 1 << 16, 0)))) from None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        # No locks on this disk: the record is all there is to go by.
        owner = _owner(os.pread(handle, 1 << 16, 0))
        if owner is not None and (owner.is_alive() or _is_elsewhere(owner, folder)):
            raise IndexLockedError(_told(folder, owner)) from None


def _is_held(handle: int) -> bool:
    """Whether any process holds the lock; told by the system where it can, since trying to take it
    could turn away a writer in that moment."""
    try:
        table = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return _is_refused(handle)
    inode = str(os.fstat(handle).st_ino)
    rows = [line.split() for line in table]
    return any(
        "FLOCK" in row and row[5].rpartition(":")[2] == inode for row in rows if len(row) > 5
    )


def _is_refused(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True  # held, or a disk without locks, where the record counts
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False


def _is_elsewhere(owner: Owner, folder: Path) -> bool:
    return owner.host != platform.node() and _is_beating(folder / LOCK_FILE, folder)


def _is_beating(path: Path, folder: Path) -> bool:
    """Whether the lock was touched lately, by the clock of the disk and not of this machine."""
    probe = folder / f"{LOCK_FILE}.{os.getpid()}"
    try:
        probe.touch()
        now_s = probe.stat().st_mtime
    except OSError:
        now_s = time.time()
    finally:
        probe.unlink(missing_ok=True)
    return now_s - path.stat().st_mtime < SILENT_S


def _told(folder: Path, owner: Owner | None) -> str:
    who = f" ({owner})" if owner is not None else ""
    told = (
        f"another process is writing to {folder}{who}: wait for it to end, then run this again "
        "(searching works meanwhile)"
    )
    if owner is None or owner.host == platform.node():
        return told
    return f"{told}; if that machine is gone, try again in {SILENT_S:.0f} s"


def _owner(data: bytes) -> Owner | None:
    try:
        found: dict[str, Any] = json.loads(data)
        return Owner(
            str(found["host"]), str(found["boot"]), int(found["pid"]), int(found["started"]),
            str(found["since"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return None


def _me() -> Owner:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(platform.node(), _boot(), os.getpid(), _started(os.getpid()) or 0, now)


def _write(handle: int, owner: Owner) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(asdict(owner)).encode() + b"\n", 0)
    os.fsync(handle)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When a process of this machine began, None if there is none; 0 where that is not told."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _signalled(pid)
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])


def _signalled(pid: int) -> int | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0
