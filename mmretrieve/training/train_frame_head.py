"""Train the head that maps EfficientNet-Lite2 features into the text token space.

Pairs: the pictures of Flickr8k with their captions, and, so that the head covers more than people
and dogs, one made-up feature vector for each ImageNet class with that class's name. The made-up
vector is where the features of the class should lie: the classifier's weights of the class times the
covariance of the features (the mean of a class under linear discriminant analysis), at the length
of an ordinary picture, laid over the features of a random picture. Pictures whose captions are alike
share a part of their targets, so that a batch does not push them apart.

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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.encoders.frames import (
    BACKBONE_FILE,
    CLASSES_FILE,
    HEAD_FILE,
    HEAD_TENSORS,
    N_FEATURES,
    N_PLAIN,
    FrameHead,
)
from mmretrieve.encoders.weights import FOLDER, weight_path
from mmretrieve.training.frame_data import (
    TEMPLATES,
    Classes,
    Flickr,
    Floats,
    Recipe,
    Scale,
    caption_vectors,
    read_classes,
    read_flickr,
    scale_of,
)
from mmretrieve.training.frame_measures import evaluate_flickr

_LOG = logging.getLogger("mmretrieve.training.train_frame_head")
_VERSION = "3"
_RUN_TIME_SETTINGS = ("blend", "sharpness", "n_classes", "min_probability")


def contrast(texts: tuple[Floats, Floats], tokens: Any, temperature: float, target: Any) -> Any:
    """Symmetric InfoNCE over the mean MaxSim of ``texts`` (tokens, mask) and ``(n, k, 128)``, against
    ``(n, n)`` shares of each text's target that fall to each document; rows sum to 1."""
    import torch

    words, mask = (torch.from_numpy(array) for array in texts)
    (n, length, dim), regions = words.shape, tokens.shape[1]
    dots = (words.reshape(-1, dim) @ tokens.reshape(-1, dim).T).view(n, length, n, regions)
    scores = (dots.amax(3) * mask[:, :, None]).sum(1) / mask.sum(1)[:, None] / temperature
    backward = target.T / target.sum(0)[:, None]
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(scores, target) + cross_entropy(scores.T, backward)) / 2


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
    """Draws batches and holds the map while it is trained: a linear layer and one hidden layer beside it."""

    def __init__(self, flickr: Flickr, scale: Scale, classes: Classes, recipe: Recipe) -> None:
        import torch

        torch.manual_seed(recipe.seed)
        self.flickr, self.scale, self.classes, self.recipe = flickr, scale, classes, recipe
        self.rng = np.random.default_rng(recipe.seed)
        self.linear = torch.nn.Linear(N_FEATURES, 128 * recipe.n_tokens)
        self.hidden = torch.nn.Linear(N_FEATURES, recipe.hidden)
        self.out = torch.nn.Linear(recipe.hidden, 128 * recipe.n_tokens, bias=False)
        torch.nn.init.normal_(self.linear.weight, std=0.02)
        torch.nn.init.zeros_(self.out.weight)
        self.layers = torch.nn.ModuleList([self.linear, self.hidden, self.out])
        views = [view.astype(np.float32) for view in flickr.features]
        self.named = np.stack([classes.named(view, recipe) for view in views])
        self.named_classes = classes.named(classes.vectors * scale.spread + scale.mean, recipe)
        self.said = caption_vectors(flickr)

    def tokens(self, features: Any, named: Floats) -> Any:
        """``(n, n_features)`` standardised features to ``(n, n_tokens, 128)`` unit tokens."""
        import torch
        from torch.nn import functional

        dropped = functional.dropout(features, self.recipe.dropout)
        inner = functional.dropout(self.hidden(dropped).relu(), self.recipe.hidden_dropout)
        mapped = (self.linear(dropped) + self.out(inner)).view(len(features), -1, 128)
        seen = functional.normalize(mapped, dim=-1)
        blend = self.recipe.training_blend
        names = torch.from_numpy(named)[:, None]
        return functional.normalize((1 - blend) * seen + blend * names, dim=-1)

    def loss(self, pictures: NDArray[np.int64]) -> Any:
        """Loss of one batch of pictures, a random view and caption of each, and as many classes."""
        import torch

        n, recipe, flickr = len(pictures), self.recipe, self.flickr
        views = self.rng.integers(0, len(flickr.features), n)
        features = torch.from_numpy(self.scale.apply(flickr.features[views, pictures]))
        counts = flickr.first[pictures + 1] - flickr.first[pictures]
        captions = flickr.first[pictures] + (self.rng.random(n) * counts).astype(np.int64)
        texts = thin(flickr.captions.padded(captions), recipe.tokens_a_step, self.rng)
        tokens = self.tokens(features, self.named[views, pictures])
        alike = torch.from_numpy(self.said[pictures] @ self.said[pictures].T)
        shared = torch.softmax(alike / recipe.soft_temperature, 1)
        target = (1 - recipe.soft) * torch.eye(n) + recipe.soft * shared
        loss = contrast(texts, tokens, recipe.temperature, target)
        return loss + recipe.class_weight * self.loss_of_classes(features)

    def loss_of_classes(self, pictures: Any) -> Any:
        """Loss of made-up class features laid over the ``(n, n_features)`` features of real pictures."""
        import torch

        n_texts = len(TEMPLATES)
        chosen = self.rng.permutation(len(self.classes.vectors))[: len(pictures)]
        strength = self.rng.uniform(0.5, 1.5, (len(chosen), 1)).astype(np.float32)
        behind = pictures[: len(chosen)].clone()
        behind[:, :N_PLAIN] *= self.recipe.background
        made_up = torch.from_numpy(self.classes.vectors[chosen] * strength) + behind
        variants = self.rng.integers(0, n_texts, len(chosen))
        texts = self.classes.texts.padded(n_texts * chosen + variants)
        tokens = self.tokens(made_up, self.named_classes[chosen])
        return contrast(texts, tokens, self.recipe.temperature, torch.eye(len(chosen)))

    def run(self) -> FrameHead:
        """Train and return the head."""
        import torch

        recipe = self.recipe
        optimiser = torch.optim.AdamW(
            self.layers.parameters(), lr=recipe.rate, weight_decay=recipe.decay
        )
        batches = len(self.flickr.train) // recipe.batch
        steps = recipe.passes * batches
        for step in range(steps):
            place = step % batches
            if place == 0:
                order = self.rng.permutation(self.flickr.train)
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * min(1.0, (step + 1) / 50) * (1.0 - step / steps)
            loss = self.loss(order[place * recipe.batch : (place + 1) * recipe.batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if place == 0:
                _LOG.info("pass %d: loss %.3f", step // batches, float(loss.detach()))
        return self.head()

    def head(self) -> FrameHead:
        """The map as it is now, rounded as it will be stored."""
        names = weight_path(CLASSES_FILE).read_text(encoding="utf-8").splitlines()
        return FrameHead(
            mean=self.scale.mean,
            spread=self.scale.spread,
            weight=_rounded(self.linear.weight.T),
            bias=_rounded(self.linear.bias),
            hidden=_rounded(self.hidden.weight.T),
            hidden_bias=_rounded(self.hidden.bias),
            out=_rounded(self.out.weight.T),
            class_vectors=self.classes.names.astype(np.float16).astype(np.float32),
            class_names=tuple(name.split("\t")[0] for name in names),
            **{name: getattr(self.recipe, name) for name in _RUN_TIME_SETTINGS},
        )


def _rounded(tensor: Any) -> Floats:
    return np.asarray(tensor.detach().numpy().astype(np.float16), np.float32)


def write_head(file: Path, head: FrameHead, recipe: Recipe, measures: object) -> None:
    """Write the head with its recipe and origin in the header; what is large as float16."""
    from safetensors.numpy import save_file

    # safetensors writes memory as it lies: a transposed view would be stored wrongly.
    tensors: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(
            getattr(head, name), np.float32 if name in ("mean", "spread") else np.float16
        )
        for name in HEAD_TENSORS
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
    parser.add_argument("--views", type=int, default=Recipe().views, help="of each picture, 1 to 4")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(passes=arguments.passes, views=arguments.views)
    flickr = read_flickr(arguments.flickr8k, recipe.views, arguments.cache)
    scale = scale_of(flickr)
    classes = read_classes(flickr, scale, recipe.ridge)
    head = Trainer(flickr, scale, classes, recipe).run()
    measures = {str(n): evaluate_flickr(flickr, head, n) for n in (1000, len(flickr.dev))}
    write_head(arguments.output, head, recipe, measures)


if __name__ == "__main__":
    main()
