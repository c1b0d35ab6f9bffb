"""From one batch to the number that is made smaller."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmretrieve.models.protocol import LateInteractionModel, TokenBatch
from mmretrieve.training.clamr.aggregation import similarities
from mmretrieve.training.clamr.balance import (
    GradientModulation,
    competition,
    drop_modalities,
    losses_alone,
    modulate,
)
from mmretrieve.training.clamr.gather import gather_documents, gather_plain, rank, total, world_size
from mmretrieve.training.clamr.losses import Targets, contest, row_losses
from mmretrieve.training.clamr.rows import Example, joint_document
from mmretrieve.training.clamr.settings import TrainSettings

_DROPPING, _EXCHANGING = 1, 2
"""Parts of seeds: what draws."""


class Pair(torch.nn.Module):  # type: ignore[misc]
    """Queries and documents in one forward pass, as data parallelism needs it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, texts: Sequence[str], documents: Sequence[Any]) -> tuple[Tensor, ...]:
        """Vectors, mask and modality of the queries, then of the documents."""
        encoder: LateInteractionModel = self.model
        q, d = encoder.encode_queries(texts), encoder.encode_documents(documents)
        return q.vectors, q.mask, q.modality, d.vectors, d.mask, d.modality


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run a batch stands; all that is random in it follows from here."""

    seed: int
    step: int
    part: int

    def generator(self, purpose: int, rank: int = 0) -> np.random.Generator:
        return np.random.default_rng((self.seed, purpose, self.step, self.part, rank))


@dataclass(frozen=True, slots=True)
class BatchLoss:
    """``value``: with gradient; ``main``: without regularisers, the mean over the ``n_used`` queries of
    all processes that had a positive; ``competition`` as measured, 0 where it is off; ``factors``: what
    gradients of each modality are multiplied by."""

    value: Tensor
    main: float
    n_used: int
    competition: float
    factors: tuple[float, ...]


class Objective:
    """Loss and balance of a run. ``modulation`` remembers the past of each modality."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        alpha = settings.balance.gradient_modulation
        self.modulation = GradientModulation(alpha) if alpha > 0 else None

    def __call__(self, pair: Any, batch: Sequence[Example], place: Place) -> BatchLoss:
        """Encode, score, compare.

        Raises:
            InputError: a picture cannot be read.
        """
        settings, balance = self.settings, self.settings.balance
        dropping = place.generator(_DROPPING, rank())
        contents = [joint_document(example) for example in batch]
        if balance.modality_dropout > 0:
            contents = [
                drop_modalities(document, example.target, balance.modality_dropout, dropping)
                for document, example in zip(contents, batch, strict=True)
            ]
        tensors = pair([example.query for example in batch], contents)
        queries, documents = TokenBatch(*tensors[:3]), TokenBatch(*tensors[3:])
        found = similarities(queries, gather_documents(documents))
        targets = targets_of(batch, queries.mask.device)
        scores = contest(found, targets, settings.loss, settings.aggregation)
        losses = row_losses(scores, settings.loss, settings.temperature)
        summed = total(torch.stack([losses.sum(), losses.new_tensor(float(len(losses)))]))
        n_used = max(float(summed[1]), 1.0)
        # Data parallelism takes the mean over processes, so each gives its share times their number.
        value = losses.sum() * (world_size() / n_used)
        factors: tuple[float, ...] = ()
        if self.modulation is not None:
            alone = total(
                losses_alone(found, targets, settings.aggregation, settings.temperature)
            ).tolist()
            means = [loss / n if n else math.nan for loss, n in alone]
            factors = tuple(self.modulation.factors(means))
            modulate(documents.vectors, documents.modality, factors)
        contested = 0.0
        if balance.competition > 0:
            generator = place.generator(_EXCHANGING)
            term = competition(found, settings.aggregation, settings.temperature, generator)
            value = value - balance.competition * term
            contested = float(total(term)) / world_size()
        return BatchLoss(value, float(summed[0]) / n_used, int(summed[1]), contested, factors)


def targets_of(batch: Sequence[Example], device: Any) -> Targets:
    """What is right for the queries of this process among the documents of all: its own document, and
    whatever else is of the same video."""
    n = len(batch)
    own = torch.tensor([_number(example.video_id) for example in batch], device=device)
    label = torch.arange(n, device=device) + rank() * n
    same = own[:, None] == gather_plain(own)[None, :]
    same[torch.arange(n, device=device), label] = False
    modality = torch.tensor([example.target for example in batch], device=device)
    return Targets(label, modality, same)


def _number(video_id: str) -> int:
    """64 bits, the same in every process."""
    digest = hashlib.sha256(video_id.encode()).digest()[:8]
    return int.from_bytes(digest, "big", signed=True)
