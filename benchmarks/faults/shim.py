"""The preloaded library that makes system calls fail, and the memory by which it is told when."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CONTROL = "FAULT_CONTROL"
SOURCE = Path(__file__).with_name("shim.c")
_NUMBERS = struct.Struct("<9q")
_FOLDER_BYTES = 1024
_SIZE = 4096
WRITES, READS = 1, 2


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at the ``at``-th call that changes (or, with ``reads``, reads) something below a
    folder: the call fails with ``error``, once or (``sticky``) from then on; or else ``signal`` is
    sent to the process, ``torn``: in the midst of a write. ``at`` 0: nothing, calls are counted."""

    at: int = 0
    error: int = 0
    signal: int = 0
    sticky: bool = False
    torn: bool = False
    reads: bool = False


def build(folder: Path) -> Path:
    """Compile the library.

    Raises:
        RuntimeError: there is no C compiler, or no Linux.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        raise RuntimeError("faults are injected by a preloaded library: needs Linux and gcc")
    library = folder / "shim.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library


class Control:
    """The memory that this process shares with the library in itself and in its children."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE)

    def arm(self, folder: Path, fault: Fault) -> None:
        """From now on, in every process that has the library."""
        what = READS if fault.reads else WRITES
        numbers = (0, 0, fault.at, fault.error, fault.signal, fault.sticky, fault.torn, what, 0)
        self._memory[: _NUMBERS.size] = _NUMBERS.pack(*(int(n) for n in numbers))
        name = os.fsencode(folder).ljust(_FOLDER_BYTES, b"\0")
        self._memory[_NUMBERS.size : _NUMBERS.size + len(name)] = name
        self._memory[:8] = struct.pack("<q", 1)

    def disarm(self) -> tuple[int, bool]:
        """Calls since it was armed, and whether the fault happened."""
        self._memory[:8] = struct.pack("<q", 0)
        numbers = _NUMBERS.unpack(self._memory[: _NUMBERS.size])
        return numbers[1], bool(numbers[8])


def is_preloaded() -> bool:
    """Whether this process has the library."""
    return CONTROL in os.environ and "shim.so" in os.environ.get("LD_PRELOAD", "")
