"""The frames encoder on its shipped weights, with pictures made here."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

from mmretrieve.encoders.frames import (
    BACKBONE_FILE,
    CLASSES_FILE,
    HEAD_FILE,
    N_FEATURES,
    N_PLAIN,
    STAGES,
    FrameEncoder,
    FrameHead,
    look,
    named_vectors,
    preprocess,
    tokens_of,
)
from mmretrieve.encoders.weights import weight_path


def picture(seed: int, height: int = 90, width: int = 160) -> NDArray[np.uint8]:
    """Coloured blocks, enlarged so that resizing keeps them."""
    blocks = np.random.default_rng(seed).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    rows = np.linspace(0, 8.99, height).astype(int)
    columns = np.linspace(0, 15.99, width).astype(int)
    return np.asarray(blocks[rows][:, columns], np.uint8)


@pytest.fixture(scope="module")
def encoder() -> FrameEncoder:
    return FrameEncoder()


def small_head(blend: float = 0.5, n_classes: int = 2, n_tokens: int = 3) -> FrameHead:
    rng = np.random.default_rng(0)
    return FrameHead(
        mean=rng.normal(size=N_FEATURES).astype(np.float32),
        spread=rng.uniform(0.5, 2.0, N_FEATURES).astype(np.float32),
        weight=rng.normal(size=(N_FEATURES, n_tokens * 128)).astype(np.float32),
        bias=rng.normal(size=n_tokens * 128).astype(np.float32),
        hidden=rng.normal(size=(N_FEATURES, 5)).astype(np.float32),
        hidden_bias=rng.normal(size=5).astype(np.float32),
        out=rng.normal(size=(5, n_tokens * 128)).astype(np.float32),
        class_vectors=np.eye(1000, 128, dtype=np.float32),
        class_names=tuple(f"class {i}" for i in range(1000)),
        blend=blend,
        sharpness=1.0,
        n_classes=n_classes,
        min_probability=0.4,
    )


def test_tokens_have_unit_length_and_lie_in_the_frame(encoder: FrameEncoder) -> None:
    (frame,) = encoder.encode([picture(0)])
    n_tokens = len(frame.vectors)
    assert 1 <= n_tokens <= 12
    assert frame.vectors.shape == (n_tokens, encoder.dim)
    assert frame.vectors.dtype == frame.boxes.dtype == np.float32
    assert frame.boxes.shape == (n_tokens, 4)
    assert len(frame.labels) == n_tokens
    np.testing.assert_allclose(np.linalg.norm(frame.vectors, axis=1), 1.0, atol=1e-5)
    assert (frame.boxes[:, :2] < frame.boxes[:, 2:]).all()
    assert frame.boxes.min() == 0.0
    assert frame.boxes.max() == 1.0
    assert frame.boxes[0].tolist() == [0, 0, 1, 1]


def test_a_frame_is_the_same_alone_and_in_any_batch(encoder: FrameEncoder) -> None:
    images = [picture(seed, 40 + 17 * seed, 70 + 5 * seed) for seed in range(4)]
    together = encoder.encode(images)
    backwards = encoder.encode(images[::-1])[::-1]
    for image, left, right in zip(images, together, backwards, strict=True):
        (alone,) = encoder.encode([image])
        np.testing.assert_array_equal(alone.vectors, left.vectors)
        np.testing.assert_array_equal(alone.vectors, right.vectors)
        assert alone.labels == left.labels == right.labels


def test_known_frames_give_the_published_numbers(encoder: FrameEncoder) -> None:
    plain = np.full((120, 160, 3), (200, 30, 40), np.uint8)
    blocks, red = encoder.encode([picture(0), plain])
    expected = [-0.0537, -0.0011, -0.0466, -0.2222, 0.0535, 0.0289]
    np.testing.assert_allclose(blocks.vectors[0, :6], expected, atol=2e-3)
    expected = [-0.0917, -0.0131, 0.0303, -0.3012, 0.0848, 0.0904]
    np.testing.assert_allclose(red.vectors[0, :6], expected, atol=2e-3)


def test_no_images_give_no_frames(encoder: FrameEncoder) -> None:
    assert encoder.encode([]) == []


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (10, 8000), (8000, 10), (261, 259)])
def test_any_size_is_read(encoder: FrameEncoder, height: int, width: int) -> None:
    (frame,) = encoder.encode([picture(1, height, width)])
    assert np.isfinite(frame.vectors).all()
    np.testing.assert_allclose(np.linalg.norm(frame.vectors, axis=1), 1.0, atol=1e-5)


def test_a_strided_view_equals_its_copy(encoder: FrameEncoder) -> None:
    image = picture(2)[::2, ::-1]
    view, copy = encoder.encode([image, image.copy()])
    np.testing.assert_array_equal(view.vectors, copy.vectors)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
    ],
)
def test_what_is_no_rgb_frame_is_refused(encoder: FrameEncoder, image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"a frame must be \(height, width, 3\) uint8 RGB, got"):
        encoder.encode([image])


def test_preprocessing_scales_channels_as_the_network_was_trained() -> None:
    image = np.empty((5, 7, 3), np.uint8)
    image[:] = (255, 127, 0)
    prepared = preprocess(image)
    assert prepared.shape == (1, 3, 260, 260)
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared[0, :, 130, 130], [1.0, 0.0, -127 / 128])
    assert np.ptp(prepared, axis=(2, 3)).max() == 0.0


class Stages:
    """A session whose stages are known."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.grid = rng.random((1, N_PLAIN, 9, 9), dtype=np.float32)
        self.stages = [
            rng.random((1, int(name.removeprefix("stage_")), side, side), dtype=np.float32)
            for name, side in zip(STAGES, (9, 17, 17), strict=True)
        ]

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[NDArray[np.float32]]:
        assert names == ["grid", "logits", *STAGES]
        assert feeds["images"].shape == (1, 3, 260, 260)
        return [self.grid, np.arange(1000, dtype=np.float32)[None], *self.stages]


def test_features_are_the_mean_and_of_earlier_stages_mean_and_spread_of_regions() -> None:
    session = Stages()
    features, logits = look(session, picture(0))
    assert features.shape == (N_FEATURES,)
    assert logits[7] == 7.0
    np.testing.assert_allclose(features[:N_PLAIN], session.grid[0].mean(axis=(1, 2)), rtol=1e-5)
    channel = session.stages[1][0, 11]  # a stage of 17 x 17: regions of 5, 7 and 5
    cuts = ((0, 5), (5, 12), (12, 17))
    regions = [channel[a:b, c:d].mean() for a, b in cuts for c, d in cuts]
    place = N_PLAIN + 208 + 11
    assert features[place] == pytest.approx(np.mean(regions), rel=1e-4)
    assert features[place + 208 + 120 + 88] == pytest.approx(np.std(regions), rel=1e-3)


def test_the_named_half_is_the_weighted_mean_of_the_likeliest_names() -> None:
    logits = np.zeros((1, 1000), np.float32)
    logits[0, [7, 90]] = [np.log(30.0), np.log(10.0)]
    vectors = np.eye(1000, 128, dtype=np.float32)
    named = named_vectors(logits, vectors, sharpness=1.0, n_classes=2)
    expected = np.zeros(128)
    expected[[7, 90]] = [3.0, 1.0]
    np.testing.assert_allclose(named[0], expected / np.sqrt(10.0), atol=1e-6)
    softer = named_vectors(logits, vectors, sharpness=0.5, n_classes=2)
    assert softer[0, 7] / softer[0, 90] == pytest.approx(np.sqrt(3.0), rel=1e-5)


def test_ties_between_classes_break_by_number() -> None:
    logits = np.zeros((1, 1000), np.float32)
    logits[0, [3, 1, 2]] = 30.0
    named = named_vectors(logits, np.eye(1000, 128, dtype=np.float32), 1.0, n_classes=2)
    assert np.flatnonzero(named[0]).tolist() == [1, 2]


def test_blend_zero_is_the_map_alone_and_blend_one_the_names_alone() -> None:
    rng = np.random.default_rng(1)
    features = rng.random(N_FEATURES, dtype=np.float32)
    logits = rng.normal(size=1000).astype(np.float32)
    head = small_head(blend=0.0)
    x = (features.astype(np.float64) - head.mean) / head.spread
    inner = x @ head.hidden + head.hidden_bias
    assert (inner < 0).any()
    assert (inner > 0).any()
    mapped = x @ head.weight + head.bias + np.where(inner > 0, inner, 0) @ head.out
    mapped = mapped.reshape(3, 128)
    mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
    np.testing.assert_allclose(tokens_of(features, logits, head).vectors, mapped, atol=1e-4)
    named = named_vectors(logits[None], head.class_vectors, 1.0, 2)
    names_alone = tokens_of(features, logits, small_head(blend=1.0)).vectors
    np.testing.assert_allclose(names_alone, np.repeat(named, 3, axis=0), atol=1e-5)


def test_only_a_clear_class_labels_the_frame() -> None:
    features = np.ones(N_FEATURES, np.float32)
    logits = np.zeros(1000, np.float32)
    assert tokens_of(features, logits, small_head()).labels == (None, None, None)
    logits[7] = 20.0
    assert tokens_of(features, logits, small_head()).labels == ("class 7",) * 3
    logits[[90, 91]] = 20.0
    assert tokens_of(features, logits, small_head()).labels == (None, None, None)


def test_the_head_says_what_it_was_made_from() -> None:
    with safe_open(str(weight_path(HEAD_FILE)), framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["version"]
    assert "Flickr8k" in metadata["trained_on"]
    digests = json.loads(metadata["sha256"])
    for name in (BACKBONE_FILE, CLASSES_FILE, "text_projection.safetensors"):
        assert hashlib.sha256(weight_path(name).read_bytes()).hexdigest() == digests[name], name


def test_class_names_are_a_thousand() -> None:
    lines = weight_path(CLASSES_FILE).read_text(encoding="utf-8").splitlines()
    names = [line.split("\t")[0] for line in lines]
    assert len(names) == 1000
    assert all(names)
    assert (names[0], names[281], names[999]) == ("tench", "tabby cat", "toilet paper")
