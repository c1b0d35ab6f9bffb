from __future__ import annotations

import itertools
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mmretrieve.errors import MediaError
from mmretrieve.indexers import media
from tests import clips

ROTATIONS = [(0, 0), (-90, 90), (180, 180), (90, 270)]


def scenes(n: int, width: int = 320, height: int = 180) -> list[clips.Picture]:
    return [clips.scene(i, i // 12, width, height) for i in range(n)]


def test_probe_facts(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "a.mp4", scenes(24), tags={"title": "Süße Grüße"})
    facts = media.probe(path)
    assert (facts.width, facts.height, facts.fps) == (320, 180, 12.0)
    assert facts.duration_s == pytest.approx(2.0)
    assert facts.has_video and not facts.has_audio
    assert facts.video_codec == "h264"
    assert facts.size_bytes == path.stat().st_size
    assert facts.tags["title"] == "Süße Grüße"


@pytest.mark.parametrize(("matrix_deg", "shown_deg"), ROTATIONS)
def test_rotation_is_applied_everywhere(tmp_path: Path, matrix_deg: int, shown_deg: int) -> None:
    marked = np.full((64, 128, 3), 40, np.uint8)
    marked[:16, :16] = 255
    path = clips.write_video(tmp_path / "r.mp4", [marked] * 6, rotation_deg=matrix_deg)
    facts = media.probe(path)
    turned = shown_deg in (90, 270)
    assert facts.rotation_deg == shown_deg
    assert (facts.width, facts.height) == ((64, 128) if turned else (128, 64))
    frame = next(media.iter_frames(path, 6))
    picture = frame.rgb()
    assert picture.shape == (frame.height, frame.width, 3) == (facts.height, facts.width, 3)
    expected = np.rot90(marked, -shown_deg // 90)
    assert np.abs(picture.astype(int) - expected.astype(int)).mean() < 8
    assert frame.small.shape == picture.shape[:2]
    assert np.array_equal(media.fetch_frame(path, frame.time_s), picture)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_frame_rate_times_are_exact(tmp_path: Path, suffix: str) -> None:
    gaps = [1, 3, 7, 1, 1, 20, 2, 5, 1, 30, 4, 1]
    pts = [0, *itertools.accumulate(gaps)]
    path = clips.write_video(
        tmp_path / f"v.{suffix}", scenes(len(pts)), pts=pts, time_base=Fraction(1, 24)
    )
    times = [f.time_s for f in media.iter_frames(path, 1000)]
    assert times == pytest.approx([p / 24 for p in pts], abs=0.0006)


@pytest.mark.parametrize("rotation_deg", [None, -90.0])
@pytest.mark.parametrize("variable", [False, True])
def test_fetched_frame_is_the_sampled_frame(
    tmp_path: Path, variable: bool, rotation_deg: float | None
) -> None:
    n = 150
    rng = np.random.default_rng(3)
    pts = np.cumsum(rng.integers(1, 9, n)).tolist() if variable else None
    path = clips.write_video(
        tmp_path / "f.mp4",
        scenes(n, 96, 64),
        fps=24,
        pts=pts,
        rotation_deg=rotation_deg,
        time_base=Fraction(1, 48) if variable else None,
    )
    for frame in media.iter_frames(path, 3):
        assert np.array_equal(media.fetch_frame(path, frame.time_s), frame.rgb()), frame.time_s


def test_late_start_counts_from_the_start_of_the_file(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "late.mkv", scenes(12), pts=list(range(600, 612)))
    times = [f.time_s for f in media.iter_frames(path, 12)]
    assert times[0] == 0.0
    assert times[-1] == pytest.approx(11 / 12, abs=0.001)


def test_sampling_takes_the_first_frame_of_each_period(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "s.mp4", scenes(48, 64, 48), fps=24)
    times = [f.time_s for f in media.iter_frames(path, 6)]
    assert len(times) == 12
    assert all(0 <= t - k / 6 < 1 / 6 for k, t in enumerate(times))


def test_small_picture_is_small_and_fits(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "w.mp4", scenes(2, 640, 360))
    frame = next(media.iter_frames(path, 6))
    assert frame.small.shape == (90, 160)
    assert frame.chroma.shape == (90, 160, 2)
    assert frame.rgb_within(100).shape == (100, 178, 3)
    assert frame.gray_within(320).shape == (180, 320)


@pytest.mark.parametrize("size", [(4, 4), (17, 33), (6, 400)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = clips.write_video(tmp_path / "o.mkv", scenes(3, *size), codec="ffv1")
    frames = list(media.iter_frames(path, 12))
    assert len(frames) == 3
    assert frames[0].rgb().shape == (size[1], size[0], 3)


def test_one_frame(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "one.mp4", scenes(1))
    assert [f.time_s for f in media.iter_frames(path, 6)] == [0.0]


def test_one_large_frame(tmp_path: Path) -> None:
    picture = np.zeros((4320, 7680, 3), np.uint8)
    path = clips.write_video(tmp_path / "8k.mkv", [picture], codec="ffv1")
    assert next(media.iter_frames(path, 6)).small.shape == (90, 160)


def test_truncated_file_gives_what_is_there_and_warns(tmp_path: Path) -> None:
    whole = clips.write_video(tmp_path / "w.mkv", scenes(240), codec="mpeg4")
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) // 2])
    warnings: list[str] = []
    times = [f.time_s for f in media.iter_frames(cut, 6, warnings.append)]
    assert 4 < times[-1] < 16
    assert any("cut short" in w or "damaged" in w for w in warnings)


def test_damaged_middle_is_skipped(tmp_path: Path) -> None:
    whole = clips.write_video(tmp_path / "w.mkv", scenes(240), codec="mpeg4")
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    (tmp_path / "bad.mkv").write_bytes(data)
    times = [f.time_s for f in media.iter_frames(tmp_path / "bad.mkv", 6, lambda _: None)]
    assert times == sorted(times)
    assert len(times) > 60


def _bad_files(folder: Path) -> dict[str, Path]:
    contents = {
        "empty.mp4": b"",
        "text.mp4": b"this is no video\n" * 200,
        "noise.mkv": np.random.default_rng(1).bytes(5000),
        "headless.mp4": b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(900),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.mp4").mkdir()
    names = [*contents, "folder.mp4", "missing.mp4"]
    return {name: folder / name for name in names}


@pytest.mark.parametrize(
    "name",
    ["empty.mp4", "text.mp4", "noise.mkv", "headless.mp4", "folder.mp4", "missing.mp4"],
)
def test_bad_files_are_named_errors(tmp_path: Path, name: str) -> None:
    path = _bad_files(tmp_path)[name]
    for attempt in (
        lambda: media.probe(path),
        lambda: next(media.iter_frames(path, 6)),
        lambda: next(media.iter_audio(path)),
        lambda: media.fetch_frame(path, 0.0),
    ):
        with pytest.raises(MediaError, match=name):
            attempt()


def test_zero_bytes_is_said(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="0 bytes"):
        media.probe(_bad_files(tmp_path)["empty.mp4"])


def test_absurd_dimensions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clips.write_video(tmp_path / "b.mp4", scenes(2))
    monkeypatch.setattr("mmretrieve.indexers.containers.MAX_SIDE_PX", 200)
    with pytest.raises(MediaError, match="320 x 180"):
        media.probe(path)
    with pytest.raises(MediaError, match="320 x 180"):
        next(media.iter_frames(path, 6))


def test_audio_only(tmp_path: Path) -> None:
    path = clips.write_tone(tmp_path / "tone.wav", 12.5)
    facts = media.probe(path)
    assert facts.has_audio and not facts.has_video
    chunks = list(media.iter_audio(path, 16_000))
    assert sum(len(c.samples) for c in chunks) == pytest.approx(12.5 * 16_000, abs=64)
    assert all(len(c.samples) <= 10 * 16_000 and c.samples.dtype == np.float32 for c in chunks)
    assert [round(c.start_s) for c in chunks] == [0, 10]
    samples = np.concatenate([c.samples for c in chunks])
    spectrum = np.abs(np.fft.rfft(samples[:16_000]))
    assert int(spectrum.argmax()) == 440
    with pytest.raises(MediaError, match="no video"):
        next(media.iter_frames(path, 6))


def test_video_only_has_no_audio(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "v.mp4", scenes(3))
    with pytest.raises(MediaError, match="no audio"):
        next(media.iter_audio(path))


def test_several_threads_at_once(tmp_path: Path) -> None:
    paths = [clips.write_video(tmp_path / f"{i}.mp4", scenes(36, 96, 64)) for i in range(4)]
    alone = [[f.small.sum() for f in media.iter_frames(p, 6)] for p in paths]
    together: list[list[int]] = [[] for _ in paths]

    def work(at: int) -> None:
        together[at] = [f.small.sum() for f in media.iter_frames(paths[at], 6)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(paths))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@pytest.mark.parametrize("name", ["kivy_cityCC0.mpg", "mdn_tears-of-steel-battle.webm"])
def test_recorded_clips_fetch_what_was_sampled(shared_data: Path, name: str) -> None:
    path = shared_data / "videos" / "files" / name
    for frame in itertools.islice(media.iter_frames(path, 6), 0, 40, 13):
        assert np.array_equal(media.fetch_frame(path, frame.time_s), frame.rgb())
