"""Where output goes: data to standard output, talk to standard error."""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING

from mmretrieve.cli.text import clean

if TYPE_CHECKING:
    from rich.console import Console

_WIDE = 200
"""Columns where there is no terminal to fit."""


def stdout_is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def stderr_is_terminal() -> bool:
    """Whether a person reads standard error, on something that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def emit(line: str) -> None:
    """Write one line of data."""
    sys.stdout.write(line + "\n")


def emit_path(path: str) -> None:
    """Write a path byte for byte as the file system has it, for other programs to open; made
    harmless where a terminal shows it."""
    if stdout_is_terminal():
        emit(clean(path))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(path) + b"\n")


def say(message: str, indent: int = 0) -> None:
    """Write one line of talk, ``indent`` columns in."""
    sys.stderr.write(" " * indent + clean(message).strip() + "\n")
    sys.stderr.flush()


def out() -> Console:
    """Standard output for tables; plain and wide when no terminal reads it."""
    return _console(stderr=False)


def err() -> Console:
    """Standard error for progress."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console


def stdout_is_utf8() -> bool:
    """Whether standard output can hold every character."""
    return "utf" in (sys.stdout.encoding or "").lower()


def tolerate_any_text() -> None:
    """Make both streams write a replacement for what their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def stdout_is_closed() -> bool:
    """Whether whoever read standard output has stopped reading."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def discard_stdout() -> None:
    """Let the interpreter's own flush at its end go nowhere."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
