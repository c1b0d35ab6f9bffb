"""``crash``: kill an indexing process again and again; in the end nothing may be missing or wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contents import Content, compare, content, tokens_of
from benchmarks.program import QUICK, command, copies, environment
from benchmarks.program import run as run_process
from benchmarks.result import Result
from mmretrieve import Engine
from mmretrieve.demo import QUERIES
from mmretrieve.errors import IndexNotFoundError
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.reader import Snapshot

N_COPIES = 40
CLIPS = ("clip_0007.mp4", "screen_0931.mp4", "lecture_05.mp4", "GX010115.mp4")
WRITING_S = 0.15
"""Every other kill comes within this time after the tables were touched, where it hurts most."""
_POLL_S = 0.01
ASKED = tuple(asked.text for asked in QUERIES)


def run(folder: Path | None, times: int, seed: int) -> int:
    """Print the kills and the comparison; 1 when the indexes differ."""
    result, rng = Result("crash"), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="mmretrieve-crash-") as name:
        temporary = Path(name)
        flags = QUICK if folder is None else ()
        folder = folder or copies(temporary / "clips", N_COPIES, CLIPS)
        whole, broken = temporary / "undisturbed", temporary / "killed"
        took_s = run_process(command("index", folder, "--index", whole, *flags))
        expected = content(whole, ASKED)
        arguments = command("index", folder, "--index", broken, *flags)
        rows, wrong = [], 0
        for number in range(1, times + 1):
            row, intact = _round(number, arguments, broken, took_s, rng, expected)
            rows.append(row)
            wrong += not intact
        run_process(arguments)
        found = content(broken, ASKED)
    columns = ("kill", "aimed at", "after s", "ended by", "videos seen", "leftovers", "readable")
    title = f"{times} kills, seed {seed}; undisturbed run: {took_s:.1f} s"
    result.add(title, columns, rows)
    differences = compare(expected, found)
    result.add(
        "After the last run, against the undisturbed index", ("what", "differs"), differences
    )
    result.save()
    return int(wrong > 0 or any(n for _, n in differences))


def _round(
    number: int,
    arguments: Sequence[str],
    index: Path,
    took_s: float,
    rng: random.Random,
    expected: Content,
) -> tuple[tuple[str | int | float, ...], bool]:
    """One process, killed; when it was done before, the next one starts over with ``--force``."""
    writing = number % 2 == 0
    done = _n_videos(index) == len(expected.tokens)
    process = subprocess.Popen(
        [*arguments, *(["--force"] if done else [])],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    start = time.perf_counter()
    if writing:
        _await_write(process, index)
        time.sleep(rng.uniform(0, WRITING_S))
    else:
        _await(process, rng.uniform(0, took_s))
    after_s = time.perf_counter() - start
    ended_by = "itself" if process.poll() is not None else "kill -9"
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    seen, leftovers, intact = _look(index, expected)
    aim = ("a write" if writing else "any time") + (", --force" if done else "")
    return (number, aim, after_s, ended_by, seen, leftovers, "yes" if intact else "NO"), intact


def _look(index: Path, expected: Content) -> tuple[int, int, bool]:
    """Videos, leftovers, and whether what is visible is right and can be searched."""
    if not _exists(index):
        return 0, 0, True
    snapshot = Snapshot(index, read_manifest(index))
    tokens = tokens_of(snapshot)
    right = all(expected.tokens.get(name) == found for name, found in tokens.items())
    if tokens:
        with Engine.open(index) as engine:
            right &= bool(engine.search(QUERIES[0].text).hits)
    return len(tokens), len(snapshot.unmarked_revisions()), right


def _n_videos(index: Path) -> int:
    return len(Snapshot(index, read_manifest(index)).videos) if _exists(index) else 0


def _exists(index: Path) -> bool:
    try:
        read_manifest(index)
    except IndexNotFoundError:
        return False
    return True


def _await(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _await_write(process: subprocess.Popen[bytes], index: Path) -> None:
    """Until passages are written, or the process is done."""
    table = index / "lance" / "passages.lance"
    before = _state(table)
    while process.poll() is None and _state(table) == before:
        time.sleep(_POLL_S)


def _state(table: Path) -> int:
    return sum(1 for _ in table.rglob("*.lance")) if table.exists() else 0
