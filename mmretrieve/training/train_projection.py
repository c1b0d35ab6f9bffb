"""Train the projection of text tokens with CLaMR's losses, from the training-free one on.

Pairs: queries of ActivityNet against captions and recognised speech of their videos (three videos of
five, the others are for testing), target modality captions, and captions of Flickr8k against another
caption of the same picture::

    python -m mmretrieve.training.train_projection --activitynet FOLDER --flickr8k FOLDER
        --cache FOLDER --output OUT.safetensors

Both are research-use data. What this reaches, and why the training-free projection ships all the same,
is in the model card (``mmretrieve/encoders/weights/MODEL_CARD.md``). Needs ``torch``.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.nn import functional

from mmretrieve.datatypes import MODALITIES as COLUMNS
from mmretrieve.datatypes import Aggregation, Modality
from mmretrieve.encoders.weights import weight_path
from mmretrieve.models.protocol import NO_MODALITY, TokenBatch
from mmretrieve.training.clamr.aggregation import similarities
from mmretrieve.training.clamr.losses import Loss, Targets, contest, row_losses
from mmretrieve.training.projection_data import (
    MODALITIES,
    Captions,
    Narrated,
    read_captions,
    read_narrated,
)
from mmretrieve.training.token_states import HIDDEN, Floats

_LOG = logging.getLogger("mmretrieve.training.train_projection")


@dataclass(frozen=True, slots=True)
class Recipe:
    """``tokens``: of each modality of a video in a step; ``caption_weight``: of the loss between two
    captions of a picture, of which ``caption_batch`` take part."""

    loss: Loss = Loss.CONTRASTIVE
    passes: int = 4
    batch: int = 32
    rate: float = 3e-4
    temperature: float = 0.03
    tokens: int = 48
    caption_weight: float = 1.0
    caption_batch: int = 64
    train_share: float = 0.6
    seed: int = 0


class Trainer:
    """Draws batches and holds the projection, ``(384, dim)``."""

    def __init__(
        self, narrated: Narrated, captions: Captions, start: Floats, recipe: Recipe
    ) -> None:
        self.narrated, self.captions, self.recipe = narrated, captions, recipe
        self.projection = torch.nn.Parameter(torch.tensor(start))
        self.rng = np.random.default_rng(recipe.seed)

    def run(self) -> Floats:
        """Train and return the projection."""
        recipe, narrated = self.recipe, self.narrated
        optimiser = torch.optim.Adam([self.projection], lr=recipe.rate)
        mine = np.flatnonzero(np.isin(narrated.answer, narrated.train))
        batches = len(mine) // recipe.batch
        steps = batches * recipe.passes
        for step in range(steps):
            place = step % batches
            if place == 0:
                order = self.rng.permutation(mine)
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * min(1.0, (step + 1) / 20) * (1.0 - step / steps)
            loss = self.loss(order[place * recipe.batch : (place + 1) * recipe.batch])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimiser.step()
            if place == 0:
                _LOG.info("pass %d: loss %.3f", step // batches, loss.item())
        return np.asarray(self.projection.detach().numpy(), np.float32)

    def loss(self, queries: NDArray[np.int64]) -> Tensor:
        """Loss of some queries against each other's videos, and of as many caption pairs as set."""
        answers = self.narrated.answer[queries]
        documents = [
            self._batch([self._some(m, int(v)) for v in answers], COLUMNS.index(m))
            for m in MODALITIES
        ]
        found = self._batch([self.narrated.queries.of(int(q)) for q in queries], NO_MODALITY)
        same = torch.from_numpy(answers[:, None] == answers[None, :])
        loss = self._rows(found, _beside(documents), same, COLUMNS.index(Modality.OCR))
        if self.recipe.caption_weight:
            loss = loss + self.recipe.caption_weight * self._captions()
        return loss

    def _captions(self) -> Tensor:
        first = self.captions.first
        chosen = self.rng.choice(self.captions.pictures, self.recipe.caption_batch, replace=False)
        pairs = [
            self.rng.choice(np.arange(first[p], first[p + 1]), 2, replace=False) for p in chosen
        ]
        ours, theirs = zip(*pairs, strict=True)
        states = self.captions.states
        queries = self._batch([states.of(int(i)) for i in ours], NO_MODALITY)
        documents = self._batch([states.of(int(i)) for i in theirs], COLUMNS.index(Modality.OCR))
        own = torch.eye(len(pairs), dtype=torch.bool)
        return self._rows(queries, documents, own, NO_MODALITY)

    def _rows(
        self, queries: TokenBatch, documents: TokenBatch, same: Tensor, target: int
    ) -> Tensor:
        n = len(same)
        modality = torch.full((n,), target)
        targets = Targets(torch.arange(n), modality, same & ~torch.eye(n, dtype=torch.bool))
        scores = contest(
            similarities(queries, documents), targets, self.recipe.loss, Aggregation.TOKEN_MAX
        )
        return row_losses(scores, self.recipe.loss, self.recipe.temperature).mean()

    def _some(self, modality: Modality, video: int) -> NDArray[np.float16]:
        states = self.narrated.documents[modality].of(video)
        if len(states) <= self.recipe.tokens:
            return states
        return states[np.sort(self.rng.choice(len(states), self.recipe.tokens, replace=False))]

    def _batch(self, texts: Sequence[NDArray[np.float16]], modality: int) -> TokenBatch:
        """Projected tokens of some texts, padded."""
        longest = max(1, *map(len, texts))
        states = np.zeros((len(texts), longest, HIDDEN), np.float32)
        mask = np.zeros((len(texts), longest), bool)
        for row, text in enumerate(texts):
            states[row, : len(text)], mask[row, : len(text)] = text, True
        real = torch.from_numpy(mask)
        vectors = functional.normalize(torch.from_numpy(states) @ self.projection, dim=-1)
        kind = torch.where(real, modality, NO_MODALITY)
        return TokenBatch(vectors * real[:, :, None], real, kind)


def _beside(parts: Sequence[TokenBatch]) -> TokenBatch:
    """The tokens of several modalities of the same documents as one batch."""
    return TokenBatch(
        torch.cat([part.vectors for part in parts], dim=1),
        torch.cat([part.mask for part in parts], dim=1),
        torch.cat([part.modality for part in parts], dim=1),
    )


def shipped_projection() -> Floats:
    """The training-free projection, ``(384, 128)``."""
    found = load_file(weight_path("text_projection.safetensors"))["projection"]
    return np.asarray(found, np.float32)


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description="Train the text projection of the lite preset.")
    parser.add_argument("--activitynet", type=Path, required=True)
    parser.add_argument("--flickr8k", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="hidden states between runs")
    parser.add_argument("--output", type=Path, required=True)
    losses = [loss.value for loss in Loss]
    parser.add_argument("--loss", choices=losses, default=Recipe().loss.value)
    parser.add_argument("--passes", type=int, default=Recipe().passes)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    recipe = Recipe(loss=Loss(arguments.loss), passes=arguments.passes)
    narrated = read_narrated(arguments.activitynet, arguments.cache, recipe.train_share)
    captions = read_captions(arguments.flickr8k, arguments.cache)
    trained = Trainer(narrated, captions, shipped_projection(), recipe).run()
    metadata = {
        "trained_on": "ActivityNet with captions and speech, Flickr8k captions (research use)",
        "recipe": json.dumps(asdict(recipe)),
    }
    save_file({"projection": np.ascontiguousarray(trained)}, arguments.output, metadata=metadata)


if __name__ == "__main__":
    main()
