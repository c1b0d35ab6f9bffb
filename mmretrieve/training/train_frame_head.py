"""Train the head that maps EfficientNet-Lite2 features into the text token space.

Pairs: the pictures of Flickr8k with their captions, and, so that the head covers more than people
and dogs, one made-up feature vector for each ImageNet class with that class's name. The made-up
vector is where the features of the class should lie: the classifier's weights of the class times the
covariance of the features (the mean of a class under linear discriminant analysis), at the length
of an ordinary picture, laid over the features of a random picture.

Needs ``torch`` (run time does not)::

    python -m mmretrieve.training.train_frame_head --flickr8k FOLDER --cache FOLDER

``FOLDER`` of Flickr8k holds ``captions.jsonl`` (``image, split, captions``) and ``images/``. The cache
holds features and caption tokens between runs. With ``--videos FOLDER`` (``queries.jsonl`` and
``files/``) the head is also tried on real clips.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.encoders.frames import (
    BACKBONE_FILE,
    CLASSES_FILE,
    HEAD_FILE,
    FrameEncoder,
    named_vectors,
    preprocess,
)
from mmretrieve.encoders.onnx import open_session
from mmretrieve.encoders.text import TextEncoder, normalise
from mmretrieve.encoders.weights import FOLDER, weight_path

_LOG = logging.getLogger("mmretrieve.training.train_frame_head")
_VERSION = "1"
_N_VIEWS = 4
_MAX_TOKENS = 40
_RUN_TIME_SETTINGS = ("blend", "sharpness", "n_classes", "min_probability")
_TEMPLATES = ("{name}", "a photo of a {name}", "{name}, {kind}")

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that training depends on besides the data."""

    passes: int = 30
    batch: int = 256
    rate: float = 1e-3
    decay: float = 1e-2
    temperature: float = 0.03
    dropout: float = 0.2
    tokens_a_step: int = 14
    n_tokens: int = 1
    class_weight: float = 0.5
    background: float = 0.5
    ridge: float = 0.1
    members: int = 1
    seed: int = 0
    blend: float = 0.35
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
    """Pictures: ``features (views, n, 1280)`` float16; captions of picture i are the texts
    ``[first[i], first[i + 1])``; ``train`` and ``dev`` are picture numbers."""

    features: NDArray[np.float16]
    captions: Texts
    first: NDArray[np.int64]
    train: NDArray[np.int64]
    dev: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scale:
    """Standardisation of features: ``(x - mean) / spread``, both ``(1280,)`` float32."""

    mean: Floats
    spread: Floats


@dataclass(frozen=True, slots=True)
class Classes:
    """Three ``texts`` for each class; ``vectors (1000, 1280)``: made-up standardised features;
    ``names (1000, 128)``: mean token of each bare name, less the mean over all classes, of unit length;
    ``weight (1000, 1280)`` and ``bias (1000,)`` of the classifier."""

    texts: Texts
    vectors: Floats
    names: Floats
    weight: Floats
    bias: Floats

    def named(self, features: Floats, recipe: Recipe) -> Floats:
        """``(n, 128)``: the class-name half of the tokens of ``(n, 1280)`` raw features."""
        logits = features @ self.weight.T + self.bias
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


def picture_features(paths: Sequence[Path], cache: Path) -> NDArray[np.float16]:
    """Mean features of all views of all pictures: ``(views, n, 1280)`` float16."""
    from PIL import Image

    file = cache / "frame_features.npy"
    if file.is_file():
        return np.asarray(np.load(file))
    session = open_session(weight_path(BACKBONE_FILE), threads=1)
    features = np.empty((_N_VIEWS, len(paths), 1280), np.float16)
    for number, path in enumerate(paths):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        for view, image in enumerate(views_of(picture, number)):
            (grid,) = session.run(["grid"], {"images": preprocess(np.asarray(image))})
            features[view, number] = grid[0].mean(axis=(1, 2))
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


def read_flickr(folder: Path, cache: Path) -> Flickr:
    """Read pictures and captions, computing what the cache lacks."""
    lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    captions = [caption for row in rows for caption in row["captions"]]
    is_train = np.array([row["split"] == "train" for row in rows])
    return Flickr(
        features=picture_features([folder / "images" / row["image"] for row in rows], cache),
        captions=embed(captions, cache / "caption_tokens.npz"),
        first=np.cumsum([0, *(len(row["captions"]) for row in rows)]).astype(np.int64),
        train=np.flatnonzero(is_train),
        dev=np.flatnonzero(~is_train),
    )


def scale_of(flickr: Flickr) -> Scale:
    """Mean and spread over the training pictures."""
    plain = flickr.features[0][flickr.train].astype(np.float32)
    return Scale(plain.mean(axis=0), plain.std(axis=0) + np.float32(0.05))


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
        texts += [t.format(name=name, kind=kind) if kind else name for t in _TEMPLATES]
    return texts


def read_classes(flickr: Flickr, scale: Scale, ridge: float) -> Classes:
    """Make up the features of each ImageNet class and embed its texts."""
    whole = (flickr.features[0][flickr.train].astype(np.float32) - scale.mean) / scale.spread
    covariance = whole.T @ whole / len(whole)
    covariance[np.diag_indices_from(covariance)] += ridge * covariance.trace() / len(covariance)
    weight, bias = read_classifier()
    scaled = weight * scale.spread
    length = float(np.sqrt((whole**2).sum(axis=1).mean()))
    vectors = normalise((scaled - scaled.mean(axis=0)) @ covariance) * length
    texts = embed(class_texts())
    return Classes(texts, vectors.astype(np.float32), name_vectors(texts), weight, bias)


def name_vectors(texts: Texts) -> Floats:
    """``(1000, 128)``: mean token of each bare name, less the mean of all, of unit length."""
    starts = texts.starts[:: len(_TEMPLATES)]
    ends = texts.starts[1 :: len(_TEMPLATES)]
    spans = zip(starts[:-1], ends, strict=True)
    means = normalise(np.stack([texts.tokens[a:b].mean(axis=0) for a, b in spans]))
    return normalise(means - means.mean(axis=0))


def contrast(texts: tuple[Floats, Floats], tokens: Any, temperature: float) -> Any:
    """Symmetric InfoNCE over the mean MaxSim of ``texts`` (tokens, mask) and ``(n, k, 128)``."""
    import torch

    words, mask = (torch.from_numpy(array) for array in texts)
    (n, length, dim), regions = words.shape, tokens.shape[1]
    dots = (words.reshape(-1, dim) @ tokens.reshape(-1, dim).T).view(n, length, n, regions)
    scores = (dots.amax(3) * mask[:, :, None]).sum(1) / mask.sum(1)[:, None] / temperature
    labels = torch.arange(n)
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(scores, labels) + cross_entropy(scores.T, labels)) / 2


def thin(
    texts: tuple[Floats, Floats], keep: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Keep ``keep`` random tokens of each text."""
    tokens, mask = texts
    if tokens.shape[1] <= keep:
        return texts
    order = np.argsort(rng.random(mask.shape) + 10.0 * (1.0 - mask), axis=1)[:, :keep]
    return np.take_along_axis(tokens, order[:, :, None], axis=1), np.take_along_axis(mask, order, 1)


class Trainer:
    """Draws batches and holds the linear map while one member of the ensemble is trained."""

    def __init__(self, flickr: Flickr, scale: Scale, classes: Classes, recipe: Recipe) -> None:
        import torch

        torch.manual_seed(recipe.seed)
        self.flickr, self.scale, self.classes, self.recipe = flickr, scale, classes, recipe
        self.rng = np.random.default_rng(recipe.seed)
        self.linear = torch.nn.Linear(1280, 128 * recipe.n_tokens)
        views = [view.astype(np.float32) for view in flickr.features]
        self.named = np.stack([classes.named(view, recipe) for view in views])
        made_up = classes.vectors * scale.spread + scale.mean
        self.named_classes = classes.named(made_up, recipe)

    def tokens(self, features: Any, named: Floats) -> Any:
        """``(n, 1280)`` standardised features to ``(n, n_tokens, 128)`` unit tokens."""
        import torch
        from torch.nn import functional

        dropped = functional.dropout(features, self.recipe.dropout)
        mapped = self.linear(dropped).view(len(features), -1, 128)
        seen = functional.normalize(mapped, dim=-1)
        blend = self.recipe.blend
        names = torch.from_numpy(named)[:, None]
        return functional.normalize((1 - blend) * seen + blend * names, dim=-1)

    def loss(self, pictures: NDArray[np.int64]) -> Any:
        """Loss of one batch of pictures, a random view and caption of each, and as many classes."""
        import torch

        n, recipe, flickr = len(pictures), self.recipe, self.flickr
        views = self.rng.integers(0, len(flickr.features), n)
        raw = flickr.features[views, pictures].astype(np.float32)
        features = torch.from_numpy((raw - self.scale.mean) / self.scale.spread)
        counts = flickr.first[pictures + 1] - flickr.first[pictures]
        captions = flickr.first[pictures] + (self.rng.random(n) * counts).astype(np.int64)
        texts = thin(flickr.captions.padded(captions), recipe.tokens_a_step, self.rng)
        tokens = self.tokens(features, self.named[views, pictures])
        loss = contrast(texts, tokens, recipe.temperature)
        return loss + recipe.class_weight * self.loss_of_classes(features)

    def loss_of_classes(self, backgrounds: Any) -> Any:
        """Loss of made-up class features laid over the ``(n, 1280)`` features of real pictures."""
        import torch

        n, n_texts = len(backgrounds), len(_TEMPLATES)
        chosen = self.rng.permutation(len(self.classes.vectors))[:n]
        strength = self.rng.uniform(0.5, 1.5, (len(chosen), 1)).astype(np.float32)
        made_up = torch.from_numpy(self.classes.vectors[chosen] * strength)
        made_up = made_up + self.recipe.background * backgrounds[: len(chosen)]
        variants = self.rng.integers(0, n_texts, len(chosen))
        texts = self.classes.texts.padded(n_texts * chosen + variants)
        tokens = self.tokens(made_up, self.named_classes[chosen])
        return contrast(texts, tokens, self.recipe.temperature)

    def run(self) -> tuple[Floats, Floats]:
        """Train and return weight ``(1280, n)`` and bias ``(n,)`` on raw features."""
        import torch

        recipe = self.recipe
        optimiser = torch.optim.AdamW(
            self.linear.parameters(), lr=recipe.rate, weight_decay=recipe.decay
        )
        batches = len(self.flickr.train) // recipe.batch
        for step in range(recipe.passes * batches):
            place = step % batches
            if place == 0:
                order = self.rng.permutation(self.flickr.train)
            rate = (
                recipe.rate * min(1.0, (step + 1) / 50) * (1.0 - step / (recipe.passes * batches))
            )
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = self.loss(order[place * recipe.batch : (place + 1) * recipe.batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if step % (10 * batches) == 0:
                _LOG.info(
                    "seed %d, pass %d: loss %.3f",
                    recipe.seed,
                    step // batches,
                    float(loss.detach()),
                )
        weight = self.linear.weight.detach().numpy().T / self.scale.spread[:, None]
        bias = self.linear.bias.detach().numpy() - self.scale.mean @ weight
        return np.asarray(weight, np.float32), np.asarray(bias, np.float32)


def average(members: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """One linear map: the mean of the members' maps."""
    weight = np.stack([weight for weight, _ in members]).mean(axis=0)
    bias = np.stack([bias for _, bias in members]).mean(axis=0)
    return weight.astype(np.float32), bias.astype(np.float32)


def ranks(scores: Floats, relevant: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Rank of the best relevant column in each row, from 1."""
    best = np.array([row[list(of)].max() for row, of in zip(scores, relevant, strict=True)])
    return np.asarray((scores > best[:, None]).sum(axis=1) + 1)


def report(name: str, found: NDArray[np.int64]) -> dict[str, float]:
    """Log and return R@1, R@5, R@10 and the mean reciprocal rank."""
    measures = {f"R@{k}": float((found <= k).mean()) for k in (1, 5, 10)}
    measures["RR"] = float((1.0 / found).mean())
    _LOG.info(
        "%s (%d queries): %s", name, len(found), {k: round(v, 3) for k, v in measures.items()}
    )
    return measures


def maxsim(texts: tuple[Floats, Floats], tokens: Floats) -> Floats:
    """Mean over query tokens of the best of each document: ``(n_texts, n_docs)`` for ``(n, k, 128)``."""
    words, mask = texts
    n, length, dim = words.shape
    best = np.full((n * length, len(tokens)), -np.inf, np.float32)
    for region in range(tokens.shape[1]):
        np.maximum(best, words.reshape(-1, dim) @ tokens[:, region].T, out=best)
    summed = (best.reshape(n, length, -1) * mask[:, :, None]).sum(axis=1)
    return np.asarray(summed / mask.sum(axis=1)[:, None])


def evaluate_flickr(
    flickr: Flickr, linear: tuple[Floats, Floats], classes: Classes, recipe: Recipe, n_pictures: int
) -> dict[str, float]:
    """Text to picture among the first ``n_pictures`` of dev, all their captions."""
    pictures = flickr.dev[:n_pictures]
    features = flickr.features[0][pictures].astype(np.float32)
    seen = normalise((features @ linear[0] + linear[1]).reshape(-1, 128))
    named = np.repeat(classes.named(features, recipe), recipe.n_tokens, axis=0)
    tokens = normalise((1 - recipe.blend) * seen + recipe.blend * named)
    tokens = tokens.reshape(len(pictures), -1, 128)
    pairs = [
        (c, k) for k, p in enumerate(pictures) for c in range(flickr.first[p], flickr.first[p + 1])
    ]
    found = []
    for start in range(0, len(pairs), 200):
        part = pairs[start : start + 200]
        scores = maxsim(flickr.captions.padded(np.array([c for c, _ in part])), tokens)
        found.append(ranks(scores, [[k] for _, k in part]))
    return report(f"Flickr8k, {len(pictures)} dev pictures", np.concatenate(found))


def sample_frames(path: Path, n_frames: int = 6) -> list[NDArray[np.uint8]]:
    """Evenly spaced frames of a clip; what can be decoded of a damaged one."""
    n_decoded = sum(1 for _ in decoded(path))
    wanted = {int((k + 0.5) / n_frames * n_decoded) for k in range(n_frames)}
    return [
        frame.to_ndarray(format="rgb24").astype(np.uint8)
        for number, frame in enumerate(decoded(path))
        if number in wanted
    ]


def decoded(path: Path) -> Iterator[Any]:
    """Frames of a clip up to its end or to where it breaks off."""
    import av

    with av.open(str(path)) as container, contextlib.suppress(av.FFmpegError):
        yield from container.decode(video=0)


def evaluate_clips(folder: Path, weights: Path) -> dict[str, float]:
    """Queries of type ``frames`` against real clips, six frames each, as users would have it."""
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    queries = [row for row in map(json.loads, lines) if row["query_type"] == "frames"]
    paths = sorted(path for path in (folder / "files").iterdir() if path.is_file())
    encoder = FrameEncoder(weights)
    encoded = [encoder.encode(sample_frames(path)) for path in paths]
    clips = [np.concatenate([frame.vectors for frame in frames]) for frames in encoded]
    place = {path.name: number for number, path in enumerate(paths)}
    text = TextEncoder()
    scores = np.empty((len(queries), len(clips)), np.float32)
    for row, query in enumerate(queries):
        words = text.encode(query["query"]).vectors
        scores[row] = [(words @ clip.T).max(axis=1).mean() for clip in clips]
    relevant = [[place[name] for name in query["relevant"] if name in place] for query in queries]
    return report(f"{len(clips)} clips", ranks(scores, relevant))


def write_head(
    file: Path, linear: tuple[Floats, Floats], names: Floats, recipe: Recipe, measures: object
) -> None:
    """Write the head with its recipe and origin in the header."""
    from safetensors.numpy import save_file

    weight, bias = linear
    tensors: dict[str, NDArray[Any]] = {"weight": weight, "bias": bias, "class_vectors": names}
    digests = {
        name: hashlib.sha256(weight_path(name).read_bytes()).hexdigest()
        for name in (BACKBONE_FILE, CLASSES_FILE, "text_projection.safetensors")
    }
    metadata = {
        "version": _VERSION,
        "trained_on": "Flickr8k training split (research use); ImageNet class names and classifier weights",
        "recipe": json.dumps(asdict(recipe)),
        "sha256": json.dumps(digests),
        "measures": json.dumps(measures),
        **{name: str(getattr(recipe, name)) for name in _RUN_TIME_SETTINGS},
    }
    save_file(tensors, str(file), metadata=metadata)
    _LOG.info("%s: %d bytes", file.name, file.stat().st_size)


def train(flickr: Flickr, recipe: Recipe, scale: Scale, classes: Classes) -> tuple[Floats, Floats]:
    """Train the members and return their mean map."""
    seeds = range(recipe.seed, recipe.seed + recipe.members)
    trainers = (Trainer(flickr, scale, classes, replace(recipe, seed=seed)) for seed in seeds)
    return average([trainer.run() for trainer in trainers])


def main() -> None:
    """Train, report, write."""
    import torch

    parser = argparse.ArgumentParser(description="Train the frame head of the lite preset.")
    parser.add_argument("--flickr8k", type=Path, required=True, help="captions.jsonl and images/")
    parser.add_argument(
        "--cache", type=Path, required=True, help="features and tokens between runs"
    )
    parser.add_argument("--output", type=Path, default=FOLDER / HEAD_FILE)
    parser.add_argument("--videos", type=Path, help="queries.jsonl and files/ to try the head on")
    parser.add_argument("--passes", type=int, default=Recipe().passes)
    parser.add_argument("--members", type=int, default=Recipe().members)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(passes=arguments.passes, members=arguments.members)
    flickr = read_flickr(arguments.flickr8k, arguments.cache)
    scale = scale_of(flickr)
    classes = read_classes(flickr, scale, recipe.ridge)
    linear = train(flickr, recipe, scale, classes)
    sizes = (1000, len(flickr.dev))
    measures = {str(n): evaluate_flickr(flickr, linear, classes, recipe, n) for n in sizes}
    write_head(arguments.output, linear, classes.names, recipe, measures)
    if arguments.videos:
        evaluate_clips(arguments.videos, arguments.output.parent)


if __name__ == "__main__":
    main()
