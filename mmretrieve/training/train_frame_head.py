"""Train the head that maps EfficientNet-Lite2 features into the text token space.

Pairs: the pictures of Flickr8k with their captions, and, so that the head covers more than people
and dogs, one made-up feature vector for each ImageNet class with that class's name. The made-up
vector is where the features of the class should lie: the classifier's weights of the class times the
covariance of the features (the mean of a class under linear discriminant analysis), at the length
of an ordinary picture, laid over the features of a random picture.

Needs ``torch`` (run time does not)::

    python -m mmretrieve.training.train_frame_head --flickr8k FOLDER --cache FOLDER

``FOLDER`` of Flickr8k holds ``captions.jsonl`` (``image, split, captions``) and ``images/``. The cache
holds features and caption tokens between runs. ``python -m benchmarks videos`` tries it on real clips.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.encoders.frames import (
    BACKBONE_FILE,
    CLASSES_FILE,
    HEAD_FILE,
)
from mmretrieve.encoders.weights import FOLDER, weight_path
from mmretrieve.training.frame_data import (
    TEMPLATES,
    Classes,
    Flickr,
    Floats,
    Recipe,
    Scale,
    read_classes,
    read_flickr,
    scale_of,
)
from mmretrieve.training.frame_measures import evaluate_flickr

_LOG = logging.getLogger("mmretrieve.training.train_frame_head")
_VERSION = "2"
_RUN_TIME_SETTINGS = ("blend", "sharpness", "n_classes", "min_probability")


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
        blend = self.recipe.training_blend
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

        n, n_texts = len(backgrounds), len(TEMPLATES)
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


def write_head(
    file: Path, linear: tuple[Floats, Floats], names: Floats, recipe: Recipe, measures: object
) -> None:
    """Write the head with its recipe and origin in the header."""
    from safetensors.numpy import save_file

    weight, bias = linear
    # safetensors writes memory as it lies: a transposed view would be stored wrongly.
    tensors: dict[str, NDArray[Any]] = {
        "weight": np.ascontiguousarray(weight),
        "bias": np.ascontiguousarray(bias),
        "class_vectors": np.ascontiguousarray(names),
    }
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


if __name__ == "__main__":
    main()
