"""Full disks, killed writers, and readers beside a writer: codes are as before, or as after."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from mmretrieve.errors import CodesError
from mmretrieve.storage.codes import catalogue as catalogues
from mmretrieve.storage.codes import files, reading
from mmretrieve.storage.codes.policy import Limits
from mmretrieve.storage.codes.update import rebuild, update
from mmretrieve.storage.records import VideoEntry
from tests import codes_index as ci


class _Full:
    """A file on a disk with room for so many more writes."""

    def __init__(self, file: Any, room: list[int]) -> None:
        self._file = file
        self._room = room

    def write(self, data: bytes) -> int:
        self._room[0] -= 1
        if self._room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 1, 5, 20, 30, 45])
def test_a_full_disk_leaves_codes_as_they_were(
    tmp_path: Path,
    entries: list[VideoEntry],
    limits: Limits,
    room: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = sorted(p.relative_to(tmp_path) for p in (tmp_path / "codes").rglob("*"))
    was = (tmp_path / "codes" / "catalogue.json").read_bytes()
    left, start = [room], files.FolderSink._start

    def full(sink: files.FolderSink, name: str, rows: np.ndarray) -> Any:
        opened = start(sink, name, rows)
        opened.file = cast("Any", _Full(opened.file, left))
        return opened

    with monkeypatch.context() as patched:
        patched.setattr(files.FolderSink, "_start", full)
        with pytest.raises(CodesError, match="No space left on device"):
            rebuild(tmp_path, ci.ONE_WIDTH, ci.KERNELS, limits)
    assert (tmp_path / "codes" / "catalogue.json").read_bytes() == was
    assert sorted(p.relative_to(tmp_path) for p in (tmp_path / "codes").rglob("*")) == before
    codes = ci.assert_right(tmp_path, entries)
    assert (len(codes.segments), codes.notes) == (2, ())
    ci.assert_mended(tmp_path, entries, limits)


def test_no_room_for_the_catalogue(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        if "catalogue" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(CodesError, match="No space left"):
            rebuild(tmp_path, ci.ONE_WIDTH, ci.KERNELS, limits)
    assert len(ci.assert_right(tmp_path, entries).segments) == 2
    ci.assert_mended(tmp_path, entries, limits)


KILLED = """
import os, signal, sys
from pathlib import Path
import lance
from mmretrieve.storage.codes import catalogue, files, update
from tests import codes_index as ci

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def after(n, real):
    left = [n]
    def call(*given):
        left[0] -= 1
        if left[0] < 0:
            die()
        return real(*given)
    return call

folder, when, coded = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "coded"
limits = ci.CODED if coded else ci.EXACT
if when.isdecimal():
    files.FolderSink.append = after(int(when), files.FolderSink.append)
elif when == "before the switch":
    update.write_catalogue = die
elif when == "while switching":
    Path.replace = die
elif when == "after the switch":
    real = update.write_catalogue
    update.write_catalogue = lambda *given: (real(*given), die())
update.rebuild(folder, ci.ONE_WIDTH, ci.KERNELS, limits)
print("survived")
"""


@pytest.mark.parametrize(
    "when", ["3", "20", "50", "before the switch", "while switching", "after the switch"]
)
def test_a_killed_writer_leaves_only_what_no_one_names(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits, when: str
) -> None:
    kind = "coded" if limits.exact_below == 1 else "exact"
    if kind == "exact" and when == "20":
        pytest.skip("one such kill is enough")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), when, kind],
        cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    codes = ci.assert_right(tmp_path, entries)
    assert (codes.uncovered, codes.notes) == (frozenset(), ())
    assert len(codes.segments) == (1 if when == "after the switch" else 2)
    named = catalogues.read_catalogue(tmp_path / "codes").folders()
    there = {p.name for p in (tmp_path / "codes").iterdir() if p.is_dir()}
    assert named < there
    ci.assert_mended(tmp_path, entries, limits)
    there = {p.name for p in (tmp_path / "codes").iterdir() if p.is_dir()}
    assert there == catalogues.read_catalogue(tmp_path / "codes").folders()


def test_a_reader_that_comes_late_looks_again(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = catalogues.read_catalogue(tmp_path / "codes")
    rebuild(tmp_path, ci.ONE_WIDTH, ci.KERNELS, limits)
    ci.upkeep(tmp_path, limits)  # removes what the old catalogue names
    answers = iter([old])
    real = catalogues.read_catalogue
    monkeypatch.setattr(reading, "read_catalogue", lambda codes: next(answers, None) or real(codes))
    codes = ci.assert_right(tmp_path, entries)
    assert (codes.uncovered, codes.notes, len(codes.segments)) == (frozenset(), (), 1)


def test_what_is_mapped_stays_when_its_files_go(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_READ_BYTES", 0)
    old = ci.opened(tmp_path)
    patient = replace(limits, grace_s=1000, waste=float("inf"))
    rebuild(tmp_path, ci.ONE_WIDTH, ci.KERNELS, patient)
    assert update(tmp_path, ci.ONE_WIDTH, ci.KERNELS, patient).built == ()
    there = {p.name for p in (tmp_path / "codes").iterdir()}
    assert {s.name for s in old.segments} < there
    ci.upkeep(tmp_path, limits)
    there = {p.name for p in (tmp_path / "codes").iterdir()}
    assert not {s.name for s in old.segments} & there
    found, wanted = ci.contents(old), ci.expected(entries)
    ci.assert_same(found, wanted, 0.6)


def test_readers_see_whole_states_while_a_writer_works(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits
) -> None:
    first, last = ci.opened(tmp_path), ci.opened(tmp_path)
    seen: list[tuple[frozenset[str], tuple[str, ...], str]] = []
    done = threading.Event()
    live = ci.live(tmp_path)

    def read() -> None:
        nonlocal last
        while not done.is_set():
            last = reading.open_codes(tmp_path, ci.ONE_WIDTH, live)
            seen.append((last.uncovered, last.notes, last.segments[0].name))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(4):
        rebuild(tmp_path, ci.ONE_WIDTH, ci.KERNELS, replace(limits, grace_s=600))
    done.set()
    reader.join()
    assert len(seen) > 4
    assert {state[:2] for state in seen} == {(frozenset(), ())}
    assert len({name for _, _, name in seen}) > 1
    for codes in (first, last):
        ci.assert_same(ci.contents(codes), ci.expected(entries), 0.6)


def test_small_files_hold_no_descriptors(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits
) -> None:
    there = Path("/proc/self/fd")
    if not there.exists():
        pytest.skip("needs /proc")
    ci.opened(tmp_path)
    before = len(list(there.iterdir()))
    held = [ci.opened(tmp_path) for _ in range(20)]
    assert len(list(there.iterdir())) < before + 20
    assert all(len(codes.segments) == 2 for codes in held)


def test_folders_let_go_of_stay_no_longer_than_there_is_room(
    tmp_path: Path, limits: Limits
) -> None:
    """Twenty rebuilds within the grace: what is kept of them is a share of what is in use."""
    tight = replace(limits, grace_s=1000, waste=1.5, least_grace_s=0)
    for _ in range(20):
        rebuild(tmp_path, ci.ONE_WIDTH, ci.KERNELS, tight)
    update(tmp_path, ci.ONE_WIDTH, ci.KERNELS, tight)
    sizes = {
        folder.name: sum(file.stat().st_size for file in folder.iterdir())
        for folder in (tmp_path / "codes").iterdir()
        if folder.is_dir()
    }
    live = catalogues.read_catalogue(tmp_path / "codes").folders()
    in_use = sum(size for name, size in sizes.items() if name in live)
    assert live < sizes.keys()  # a reader that is late finds the state before
    assert sum(sizes.values()) <= 2.5 * in_use
