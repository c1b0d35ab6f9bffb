"""``fuzz``: many thousand damaged and hostile inputs. None may end the program, hold it up, take more
memory than it may, or make it say something wrong.

Every input follows from the seed, the name of its target and its number: ``--only NAME --at NUMBER``
gives one of them again.
"""

from __future__ import annotations

import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from benchmarks.fuzz_index import IndexFiles
from benchmarks.fuzz_media import LIMITS, MEMORY_MB, Answers, Containers, Pictures
from benchmarks.fuzz_target import Target
from benchmarks.fuzz_texts import text_targets
from benchmarks.result import Result

BOUND_S = 10.0
"""Processor time that one input may take in this process."""
_TELL_EVERY_S = 30.0
_SHOWN_FAULTS = 50


class HeldUpError(BaseException):
    """An input took too long here. Nothing may take it for an error of its own."""


@dataclass(slots=True)
class Tally:
    """What became of the inputs of one target."""

    n_inputs: int = 0
    n_hangs: int = 0
    longest_s: float = 0.0
    took_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much to do: inputs in all, those of them that are containers, and an end to the time that it
    takes. Inputs with faults are written to ``keep``."""

    n_inputs: int
    n_containers: int
    seconds: float
    seed: int
    keep: Path | None


def run(wanted: Wanted, only: str, at: int | None) -> int:
    """Print the tables and write the result; 1 where anything went wrong."""
    targets: list[Target] = [
        *text_targets(), Answers(), Pictures(), IndexFiles(coded=False), IndexFiles(coded=True),
        Containers(),
    ]  # fmt: skip
    targets = [t for t in targets if only in t.name]
    if not targets:
        sys.exit(f"no target is named like {only!r}")
    signal.signal(signal.SIGVTALRM, _held_up)
    warnings.simplefilter("ignore")  # Pillow's, of broken pictures
    with tempfile.TemporaryDirectory(prefix="mmretrieve-fuzz-") as name:
        for number, target in enumerate(targets):
            folder = Path(name) / str(number)
            folder.mkdir()
            target.prepare(folder)
        try:
            if at is not None:
                return _once(targets[0], Random(f"{wanted.seed}/{targets[0].name}/{at}"))
            tallies = _all(targets, wanted)
            return _report(targets, tallies, wanted.seed)
        finally:
            for target in targets:
                target.close()


def _all(targets: list[Target], wanted: Wanted) -> list[Tally]:
    """Feed the targets in turn, each its share, until the inputs or the seconds are used up."""
    tallies = [Tally() for _ in targets]
    whole = sum(t.weight for t in targets) or 1.0
    n_others = max(0, wanted.n_inputs - wanted.n_containers)
    shares = [
        max(1, round(n_others * t.weight / whole) if t.weight else wanted.n_containers)
        for t in targets
    ]
    start = told = time.monotonic()
    while time.monotonic() - start < wanted.seconds:
        behind = [t.n_inputs / n for t, n in zip(tallies, shares, strict=True)]
        i = min(range(len(targets)), key=lambda i: behind[i])
        if behind[i] >= 1:
            break
        _feed(targets[i], tallies[i], wanted.seed, wanted.keep)
        if time.monotonic() - told > _TELL_EVERY_S:
            told = time.monotonic()
            _tell(tallies, told - start)
    return tallies


def _feed(target: Target, tally: Tally, seed: int, keep: Path | None) -> None:
    data = target.make(Random(f"{seed}/{target.name}/{tally.n_inputs}"))
    number, start, began = tally.n_inputs, time.process_time(), time.monotonic()
    tally.n_inputs += 1
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, BOUND_S)
        tally.outcomes[target.feed(data)] += 1
    except HeldUpError:
        tally.n_hangs += 1
        _keep(keep, target, number, data, "held up")
    except Exception as error:  # a fault of the program: what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{type(error).__name__}: {error}"[:120]
        tally.faults[f"{told} ({Path(where.filename).name}:{where.lineno}, input {number})"] += 1
        _keep(keep, target, number, data, told)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        spent = time.process_time() - start
        tally.longest_s = max(tally.longest_s, spent)
        tally.took_s += time.monotonic() - began


def _once(target: Target, rng: Random) -> int:
    print(target.feed(target.make(rng)))
    return 0


def _held_up(_: int, __: FrameType | None) -> None:
    raise HeldUpError


def _keep(keep: Path | None, target: Target, number: int, data: bytes, told: str) -> None:
    print(f"{target.name}, input {number}: {told}", file=sys.stderr, flush=True)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{target.name.replace(' ', '-')}-{number}").write_bytes(data)


def _tell(tallies: list[Tally], took_s: float) -> None:
    n, bad = sum(t.n_inputs for t in tallies), sum(t.n_hangs + len(t.faults) for t in tallies)
    print(f"{n} inputs in {took_s:.0f} s, {bad} faults", file=sys.stderr, flush=True)


def _report(targets: list[Target], tallies: list[Tally], seed: int) -> int:
    result = Result("fuzz")
    rows = [
        (
            t.name, tally.n_inputs, sum(tally.faults.values()), tally.n_hangs, round(tally.longest_s, 3),
            round(tally.took_s, 1),
            ", ".join(f"{name} {n}" for name, n in tally.outcomes.most_common()),
        )
        for t, tally in zip(targets, tallies, strict=True)
    ]  # fmt: skip
    columns = ("target", "inputs", "faults", "hangs", "longest s of CPU here", "all s", "outcomes")
    result.add("Inputs", columns, rows)
    faults = [f for tally in tallies for f in tally.faults.most_common(_SHOWN_FAULTS)]
    if faults:
        result.add("Faults", ("fault", "times"), faults)
    total = sum(tally.n_inputs for tally in tallies)
    bad = sum(tally.n_hangs + sum(tally.faults.values()) for tally in tallies)
    here_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bounds: list[tuple[str, float]] = [
        ("all inputs", total),
        ("crashes of this process", 0),
        ("faults and hangs", bad),
    ]
    bounds += [("most memory of this process, MiB", round(here_mib))]
    for target in targets:
        if isinstance(target, Containers):
            bounds += [
                ("most memory of a worker, MiB", round(target.reader.peak_bytes / 2**20)),
                ("its bound, MiB", MEMORY_MB),
                ("workers that died or were killed", target.reader.n_lost),
                ("longest file, s", round(target.longest_s, 1)),
                ("least bound of time, s", round(LIMITS.time_floor_s)),
            ]
    result.add("Bounds", ("what", "value"), bounds)
    result.note(
        f"Seed {seed}; an input may take {BOUND_S:.0f} s of processor time in this process."
    )
    result.save()
    return 1 if bad else 0
