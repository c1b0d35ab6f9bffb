"""An encoder that hears: sound itself as the fifth modality of an index, with random weights of Omni."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mmretrieve import Engine
from mmretrieve.cli.app import app
from mmretrieve.config import EncoderSettings, OcrSettings, Settings, SpeechSettings
from mmretrieve.datatypes import COMMON, MODALITIES, Filter, Modality, Probe, Segment, Sound
from mmretrieve.document_ingest import DocumentIngestor
from mmretrieve.documents import Document
from mmretrieve.encoders.base import JointContent, heard_s
from mmretrieve.encoders.clamr import ClamrEncoder
from mmretrieve.errors import UsageError
from mmretrieve.indexers.hearing import hear
from mmretrieve.indexers.reading import FileReader
from mmretrieve.ingest import Ingestor
from mmretrieve.models.dialects import Backbone
from mmretrieve.scoring.aggregation import Scoring
from tests import clips
from tests import tiny_models as tiny

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

pytestmark = pytest.mark.torch

LASTS_S = 5
TONE_FROM_S, TONE_S = 1, 3


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def scene(seed: int) -> list[clips.Picture]:
    return [clips.scene(i, seed, 160, 96) for i in range(LASTS_S * 12)]


def tone() -> np.ndarray:
    """Silence, a tone, silence."""
    quiet = np.zeros(TONE_FROM_S * 16_000, np.float32)
    return np.concatenate([quiet, tiny.tone(TONE_S), quiet])


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    clips.write_sounding(folder / "loud.mkv", scene(1), tone())
    clips.write_sounding(folder / "hush.mkv", scene(2), np.zeros(LASTS_S * 16_000, np.float32))
    clips.write_video(folder / "mute.mkv", scene(3))
    return folder


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_clamr(tmp_path_factory.mktemp("omni"), Backbone.QWEN_OMNI)


@pytest.fixture(scope="module")
def settings(omni: Path) -> Settings:
    return Settings(
        preset="clamr",
        encoder=EncoderSettings(weights=str(omni), device="cpu"),
        speech=SpeechSettings(model="off"),
        ocr=OcrSettings(enabled=False),
    )


@pytest.fixture(scope="module")
def index(videos: Path, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "ix"
    toml = folder.with_name("settings.toml")
    toml.write_text(settings.to_toml(), encoding="utf-8")
    made = run("index", "--settings", toml, "--index", folder, videos)
    assert made.exit_code == 0, made.output
    assert "audio" in made.output
    return folder


def test_sound_is_found_and_shown_with_its_times(index: Path) -> None:
    asked = run("query", "--index", index, "--in", "audio", "--format", "json", "a red balloon")
    assert asked.exit_code == 0, asked.output
    (hit,) = json.loads(asked.stdout)["hits"]
    assert Path(hit["video"]["path"]).name == "loud.mkv"
    assert set(hit["modalities"]) == {"audio"}
    assert hit["evidence"]
    for found in hit["evidence"]:
        assert (found["modality"], found.get("text", "")) == ("audio", "")
        assert 0 <= found["start_s"] < found["end_s"] <= LASTS_S
        assert found["end_s"] - found["start_s"] <= 1
    shown = run("query", "--index", index, "--in", "audio", "--format", "table", "a red balloon")
    (line, *_) = [li for li in shown.stdout.splitlines() if li.strip().startswith("audio")]
    assert "matches:" in line
    assert line.split()[1].split("-")[0] in {f"00:0{s}" for s in range(LASTS_S)}
    why = run("explain", "--index", index, "a red balloon", "loud.mkv", "--weight", "audio=5")
    assert why.exit_code == 0, why.output


def test_only_what_sounds_has_tokens_of_sound(index: Path) -> None:
    with Engine.open(index) as engine:
        counts = {Path(v.path).name: v.n_tokens.get(Modality.AUDIO, 0) for v in engine.videos()}
        sources = {Path(v.path).name: v.sources.get(Modality.AUDIO) for v in engine.videos()}
        assert engine.info().n_tokens[Modality.AUDIO] == counts["loud.mkv"]
        plain = engine.search("a red balloon", scoring=Scoring(weights={Modality.AUDIO: 0.0}))
        alone = engine.search("a red balloon", filter=Filter(modalities=COMMON))
        assert [h.score for h in plain.hits] == [h.score for h in alone.hits]
    assert 24 * LASTS_S <= counts.pop("loud.mkv") <= 25 * LASTS_S + 1
    assert set(counts.values()) == {0}
    assert sources == {"loud.mkv": "sound", "hush.mkv": None, "mute.mkv": None}
    (header, *rows) = csv.reader(io.StringIO(run("ls", "--index", index, "--format", "csv").stdout))
    assert header[3:8] == [f"{m.value}_tokens" for m in MODALITIES]
    assert sorted(int(row[7]) > 0 for row in rows) == [False, False, True]
    assert "audio" in run("info", "--index", index, "--format", "table").stdout


def test_tokens_are_those_that_the_model_gives(videos: Path, settings: Settings) -> None:
    encoder = ClamrEncoder(settings.encoder)
    reader = FileReader(settings)
    made = Ingestor(settings, encoder, reader).ingest(videos / "loud.mkv", "loud").entry
    reader.close()
    (part,) = [p for p in made.passages if p[0].modality is Modality.AUDIO]
    (sound,) = hear(videos / "loud.mkv", [(0.0, float(LASTS_S))], pytest.fail)
    assert sound is not None
    np.testing.assert_allclose(sound.samples, tone(), atol=1e-4)
    keyframes = [p for p in made.passages if p[0].modality is Modality.FRAMES]
    assert keyframes
    alone = encoder.joint([JointContent(start_s=0.0, end_s=5.0, sound=sound)])[0]
    assert set(alone.tokens) == {Modality.AUDIO}
    # Other tokens beside it, so other numbers; the same places.
    np.testing.assert_array_equal(part[1].segment, alone.tokens[Modality.AUDIO].segment)
    assert part[0].segments == alone.regions[Modality.AUDIO]
    assert [(s.start_s, s.end_s) for s in part[0].segments] == [(s, s + 1) for s in range(LASTS_S)]
    assert len(part[1].vectors) == len(part[1].segment)
    np.testing.assert_allclose(np.linalg.norm(part[1].vectors, axis=1), 1, atol=1e-5)


class Deaf(FileReader):
    """A reader that nobody may ask for sound."""

    def hear(
        self, path: Path, probe: Probe, spans: Sequence[tuple[float, float]], warn: object
    ) -> Iterator[Sound | None]:
        raise AssertionError("sound was read for an encoder that does not hear")


def test_who_does_not_hear_pays_nothing(videos: Path, settings: Settings, tmp_path: Path) -> None:
    weights = tiny.write_clamr(tmp_path, Backbone.QWEN_VL)
    encoder = ClamrEncoder(EncoderSettings(weights=str(weights), device="cpu"))
    assert heard_s(encoder) == 0
    assert set(encoder.spaces) == set(COMMON)
    reader = Deaf(settings)
    made = Ingestor(settings, encoder, reader).ingest(videos / "loud.mkv", "loud").entry
    reader.close()
    assert {p.modality for p, _ in made.passages} == {Modality.FRAMES, Modality.METADATA}
    assert made.extraction is not None
    assert "sound" not in made.extraction.keys


def test_sound_without_pictures_is_heard_to_its_end(settings: Settings, tmp_path: Path) -> None:
    path = clips.write_tone(tmp_path / "music.wav", 45.0)
    reader = FileReader(settings)
    made = Ingestor(settings, ClamrEncoder(settings.encoder), reader).ingest(path, "m").entry
    reader.close()
    spans = [(p.start_s, p.end_s) for p, _ in made.passages if p.modality is Modality.AUDIO]
    assert spans == [(0.0, 22.5), (22.5, 45.0)]
    assert 24.5 * 45 < made.video.n_tokens[Modality.AUDIO] <= 25 * 45 + 2


def test_how_much_is_heard_decides_what_is_done_again(
    videos: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine.create(tmp_path / "ix", settings) as engine:
        engine.index([videos / "loud.mkv"])
        assert engine.index([videos / "loud.mkv"]).results[0].outcome.value == "unchanged"
        before = engine.info().n_tokens
    monkeypatch.setattr(ClamrEncoder, "hears_s", 2.0)
    with Engine.open(tmp_path / "ix") as engine:
        (result,) = engine.index([videos / "loud.mkv"]).results
        assert result.reason == "how sound is heard changed"
        after = engine.info().n_tokens
    assert after[Modality.AUDIO] == 50 < before[Modality.AUDIO]
    assert after[Modality.FRAMES] == before[Modality.FRAMES]


def test_a_document_brings_its_sound(settings: Settings) -> None:
    encoder = ClamrEncoder(settings.encoder)
    given = Document("d", segments={Modality.SPEECH: (Segment("a harbour", 1, 2),)}, audio=tone())
    with closing(DocumentIngestor(settings, encoder)) as ingestor:
        made = ingestor.ingest(given).entry
    found = {p.modality: p for p, _ in made.passages}
    assert set(found) == {Modality.SPEECH, Modality.AUDIO}
    assert found[Modality.AUDIO].segments[-1].end_s == LASTS_S
    silent = replace(given, audio=None)
    assert given.fingerprint() != silent.fingerprint()
    with pytest.raises(UsageError, match="float32"):
        replace(given, audio=np.zeros((2, 8), np.float32))
    with pytest.raises(UsageError, match="give audio"):
        Document("e", segments={Modality.AUDIO: (Segment("x"),)})
