"""Workers that are killed before they saw a file, and those that are at their bound of memory."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from mmretrieve.config import LimitSettings, OcrSettings, Settings, SpeechSettings
from mmretrieve.errors import InputError, MemoryLimitError, SetupError
from mmretrieve.isolation import process
from mmretrieve.isolation.limits import memory_is_bounded
from mmretrieve.isolation.pool import IsolatedReader
from tests import clips
from tests.unit.test_isolation import Ear

QUIET = Settings(speech=SpeechSettings(model="off"), ocr=OcrSettings(enabled=False))
_GREEDY = """
import mmap
kept = []
def greedy(work):
    def read(*arguments):
        found = work(*arguments)
        size = 64 << 20
        while size >= 1 << 16:
            try:
                kept.append(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            except OSError:
                size //= 2
        return found
    return read
from mmretrieve.indexers.reading import FileReader
FileReader.read = greedy(FileReader.read)
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return clips.write_video(path, (clips.scene(i, 1, 160, 96) for i in range(48)))


def _killed_as_they_start(monkeypatch: pytest.MonkeyPatch, n: int) -> list[int]:
    """The first ``n`` workers are killed before they are ready; pids of all that were started."""
    start, started = process.Worker.__init__, []

    def killed(self: process.Worker, settings: Settings) -> None:
        start(self, settings)
        started.append(self.pid)
        if len(started) <= n:
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(process.Worker, "__init__", killed)
    return started


def test_a_worker_that_is_killed_before_it_saw_a_file_is_replaced(
    monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    started = _killed_as_they_start(monkeypatch, 1)
    reader = IsolatedReader(QUIET)
    try:
        assert reader.read(clip, Ear()).probe.width == 160
    finally:
        reader.close()
    assert len(started) == 2


def test_workers_that_are_killed_again_end_the_run(
    monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    started = _killed_as_they_start(monkeypatch, 2)
    reader = IsolatedReader(QUIET)
    try:
        with pytest.raises(SetupError, match="does not start"):
            reader.read(clip, Ear())
    finally:
        reader.close()
    assert len(started) == 2


@pytest.mark.skipif(not memory_is_bounded(), reason="this system does not bound memory")
def test_what_was_read_at_the_bound_of_memory_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    head, imported, rest = process._PROGRAM.partition("from mmretrieve")
    monkeypatch.setattr(process, "_PROGRAM", f"{head}exec({_GREEDY!r});{imported}{rest}")
    reader = IsolatedReader(replace(QUIET, limits=LimitSettings(memory_mb=1024)))
    try:
        with pytest.raises(MemoryLimitError, match="1024 MB") as raised:
            reader.read(clip, Ear())
    finally:
        reader.close()
    assert isinstance(raised.value, InputError)
    assert "--retry-failed" in str(raised.value)
