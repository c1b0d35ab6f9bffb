"""Which kernels run: the best level of the compiled extension, or what was asked for."""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib import import_module
from types import ModuleType

from mmretrieve.errors import SetupError, UsageError
from mmretrieve.kernels.base import Kernels
from mmretrieve.kernels.native import NativeKernels
from mmretrieve.kernels.plain import PlainKernels

LEVEL_VARIABLE = "MMRETRIEVE_KERNELS"
THREADS_VARIABLE = "MMRETRIEVE_THREADS"
LEVELS = ("avx512", "avx2", "neon", "portable", "numpy")
"""All there are, the best first."""

REINSTALL = "pip install --force-reinstall --no-deps --no-binary mmretrieve mmretrieve"
_MOST_THREADS = 1024


class SlowKernelsWarning(UserWarning):
    """The compiled kernels are not installed; NumPy does their work, many times slower."""


def kernels(level: str | None = None, threads: int | None = None) -> Kernels:
    """The kernels of a level, else of ``MMRETRIEVE_KERNELS``, else the best that run here; with so many
    threads, else ``MMRETRIEVE_THREADS``, else one for each core that this process may use.

    Raises:
        UsageError: a level or a number of threads that does not exist.
        SetupError: a level that does not run here.
    """
    asked = level or os.environ.get(LEVEL_VARIABLE) or None
    n = _threads(threads)
    if asked is not None and asked not in LEVELS:
        raise UsageError(
            f"kernels {asked!r}: expected one of {', '.join(LEVELS)}; here run "
            f"{', '.join(available())}"
        )
    if asked is not None and asked not in available():
        raise SetupError(
            f"kernels {asked!r} do not run here; {', '.join(available())} do: set {LEVEL_VARIABLE} "
            f"to one of these{_mend()}"
        )
    name = asked or available()[0]
    extension = _extension()
    if name == "numpy" or extension is None:
        if asked is None:
            _warn_once()
        return PlainKernels()
    return NativeKernels(extension, name, n)


def kernels_on(device: str) -> Kernels:
    """The kernels for a device: those of :func:`kernels` for ``cpu``, else PyTorch's.

    Raises:
        UsageError: another kind of device than ``cpu`` and ``cuda``.
        SetupError: PyTorch is not installed, or does not see the device.
    """
    if device == "cpu":
        return kernels()
    from mmretrieve.kernels.torch_kernels import torch_kernels

    return torch_kernels(device)


def available() -> tuple[str, ...]:
    """The levels that run here, the best first; ``numpy`` always does."""
    extension = _extension()
    return (*(extension.levels() if extension is not None else ()), "numpy")


@cache
def _extension() -> ModuleType | None:
    try:
        return import_module("mmretrieve.kernels._native")
    except ImportError:
        return None


@cache
def _warn_once() -> None:
    warnings.warn(
        "the compiled kernels are not installed, so NumPy searches, many times slower: install a "
        f"C++17 compiler (Debian: apt install g++; macOS: xcode-select --install), then {REINSTALL}",
        SlowKernelsWarning,
        stacklevel=3,
    )


def _mend() -> str:
    if _extension() is not None:
        return ""
    return f", or install a C++17 compiler, then {REINSTALL}"


def _threads(threads: int | None) -> int:
    given = threads if threads is not None else os.environ.get(THREADS_VARIABLE) or None
    if given is None:
        return _usable_cores()
    try:
        n = int(given)
    except ValueError:
        n = 0
    if not 1 <= n <= _MOST_THREADS:
        raise UsageError(
            f"threads {given!r}: expected a number from 1 to {_MOST_THREADS}; unset "
            f"{THREADS_VARIABLE} to use every core"
        )
    return n


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
