"""The command line, and the workers that it starts, which tell of every stage that they enter and leave, so
that a fault can be aimed: ``python -m benchmarks.faults.told index ...``."""

from __future__ import annotations

import functools
import importlib
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOLD = "FAULT_TOLD"
"""Names the file that is told."""
ORDER = "FAULT_ORDER"
"""``TAKING STAGE NUMBER``: the process that is the NUMBER-th to enter STAGE takes memory."""
ALL, MUCH = "all", "much"
ENTERED, LEFT, TAKEN = "+", "-", "!"
START, OPEN, DECODE, READ, HEAR = "start of a worker", "opening", "decoding", "OCR", "speech"
RUN, LOOK, FRAMES, TEXTS = "start", "looking", "embedding frames", "embedding text"
COMMIT, TEND, CODES, CHANCE = "commit", "upkeep", "codes", "chance"
IN_WORKER = (START, OPEN, DECODE, READ, HEAR)
IN_ENGINE = (RUN, LOOK, FRAMES, TEXTS, COMMIT, TEND, CODES, CHANCE)
_WORKER = "from benchmarks.faults.told import in_worker; in_worker();"
_BLOCK = 64 << 20
_LEAST_BLOCK = 1 << 16
_ENGINE = (
    (LOOK, "mmretrieve.indexing", "IndexRun", "_look"),
    (FRAMES, "mmretrieve.encoders.lite", "LiteEncoder", "frames"),
    (TEXTS, "mmretrieve.encoders.lite", "LiteEncoder", "texts"),
    (COMMIT, "mmretrieve.storage.writer", "IndexWriter", "commit"),
    (TEND, "mmretrieve.storage.writer", "IndexWriter", "tend"),
    (CODES, "mmretrieve.engine", "Engine", "_seal"),
    (CHANCE, "mmretrieve.engine", "Engine", "_measure_chance"),
)
_READING = (
    (OPEN, "mmretrieve.indexers.media", "", "probe"),
    (READ, "mmretrieve.indexers.ocr", "OcrReader", "read_regions"),
    (HEAR, "mmretrieve.indexers.speech", "SpeechReader", "hear"),
)
_taken: list[mmap.mmap] = []


@dataclass(frozen=True, slots=True)
class Told:
    """One line of what was told: when (``time.monotonic``), by whom, of which stage, and what of it."""

    at_s: float
    pid: int
    what: str
    stage: str


def read_told(path: Path) -> list[Told]:
    """Everything that was told so far, in the order of writing."""
    lines = path.read_text(encoding="ascii").split("\n")[:-1] if path.exists() else []
    rows = (line.split(" ", 3) for line in lines)
    return [Told(float(at), int(pid), what, stage) for at, pid, what, stage in rows]


def entries(told: Sequence[Told], stage: str) -> list[Told]:
    """Each time that a stage was entered."""
    return [t for t in told if t.what == ENTERED and t.stage == stage]


@contextmanager
def telling(stage: str) -> Iterator[None]:
    """Tell of entering a stage and of leaving it; take memory in between if that was ordered."""
    at_s = _tell(ENTERED, stage)
    _obey(stage, at_s)
    try:
        yield
    finally:
        _tell(LEFT, stage)


def _tell(what: str, stage: str) -> float:
    at_s = time.monotonic()
    handle = os.open(os.environ[TOLD], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, f"{at_s!r} {os.getpid()} {what} {stage}\n".encode())
    finally:
        os.close(handle)
    return at_s


def _obey(stage: str, at_s: float) -> None:
    taking, _, rest = os.environ.get(ORDER, "").partition(" ")
    wanted, _, number = rest.rpartition(" ")
    if not taking or wanted != stage:
        return
    entered = entries(read_told(Path(os.environ[TOLD])), stage)
    mine = [t.pid == os.getpid() and t.at_s == at_s for t in entered].index(True)
    if mine + 1 != int(number):
        return
    _tell(TAKEN, stage)
    if taking == MUCH:
        bytearray(1 << 40)
    _take_all()


def _take_all() -> None:
    """Take all the memory that this process may have, and keep it; what it does next has none."""
    size = _BLOCK
    while size >= _LEAST_BLOCK:
        try:
            _taken.append(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        except OSError:
            size //= 2


def _wrap(stage: str, module: str, owner: str, name: str) -> None:
    home: Any = importlib.import_module(module)
    home = getattr(home, owner) if owner else home
    work: Callable[..., Any] = getattr(home, name)

    @functools.wraps(work)
    def told(*arguments: Any, **named: Any) -> Any:
        with telling(stage):
            return work(*arguments, **named)

    setattr(home, name, told)


def _wrap_decoding() -> None:
    from mmretrieve.indexers import visual

    work = visual.iter_visual

    @functools.wraps(work)
    def told(*arguments: Any, **named: Any) -> Iterator[Any]:
        passages = work(*arguments, **named)
        while True:
            with telling(DECODE):
                passage = next(passages, None)
            if passage is None:
                return
            yield passage

    visual.iter_visual = told


def in_worker() -> None:
    """Have this process, which is to become a worker, tell of what it does."""
    with telling(START):
        for place in _READING:
            _wrap(*place)
        _wrap_decoding()


def main() -> None:
    """Run the command line."""
    with telling(RUN):
        from mmretrieve.cli import main as command
        from mmretrieve.isolation import process

        process._PROGRAM = process._PROGRAM.replace(";from", f";{_WORKER}from", 1)
        for place in _ENGINE:
            _wrap(*place)
    command()


if __name__ == "__main__":
    main()
