"""One disturbed run, and everything that has to hold after it."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contents import Content, compare, content, tokens_of
from benchmarks.faults.library import QUERIES, quick_encoder
from benchmarks.faults.processes import Ended, in_child
from benchmarks.faults.shim import Control, Fault
from benchmarks.faults.stages import INDEX, Stage
from mmretrieve import Engine
from mmretrieve.errors import IndexNotFoundError
from mmretrieve.health.findings import Severity
from mmretrieve.health.verify import verify
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.reader import Snapshot

KILL, TERM, INT = "SIGKILL", "SIGTERM", "SIGINT"
FULL, FULL_DISK, LARGE = "ENOSPC", "full tmpfs", "file size limit"
IO, READ, ACCESS = "EIO", "EIO on reading", "EACCES"
KILLS = (KILL, TERM, INT)
FAULTS = (FULL, FULL_DISK, LARGE, IO, READ, ACCESS)
_ERRORS = {FULL: errno.ENOSPC, IO: errno.EIO, READ: errno.EIO, ACCESS: errno.EACCES}


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What a stage starts from (a folder), what it leads to, and how many calls it makes that change
    and that read something; ``before``: tokens of the videos that are there at the start."""

    start: Path
    end: Content
    before: dict[str, str]
    n_writes: int
    n_reads: int


@dataclass(slots=True)
class Round:
    """What came of one disturbed run. ``problems``: what does not hold, none if all is well;
    ``stayed_s``: how long a worker that hung was let be."""

    stage: str
    kind: str
    at: int
    happened: bool = False
    ended: str = ""
    notes_before: int = 0
    problems: list[str] = field(default_factory=list)
    stayed_s: float = 0.0


def quick(work: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """The work with the quick encoder, for a child."""

    def do() -> Any:
        with quick_encoder():
            return work(*arguments)

    return do


def undisturbed(stage: Stage, folder: Path, control: Control) -> Undisturbed:
    """Go through a stage without faults.

    Raises:
        RuntimeError: it fails, or what it leads to is not sound.
    """
    start, copy = folder / "start", folder / "whole"
    _need(in_child(quick(stage.prepare, start)))
    counts = []
    for reads in (False, True):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(start, copy)
        _need(in_child(quick(_armed, stage, copy, control, Fault(reads=reads))))
        counts.append(control.disarm()[0])
    _need(in_child(quick(stage.end, copy)))
    findings = _need(in_child(quick(_findings, copy / INDEX)))
    if findings:
        raise RuntimeError(f"{stage.name}: not sound even undisturbed: {findings}")
    end = _need(in_child(quick(content, copy / INDEX, QUERIES)))
    before = _need(in_child(quick(_tokens, start / INDEX)))
    shutil.rmtree(copy)
    return Undisturbed(start, end, before, *counts)


def play(
    stage: Stage, known: Undisturbed, kind: str, folder: Path, control: Control, rng: random.Random
) -> Round:
    """One round: a copy of the start is disturbed, looked at, and brought to its end."""
    fault = _fault(kind, known, rng)
    done = Round(stage.name, kind, fault.at)
    with _disk(known.start, folder, kind, rng) as grow:
        ended = in_child(quick(_disturbed, stage, folder, control, fault, kind, rng.random()))
        _, done.happened = control.disarm()
        done.ended = _told(ended)
        if ended.hung:
            done.problems.append("it hung")
        if ended.error.startswith(("PanicException", "SystemError", "AssertionError")):
            done.problems.append(f"an error without a name: {ended.error}\n{ended.trace[-1500:]}")
        done.happened |= kind in (FULL_DISK, LARGE) and bool(ended.error)
        grow()
        _look(stage, known, folder, done)
    return done


def _look(stage: Stage, known: Undisturbed, folder: Path, done: Round) -> None:
    """All that has to hold: at once, after what a user does next, and in the end."""
    ended = in_child(quick(_all_that_has_to_hold, stage, known, folder))
    if ended.error or ended.signal:
        done.problems.append(f"going on: {_told(ended)}\n{ended.trace[-1500:]}")
        return
    problems, done.notes_before = ended.value
    done.problems += problems


def _all_that_has_to_hold(stage: Stage, known: Undisturbed, folder: Path) -> tuple[list[str], int]:
    index = folder / INDEX
    problems, n_notes = _at_once(index, known, stage.name == "repair")
    problems = [f"at once: {told}" for told in problems]
    stage.end(folder)
    problems += [f"in the end: {told}" for told in _findings(index)]
    differs = compare(known.end, content(index, QUERIES))
    problems += [f"content: {what}: {n}" for what, n in differs if n]
    return problems, n_notes


def _at_once(index: Path, known: Undisturbed, damaged: bool) -> tuple[list[str], int]:
    """Problems, and notes about what the next run tidies up. What can be seen is whole videos of
    before or after; what was damaged beforehand may still be."""
    try:
        manifest = read_manifest(index)
    except IndexNotFoundError:
        return [], 0
    report = verify(index, deep=True)
    bad = [f for f in report.findings if f.severity is not Severity.NOTE]
    problems = [] if damaged else [f"{f.severity} {f.where}: {f.what}" for f in bad]
    snapshot = Snapshot(index, manifest)
    for video, tokens in tokens_of(snapshot).items():
        if tokens not in (known.before.get(video), known.end.tokens.get(video)):
            problems.append(f"video {video} is half written")
    with Engine.open(index) as engine:
        for query in QUERIES:
            engine.search(query)
    return problems, report.count(Severity.NOTE)


def _findings(index: Path) -> list[str]:
    """All that a thorough check says, notes too: in the end nothing may be left over."""
    report = verify(index, deep=True)
    return [f"{f.severity} {f.where}: {f.what}" for f in report.findings]


def _tokens(index: Path) -> dict[str, str]:
    return tokens_of(Snapshot(index, read_manifest(index))) if index.is_dir() else {}


def _armed(stage: Stage, folder: Path, control: Control, fault: Fault) -> None:
    control.arm(folder.resolve(), fault)
    stage.act(folder)


def _disturbed(
    stage: Stage, folder: Path, control: Control, fault: Fault, kind: str, share: float
) -> None:
    if kind == LARGE:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = int(200 * 100**share)  # 200 bytes to 20 kB, evenly in the logarithm
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    _armed(stage, folder, control, fault)


def _fault(kind: str, known: Undisturbed, rng: random.Random) -> Fault:
    at = rng.randint(1, max(known.n_writes, 1))
    if kind in KILLS:
        number = {KILL: signal.SIGKILL, TERM: signal.SIGTERM, INT: signal.SIGINT}[kind]
        return Fault(at, signal=number, torn=rng.random() < 0.5)
    if kind == READ:
        return Fault(rng.randint(1, max(known.n_reads, 1)), errno.EIO, reads=True)
    if kind in _ERRORS:
        return Fault(at, _ERRORS[kind], sticky=kind != IO or rng.random() < 0.5)
    return Fault()


@contextmanager
def _disk(start: Path, folder: Path, kind: str, rng: random.Random) -> Iterator[Callable[[], None]]:
    """A copy of the start; for a full disk on one that has little room left, and a function that gives it
    more."""
    shutil.rmtree(folder, ignore_errors=True)
    if kind != FULL_DISK:
        shutil.copytree(start, folder)
        yield lambda: None
        shutil.rmtree(folder)
        return
    folder.mkdir()
    used = sum((p.stat().st_size + 4095) // 4096 * 4096 for p in start.rglob("*") if p.is_file())
    room = used + rng.randint(0, 300) * 1024
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(folder)]
    subprocess.run(mount, check=True)
    try:
        shutil.copytree(start, folder, dirs_exist_ok=True)
        yield lambda: _grow(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def _grow(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)


def may_mount(folder: Path) -> bool:
    """Whether this process may mount a file system."""
    if os.geteuid() or shutil.which("mount") is None:
        return False
    tried = folder / "mount"
    tried.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tried)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        return False
    subprocess.run(["umount", str(tried)], check=True)
    return True


def _told(ended: Ended) -> str:
    if ended.signal:
        return f"killed by {signal.Signals(ended.signal).name}"
    return ended.error.splitlines()[0][:200] if ended.error else "done"


def _need(ended: Ended) -> Any:
    if ended.error or ended.signal:
        raise RuntimeError(f"{_told(ended)}\n{ended.trace}")
    return ended.value
