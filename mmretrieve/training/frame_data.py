"""What the frame head is trained on: features of pictures, tokens of captions, made-up class features."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.encoders.frames import (
    BACKBONE_FILE,
    CLASSES_FILE,
    N_FEATURES,
    N_PLAIN,
    look,
    named_vectors,
)
from mmretrieve.encoders.onnx import open_session
from mmretrieve.encoders.text import TextEncoder, normalise
from mmretrieve.encoders.weights import weight_path

_LOG = logging.getLogger("mmretrieve.training.frame_data")
_MAX_TOKENS = 40
TEMPLATES = ("{name}", "a photo of a {name}", "{name}, {kind}")

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that training depends on besides the data. ``blend``, the share of class names in a
    token, is larger at run time than in training: that helps on pictures unlike the training's.
    ``soft`` of a picture's target goes to all pictures of the batch, by how alike their captions are
    (softmax at ``soft_temperature``). ``views``: of each picture, see :func:`views_of`."""

    passes: int = 12
    views: int = 1
    hidden: int = 384
    hidden_dropout: float = 0.5
    soft: float = 0.3
    soft_temperature: float = 0.05
    batch: int = 256
    rate: float = 1e-3
    decay: float = 1e-2
    temperature: float = 0.05
    dropout: float = 0.3
    tokens_a_step: int = 14
    n_tokens: int = 1
    class_weight: float = 0.5
    background: float = 0.5
    ridge: float = 0.1
    seed: int = 0
    training_blend: float = 0.42
    blend: float = 0.5
    sharpness: float = 0.5
    n_classes: int = 10
    min_probability: float = 0.3


@dataclass(frozen=True, slots=True)
class Texts:
    """Tokens of many texts end to end: ``tokens (n, 128)``, text i is ``[starts[i], starts[i + 1])``."""

    tokens: Floats
    starts: NDArray[np.int64]

    def padded(self, texts: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """``(n, longest, 128)`` tokens and the ``(n, longest)`` mask of those that are real."""
        lengths = np.minimum(self.starts[texts + 1] - self.starts[texts], _MAX_TOKENS)
        tokens = np.zeros((len(texts), int(lengths.max()), self.tokens.shape[1]), np.float32)
        mask = np.zeros(tokens.shape[:2], np.float32)
        for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
            start = self.starts[text]
            tokens[row, :length] = self.tokens[start : start + length]
            mask[row, :length] = 1.0
        return tokens, mask


@dataclass(frozen=True, slots=True)
class Flickr:
    """Pictures: ``features (views, n, n_features)`` float16; captions of picture i are the texts
    ``[first[i], first[i + 1])``; ``train`` and ``dev`` are picture numbers."""

    features: NDArray[np.float16]
    captions: Texts
    first: NDArray[np.int64]
    train: NDArray[np.int64]
    dev: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scale:
    """Standardisation of features: ``(x - mean) / spread``, both ``(n_features,)`` float32."""

    mean: Floats
    spread: Floats

    def apply(self, features: NDArray[Any]) -> Floats:
        """Standardised features, ``(n, n_features)`` float32."""
        return np.asarray((features.astype(np.float32) - self.mean) / self.spread, np.float32)


@dataclass(frozen=True, slots=True)
class Classes:
    """Three ``texts`` for each class; ``vectors (1000, n_features)``: made-up standardised
    features, 0 where the classifier does not look;
    ``names (1000, 128)``: mean token of each bare name, less the mean over all classes, of unit length;
    ``weight (1000, 1280)`` and ``bias (1000,)`` of the classifier."""

    texts: Texts
    vectors: Floats
    names: Floats
    weight: Floats
    bias: Floats

    def named(self, features: Floats, recipe: Recipe) -> Floats:
        """``(n, 128)``: the class-name half of the tokens of ``(n, n_features)`` raw features."""
        logits = features[:, :N_PLAIN] @ self.weight.T + self.bias
        return named_vectors(logits, self.names, recipe.sharpness, recipe.n_classes)


def views_of(picture: Any, seed: int) -> Iterator[Any]:
    """The picture, its mirror image, a random crop, and the mirror image of another crop."""
    from PIL import ImageOps

    generator = np.random.default_rng(seed)
    width, height = picture.size

    def crop() -> Any:
        part = generator.uniform(0.6, 0.9)
        w, h = int(width * part), int(height * part)
        x, y = generator.integers(0, width - w + 1), generator.integers(0, height - h + 1)
        return picture.crop((x, y, x + w, y + h))

    yield picture
    yield ImageOps.mirror(picture)
    yield crop()
    yield ImageOps.mirror(crop())


def picture_features(paths: Sequence[Path], views: int, cache: Path) -> NDArray[np.float16]:
    """Features of the first ``views`` views of all pictures: ``(views, n, n_features)`` float16."""
    from PIL import Image

    file = cache / f"frame_features_{views}.npy"
    if file.is_file():
        return np.asarray(np.load(file))
    session = open_session(weight_path(BACKBONE_FILE), threads=1)
    features = np.empty((views, len(paths), N_FEATURES), np.float16)
    for number, path in enumerate(paths):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        for view, image in enumerate(itertools.islice(views_of(picture, number), views)):
            features[view, number], _ = look(session, np.asarray(image))
        if number % 500 == 0:
            _LOG.info("features of %d of %d pictures", number, len(paths))
    np.save(file, features)
    return features


def embed(texts: Sequence[str], file: Path | None = None) -> Texts:
    """Tokens of texts, kept in ``file`` when there is one."""
    projection = hashlib.sha256(weight_path("text_projection.safetensors").read_bytes()).hexdigest()
    if file is not None and file.is_file():
        with np.load(file) as kept:
            if str(kept["projection"]) == projection:
                return Texts(kept["tokens"].astype(np.float32), kept["starts"])
    encoder = TextEncoder()
    tokens = [encoder.encode(text).vectors for text in texts]
    starts = np.cumsum([0, *map(len, tokens)]).astype(np.int64)
    joined = np.concatenate(tokens)
    if file is not None:
        np.savez(file, tokens=joined, starts=starts, projection=projection)
    return Texts(joined, starts)


def read_flickr(folder: Path, views: int, cache: Path) -> Flickr:
    """Read pictures and captions, computing what the cache lacks."""
    lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    captions = [caption for row in rows for caption in row["captions"]]
    is_train = np.array([row["split"] == "train" for row in rows])
    return Flickr(
        features=picture_features([folder / "images" / row["image"] for row in rows], views, cache),
        captions=embed(captions, cache / "caption_tokens.npz"),
        first=np.cumsum([0, *(len(row["captions"]) for row in rows)]).astype(np.int64),
        train=np.flatnonzero(is_train),
        dev=np.flatnonzero(~is_train),
    )


def scale_of(flickr: Flickr) -> Scale:
    """Mean and spread over the training pictures."""
    plain = flickr.features[0][flickr.train].astype(np.float32)
    spread = plain.std(axis=0) + np.float32(0.05)
    # Signed and on other scales than the last stage; a little less weight than to each of its features.
    spread[N_PLAIN:] = (plain[:, N_PLAIN:].std(axis=0) + np.float32(1e-3)) / np.float32(0.7)
    return Scale(plain.mean(axis=0), spread)


def caption_vectors(flickr: Flickr) -> Floats:
    """``(n, 128)``: what the captions of each picture say together, less the mean, of unit length."""
    captions = flickr.captions
    means = np.add.reduceat(captions.tokens, captions.starts[:-1], axis=0)
    counts = np.diff(captions.starts)[:, None]
    means = normalise((means / counts).astype(np.float32))
    means = normalise((means - means.mean(axis=0)).astype(np.float32))
    return normalise(np.add.reduceat(means, flickr.first[:-1], axis=0).astype(np.float32))


def read_classifier() -> tuple[Floats, Floats]:
    """The classifier's ``(1000, 1280)`` weights and ``(1000,)`` biases, from the ONNX file."""
    import onnx

    tensors = onnx.load(str(weight_path(BACKBONE_FILE))).graph.initializer
    by_shape = {tuple(tensor.dims): onnx.numpy_helper.to_array(tensor) for tensor in tensors}
    if (1000, 1280) not in by_shape or (1000,) not in by_shape:
        raise ValueError(f"{BACKBONE_FILE} has no classifier: run export_efficientnet again")
    return by_shape[1000, 1280].astype(np.float32), by_shape[(1000,)].astype(np.float32)


def class_texts() -> list[str]:
    """Three texts for each class: the bare name, as a photo, with the kind of thing it is."""
    texts = []
    for line in weight_path(CLASSES_FILE).read_text(encoding="utf-8").splitlines():
        name, kind = line.split("\t")
        texts += [t.format(name=name, kind=kind) if kind else name for t in TEMPLATES]
    return texts


def read_classes(flickr: Flickr, scale: Scale, ridge: float) -> Classes:
    """Make up the features of each ImageNet class and embed its texts."""
    whole = scale.apply(flickr.features[0][flickr.train])[:, :N_PLAIN]
    covariance = whole.T @ whole / len(whole)
    covariance[np.diag_indices_from(covariance)] += ridge * covariance.trace() / len(covariance)
    weight, bias = read_classifier()
    scaled = weight * scale.spread[:N_PLAIN]
    length = float(np.sqrt((whole**2).sum(axis=1).mean()))
    vectors = np.zeros((len(weight), N_FEATURES), np.float32)
    vectors[:, :N_PLAIN] = normalise((scaled - scaled.mean(axis=0)) @ covariance) * length
    texts = embed(class_texts())
    return Classes(texts, vectors, name_vectors(texts), weight, bias)


def name_vectors(texts: Texts) -> Floats:
    """``(1000, 128)``: mean token of each bare name, less the mean of all, of unit length."""
    starts = texts.starts[:: len(TEMPLATES)]
    ends = texts.starts[1 :: len(TEMPLATES)]
    spans = zip(starts[:-1], ends, strict=True)
    means = normalise(np.stack([texts.tokens[a:b].mean(axis=0) for a, b in spans]))
    return normalise(means - means.mean(axis=0))
