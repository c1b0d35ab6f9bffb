from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmretrieve.indexers.media import iter_frames
from mmretrieve.indexers.shots import ShotDetector
from tests import clips


def starts(path: Path, min_shot_s: float = 0.6) -> list[float]:
    shot_frames = ShotDetector(min_shot_s).detect(iter_frames(path, 6))
    return [s.frame.time_s for s in shot_frames if s.starts_shot]


def test_cuts_are_found_within_a_sample(tmp_path: Path) -> None:
    pictures = [clips.scene(i, i // 24) for i in range(96)]
    found = starts(clips.write_video(tmp_path / "c.mp4", pictures))
    assert found == pytest.approx([0, 2, 4, 6], abs=0.18)


def test_motion_is_no_cut(tmp_path: Path) -> None:
    wide = clips.scene(0, 5, 960, 180)
    pictures = [wide[:, 4 * i : 4 * i + 320] for i in range(72)]
    assert starts(clips.write_video(tmp_path / "m.mp4", pictures)) == [0.0]


def test_brightness_is_no_cut(tmp_path: Path) -> None:
    picture = clips.scene(0, 7).astype(np.float32)
    pictures = [(picture * (0.6 + 0.4 * (i % 48) / 48)).astype(np.uint8) for i in range(48)]
    assert starts(clips.write_video(tmp_path / "b.mp4", pictures)) == [0.0]


def test_fade_through_black_parts_shots(tmp_path: Path) -> None:
    def faded(i: int) -> clips.Picture:
        gain = min(1.0, abs(i - 36) / 10) if abs(i - 36) > 4 else 0.0
        return (clips.scene(0, 1 if i < 36 else 2) * gain).astype(np.uint8)

    found = starts(clips.write_video(tmp_path / "f.mp4", [faded(i) for i in range(72)]))
    assert any(2.4 <= t <= 3.6 for t in found)


def test_dissolve_parts_shots(tmp_path: Path) -> None:
    a, b = (clips.scene(0, seed).astype(np.float32) for seed in (1, 2))
    shares = [min(1.0, max(0.0, (i - 36) / 8)) for i in range(84)]
    pictures = [((1 - s) * a + s * b).astype(np.uint8) for s in shares]
    found = starts(clips.write_video(tmp_path / "d.mp4", pictures))
    assert len(found) == 2
    assert 2.8 <= found[1] <= 4.0


def test_shots_are_not_shorter_than_asked(tmp_path: Path) -> None:
    pictures = [clips.scene(i, i // 4) for i in range(96)]
    found = np.diff(starts(clips.write_video(tmp_path / "q.mp4", pictures), 1.0))
    assert (found >= 1.0).all()


def test_every_frame_comes_out_once_in_order(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "n.mp4", [clips.scene(i, 3) for i in range(5)])
    given = [f.time_s for f in iter_frames(path, 6)]
    assert [s.frame.time_s for s in ShotDetector(0.6).detect(iter_frames(path, 6))] == given


def test_recorded_clip(shared_data: Path) -> None:
    found = starts(shared_data / "videos" / "files" / "mdn_tears-of-steel-battle.webm")
    clear = [2.17, 5.17, 6.67, 9.38, 12.88, 29.88, 36.38, 47.0, 50.17, 51.5, 53.5, 56.17, 57.5]
    assert all(min(abs(t - f) for f in found) < 0.2 for t in clear)
    assert len(found) < 40
