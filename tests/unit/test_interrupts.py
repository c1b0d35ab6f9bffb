"""Interrupts: at once in our own code, and only after LanceDB where they come within it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mmretrieve.lifecycle.interrupts import orderly_interrupts

ROWS = 600_000
PATIENCE_S = 30.0


def test_an_interrupt_within_a_read_comes_after_it(tmp_path: Path) -> None:
    import lance

    words = pa.array([str(i) for i in range(ROWS)])
    table = lance.write_dataset(
        pa.table({"n": np.arange(ROWS), "word": words}), tmp_path / "t.lance"
    )
    whole = 0
    for after_ms in range(1, 41, 4):
        sent = threading.Timer(after_ms / 1000, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt), orderly_interrupts():
            sent.start()
            # Without order this raises `ArrowInvalid: External error: KeyboardInterrupt`.
            assert table.to_table(filter="word LIKE '%99%7'").num_rows > 0
            whole += 1
            time.sleep(PATIENCE_S)
        sent.join()
    assert whole > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_our_own_code_is_interrupted_at_once(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), orderly_interrupts(terminated=True):
        os.kill(os.getpid(), number)
        time.sleep(PATIENCE_S)


def test_handlers_of_others_are_left_alone_and_ours_are_taken_back() -> None:
    told = []
    before = signal.signal(signal.SIGINT, lambda number, frame: told.append(number))
    try:
        with orderly_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGINT, before)
    with orderly_interrupts():
        assert signal.getsignal(signal.SIGINT) is not before
    assert told == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before


def test_threads_are_not_told_of_signals() -> None:
    seen: list[object] = []

    def ask() -> None:
        with orderly_interrupts(terminated=True):
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert seen == [before]
