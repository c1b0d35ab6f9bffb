"""Documents given as content: what is refused, and when two are the same."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmretrieve.config import Settings
from mmretrieve.datatypes import Modality, Segment
from mmretrieve.document_ingest import contents
from mmretrieve.documents import Document, Picture, text_document
from mmretrieve.errors import InputError, UsageError

TEXT = Document("a", segments={Modality.SPEECH: (Segment("hello"),)})


@pytest.mark.parametrize(
    "times", [(1.0, None), (2.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (0.0, math.inf)]
)
def test_times_that_cannot_be(times: tuple[float, float | None]) -> None:
    with pytest.raises(UsageError, match="document 'a': times"):
        Document("a", segments={Modality.OCR: (Segment("x", *times),)})
    with pytest.raises(UsageError, match="document 'a': times"):
        Document("a", pictures=(Picture(Path("x.jpg"), *times),))


def test_what_is_no_document() -> None:
    with pytest.raises(UsageError, match="needs an id"):
        Document("  ")
    with pytest.raises(UsageError, match="give pictures"):
        Document("a", segments={Modality.FRAMES: (Segment("x"),)})


@pytest.mark.parametrize(
    "changed",
    [
        {"doc_id": "b"},
        {"title": "t"},
        {"segments": {Modality.OCR: (Segment("hello"),)}},
        {"segments": {Modality.SPEECH: (Segment("hello", 0, 1),)}},
        {"facts": {"year": 2020}},
        {"duration_s": 3.0},
        {"pictures": (Picture(np.zeros((2, 2, 3), np.uint8)),)},
    ],
)
def test_any_change_of_content_changes_the_fingerprint(changed: dict[str, object]) -> None:
    assert replace(TEXT).fingerprint() == TEXT.fingerprint()
    assert replace(TEXT, **changed).fingerprint() != TEXT.fingerprint()  # type: ignore[arg-type]


def test_pictures_count_by_their_pixels_or_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 3), (250, 0, 0)).save(path)
    shown = Document("a", pictures=(Picture(path),))
    before = shown.fingerprint()
    assert Picture(path).pixels().shape == (3, 4, 3)
    assert Picture(path).pixels()[0, 0].tolist() == [250, 0, 0]
    Image.new("RGB", (4, 3), (0, 0, 250)).save(path)
    assert shown.fingerprint() != before
    wide, tall = np.zeros((1, 4, 3), np.uint8), np.zeros((4, 1, 3), np.uint8)
    prints = {Document("a", pictures=(Picture(image),)).fingerprint() for image in (wide, tall)}
    assert len(prints) == 2


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"no\.jpg cannot be read"):
        Picture(tmp_path / "no.jpg").pixels()
    with pytest.raises(InputError, match="cannot be read"):
        Document("a", pictures=(Picture(tmp_path / "none.jpg"),)).fingerprint()
    with pytest.raises(InputError, match="expected \\(height, width, 3\\) uint8"):
        Picture(np.zeros((2, 2), np.uint8)).pixels()


def test_a_document_of_plain_texts() -> None:
    found = text_document("a", title="T", speech=" said ", ocr="one\n\n two ", description="known")
    assert {m: [s.text for s in found.segments[m]] for m in found.segments} == {
        Modality.SPEECH: ["said"], Modality.OCR: ["one", "two"], Modality.METADATA: ["known"],
    }  # fmt: skip
    assert [(s.text, s.field) for s in found.metadata] == [("T", "title"), ("known", "description")]
    assert text_document("a", speech="  ").segments == {}


def test_passages_of_a_document() -> None:
    document = Document(
        "a",
        segments={
            Modality.SPEECH: (Segment("late", 60, 62), Segment("early", 0, 2), Segment("ever")),
            Modality.OCR: (Segment("shown", 1, 5),),
        },
        pictures=(Picture(Path("x"), 61, 62), Picture(Path("y"))),
    )
    found = list(contents(document, Settings()))
    assert [(c.number, c.start_s, c.end_s) for c in found] == [
        (0, 0, 5),
        (1, 60, 62),
        (2, None, None),
    ]
    said = [[s.text for s in c.texts[Modality.SPEECH]] for c in found]
    assert said == [["early"], ["late"], ["ever"]]
    assert [[s.text for s in c.texts[Modality.OCR]] for c in found] == [["shown"], [], []]
    assert [[str(p.image) for p in c.pictures] for c in found] == [[], ["x"], ["y"]]
