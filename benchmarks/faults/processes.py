"""Work in a process of its own that shares what was imported: a fork, since importing takes longer than
all that is disturbed."""

from __future__ import annotations

import os
import pickle
import select
import signal
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 900.0
"""A child that takes longer counts as hanging."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: by ``signal`` (0: by itself), with a ``value`` or an ``error`` (its class, named
    errors with their message) and its ``trace``; ``hung``: it had to be killed."""

    signal: int = 0
    value: Any = None
    error: str = ""
    trace: str = ""
    hung: bool = False


def in_child(work: Callable[[], Any]) -> Ended:
    """Run something in a child. It must not have used Lance in this process before."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lance and LanceDB warn of any fork
        pid = os.fork()
    if not pid:
        os.close(reading)
        _child(work, writing)
    os.close(writing)
    data, hung = _all(reading, pid)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if not data:
        return Ended(number, error="" if number else f"exit {os.waitstatus_to_exitcode(status)}",
                     hung=hung)  # fmt: skip
    value, error, trace = pickle.loads(data)
    return Ended(number, value, error, trace, hung)


def _child(work: Callable[[], Any], writing: int) -> None:
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        warnings.simplefilter("ignore")
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)  # panics of threads are among what is wanted
        try:
            told = (work(), "", "")
        except BaseException as error:  # whatever it is, the parent is to know
            told = (None, f"{type(error).__name__}: {error}", traceback.format_exc())
        os.write(writing, pickle.dumps(told))
    finally:
        os._exit(0)


def _all(reading: int, pid: int) -> tuple[bytes, bool]:
    data = b""
    while True:
        ready, _, _ = select.select([reading], [], [], PATIENCE_S)
        if not ready:
            os.kill(pid, signal.SIGKILL)
            return data, True
        block = os.read(reading, 1 << 16)
        if not block:
            return data, False
        data += block
