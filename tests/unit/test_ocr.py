from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmretrieve.config import OcrSettings
from mmretrieve.indexers import textgate
from mmretrieve.indexers.ocr import OcrReader
from tests import clips

SENTENCE = "The quick brown fox 2025"


@pytest.fixture(scope="module")
def reader() -> OcrReader:
    return OcrReader(threads=1, settings=OcrSettings())


def texts(reader: OcrReader, image: clips.Picture) -> list[str]:
    return [s.text for s in reader.read(image)]


@pytest.mark.parametrize("size_px", [14, 20, 32, 56])
def test_text_of_several_sizes(reader: OcrReader, size_px: int) -> None:
    image = clips.page([(SENTENCE, 20, 150, size_px)], 960, 360)
    assert texts(reader, image) == [SENTENCE]


@pytest.mark.parametrize("size_px", [18, 28])
def test_small_text_on_a_full_hd_screen(reader: OcrReader, size_px: int) -> None:
    image = clips.page([(SENTENCE, 700, 800, size_px)], 1920, 1080)
    assert texts(reader, image) == [SENTENCE]


def test_light_text_on_dark(reader: OcrReader) -> None:
    image = 255 - clips.page([(SENTENCE, 60, 100, 24)])
    assert texts(reader, image) == [SENTENCE]


def test_boxes_are_shares_of_the_picture(reader: OcrReader) -> None:
    (segment,) = reader.read(clips.page([("Bottom right", 420, 300, 28)]))
    assert segment.box is not None
    x0, y0, x1, y1 = segment.box
    assert 0.62 < x0 < 0.68 and 0.8 < y0 < 0.86 and 0.85 < x1 < 0.98 and 0.88 < y1 < 0.98
    assert 0.8 < segment.confidence <= 1.0
    assert segment.start_s is None and segment.end_s is None


def test_reading_order(reader: OcrReader) -> None:
    lines = [("First line here", 40, 40, 24), ("left words", 40, 140, 24)]
    lines += [("right words", 420, 140, 24), ("Last line there", 40, 260, 24)]
    expected = ["First line here", "left words", "right words", "Last line there"]
    assert texts(reader, clips.page(lines)) == expected


def test_nothing_on_pictures_without_text(reader: OcrReader) -> None:
    assert reader.read(np.zeros((360, 640, 3), np.uint8)) == ()
    assert reader.read(clips.scene(0, 3, 640, 360)) == ()


def test_gate_lets_no_model_run_on_plain_pictures() -> None:
    plain = clips.scene(0, 3, 640, 360)[..., 0]
    assert textgate.regions(textgate.likely(np.ascontiguousarray(plain))) == ()


@pytest.mark.parametrize("size_px", [11, 14, 20, 32, 64, 110])
def test_gate_passes_text_of_every_size(size_px: int) -> None:
    page = clips.page([("Abc def ghi", 40, 100, size_px)], 960, 360)[..., 0]
    found = textgate.regions(textgate.likely(np.ascontiguousarray(page)))
    dark = np.argwhere(page < 100)
    (y0, x0), (y1, x1) = dark.min(axis=0), dark.max(axis=0)
    assert any(a <= x0 and b <= y0 and c > x1 and d > y1 for a, b, c, d in found)


@pytest.mark.parametrize("size", [(4, 4), (1, 1), (33, 17), (640, 8)])
def test_tiny_pictures(reader: OcrReader, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert isinstance(reader.read(noise), tuple)


def test_same_answer_alone_and_in_any_company(reader: OcrReader) -> None:
    image = clips.page([(SENTENCE, 40, 60, 22), ("Another line", 40, 200, 30)])
    alone = reader.read(image)
    reader.read(clips.page([("Something else entirely", 10, 10, 40)]))
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda: answers.append(reader.read(image))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [alone] * 3


def test_confidence_bound(reader: OcrReader) -> None:
    strict = OcrReader(1, OcrSettings(min_confidence=1.01))
    assert strict.read(clips.page([(SENTENCE, 40, 60, 22)])) == ()


def test_slide(shared_data: Path, reader: OcrReader) -> None:
    path = sorted((shared_data / "slides" / "png").glob("*.png"))[0]
    found = reader.read(np.asarray(Image.open(path).convert("RGB")))
    assert len(found) >= 2
    assert np.mean([s.confidence for s in found]) > 0.85
