"""Workers: what they give is what reading in this process gives, and whatever a file does to one costs
that file alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mmretrieve.config import LimitSettings, OcrSettings, Settings, SpeechSettings
from mmretrieve.datatypes import Probe, Segment
from mmretrieve.demo import clips_folder
from mmretrieve.documents import Picture
from mmretrieve.errors import (
    InputError,
    MediaError,
    MemoryLimitError,
    SetupError,
    StoppedError,
    TimeLimitError,
    UsageError,
    WorkerCrashError,
)
from mmretrieve.indexers.reading import FileReader, Listener, Reader, Reading, Wanted
from mmretrieve.indexers.speech import SpeechTrack
from mmretrieve.indexers.visual import VisualPassage
from mmretrieve.isolation import process
from mmretrieve.isolation.limits import resident_bytes, time_limit_s
from mmretrieve.isolation.pool import IsolatedReader
from mmretrieve.isolation.process import Worker
from tests import clips

QUIET = Settings(speech=SpeechSettings(model="off"), ocr=OcrSettings(enabled=False))


class Ear:
    """Keeps what it is told; ``at_probe`` is called when the facts of a file are known."""

    def __init__(self, at_probe: Callable[[], object] = lambda: None) -> None:
        self.probes: list[Probe] = []
        self.passages: list[VisualPassage] = []
        self.warnings: list[str] = []
        self._at_probe = at_probe

    def probed(self, probe: Probe) -> None:
        self.probes.append(probe)
        self._at_probe()

    def seen(self, passage: VisualPassage) -> None:
        self.passages.append(passage)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return clips.write_video(path, (clips.scene(i, 1, 160, 96) for i in range(48)))


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(QUIET)
    yield made
    made.close()


def read(reader: Reader, path: Path) -> tuple[Reading, Ear]:
    ear = Ear()
    return reader.read(path, ear), ear


def test_a_worker_gives_what_this_process_gives() -> None:
    settings = Settings()
    path = clips_folder() / "podcast_012.mp4"
    here, there = FileReader(settings), IsolatedReader(settings)
    try:
        (expected, told), (found, heard) = read(here, path), read(there, path)
    finally:
        here.close()
        there.close()
    assert len(found.track.segments) > 3 and found.track.source == "asr:tiny.en"
    assert replace(found, seconds={}) == replace(expected, seconds={})
    assert set(found.seconds) == set(expected.seconds)
    assert heard.probes == told.probes and heard.warnings == told.warnings
    assert len(heard.passages) == len(told.passages) > 0
    for a, b in zip(heard.passages, told.passages, strict=True):
        assert replace(a, keyframes=()) == replace(b, keyframes=())
        for x, y in zip(a.keyframes, b.keyframes, strict=True):
            assert (x.time_s, x.start_s, x.end_s) == (y.time_s, y.start_s, y.end_s)
            assert np.array_equal(x.image, y.image)


def test_what_is_known_is_not_read_again(worker: Worker, clip: Path) -> None:
    known = SpeechTrack((Segment("said before", 0.5, 1.5),), "asr:tiny.en", "en")
    ear = Ear()
    reading = worker.read(clip, ear, Wanted(pictures=False, written=False, heard=known))
    assert reading.track is known and reading.heard is None and not ear.passages
    assert worker.read(clip, ear, Wanted(heard=known)).track is known and ear.passages


def test_errors_of_a_file_come_through_and_the_worker_goes_on(
    worker: Worker, clip: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    pid = worker.pid
    with pytest.raises(MediaError, match=r"broken\.mp4"):
        worker.read(broken, Ear())
    assert worker.is_alive() and worker.pid == pid
    assert worker.read(clip, Ear()).probe.width == 160


@pytest.mark.parametrize(
    ("sent", "error", "told"),
    [
        (signal.SIGSEGV, WorkerCrashError, "SIGSEGV"),
        (signal.SIGABRT, WorkerCrashError, "SIGABRT"),
        (signal.SIGKILL, MemoryLimitError, "want of memory"),
    ],
)
def test_a_worker_that_dies_costs_its_file(
    clip: Path, sent: signal.Signals, error: type[InputError], told: str
) -> None:
    reader = IsolatedReader(QUIET)
    try:
        reader.warm_up(1)
        pid = next(iter(reader._idle)).pid
        with pytest.raises(error, match=told) as failure:
            reader.read(clip, Ear(lambda: os.kill(pid, sent)))
        assert "clip.mp4" in str(failure.value) and "--retry-failed" in str(failure.value)
        assert reader.n_lost == 1 and resident_bytes(pid) is None
        assert reader.read(clip, Ear()).probe.width == 160
    finally:
        reader.close()


def test_a_worker_that_hangs_is_killed(clip: Path) -> None:
    limits = LimitSettings(time_floor_s=0.5, time_factor=0.1)
    reader = IsolatedReader(replace(QUIET, limits=limits))
    try:
        reader.warm_up(1)
        pid = next(iter(reader._idle)).pid
        with pytest.raises(TimeLimitError, match=r"clip\.mp4: not read within .* time_floor_s"):
            reader.read(clip, Ear(lambda: os.kill(pid, signal.SIGSTOP)))
        assert resident_bytes(pid) is None
    finally:
        reader.close()


def jpegs(path: Path, width: int, height: int) -> Path:
    """A few grey pictures, which take little room whatever their size."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=2)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        for at in range(3):
            frame = av.VideoFrame(width, height, "yuvj420p")
            for plane in frame.planes:
                plane.update(bytes([128]) * plane.buffer_size)
            frame.pts = at
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_memory_is_bounded(tmp_path: Path) -> None:
    small, vast = (
        jpegs(tmp_path / "small.mkv", 160, 96),
        jpegs(tmp_path / "vast.mkv", 12_000, 9_000),
    )
    assert vast.stat().st_size < 6_000_000
    reader = IsolatedReader(replace(QUIET, limits=LimitSettings(memory_mb=600)))
    try:
        with pytest.raises(MemoryLimitError, match=r"vast\.mkv: .* more than 600 MB"):
            reader.read(vast, Ear())
        assert reader.read(small, Ear()).probe.width == 160
        assert reader.peak_bytes < 800 << 20
    finally:
        reader.close()


def test_a_picture_is_what_this_process_decodes(worker: Worker, tmp_path: Path) -> None:
    turned, broken = tmp_path / "turned.jpg", tmp_path / "broken.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned to the right
    Image.effect_noise((64, 48), 80).convert("RGB").save(turned, exif=exif)
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    pid, wanted = worker.pid, Picture(turned).pixels()
    assert wanted.shape == (64, 48, 3)
    with pytest.raises(InputError, match=r"picture .*broken\.png cannot be read"):
        worker.picture(broken)
    assert np.array_equal(worker.picture(turned), wanted)
    assert worker.is_alive() and worker.pid == pid


def test_the_largest_picture_fits_into_the_usual_bound_and_into_no_less(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("RGBA", (8_192, 8_192), (9, 99, 200, 255)).save(path)
    for limits, fits in ((QUIET.limits, True), (LimitSettings(memory_mb=600), False)):
        reader = IsolatedReader(replace(QUIET, limits=limits))
        with closing(reader):
            if fits:
                assert reader.picture(path)[4_000, 8_000].tolist() == [9, 99, 200]
            else:
                with pytest.raises(MemoryLimitError, match=r"large\.png: .* more than 600 MB"):
                    reader.picture(path)


def test_who_waits_is_released_when_the_reader_is_closed(clip: Path) -> None:
    reader = IsolatedReader(QUIET)
    reader.warm_up(1)
    pid = next(iter(reader._idle)).pid
    closing = threading.Thread(target=reader.close)

    def stall() -> None:
        os.kill(pid, signal.SIGSTOP)
        closing.start()

    with pytest.raises(StoppedError):
        reader.read(clip, Ear(stall))
    closing.join()
    assert resident_bytes(pid) is None
    with pytest.raises(StoppedError):
        reader.read(clip, Ear())


def test_an_error_in_the_engine_leaves_no_worker_in_the_middle_of_a_file(clip: Path) -> None:
    def fail() -> None:
        raise KeyError("the engine's own")

    reader = IsolatedReader(QUIET)
    try:
        with pytest.raises(KeyError):
            reader.read(clip, Ear(fail))
        assert reader.read(clip, Ear()).probe.width == 160
    finally:
        reader.close()


READY = """
import json, os, struct, sys
def send(text):
    data = text.encode()
    os.write(1, struct.pack("<I", len(data)) + data)
send('{"kind": "ready", "body": {}, "blobs": []}')
os.read(0, 1 << 16)
"""


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("os.write(1, struct.pack('<I', 1 << 31) + b'x' * 100)", "expected at most"),
        ("send('no JSON')", "no message"),
        ("send('[1, 2]')", "no message"),
        ('send(\'{"kind": "probe", "body": {"duration_s": NaN}, "blobs": []}\')', "no message"),
        ('send(\'{"kind": "reading", "body": {}, "blobs": []}\')', "out of turn"),
        ('send(\'{"kind": "shell", "body": {}, "blobs": []}\')', "out of turn"),
        ('send(\'{"kind": "probe", "body": {"a": 1}, "blobs": []}\')', "other fields"),
        ('send(\'{"kind": "x", "body": {}, "blobs": [99999999999]}\')', "sizes that cannot be"),
        ('send(\'{"kind": "passage", "body": {"number": 0}, "blobs": []}\')', "other fields"),
    ],
)
def test_a_worker_that_was_taken_over_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, clip: Path, says: str, told: str
) -> None:
    monkeypatch.setattr(process, "_PROGRAM", f"{READY}\n{says}\nos.read(0, 1)")
    taken = Worker(QUIET)
    try:
        with pytest.raises(WorkerCrashError, match=told):
            taken.read(clip, Ear())
        assert not taken.is_alive()
    finally:
        taken.close()


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ('"picture", "body": {"size": [2, 2]}, "blobs": []', "other fields"),
        ('"picture", "body": {"size": [2, 2, 3]}, "blobs": [0]', "a row of 2"),
        ('"picture", "body": {"size": [-1, -1]}, "blobs": [0]', "a count"),
        ('"picture", "body": {"size": [90000, 90000]}, "blobs": [0]', "90000 x 90000 in 0 bytes"),
        ('"reading", "body": {}, "blobs": []', "out of turn"),
    ],
)
def test_a_picture_that_cannot_be_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, message: str, told: str
) -> None:
    says = f"send('{{\"kind\": {message}}}')"
    monkeypatch.setattr(process, "_PROGRAM", f"{READY}\n{says}\nos.read(0, 1)")
    with closing(Worker(QUIET)) as taken:
        with pytest.raises(WorkerCrashError, match=told):
            taken.picture(Path("a.png"))
        assert not taken.is_alive()


def test_a_worker_can_name_only_errors_of_files_and_of_the_installation(
    monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    body = '{"error": "KeyboardInterrupt", "text": "x"}'
    says = f'send(\'{{"kind": "failed", "body": {body}, "blobs": []}}\')'
    monkeypatch.setattr(process, "_PROGRAM", f"{READY}\n{says}\nos.read(0, 1)")
    taken = Worker(QUIET)
    try:
        with pytest.raises(WorkerCrashError):
            taken.read(clip, Ear())
    finally:
        taken.close()


def test_a_worker_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    monkeypatch.setattr(process, "_PROGRAM", "import a_library_that_is_not_there")
    dead = Worker(QUIET)
    try:
        with pytest.raises(SetupError, match="a_library_that_is_not_there"):
            dead.read(clip, Ear())
    finally:
        dead.close()


def test_nothing_is_imported_from_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    for name in ("av", "json", "cv2", "mmretrieve"):
        (tmp_path / f"{name}.py").write_text("open('taken', 'w').close()\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    made = Worker(QUIET)
    try:
        assert made.read(clip, Ear()).probe.width == 160
    finally:
        made.close()
    assert not (tmp_path / "taken").exists()


def test_time_grows_with_the_media_but_claims_buy_none() -> None:
    limits = LimitSettings(time_floor_s=100.0, time_factor=10.0, time_cap_s=5_000.0)

    def limit(duration_s: float, size_bytes: int) -> float:
        return time_limit_s(limits, Probe(duration_s, "mp4", size_bytes))

    assert time_limit_s(limits, None) == 100
    assert limit(60, 10_000_000) == 700
    assert limit(3600, 1_000_000_000) == 5_000
    assert limit(1e9, 5_000) == 100 + 10 * 20
    assert limit(0, 5_000) == 100 + 10 * 20


@pytest.mark.parametrize("field", ["memory_mb", "time_floor_s", "time_factor", "time_cap_s"])
def test_bounds_must_be_above_zero(field: str, clip: Path) -> None:
    reader: Reader = IsolatedReader(replace(QUIET, limits=replace(LimitSettings(), **{field: 0})))
    listener: Listener = Ear()
    with pytest.raises(UsageError, match=field):
        reader.read(clip, listener)
