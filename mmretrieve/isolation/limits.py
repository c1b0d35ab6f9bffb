"""Bounds of a worker: those that its own system enforces, and the time that a file may take."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmretrieve.config import LimitSettings
    from mmretrieve.datatypes import Probe

_MIB = 1 << 20
_LEAST_BYTES_A_SECOND = 250
"""What a second of media takes at least: a file cannot buy time by claiming to last for years."""
_MAX_FILE_BYTES = 16 * _MIB
_MAX_OPEN_FILES = 256
_FIRST_TO_GO = "500"
_LEAST_LEFT_BYTES = 64 * _MIB
"""Less than this left of the bound of memory: whatever was asked for last may have been refused."""


def time_limit_s(limits: LimitSettings, probe: Probe | None) -> float:
    """Seconds that a worker may take for a file, as soon as its facts are known."""
    if probe is None:
        return limits.time_floor_s
    most_s = probe.size_bytes / _LEAST_BYTES_A_SECOND
    claimed_s = min(probe.duration_s, most_s) if probe.duration_s else most_s
    wanted_s = limits.time_floor_s + limits.time_factor * claimed_s
    return min(wanted_s, max(limits.time_cap_s, limits.time_floor_s))


def confine(memory_mb: int) -> None:
    """Bind this process for good: memory, sizes of files it writes, open files, no core dumps, and
    where memory runs out all the same the system is to end it rather than who started it."""
    for kind, most in (
        (resource.RLIMIT_DATA if _limits_data() else resource.RLIMIT_AS, memory_mb * _MIB),
        (resource.RLIMIT_FSIZE, _MAX_FILE_BYTES),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(OSError, ValueError):  # doctor tells what is not enforced
            resource.setrlimit(kind, (bound, bound))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")


def memory_is_bounded() -> bool:
    """Whether this system keeps a worker below its bound of memory."""
    return _limits_data()


def _limits_data() -> bool:
    """Linux counts all memory that a process may write to (since 4.7), others only part of it."""
    return sys.platform.startswith("linux")


def memory_is_used_up() -> bool:
    """Whether this process is about at its bound of memory. Libraries do not always tell when they are
    refused memory: they leave out what they could not do."""
    bound = (
        resource.getrlimit(resource.RLIMIT_DATA)[0] if _limits_data() else resource.RLIM_INFINITY
    )
    taken = _status_bytes("self", "VmData")
    if bound == resource.RLIM_INFINITY or taken is None:
        return False
    return bound - taken < min(_LEAST_LEFT_BYTES, bound // 8)


def peak_bytes(process: int) -> int | None:
    """The most memory that a process has really taken; None where the system does not tell."""
    return _status_bytes(str(process), "VmHWM")


def resident_bytes(process: int) -> int | None:
    """Memory that a process really takes now; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _status_bytes(process: str, name: str) -> int | None:
    try:
        for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
