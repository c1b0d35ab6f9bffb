from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmretrieve.config import OcrSettings, PassageSettings, VisualSettings
from mmretrieve.errors import MediaError
from mmretrieve.indexers.media import probe
from mmretrieve.indexers.ocr import OcrReader
from mmretrieve.indexers.textgate import Region
from mmretrieve.indexers.visual import VisualPassage, iter_visual
from tests import clips


@pytest.fixture(scope="module")
def reader() -> OcrReader:
    return OcrReader(threads=1, settings=OcrSettings())


def passages(path: Path, ocr: OcrReader | None = None) -> list[VisualPassage]:
    settings = VisualSettings(), PassageSettings()
    return list(iter_visual(path, probe(path), *settings, ocr, lambda _: None))


def test_passages_tile_the_video_and_keep_shots_whole(tmp_path: Path) -> None:
    pictures = (clips.scene(i, i // 42, 160, 96) for i in range(12 * 70))
    found = passages(clips.write_video(tmp_path / "a.mp4", pictures))
    assert [p.number for p in found] == list(range(len(found)))
    assert found[0].start_s == 0.0 and found[-1].end_s == pytest.approx(70, abs=0.1)
    for a, b in itertools.pairwise(found):
        assert a.end_s == b.start_s
        assert 8 <= a.end_s - a.start_s <= 30
        assert min(a.end_s % 3.5, 3.5 - a.end_s % 3.5) < 0.2
    assert all(p.keyframes for p in found)


def test_long_shot_is_cut(tmp_path: Path) -> None:
    pictures = [clips.scene(0, 1, 160, 96)] * (12 * 65)
    found = passages(clips.write_video(tmp_path / "l.mp4", pictures))
    assert all(p.end_s - p.start_s <= 30.01 for p in found)
    assert all(len(p.keyframes) == 1 for p in found)
    assert all(p.start_s <= k.time_s <= p.end_s for p in found for k in p.keyframes)


def test_line_that_stays_is_in_every_passage_once(tmp_path: Path, reader: OcrReader) -> None:
    def picture(i: int) -> clips.Picture:
        lines = [("Quarterly budget review", 40, 40, 30)]
        if i >= 144:
            lines.append(("Second half begins", 40, 200, 30))
        return clips.page(lines)

    path = clips.write_video(tmp_path / "t.mp4", (picture(i) for i in range(12 * 40)))
    found = passages(path, reader)
    assert len(found) >= 2
    for passage in found:
        lines = [s for s in passage.ocr if s.text == "Quarterly budget review"]
        assert [(s.start_s, s.end_s) for s in lines] == [(passage.start_s, passage.end_s)]
    second = [s for p in found for s in p.ocr if s.text == "Second half begins"]
    assert second[0].start_s == pytest.approx(12.0, abs=0.35)


def test_line_that_leaves_ends(tmp_path: Path, reader: OcrReader) -> None:
    def picture(i: int) -> clips.Picture:
        return clips.page([("Breaking news tonight", 60, 280, 28)] if 36 <= i < 84 else [])

    path = clips.write_video(tmp_path / "e.mp4", (picture(i) for i in range(144)))
    (passage,) = passages(path, reader)
    (line,) = passage.ocr
    assert line.start_s == pytest.approx(3.0, abs=0.35)
    assert line.end_s == pytest.approx(7.0, abs=0.35)


def test_unchanged_text_is_read_once(
    tmp_path: Path, reader: OcrReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    whole = OcrReader.read_regions

    def counted(self: OcrReader, image: clips.Picture, regions: tuple[Region, ...]) -> object:
        calls.append(1)
        return whole(self, image, regions)

    monkeypatch.setattr(OcrReader, "read_regions", counted)
    page = clips.page([("Nothing ever changes", 60, 100, 28)])
    passages(clips.write_video(tmp_path / "u.mp4", [page] * 240), reader)
    assert len(calls) == 1


@pytest.mark.parametrize("size", [(4, 4), (18, 34)])
def test_tiny_videos(tmp_path: Path, size: tuple[int, int], reader: OcrReader) -> None:
    pictures = [clips.scene(i, 0, *size) for i in range(6)]
    (passage,) = passages(clips.write_video(tmp_path / "x.mp4", pictures), reader)
    assert len(passage.keyframes) >= 1


def test_one_frame(tmp_path: Path) -> None:
    (passage,) = passages(clips.write_video(tmp_path / "o.mp4", [clips.scene(0, 1)]))
    assert len(passage.keyframes) == 1


def test_rotated_video_has_upright_keyframes(tmp_path: Path) -> None:
    pictures = [clips.scene(0, 1, 640, 360)] * 6
    path = clips.write_video(tmp_path / "r.mp4", pictures, rotation_deg=-90)
    assert passages(path)[0].keyframes[0].image.shape == (512, 288, 3)


def test_audio_only_is_a_named_error(tmp_path: Path) -> None:
    path = clips.write_tone(tmp_path / "t.wav", 1.0)
    with pytest.raises(MediaError, match="no video"):
        passages(path)


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    pictures = (clips.scene(i, i // 30, 160, 96) for i in range(12 * 120))
    path = clips.write_video(tmp_path / "long.mp4", pictures)
    stream: Iterator[VisualPassage] = iter_visual(
        path, probe(path), VisualSettings(), PassageSettings(), None, lambda _: None
    )
    held = [len(p.keyframes) for p in stream]
    assert len(held) >= 5
    assert max(held) <= 30


def test_japanese_screen_text(shared_data: Path, reader: OcrReader) -> None:
    path = shared_data / "videos" / "files" / "talkthrough_multilang-ja-demo.mp4"
    found = passages(path, reader)
    assert any("ログイン画面" in s.text for p in found for s in p.ocr)
    assert all(np.isfinite([s.start_s or 0, s.end_s or 0]).all() for p in found for s in p.ocr)
