"""Kills of the command line while it indexes the demo clips: at any time, by any signal."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from benchmarks.contents import Content, compare, content
from benchmarks.faults.processes import in_child
from benchmarks.faults.rounds import INT, KILL, TERM, Round
from benchmarks.program import QUICK, command, environment
from benchmarks.program import run as run_process
from mmretrieve.demo import QUERIES, clips_folder
from mmretrieve.errors import MmretrieveError
from mmretrieve.health.findings import Severity
from mmretrieve.health.verify import verify
from mmretrieve.storage.folder import read_manifest

STAGE = "clips, command line"
WORKER = "killed worker"
_SIGNALS = {KILL: signal.SIGKILL, TERM: signal.SIGTERM, INT: signal.SIGINT}
_ASKED = tuple(asked.text for asked in QUERIES)
_WELL = (0, 1, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)
"""How a process may end that was sent a signal, or (1) had files fail with their worker."""


def rounds(folder: Path, n: int, rng: random.Random) -> list[Round]:
    """``n`` runs of one index that a signal ends, one after the other; when it is whole, it starts over."""
    folder.mkdir()
    whole = folder / "whole"
    took_s = run_process(_command(whole))
    expected: Content = in_child(lambda: content(whole, _ASKED)).value
    found: list[Round] = []
    index, number = folder / "index", 0
    kinds = [KILL, WORKER, TERM, KILL, INT]
    while len(found) < n:
        kind = kinds[number % len(kinds)]
        number += 1
        done = _round(index, kind, rng.uniform(0.2, 1) * took_s, expected)
        if done.happened:
            found.append(done)
        elif kind == WORKER:
            kinds.remove(WORKER)  # there are none: all is done in one process
        print(f"clips {len(found)}: {kind}: {done.ended}: {done.problems or 'ok'}", flush=True)
    run_process(_command(index))
    last = in_child(lambda: (_problems(index, notes=True), content(index, _ASKED)))
    if last.value is None:
        found[-1].problems.append(f"in the end: {last.error}")
    else:
        found[-1].problems += last.value[0]
        found[-1].problems += [f"{w}: {k}" for w, k in compare(expected, last.value[1]) if k]
    return found


def _command(index: Path) -> list[str]:
    return command("index", clips_folder(), "--index", index, "--force", *QUICK)


def _round(index: Path, kind: str, after_s: float, expected: Content) -> Round:
    done = Round(STAGE, kind, round(1000 * after_s))
    with subprocess.Popen(
        _command(index), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        time.sleep(after_s)
        if kind == WORKER:
            done.happened = _kill_a_child(process.pid)
        else:
            done.happened = process.poll() is None
            process.send_signal(_SIGNALS[kind])
        _, told = process.communicate()
    done.ended = f"exit {process.returncode}"
    if process.returncode not in _WELL or b"Traceback" in told:
        done.problems.append(f"exit {process.returncode}: {told.decode(errors='replace')[-500:]}")
    seen = in_child(lambda: _seen(index, expected))
    done.problems += [seen.error] if seen.error else seen.value
    return done


def _kill_a_child(pid: int) -> bool:
    """Kill the youngest process below this one, if there is any."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        below = [int(number) for number in children.read_text(encoding="ascii").split()]
        if below:
            os.kill(below[-1], signal.SIGKILL)
    except OSError:
        return False  # ended just now
    return bool(below)


def _seen(index: Path, expected: Content) -> list[str]:
    """What does not hold right after: what is visible is right and sound."""
    try:
        read_manifest(index)
    except MmretrieveError:
        return []  # killed before there was one
    now = content(index, _ASKED)
    wrong = [v for v, tokens in now.tokens.items() if expected.tokens.get(v) != tokens]
    return [*_problems(index), *(f"video {v} is not as it should be" for v in wrong)]


def _problems(index: Path, *, notes: bool = False) -> list[str]:
    found = verify(index, deep=True).findings
    return [
        f"{f.severity} {f.where}: {f.what}"
        for f in found
        if notes or f.severity is not Severity.NOTE
    ]
