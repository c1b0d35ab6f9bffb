"""``mmretrieve index --preset clamr`` end to end, with random weights of both backbones."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mmretrieve import Engine
from mmretrieve.cli.app import app
from mmretrieve.config import EncoderSettings, Settings
from mmretrieve.datatypes import Filter, Keyframe, Modality, Segment
from mmretrieve.demo import clips_folder
from mmretrieve.document_ingest import DocumentIngestor
from mmretrieve.documents import Document, Picture
from mmretrieve.encoders.base import JointContent
from mmretrieve.encoders.clamr import ClamrEncoder
from mmretrieve.errors import UsageError
from mmretrieve.models.dialects import Backbone
from mmretrieve.models.protocol import Document as Whole
from tests import tiny_models as tiny

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

pytestmark = pytest.mark.torch

CLIPS = ("MOV_0044.mp4", "clip_0007.mp4")
SPOKEN = (Segment("the old harbour", 0.0, 2.0), Segment("people wait, how long", 2.0, 4.0))


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module", params=list(Backbone), ids=lambda kind: kind.value)
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_clamr(tmp_path_factory.mktemp("clamr"), request.param)


@pytest.fixture(scope="module")
def encoder(weights: Path) -> ClamrEncoder:
    return ClamrEncoder(EncoderSettings(weights=str(weights), device="cpu"))


def test_the_command_indexes_and_answers(weights: Path, tmp_path: Path) -> None:
    clips, folder = [clips_folder() / name for name in CLIPS], tmp_path / "ix"
    made = run("index", "--preset", "clamr", "--weights", weights, "--index", folder, *clips)
    assert made.exit_code == 0, made.output
    asked = run("query", "--index", folder, "--format", "ndjson", "cleaning the gears of a watch")
    assert asked.exit_code == 0, asked.output
    assert len(asked.stdout.splitlines()) >= 2
    with Engine.open(folder) as engine:
        info = engine.info()
        assert all(info.n_tokens[m] > 0 for m in (Modality.FRAMES, Modality.SPEECH))
        for modality in (Modality.FRAMES, Modality.METADATA):
            hits = engine.search("a train", filter=Filter(modalities=(modality,))).hits
            evidence = [e for hit in hits for e in hit.evidence]
            assert {e.modality for e in evidence} == {modality}
            assert all((e.box is not None) == (modality is Modality.FRAMES) for e in evidence)
    again = run("index", "--index", folder, *clips)
    assert "2 unchanged" in again.output


def test_what_an_index_holds_is_what_the_model_gives(
    weights: Path, encoder: ClamrEncoder, tmp_path: Path
) -> None:
    from PIL import Image

    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        Image.fromarray(tiny.picture(i, 56, 84)).save(path)
    document = Document(
        "d",
        segments={Modality.SPEECH: SPOKEN, Modality.OCR: (Segment("no smoking", 1.0, 2.0),)},
        pictures=tuple(Picture(p, float(i), i + 1.0) for i, p in enumerate(paths)),
        title="opening hours",
    )
    settings = Settings(preset="clamr", encoder=EncoderSettings(weights=str(weights)))
    with closing(DocumentIngestor(settings, encoder)) as ingestor:
        entry = ingestor.ingest(document).entry
    made = {passage.modality: (passage, tokens) for passage, tokens in entry.passages}
    model = encoder._model
    speech = "the old harbour\npeople wait, how long"
    pictures = [tiny.picture(i, 56, 84) for i in range(3)]
    with torch.inference_mode():
        turn = model.encode_documents([Whole(pictures, speech, "no smoking")])
        about = model.encode_documents([Whole(pictures, metadata="opening hours")])
    for number, name in enumerate(("frames", "speech", "ocr")):
        wanted = turn.vectors[0][turn.modality[0] == number].numpy()
        np.testing.assert_allclose(made[Modality(name)][1].vectors, wanted, atol=1e-5)
    wanted = about.vectors[0][about.modality[0] == 3].numpy()
    np.testing.assert_allclose(made[Modality.METADATA][1].vectors, wanted, atol=1e-5)
    passage, tokens = made[Modality.SPEECH]
    assert passage.segments == SPOKEN
    said = [
        passage.segments[s].text[a:b]
        for s, a, b in zip(tokens.segment, tokens.char_start, tokens.char_end, strict=True)
    ]
    assert "".join(said).replace(" ", "") == speech.replace(" ", "").replace("\n", "")
    assert set(tokens.segment.tolist()) == {0, 1}
    regions = made[Modality.FRAMES][0].segments
    assert len(regions) == 2 * 2 * 3
    assert [(r.start_s, r.end_s) for r in regions] == [(0.0, 2.0)] * 6 + [(2.0, 3.0)] * 6
    assert regions[0].box == pytest.approx((0, 0, 1 / 3, 1 / 2))
    assert regions[5].box == pytest.approx((2 / 3, 1 / 2, 1, 1))


def test_passages_do_not_depend_on_each_other(encoder: ClamrEncoder) -> None:
    contents = [
        JointContent(tuple(Keyframe(0.0, 0.0, 1.0, tiny.picture(i)) for i in range(n)), texts)
        for n, texts in (
            (3, {Modality.SPEECH: SPOKEN}),
            (0, {Modality.OCR: (Segment("no smoking"),)}),
            (1, {}),
            (0, {}),
        )
    ]
    together = encoder.joint(contents)
    for content, made in zip(contents, together, strict=True):
        (alone,) = encoder.joint([content])
        assert made.tokens.keys() == alone.tokens.keys()
        for modality, tokens in made.tokens.items():
            other = alone.tokens[modality]
            np.testing.assert_allclose(tokens.vectors, other.vectors, atol=1e-5)
            assert (tokens.segment == other.segment).all()
    assert together[3].tokens == {}


def test_a_query_keeps_its_prefix_and_its_augmentation(encoder: ClamrEncoder) -> None:
    made = encoder.query("a red balloon")
    model = encoder._model
    with torch.inference_mode():
        batch = model.encode_queries(["a red balloon"])
    np.testing.assert_allclose(made.vectors["clamr"], batch.vectors[0].numpy(), atol=1e-5)
    words: dict[int, str] = {}
    for text, word in zip(made.texts, made.word.tolist(), strict=True):
        words[word] = words.get(word, "") + text.removeprefix("##")
    assert list(words.values()) == ["Query:", "a", "red", "balloon", "[more]"]
    assert made.n_dropped == 0
    assert encoder.query("balloon " * 300).n_dropped > 200
    with pytest.raises(UsageError, match="empty"):
        encoder.query("  ")


def test_parts_of_a_passage_alone(encoder: ClamrEncoder) -> None:
    keyframes = [Keyframe(1.0, 0.5, 2.0, tiny.picture(0))]
    regions, tokens = encoder.frames(keyframes)
    assert len(regions) == len(tokens.vectors) == 6
    assert encoder.frames([])[0] == ()
    texts = encoder.texts({Modality.OCR: (Segment("no smoking"),), Modality.SPEECH: ()})
    assert set(texts) == {Modality.OCR}
    assert encoder.dim == 128
    small = encoder.shrink(Keyframe(1.0, 0.5, 2.0, tiny.picture(0, 1080, 1920)))
    assert small.image.shape == (168, 280, 3)
    assert small.start_s == 0.5


def test_without_weights_the_command_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    clip = clips_folder() / CLIPS[0]
    program = "import sys; from mmretrieve.cli import main; main()"
    for arguments, message in (
        ((), "mmretrieve: preset 'clamr' has no weights here: hf download meetdavidwan/clamr"),
        (("--weights", "some/one"), "hf download some/one"),
        (("--weights", str(tmp_path / "none")), "no such folder"),
    ):
        command = [sys.executable, "-c", program, "index", "--preset", "clamr", *arguments]
        done = subprocess.run(
            [*command, "--index", str(tmp_path / "ix"), str(clip)], capture_output=True, text=True
        )
        assert done.returncode == 4
        (line,) = done.stderr.splitlines()
        assert message in line
    assert not (tmp_path / "ix").exists()
