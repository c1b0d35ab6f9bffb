"""What the C library keeps of memory that was freed."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

_PROBE = """
import ctypes
import sys

from mmretrieve.storage.memory import keep_memory_flat


class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]


c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
c.free.argtypes = [ctypes.c_void_p]
c.mallinfo2.restype = Info
if sys.argv[1] == "flat":
    keep_memory_flat()
c.free(c.malloc(16 << 20))
before = c.mallinfo2().hblkhd
c.malloc(8 << 20)
print(c.mallinfo2().hblkhd - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="only glibc from 2.33 on tells what it has mapped",
)
def test_large_blocks_stay_apart_from_small_ones_after_one_was_freed() -> None:
    assert _mapped("as it comes") == 0
    assert _mapped("flat") >= 8 << 20


def _mapped(how: str) -> int:
    """Bytes mapped for a block of 8 MiB, after one of 16 MiB was freed, whatever the user set for malloc."""
    free = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, how],
        capture_output=True, text=True, check=True, timeout=60, env=free,
    )  # fmt: skip
    return int(done.stdout)
