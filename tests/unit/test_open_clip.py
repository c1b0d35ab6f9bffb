"""open_clip models from safetensors: whole pictures, patch tokens, regions, sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmretrieve.config import EncoderSettings
from mmretrieve.datatypes import COMMON, Keyframe, Modality, Segment
from mmretrieve.encoders.text import RECIPE
from mmretrieve.errors import UsageError, WeightsError
from tests import tiny_models as tiny

pytest.importorskip("torch")
open_clip: Any = pytest.importorskip("open_clip")

import torch  # noqa: E402

from mmretrieve.encoders.clip import ClipEncoder  # noqa: E402
from mmretrieve.encoders.open_clip import OpenClip, seen_part  # noqa: E402

pytestmark = pytest.mark.clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def original(folder: Path) -> tuple[Any, Any]:
    """The model as open_clip itself loads it."""
    model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), prepare


def settings(folder: Path) -> EncoderSettings:
    return EncoderSettings(weights=str(folder), device="cpu")


def test_whole_pictures_and_sentences_are_those_of_open_clip(
    folder: Path, original: tuple[Any, Any]
) -> None:
    model, prepare = original
    mine = OpenClip(settings(folder))
    pictures = [tiny.picture(i, 60, 90) for i in range(3)]
    with torch.no_grad():
        batch = torch.stack([prepare(Image.fromarray(p)) for p in pictures])
        images = model.encode_image(batch, normalize=True).numpy()
        text = model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(["a balloon"]))
    for made, wanted in zip(mine.images(pictures), images, strict=True):
        np.testing.assert_allclose(made.vectors[0], wanted, atol=1e-5)
    wanted = torch.nn.functional.normalize(text, dim=-1)[0].numpy()
    np.testing.assert_allclose(mine.text("a balloon"), wanted, atol=1e-5)
    assert mine.dim == 24


def test_patch_tokens_are_projected_as_the_whole_is(
    folder: Path, original: tuple[Any, Any]
) -> None:
    model, prepare = original
    picture = tiny.picture(4, 60, 90)
    (made,) = OpenClip(settings(folder)).images([picture])
    assert made.vectors.shape == (1 + 4 * 4, 24)
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-5)
    visual = model.visual
    with torch.no_grad():
        found = visual.forward_intermediates(
            prepare(Image.fromarray(picture))[None], indices=1, output_fmt="NLC",
            normalize_intermediates=True,
        )  # fmt: skip
        cells = found["image_intermediates"][0][0] @ visual.proj
        wanted = torch.nn.functional.normalize(cells, dim=-1).numpy()
    np.testing.assert_allclose(made.vectors[1:], wanted, atol=1e-5)


def test_regions_are_of_the_square_that_the_network_sees(folder: Path) -> None:
    (made,) = OpenClip(settings(folder)).images([tiny.picture(4, 60, 120)])
    assert made.boxes[0] == pytest.approx((0.25, 0.0, 0.75, 1.0))
    assert made.boxes[1] == pytest.approx((0.25, 0.0, 0.375, 0.25))
    assert made.boxes[2] == pytest.approx((0.375, 0.0, 0.5, 0.25))
    assert made.boxes[-1] == pytest.approx((0.625, 0.75, 0.75, 1.0))
    assert seen_part(120, 60, {"size": (56, 56)}) == pytest.approx((0.0, 0.25, 1.0, 0.75))
    assert seen_part(60, 120, {"size": 56, "resize_mode": "squash"}) == (0.0, 0.0, 1.0, 1.0)


def test_a_fine_grid_is_averaged_down(tmp_path: Path) -> None:
    vision = {**tiny.CLIP_CONFIG["vision_cfg"], "image_size": 126}  # 9 x 9 patches
    folder = tiny.write_clip(tmp_path, {**tiny.CLIP_CONFIG, "vision_cfg": vision})
    (made,) = OpenClip(settings(folder)).images([tiny.picture(4, 90, 90)])
    assert made.vectors.shape == (1 + 7 * 7, 24)
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-5)


def test_a_tower_that_pools_otherwise_gives_whole_pictures(tmp_path: Path) -> None:
    resnet = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 16}
    folder = tiny.write_clip(tmp_path, {**tiny.CLIP_CONFIG, "vision_cfg": resnet})
    (made,) = OpenClip(settings(folder)).images([tiny.picture(4, 60, 120)])
    assert made.vectors.shape == (1, 24)
    assert len(made.boxes) == 1
    assert made.boxes[0] == pytest.approx((0.25, 0.0, 0.75, 1.0))


def test_pictures_that_do_not_fit_are_tried_in_halves(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = OpenClip(settings(folder))
    pictures = [tiny.picture(i) for i in range(5)]
    wanted = encoder.images(pictures)
    network = encoder._network
    inner, tried = network._tokens, []

    def crowded(batch: Any) -> Any:
        tried.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("no room")
        return inner(batch)

    monkeypatch.setattr(network, "_tokens", crowded)
    made = encoder.images(pictures)
    assert tried == [5, 2, 3, 1, 2]
    for one, other in zip(made, wanted, strict=True):
        np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-5)


def test_a_file_needs_the_name_of_its_model(folder: Path, tmp_path: Path) -> None:
    file = folder / "open_clip_model.safetensors"
    wrong = OpenClip(EncoderSettings(weights=str(file), model="ViT-B-32", device="cpu"))
    assert wrong.dim == 512
    with pytest.raises(WeightsError, match="--model"):
        wrong.text("a")
    with pytest.raises(UsageError, match="no open_clip model"):
        _ = OpenClip(EncoderSettings(weights=str(file), model="ViT-Z")).dim
    (tmp_path / "model.pt").write_bytes(b"pickle")
    with pytest.raises(WeightsError, match="pickled"):
        _ = OpenClip(EncoderSettings(weights=str(tmp_path / "model.pt"))).dim
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    with pytest.raises(WeightsError, match="pickled"):
        _ = OpenClip(EncoderSettings(weights=str(tmp_path))).dim


def test_absent_weights_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mmretrieve.models.folders.cached", lambda name: None)
    monkeypatch.setattr("mmretrieve.models.folders.resolve.__defaults__", (lambda name: None, None))
    for chosen in (EncoderSettings(), EncoderSettings(weights="laion2b_s34b_b79k")):
        with pytest.raises(WeightsError, match="hf download laion/CLIP-ViT-B-32-laion2B-s34B-b79K"):
            _ = OpenClip(chosen).dim
    with pytest.raises(UsageError, match="no tag of ViT-B-32; expected one of openai"):
        _ = OpenClip(EncoderSettings(weights="no_such_tag")).dim


def test_four_bits_are_not_for_pictures(folder: Path) -> None:
    with pytest.raises(UsageError, match="for clamr"):
        OpenClip(EncoderSettings(weights=str(folder), precision="nf4", device="cpu")).text("a")


def test_two_spaces_of_one_query(folder: Path) -> None:
    encoder = ClipEncoder(settings(folder))
    assert encoder.dims == {"clip": 24, "text": 128}
    assert encoder.dim == 128
    assert encoder.spaces[Modality.FRAMES] == "clip"
    assert {encoder.spaces[m] for m in COMMON if m is not Modality.FRAMES} == {"text"}
    query = encoder.query("a red balloon")
    assert query.vectors["clip"].shape == (3, 24)
    assert query.vectors["text"].shape == (3, 128)
    assert (query.vectors["clip"] == OpenClip(settings(folder)).text("a red balloon")).all()
    keyframes = [Keyframe(1.0, 0.5, 2.0, tiny.picture(0)), Keyframe(3.0, 2.0, 5.0, tiny.picture(1))]
    regions, tokens = encoder.frames(keyframes)
    assert len(regions) == len(tokens.vectors) == 2 * 17
    assert [r.start_s for r in regions] == [0.5] * 17 + [2.0] * 17
    assert tokens.segment.tolist() == list(range(34))
    texts = encoder.texts({Modality.OCR: (Segment("no smoking"),)})
    assert texts[Modality.OCR].vectors.shape == (2, 128)
    assert set(encoder.fingerprints()) == {
        "open_clip/open_clip_model.safetensors",
        "bge_small_en_v1.5_int8.onnx",
        "bge_tokenizer.json",
        "text_projection.safetensors",
        RECIPE,
    }
