"""Frame token embeddings: EfficientNet-Lite2 features mapped into the text token space.

A frame is squeezed to 260 x 260 pixels; the network gives 1280 features, averaged over the frame, and
the outputs of three earlier stages, which still know colour and texture: of each channel the mean and
the spread over 3 x 3 regions. Each token is a blend of two unit vectors: a trained map of the
features (a linear layer and beside it one hidden layer), which knows people and scenes, and the mean of
the names of the likeliest ImageNet classes (Norouzi et al. 2013, arXiv:1312.5650), which knows a
thousand things. One frame a run: its tokens never depend on its neighbours.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.encoders.text import normalise
from mmretrieve.encoders.weights import FOLDER

BACKBONE_FILE = "efficientnet_lite2.onnx"
HEAD_FILE = "frame_head.safetensors"
CLASSES_FILE = "imagenet_classes.txt"
SIDE_PX = 260
STAGES = ("stage_208", "stage_120", "stage_88")
"""Outputs of the network before its last stages, ``(n, channels, side, side)``: their channels."""
N_PLAIN = 1280
N_FEATURES = N_PLAIN + 2 * (208 + 120 + 88)
_PARTS = 3
HEAD_TENSORS = (
    "mean", "spread", "weight", "bias", "hidden", "hidden_bias", "out", "class_vectors",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FrameTokens:
    """The tokens of one frame.

    Attributes:
        vectors: ``(n_tokens, 128)`` float32, rows of unit length.
        boxes: ``(n_tokens, 4)`` float32, the region a token looks at as ``x0, y0, x1, y1`` in parts
            of the frame's width and height; the whole frame is ``0, 0, 1, 1``.
        labels: for each token the name of the ImageNet class that the frame clearly shows, or None.
    """

    vectors: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class FrameHead:
    """The trained map from features to tokens.

    With ``x = (features - mean) / spread`` a token is ``x @ weight + bias + relu(x @ hidden +
    hidden_bias) @ out``, of unit length, before the class names are blended in.

    Attributes:
        mean: ``(n_features,)`` float32.
        spread: ``(n_features,)`` float32.
        weight: ``(n_features, n_tokens * 128)`` float32.
        bias: ``(n_tokens * 128,)`` float32.
        hidden: ``(n_features, n_hidden)`` float32.
        hidden_bias: ``(n_hidden,)`` float32.
        out: ``(n_hidden, n_tokens * 128)`` float32.
        class_vectors: ``(1000, 128)`` float32, unit rows: the names of the classes, mean removed.
        class_names: the 1000 names.
        blend: share of the class names in a token, 0 to 1.
        sharpness: factor of the class scores before their softmax.
        n_classes: so many classes take part.
        min_probability: the likeliest class labels the tokens from here on.
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    hidden: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]
    out: NDArray[np.float32]
    class_vectors: NDArray[np.float32]
    class_names: tuple[str, ...]
    blend: float
    sharpness: float
    n_classes: int
    min_probability: float

    def seen(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(n, n_tokens, 128)`` unit vectors of ``(n, n_features)`` features."""
        x = (features - self.mean) / self.spread
        mapped = x @ self.weight + self.bias
        mapped = mapped + np.maximum(x @ self.hidden + self.hidden_bias, 0) @ self.out
        rows = mapped.reshape(-1, FrameEncoder.dim).astype(np.float32)
        return normalise(rows).reshape(len(features), -1, FrameEncoder.dim)


class FrameEncoder:
    """Tokens of frames. Thread-safe; weights are read at the first use."""

    dim = 128

    def __init__(self, weights_dir: Path | None = None, threads: int = 1) -> None:
        """``weights_dir``: folder of the weights, the shipped ones if None; ``threads``: of one run."""
        self._folder = FOLDER if weights_dir is None else weights_dir
        self._threads = threads
        self._lock = threading.Lock()
        self._session: Any = None
        self._head: FrameHead | None = None

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> list[FrameTokens]:
        """Tokens of each image, ``(height, width, 3)`` uint8 RGB of any size.

        Raises:
            ValueError: an image has another shape or type.
        """
        session, head = self._load()
        frames = []
        for image in images:
            features, logits = look(session, image)
            frames.append(tokens_of(features, logits, head))
        return frames

    def _load(self) -> tuple[Any, FrameHead]:
        with self._lock:
            if self._session is None or self._head is None:
                from mmretrieve.encoders.onnx import open_session

                self._head = read_head(self._folder)
                self._session = open_session(self._folder / BACKBONE_FILE, self._threads)
            return self._session, self._head


def preprocess(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(height, width, 3)`` uint8 RGB to the ``(1, 3, 260, 260)`` float32 that the network reads.

    Raises:
        ValueError: the image has another shape or type.
    """
    from PIL import Image

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(
            f"a frame must be (height, width, 3) uint8 RGB, got {image.shape} {image.dtype}: "
            "for a grey picture use np.repeat(grey[:, :, None], 3, axis=2)"
        )
    picture = Image.fromarray(np.ascontiguousarray(image))
    resized = picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    scaled = (np.asarray(resized, dtype=np.float32) - 127.0) / 128.0
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def look(session: Any, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The ``(n_features,)`` features and the ``(1000,)`` class scores of one image."""
    outputs = session.run(["grid", "logits", *STAGES], {"images": preprocess(image)})
    grid, logits, *stages = (output[0] for output in outputs)
    regions = np.concatenate([_regions(stage) for stage in stages], axis=1)
    parts = (grid.mean(axis=(1, 2)), regions.mean(axis=0), regions.std(axis=0))
    return np.concatenate(parts).astype(np.float32), logits


def _regions(stage: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(9, channels)``: means of 3 x 3 regions of ``(channels, side, side)``."""
    third = stage.shape[1] // _PARTS
    edges = (0, third, stage.shape[1] - third, stage.shape[1])
    spans = [slice(a, b) for a, b in itertools.pairwise(edges)]
    return np.stack(
        [stage[:, rows, columns].mean(axis=(1, 2)) for rows in spans for columns in spans]
    )


def tokens_of(
    features: NDArray[np.float32], logits: NDArray[np.float32], head: FrameHead
) -> FrameTokens:
    """Tokens of one frame from its ``(n_features,)`` features and ``(1000,)`` class scores."""
    (seen,) = head.seen(features[None])
    named = named_vectors(logits[None], head.class_vectors, head.sharpness, head.n_classes)
    vectors = normalise((1.0 - head.blend) * seen + head.blend * named)
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (len(vectors), 1))
    return FrameTokens(vectors, boxes, (label_of(logits, head),) * len(vectors))


def named_vectors(
    logits: NDArray[np.float32],
    class_vectors: NDArray[np.float32],
    sharpness: float,
    n_classes: int,
) -> NDArray[np.float32]:
    """Mean of the ``n_classes`` likeliest class vectors, weighted by ``softmax(sharpness * logits)``.

    Args:
        logits: ``(n, 1000)`` float32.
        class_vectors: ``(1000, 128)`` float32.
        sharpness: factor of the logits.
        n_classes: how many classes take part; ties go to the lower number.

    Returns:
        ``(n, 128)`` float32, rows of unit length.
    """
    chosen = np.argsort(-logits, axis=1, kind="stable")[:, :n_classes]
    scores = np.take_along_axis(logits, chosen, axis=1) * sharpness
    weights = np.exp(scores - scores[:, :1])
    weights /= weights.sum(axis=1, keepdims=True)
    return normalise(np.einsum("nk,nkd->nd", weights, class_vectors[chosen]))


def label_of(logits: NDArray[np.float32], head: FrameHead) -> str | None:
    """Name of the likeliest class if it is likely enough."""
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    best = int(weights.argmax())
    clear = bool(weights[best] / weights.sum() >= head.min_probability)
    return head.class_names[best] if clear else None


def read_head(folder: Path) -> FrameHead:
    """Read the head and the class names from a folder of weights."""
    from safetensors import safe_open

    with safe_open(str(folder / HEAD_FILE), framework="numpy") as file:
        tensors = {name: file.get_tensor(name).astype(np.float32) for name in HEAD_TENSORS}
        metadata = file.metadata()
    lines = (folder / CLASSES_FILE).read_text(encoding="utf-8").splitlines()
    return FrameHead(
        **tensors,
        class_names=tuple(line.split("\t")[0] for line in lines),
        blend=float(metadata["blend"]),
        sharpness=float(metadata["sharpness"]),
        n_classes=int(metadata["n_classes"]),
        min_probability=float(metadata["min_probability"]),
    )
