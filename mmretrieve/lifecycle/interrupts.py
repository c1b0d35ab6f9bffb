"""Interrupts that arrive between calls of LanceDB, and never within one.

LanceDB looks for signals while it reads and writes, and turns a ``KeyboardInterrupt`` into an error of its
own (``ArrowInvalid: External error: KeyboardInterrupt``), which looks like a broken index.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_S = 0.02
"""After so long an interrupt that came too early tries again."""

_NOT_WITHIN = frozenset({"lance", "lancedb", "pyarrow"})


def interrupt(number: int, frame: FrameType | None) -> None:
    """A handler of signals: raises ``KeyboardInterrupt``, once LanceDB is left."""
    if not _within_a_store(frame):
        raise KeyboardInterrupt
    again = threading.Timer(AGAIN_S, _send, (number,))
    again.daemon = True
    again.start()


@contextmanager
def orderly_interrupts(*, terminated: bool = False) -> Iterator[None]:
    """SIGINT interrupts in order, where nobody else handles it; with ``terminated`` SIGTERM does the
    same. Nothing changes outside the main thread, which alone is told of signals."""
    numbers = [signal.SIGTERM] if terminated else []
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _within_a_store(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _NOT_WITHIN:
            return True
        frame = frame.f_back
    return False


def _send(number: int) -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)  # also wakes a main thread that waits
    else:
        signal.raise_signal(number)
