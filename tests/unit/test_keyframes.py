from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from mmretrieve.config import VisualSettings
from mmretrieve.datatypes import Keyframe
from mmretrieve.indexers.keyframes import KeyframeChooser, Pick, keyframes
from mmretrieve.indexers.media import iter_frames, probe
from mmretrieve.indexers.shots import ShotDetector
from tests import clips


def picks(path: Path, settings: VisualSettings | None = None) -> tuple[list[Pick], list[str]]:
    settings, warnings = settings or VisualSettings(), list[str]()
    shot_frames = ShotDetector(settings.min_shot_s).detect(iter_frames(path, settings.analysis_fps))
    chooser = KeyframeChooser(settings, probe(path).duration_s, warnings.append)
    return list(chooser.choose(shot_frames)), warnings


def chosen(path: Path) -> tuple[Keyframe, ...]:
    return keyframes(picks(path)[0])


def test_picks_cover_the_video_without_gaps(tmp_path: Path) -> None:
    pictures = [clips.scene(i, i // 30) for i in range(240)]
    found, _ = picks(clips.write_video(tmp_path / "a.mp4", pictures))
    assert found[0].start_s == 0.0
    assert abs(found[-1].end_s - 20.0) < 0.01
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(found))
    assert all(p.start_s <= p.frame.time_s <= p.end_s for p in found)


def test_every_shot_has_a_keyframe(tmp_path: Path) -> None:
    pictures = [clips.scene(i, i // 24) for i in range(120)]
    found = chosen(clips.write_video(tmp_path / "s.mp4", pictures))
    assert {int(k.time_s // 2) for k in found} == {0, 1, 2, 3, 4}


def test_still_picture_gives_one_keyframe_for_all_of_it(tmp_path: Path) -> None:
    found = chosen(clips.write_video(tmp_path / "1.mp4", [clips.scene(0, 4)] * 240))
    assert len(found) == 1
    assert (found[0].start_s, round(found[0].end_s, 2)) == (0.0, 20.0)


def test_slides_are_all_caught(tmp_path: Path) -> None:
    slides = [clips.page([(f"Slide number {n}", 60, 60 + 40 * n, 32)]) for n in range(6)]
    pictures = [slides[i // 18] for i in range(108)]
    found, _ = picks(clips.write_video(tmp_path / "p.mp4", pictures))
    assert {int(p.frame.time_s // 1.5) for p in found} == set(range(6))


def test_short_changing_clip_gets_several(tmp_path: Path) -> None:
    wide = clips.scene(0, 5, 960, 180)
    pictures = [wide[:, 12 * i : 12 * i + 320] for i in range(24)]
    assert 2 <= len(chosen(clips.write_video(tmp_path / "m.mp4", pictures))) <= 4


def test_blank_frames_only_when_nothing_else(tmp_path: Path) -> None:
    black = np.zeros((180, 320, 3), np.uint8)
    mixed = [black] * 36 + [clips.scene(i, 2) for i in range(36)]
    found = chosen(clips.write_video(tmp_path / "b.mp4", mixed))
    assert found and all(k.image.std() > 5 for k in found)
    assert len(chosen(clips.write_video(tmp_path / "o.mp4", [black] * 36))) == 1


def test_sharpest_frame_is_taken(tmp_path: Path) -> None:
    sharp = clips.page([("fine print everywhere", 20, 20 * n, 14) for n in range(16)])
    coarse = np.repeat(np.repeat(sharp[::16, ::16], 16, 0), 16, 1)[:360, :640]
    smooth = np.full_like(coarse, coarse.mean())
    blurred = (0.7 * smooth + 0.3 * coarse).astype(np.uint8)
    pictures = [sharp if 12 <= i < 18 else blurred for i in range(36)]
    found, _ = picks(clips.write_video(tmp_path / "f.mp4", pictures))
    assert any(1.0 <= p.frame.time_s < 1.5 for p in found)


def test_images_are_scaled_down_only(tmp_path: Path) -> None:
    big = chosen(clips.write_video(tmp_path / "b.mp4", [clips.scene(0, 1, 1280, 720)] * 3))
    small = chosen(clips.write_video(tmp_path / "s.mp4", [clips.scene(0, 1, 160, 120)] * 3))
    assert big[0].image.shape == (288, 512, 3)
    assert small[0].image.shape == (120, 160, 3)


def test_number_of_keyframes_is_bounded_with_a_warning(tmp_path: Path) -> None:
    pictures = [clips.scene(i, i // 12) for i in range(480)]
    path = clips.write_video(tmp_path / "l.mp4", pictures)
    found, warnings = picks(path, VisualSettings(max_keyframes=10))
    assert len(found) <= 10
    assert found[-1].frame.time_s > 25
    assert len(warnings) == 1
