"""Documents in an index: the same tokens as a video's, incremental, beside videos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmretrieve import Engine, Filter, Modality
from mmretrieve.config import Settings
from mmretrieve.datatypes import Keyframe, Segment
from mmretrieve.documents import Document, Picture, text_document
from mmretrieve.encoders.registry import load_encoder
from mmretrieve.errors import UsageError
from mmretrieve.reports import IndexReport, Outcome
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.reader import Snapshot
from tests.integration.conftest import MakeClip

pytestmark = pytest.mark.slow

BREAD = text_document(
    "bread", title="Baking", speech="we knead the dough", ocr="Rye flour", facts={"year": 2020}
)
TRAIN = Document(
    "train",
    segments={
        Modality.SPEECH: (Segment("mind the gap", 1, 3), Segment("all change please", 70, 73)),
        Modality.METADATA: (Segment("night train to Lisbon", field="description"),),
    },
)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine.create(tmp_path / "index")


def outcomes(report: IndexReport) -> dict[str, Outcome]:
    return {result.path: result.outcome for result in report.results}


def test_tokens_are_those_of_the_encoder_in_one_context(engine: Engine, tmp_path: Path) -> None:
    pixels = np.asarray(Image.effect_noise((64, 48), 80).convert("RGB"))
    engine.index([replace(BREAD, pictures=(Picture(pixels),))])
    snapshot = Snapshot(engine.folder, read_manifest(engine.folder))
    encoder = load_encoder("lite")
    segments = {m: BREAD.segments[m] for m in (Modality.OCR, Modality.SPEECH)}
    expected = {m: t.vectors for m, t in encoder.texts(segments).items()}
    expected |= {
        m: t.vectors for m, t in encoder.texts({Modality.METADATA: BREAD.metadata}).items()
    }
    expected[Modality.FRAMES] = encoder.frames([Keyframe(0, 0, 0, pixels)])[1].vectors
    cells = snapshot.library.cells
    assert len(cells) == 4
    for cell in range(4):
        modality = list(Modality)[cells.modality[cell]]
        stored = snapshot.library.vectors[cells.offsets[cell] : cells.offsets[cell + 1]]
        assert np.array_equal(stored, expected[modality].astype(np.float16).astype(np.float32))
    assert engine.thumbnail("bread", 0.0) is not None


def test_documents_are_found_and_described(engine: Engine) -> None:
    engine.index([BREAD, TRAIN])
    hit = engine.search("all change please").hits[0]
    assert (hit.video.video_id, hit.video.path) == ("train", "document:train")
    assert (hit.moment.start_s, hit.moment.end_s) == (70, 73)
    assert {e.source for e in hit.evidence} == {"given"}
    best = engine.search("kneading rye dough", filter=Filter(where=(("year=", "2020"),))).hits[0]
    assert (best.video.video_id, best.moment.start_s) == ("bread", None)
    found = {video.video_id: video for video in engine.videos()}
    assert found["train"].duration_s == 73
    assert found["bread"].title == "Baking"
    assert not found["bread"].missing
    assert [video.video_id for video in engine.remove(["bread"])] == ["bread"]
    assert [video.video_id for video in engine.videos()] == ["train"]


def test_only_what_changed_is_encoded_again(engine: Engine) -> None:
    documents = [BREAD, TRAIN]
    assert set(outcomes(engine.index(documents)).values()) == {Outcome.INDEXED}
    assert set(outcomes(engine.index(documents)).values()) == {Outcome.UNCHANGED}
    changed = replace(BREAD, title="Brewing")
    assert outcomes(engine.index([changed, TRAIN])) == {
        "document:bread": Outcome.INDEXED, "document:train": Outcome.UNCHANGED,
    }  # fmt: skip
    assert {v.video_id: v.title for v in engine.videos()} == {"bread": "Brewing", "train": "train"}
    assert outcomes(engine.index([TRAIN], force=True)) == {"document:train": Outcome.INDEXED}
    n_tokens = engine.info().n_tokens
    assert n_tokens[Modality.METADATA] == 1 + 4
    dry = engine.index([replace(TRAIN, title="x")], dry_run=True)
    assert outcomes(dry) == {"document:train": Outcome.INDEXED}
    assert {v.title for v in engine.videos()} == {"Brewing", "train"}


def test_one_bad_document_stops_nothing(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    bad = Document("bad", pictures=(Picture(tmp_path / "no.jpg"),))
    gone = Document("gone", pictures=(Picture(tmp_path / "none.jpg"),))
    told: list[int] = []
    report = engine.index(
        [bad, gone, Document("empty"), BREAD], on_progress=lambda p: told.append(p.n_done)
    )
    assert report.count(Outcome.FAILED) == 3
    assert {v.video_id for v in engine.videos()} == {"bread"}
    errors = {r.path: r.error or "" for r in report.results}
    assert "no.jpg cannot be read" in errors["document:bad"]
    assert "nothing to search for" in errors["document:empty"]
    assert told == [1, 2, 3]
    again = engine.index([bad, Document("empty"), BREAD])
    assert outcomes(again)["document:empty"] is Outcome.SKIPPED
    retried = engine.index([Document("empty")], retry_failed=True)
    assert outcomes(retried) == {"document:empty": Outcome.FAILED}


def test_an_id_given_twice_is_refused(engine: Engine) -> None:
    with pytest.raises(UsageError, match="'bread' is given twice"):
        engine.index([BREAD, TRAIN, BREAD])
    assert engine.videos() == ()


def test_documents_beside_videos(
    tmp_path: Path, make_clip: MakeClip, quiet_settings: Settings
) -> None:
    clip = make_clip(tmp_path / "films" / "a.mp4", 3, said="the ferry leaves at noon")
    make_clip(tmp_path / "films" / "b.mp4", 4)
    with Engine.create(tmp_path / "index", quiet_settings) as engine:
        assert engine.index([tmp_path / "films", BREAD]).count(Outcome.INDEXED) == 3
        assert engine.search("when does the ferry leave").hits[0].video.path == str(clip)
        assert engine.search("kneading dough").hits[0].video.video_id == "bread"
        clip.unlink()
        assert engine.index([tmp_path / "films"], prune=True).n_pruned == 1
        assert sorted(Path(v.path).name for v in engine.videos()) == ["b.mp4", "document:bread"]
