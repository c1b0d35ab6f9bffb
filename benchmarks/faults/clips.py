"""Faults of the command line while it indexes clips: ended by any signal in the midst of any stage, or its
workers killed, stopped, or out of memory."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contents import Content, compare, content
from benchmarks.faults import told
from benchmarks.faults.processes import PATIENCE_S, in_child
from benchmarks.faults.rounds import INT, KILL, TERM, Round
from benchmarks.program import copies, environment
from mmretrieve.demo import QUERIES
from mmretrieve.errors import MmretrieveError
from mmretrieve.health.findings import Severity
from mmretrieve.health.verify import verify
from mmretrieve.isolation.process import START_S
from mmretrieve.storage.folder import read_manifest

KILLED, HANGS = "killed worker", "hanging worker"
NO_MEMORY, MUCH = "worker without memory", "worker that takes too much"
WORKER_FAULTS = (KILLED, NO_MEMORY, HANGS, KILLED, MUCH)
_SIGNALS = {KILL: signal.SIGKILL, TERM: signal.SIGTERM, INT: signal.SIGINT}
_KILLS = (KILL, KILL, KILL, TERM, INT)
_ORDERS = {NO_MEMORY: told.ALL, MUCH: told.MUCH}
_ASKED = tuple(asked.text for asked in QUERIES)
_CLIPS = ("clip_0007.mp4", "GX010115.mp4", "nature/IMG_2201.mp4", "lecture_05.mp4")
"""Without sound; with sound and no words; with words; with text on screen. Each takes a second or two."""
BOUND_S = 15.0
_SETTINGS = f"[limits]\ntime_floor_s = {BOUND_S}\ntime_factor = 0.1\n"
_LOOK_S = 0.002
_SHARE = 0.7
"""Of the time that a stage took undisturbed, so that it is not over when the signal comes."""
_GONE_S = 20.0
_WELL = (0, 1, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)
"""How a process may end that was sent a signal, or (1) had a file fail with its worker."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a run begins with (a folder, if any), what it leads to, ``before``: tokens of the videos at
    the start, and for each stage the seconds that it took each time."""

    folder: Path | None
    end: Content
    before: Mapping[str, str]
    stages: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended: exit code, what it said, its report, how long a worker that was stopped stayed (s),
    and whether the fault happened."""

    code: int
    said: str
    report: Mapping[str, Any]
    happened: bool
    stayed_s: float = 0.0

    @property
    def failed(self) -> list[str]:
        """Names of files that failed, each with its error."""
        files = self.report.get("results", [])
        return [f"{f['path']}: {f['error']}" for f in files if f["outcome"] == "failed"]


@dataclass(frozen=True, slots=True)
class Aim:
    """``kind`` of fault at the ``number``-th time that a stage is entered, after ``delay_s``."""

    kind: str = ""
    stage: str = ""
    number: int = 0
    delay_s: float = 0.0


def rounds(folder: Path, n_kills: int, n_faults: int, rng: random.Random) -> list[Round]:
    """``n_kills`` runs that a signal ends, and ``n_faults`` whose workers are ended or starved; the stages
    take turns, and so do a new index and one whose clips have all changed."""
    library = copies(folder / "library", len(_CLIPS), _CLIPS)
    (folder / "settings.toml").write_text(_SETTINGS, encoding="ascii")
    starts = [_undisturbed(folder, library, None)]
    shutil.rmtree(library)
    shutil.move(folder / "index", folder / "before")
    copies(library, len(_CLIPS), _CLIPS, first=len(_CLIPS))
    starts = [_undisturbed(folder, library, start) for start in (None, folder / "before")]
    found = []
    for number, (kind, stage) in enumerate(_schedule(n_kills, n_faults, rng)):
        start = starts[number % len(starts)]
        found.append(_play(folder, library, start, _aim(kind, stage, start, rng)))
        done = found[-1]
        print(f"clips {number + 1}: {done.stage}, {kind} after {done.at} ms: {done.ended}: "
              f"{'; '.join(done.problems) or 'ok'}", flush=True)  # fmt: skip
    return found


def _schedule(n_kills: int, n_faults: int, rng: random.Random) -> Iterator[tuple[str, str]]:
    stages = (*told.IN_ENGINE, *told.IN_WORKER)
    done = 0
    for number in range(max(n_kills, 1)):
        if n_kills:
            yield rng.choice(_KILLS), stages[number % len(stages)]
        while done < (number + 1) * n_faults // max(n_kills, 1):
            kind = WORKER_FAULTS[done % len(WORKER_FAULTS)]
            places = told.IN_WORKER if kind not in _ORDERS else told.IN_WORKER[1:]
            yield kind, places[done // len(WORKER_FAULTS) % len(places)]
            done += 1


def _aim(kind: str, stage: str, start: Start, rng: random.Random) -> Aim:
    number = rng.randrange(len(start.stages[stage]))
    delay_s = _SHARE * rng.random() * start.stages[stage][number]
    return Aim(kind, stage, number + 1, delay_s)


def _undisturbed(folder: Path, library: Path, start: Path | None) -> Start:
    """Go through it without faults.

    Raises:
        RuntimeError: it fails.
    """
    ran = _run(folder, library, start, Aim())
    if ran.code or ran.failed:
        raise RuntimeError(f"fails even undisturbed: {ran.code}: {ran.said} {ran.failed}")
    seen = told.read_told(folder / "told")
    stages = {stage: _spent(seen, stage) for stage in (*told.IN_ENGINE, *told.IN_WORKER)}
    missing = [stage for stage, times in stages.items() if not times]
    if missing:
        raise RuntimeError(f"stages that are never entered: {missing}")
    end = in_child(lambda: content(folder / "index", _ASKED)).value
    before = in_child(lambda: content(start, _ASKED)).value.tokens if start else {}
    return Start(start, end, before, stages)


def _spent(seen: Sequence[told.Told], stage: str) -> list[float]:
    """Seconds from each entry of a stage until the same process left it."""
    left = [t for t in seen if t.what == told.LEFT and t.stage == stage]
    ends = [
        min((o.at_s for o in left if o.pid == t.pid and o.at_s >= t.at_s), default=t.at_s)
        for t in told.entries(seen, stage)
    ]
    return [end - t.at_s for t, end in zip(told.entries(seen, stage), ends, strict=True)]


def _play(folder: Path, library: Path, start: Start, aim: Aim) -> Round:
    """One disturbed run, what holds right after it, and what the next run leads to."""
    done = Round(f"clips: {aim.stage}", aim.kind, round(1000 * aim.delay_s))
    ran = _run(folder, library, start.folder, aim)
    done.happened, done.stayed_s = ran.happened, ran.stayed_s
    done.ended = f"exit {ran.code}, {len(ran.failed)} failed"
    if ran.code not in _WELL or "Traceback" in ran.said:
        done.problems.append(f"exit {ran.code}: {ran.said[-1500:]}")
    if aim.kind in _SIGNALS:
        done.problems += ran.failed
    elif len(ran.failed) > 1 or (ran.code and not ran.failed):
        done.problems.append(f"others suffered: {ran.code}: {ran.failed} {ran.said[-500:]}")
    bound_s = START_S if aim.stage == told.START else BOUND_S
    if done.stayed_s > bound_s + _GONE_S / 2:
        done.problems.append(f"a worker that hung stayed for {done.stayed_s:.0f} s")
    done.problems += _outlived(told.read_told(folder / "told"))
    index, n_failed = folder / "index", len(ran.failed) if aim.kind not in _SIGNALS else None
    seen = in_child(lambda: _seen(index, start, n_failed))
    problems, done.notes_before = seen.value or ([seen.error or f"signal {seen.signal}"], 0)
    done.problems += [f"at once: {problem}" for problem in problems]
    again = _run(folder, library, None, Aim(), "--retry-failed", keep=True)
    if again.code or again.failed:
        done.problems.append(f"going on: exit {again.code}: {again.failed} {again.said[-500:]}")
    last = in_child(lambda: _last(index, start))
    done.problems += [last.error] if last.error else last.value
    return done


def _run(
    folder: Path, library: Path, start: Path | None, aim: Aim, *flags: str, keep: bool = False
) -> Ran:
    """Index the clips from ``start`` on (``keep``: from what is there)."""
    index, seen = folder / "index", folder / "told"
    seen.unlink(missing_ok=True)
    if not keep:
        shutil.rmtree(index, ignore_errors=True)
        if start is not None:
            shutil.copytree(start, index)
    command = _command(library, index, folder / "settings.toml", *flags)
    variables = {**environment(), told.TOLD: str(seen)}
    if aim.kind in _ORDERS:
        variables[told.ORDER] = f"{_ORDERS[aim.kind]} {aim.stage} {aim.number}"
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with subprocess.Popen(command, env=variables, stdout=out, stderr=err) as process:
            victim = _strike(process, seen, aim)
            stayed_s = _stays(victim) if victim and aim.kind == HANGS else 0.0
            code = _wait(process)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    taken = any(t.what == told.TAKEN for t in told.read_told(seen))
    report = json.loads(texts[0]) if texts[0].startswith("{") and code in (0, 1) else {}
    return Ran(code, texts[1], report, victim is not None or taken, stayed_s)


def _command(library: Path, index: Path, settings: Path, *flags: str) -> list[str]:
    import sys

    place = [str(library), "--index", str(index), "--settings", str(settings), "--prune"]
    return [sys.executable, "-m", "benchmarks.faults.told", "index", *place, *flags]


def _strike(process: subprocess.Popen[bytes], seen: Path, aim: Aim) -> int | None:
    """Wait for the moment, and send the signal; the process that it was sent to."""
    if aim.kind not in (*_SIGNALS, KILLED, HANGS):
        return None
    entered: list[told.Told] = []
    while len(entered) < aim.number:
        if process.poll() is not None:
            return None
        time.sleep(_LOOK_S)
        entered = told.entries(told.read_told(seen), aim.stage)
    time.sleep(aim.delay_s)
    in_engine = aim.kind in _SIGNALS
    victim = process.pid if in_engine else entered[aim.number - 1].pid
    if in_engine and process.poll() is not None:
        return None
    number = _SIGNALS.get(aim.kind, signal.SIGSTOP if aim.kind == HANGS else signal.SIGKILL)
    try:
        os.kill(victim, number)
    except ProcessLookupError:
        return None
    return victim


def _stays(pid: int) -> float:
    """Seconds until a process is gone."""
    start = time.monotonic()
    while _is_there(pid) and time.monotonic() - start < PATIENCE_S:
        time.sleep(0.05)
    return time.monotonic() - start


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise RuntimeError(f"the run hangs: {process.args!r}") from None


def _outlived(seen: Sequence[told.Told]) -> list[str]:
    """Processes of a run that are there although it has ended."""
    start, left = time.monotonic(), {t.pid for t in seen}
    while left and time.monotonic() - start < _GONE_S:
        left = {pid for pid in left if _is_there(pid)}
        time.sleep(_LOOK_S)
    return [f"process {pid} outlives its run" for pid in left]


def _is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _seen(index: Path, start: Start, n_failed: int | None) -> tuple[list[str], int]:
    """What does not hold right after (what is visible is right and sound; where only a worker was hit, all
    is there but what failed), and notes of what the next run tidies up."""
    try:
        read_manifest(index)
    except MmretrieveError:
        return [], 0  # killed before there was one
    now = content(index, _ASKED)
    problems = [
        f"video {v} is not as it should be"
        for v, tokens in now.tokens.items()
        if tokens not in (start.end.tokens.get(v), start.before.get(v))
    ]
    missing = start.end.tokens.keys() - now.tokens.keys()
    if n_failed is not None and len(missing) > n_failed:
        problems.append(f"{len(missing)} videos missing, {n_failed} failed")
    findings = verify(index, deep=True).findings
    bad = [f for f in findings if f.severity is not Severity.NOTE]
    problems += [f"{f.severity} {f.where}: {f.what}" for f in bad]
    return problems, len(findings) - len(bad)


def _last(index: Path, start: Start) -> list[str]:
    """What does not hold in the end: nothing to find, and all as of the undisturbed index."""
    findings = verify(index, deep=True).findings
    problems = [f"in the end: {f.severity} {f.where}: {f.what}" for f in findings]
    differs = compare(start.end, content(index, _ASKED))
    return problems + [f"content: {what}: {n}" for what, n in differs if n]
