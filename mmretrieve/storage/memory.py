"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import pyarrow as pa

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's <malloc.h>
_MAPPED_FROM = 1 << 20
_ARENAS = 2


def give_back_memory() -> None:
    """Return what was freed: Arrow keeps it for the next time, and the C library in pieces where many threads
    took it, so that a process that now and then reads a whole table would seem to grow with the table."""
    pa.default_memory_pool().release_unused()
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def keep_memory_flat() -> None:
    """Have blocks from 1 MiB on mapped each for itself, so that they go back to the system when they are
    freed, and all threads share two heaps.

    The C library moves that bound up to the largest block that was ever freed (32 MiB at most), and from
    then on puts the buffers of commits and merges into its heaps, between small pieces that stay: what is in
    use stays the same, and the process grows none the less. For a process that does nothing but index, before
    it starts threads; a program that embeds the engine decides for itself.
    """
    set_option = _of_glibc("mallopt")
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _MAPPED_FROM)
        set_option(_M_ARENA_MAX, _ARENAS)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library, None where it has none of this name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
