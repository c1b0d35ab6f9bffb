"""``mmretrieve index --preset clip`` end to end, with random weights: two spaces in one index."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mmretrieve import Engine
from mmretrieve.cli.app import app
from mmretrieve.config import EncoderSettings, Settings
from mmretrieve.datatypes import Filter, Modality, Segment
from mmretrieve.demo import clips_folder
from mmretrieve.documents import Document, Picture
from mmretrieve.encoders.registry import load_encoder
from tests import tiny_models as tiny

pytest.importorskip("torch")
pytest.importorskip("open_clip")

pytestmark = pytest.mark.clip

CLIPS = ("MOV_0044.mp4", "GX010114.mp4")


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def index(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "ix"
    clips = [clips_folder() / name for name in CLIPS]
    made = run("index", "--preset", "clip", "--weights", weights, "--index", folder, "-q", *clips)
    assert made.exit_code == 0, made.output
    return folder


def test_the_command_indexes_and_answers(index: Path) -> None:
    asked = run("query", "--index", index, "--format", "ndjson", "cleaning the gears of a watch")
    assert asked.exit_code == 0, asked.output
    hits = [json.loads(line) for line in asked.stdout.splitlines()]
    assert Path(hits[0]["video"]["path"]).name == "MOV_0044.mp4"
    manifest = json.loads((index / "manifest.json").read_text())
    assert manifest["spaces"]["frames"] == "clip"
    assert manifest["spaces"]["speech"] == "text"
    assert manifest["dim"] == 128
    assert manifest["dims"] == {"clip": 24}
    assert "open_clip/open_clip_model.safetensors" in manifest["encoders"]


def test_frames_are_found_by_whole_pictures_and_their_parts(index: Path) -> None:
    encoder = load_encoder("clip", Engine.open(index).settings.encoder)
    with Engine.open(index) as engine:
        frames = Filter(modalities=(Modality.FRAMES,))
        hits = engine.search("a burning candle", filter=frames).hits
        assert {Path(hit.video.path).name for hit in hits} == set(CLIPS)
        point = encoder.query("a burning candle").vectors["clip"][0]
        for hit in hits:
            found = {e.similarity for e in hit.evidence}
            assert len(found) == 1  # every token of the query is the whole query there
            assert abs(next(iter(found))) <= 1 + 1e-3
            assert all(e.box is not None for e in hit.evidence)
        assert np.linalg.norm(point) == pytest.approx(1, abs=1e-5)


def test_the_index_is_bound_to_its_weights(index: Path, tmp_path: Path) -> None:
    others = tiny.write_clip(tmp_path / "others", seed=5)
    clip = clips_folder() / CLIPS[0]
    refused = run("index", "--preset", "clip", "--weights", others, "--index", index, clip)
    assert refused.exit_code == 4
    assert "built with other weights" in refused.output
    kept = run("index", "--index", index, clip)
    assert kept.exit_code == 0, kept.output
    assert "1 unchanged" in kept.output


def test_documents_with_pictures(weights: Path, tmp_path: Path) -> None:
    settings = Settings(preset="clip", encoder=EncoderSettings(weights=str(weights)))
    path = tmp_path / "a.png"
    from PIL import Image

    Image.fromarray(tiny.picture(3, 56, 56)).save(path)
    documents = [
        Document("seen", pictures=(Picture(path),)),
        Document("said", segments={Modality.SPEECH: (Segment("the old harbour", 0.0, 2.0),)}),
    ]
    with Engine.create(tmp_path / "ix", settings) as engine:
        engine.index(documents)
        tokens = engine.info().n_tokens
    assert tokens[Modality.FRAMES] == 1 + 4 * 4
    assert tokens[Modality.SPEECH] == 3
