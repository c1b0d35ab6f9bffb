"""An index that follows its folders: real files, real processes, waiting on conditions."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmretrieve import Engine
from mmretrieve.config import Settings
from mmretrieve.lifecycle.settling import Settler
from mmretrieve.lifecycle.signals import Bell, concern
from mmretrieve.storage.folder import acquire_lock

MakeClip = Callable[..., Path]
PATIENCE_S = 600.0
_MAIN = "from mmretrieve.cli import main; main()"


class _Watching:
    """A process that watches, and what it said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert self.process.poll() is None, (what, self.lines)
            assert time.monotonic() < end, (what, self.lines)
            time.sleep(0.05)

    def says(self, text: str, after: int = 0) -> None:
        """Wait until a line holds a text."""
        self.until(lambda: any(text in line for line in self.lines[after:]), text)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        self._thread.join()
        return self.process.returncode


@contextmanager
def watching(index: Path, *arguments: str | Path) -> Iterator[_Watching]:
    command = [sys.executable, "-c", _MAIN, "watch", "--index", str(index), *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        seen = _Watching(process)
        try:
            yield seen
        finally:
            process.kill()


def names(index: Path) -> list[str]:
    with Engine.open(index) as engine:
        return sorted(Path(v.path).name for v in engine.videos())


@pytest.fixture
def index(tmp_path: Path, make_clip: MakeClip, quiet_settings: Settings) -> Path:
    make_clip(tmp_path / "videos" / "a.mp4", 1)
    with Engine.create(tmp_path / "index", quiet_settings) as engine:
        engine.index([tmp_path / "videos"])
    return tmp_path / "index"


@pytest.mark.parametrize("how", [[], ["--poll", "0.2"]], ids=["told", "polling"])
def test_an_index_follows_its_folder(
    tmp_path: Path, index: Path, make_clip: MakeClip, how: list[str]
) -> None:
    videos, ready = tmp_path / "videos", make_clip(tmp_path / "ready.mp4", 2, seconds=4)
    given: list[str | Path] = [videos, "--settle", "0.3", "--prune", "--exclude", "no*", *how]
    with watching(index, *given) as seen:
        seen.says("watching")
        (videos / "bad.mp4").write_bytes(b"no video" * 50)
        make_clip(videos / "not this.mp4", 9)
        content = ready.read_bytes()
        half = videos / "b.mp4"
        with half.open("wb") as file:  # slowly copied, and looked at in between
            file.write(content[: len(content) // 2])
            file.flush()
            seen.says(f"waiting for {half}")
            seen.says("bad.mp4: ")
            assert names(index) == ["a.mp4"]
            file.write(content[len(content) // 2 :])
        seen.until(lambda: names(index) == ["a.mp4", "b.mp4"], "the copy is indexed")
        (videos / "a.mp4").rename(videos / "c.mp4")
        seen.until(lambda: names(index) == ["b.mp4", "c.mp4"], "the rename is seen")
        half.unlink()
        seen.until(lambda: names(index) == ["c.mp4"], "the deleted one is pruned")
        assert seen.end(signal.SIGTERM) == 0
    assert seen.lines[-1] == "watching ended; what was done is kept"
    assert not any("not this" in line for line in seen.lines)
    acquire_lock(index).release()


def test_another_writer_is_waited_for_and_gets_in(
    tmp_path: Path, index: Path, make_clip: MakeClip
) -> None:
    videos = tmp_path / "videos"
    with watching(index, videos, "--settle", "0.2") as seen:
        seen.says("watching")
        lock = acquire_lock(index)  # free although it is watched
        try:
            make_clip(videos / "b.mp4", 2)
            seen.says("another process is writing")
            assert names(index) == ["a.mp4"]
        finally:
            lock.release()
        seen.until(lambda: names(index) == ["a.mp4", "b.mp4"], "indexed after all")
        assert seen.end(signal.SIGINT) == 0
    assert seen.lines[-1] == "watching ended; what was done is kept"


def test_only_folders_are_watched(tmp_path: Path, index: Path) -> None:
    command = [sys.executable, "-c", _MAIN, "watch", str(tmp_path / "videos" / "a.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "expected folders" in done.stderr) == (2, True)


def test_half_a_file_is_held_until_it_stands_still(tmp_path: Path, make_clip: MakeClip) -> None:
    now, told = [100.0], list[Path]()
    settler = Settler(2.0, told.append, lambda: now[0])
    whole = make_clip(tmp_path / "whole.mp4", 1)
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[:500])

    def asked(at_s: float) -> dict[str, bool]:
        now[0] = at_s
        settler.begin()
        held = {path.name: settler.hold(path) for path in (whole, half)}
        settler.end()
        return held

    assert asked(100) == {"whole.mp4": True, "half.mp4": True}
    assert asked(101.9) == {"whole.mp4": True, "half.mp4": True}
    assert settler.waiting == (half, whole)
    assert asked(102.0) == {"whole.mp4": False, "half.mp4": True}  # still, but not readable
    half.write_bytes(whole.read_bytes()[:900])
    assert asked(119.9)["half.mp4"] and asked(121.8)["half.mp4"]
    assert asked(139.8)["half.mp4"]
    assert not asked(139.9)["half.mp4"]  # patience ends: it is broken, not half
    assert told.count(half) == 1
    old = tmp_path / "old.mp4"
    shutil.copyfile(whole, old)
    os.utime(old, (1e9, 1e9))
    assert not settler.hold(old)  # finished long ago


def test_what_counts_as_a_change(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    (root / "index").mkdir(parents=True)
    counts = concern([root], root / "index", ["draft*", "cut/old"])
    assert counts(root / "a.mp4") and counts(root / "deep" / "a.srt")
    left_out = ("index/lance/x", ".hidden/a.mp4", "deep/.a.mp4", "draft 1/a.mp4", "cut/old/a.mp4")
    assert not any(counts(root / name) for name in left_out)
    assert counts(root / "cut" / "new" / "a.mp4")


def test_a_system_that_does_not_tell_is_a_fault_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> Iterator[set[tuple[int, str]]]:
        raise OSError("inotify watch limit reached")

    monkeypatch.setattr("watchfiles.watch", fails)
    bell = Bell(lambda path: True)
    bell.listen([tmp_path])
    assert bell.wait(PATIENCE_S)
    assert bell.fault == "inotify watch limit reached"
    bell.close()
