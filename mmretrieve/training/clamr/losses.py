"""CLaMR's losses (arXiv 2506.06144) over in-batch negatives, each from one positive score and some
negative scores for every query.

With ``s_ij`` the score of document j for query i over all modalities, ``s_ijm`` the same over modality m
alone, ``p`` the positive document of query i, ``t`` its target modality and ``T`` the temperature:

==============  ======================  =============================================================
loss            positive                negatives
==============  ======================  =============================================================
contrastive     ``s_ip``                ``s_ij`` for j other than p
hard_positive   ``s_ipt``               the same
hard_negative   ``s_ipt``               the same, and ``s_ijm`` of every pair (j, m) other than (p, t)
pairwise        ``s_ip``                as contrastive
==============  ======================  =============================================================

The loss of a query is ``-log softmax`` of its positive over all of them at temperature T, and for
``pairwise`` ``softplus((max_j s_ij - s_ip) / T)``. A query without a known target is scored over all
modalities, and none of the modalities of its own document counts as wrong. A query whose positive
has no score, as its document lacks the target, teaches nothing and takes no part in the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mmretrieve.datatypes import Aggregation
from mmretrieve.models.protocol import NO_MODALITY
from mmretrieve.training.clamr.aggregation import N_MODALITIES, Similarities, aggregate, only
from mmretrieve.training.clamr.settings import Loss

__all__ = ["Contest", "Loss", "Targets", "contest", "row_losses"]


@dataclass(frozen=True, slots=True)
class Targets:
    """What is right for each query of a batch. ``label``: ``(n_queries,)`` int64, the place of its
    positive document; ``modality``: ``(n_queries,)`` int64, its target, or :data:`NO_MODALITY`;
    ``also_right``: ``(n_queries, n_documents)`` bool, further places of right documents (the same
    video again), which are neither positive nor negative."""

    label: Tensor
    modality: Tensor
    also_right: Tensor


@dataclass(frozen=True, slots=True)
class Contest:
    """``positive``: ``(n_queries,)``; ``negatives``: ``(n_queries, n)``, ``-inf`` where there is none."""

    positive: Tensor
    negatives: Tensor


def contest(found: Similarities, targets: Targets, loss: Loss, how: Aggregation) -> Contest:
    """The scores that a loss compares."""
    scores = aggregate(found, how)
    rows = torch.arange(len(scores), device=scores.device)
    own = torch.zeros_like(targets.also_right)
    own[rows, targets.label] = True
    negatives = [scores.masked_fill(own | targets.also_right, -math.inf)]
    if loss in (Loss.CONTRASTIVE, Loss.PAIRWISE):
        return Contest(scores[rows, targets.label], negatives[0])
    known = targets.modality != NO_MODALITY
    allowed = ~known[:, None] | _one_hot(targets.modality)
    positive = aggregate(found, how, allowed)[rows, targets.label]
    if loss is Loss.HARD_NEGATIVE:
        for modality in range(N_MODALITIES):
            alone = aggregate(found, how, only(found, modality))
            right = own & ((targets.modality == modality) | ~known)[:, None]
            negatives.append(alone.masked_fill(right | targets.also_right, -math.inf))
    return Contest(positive, torch.cat(negatives, dim=1))


def row_losses(scores: Contest, loss: Loss, temperature: float) -> Tensor:
    """``(n_used,)``: the loss of every query that has a positive score."""
    used = scores.positive != -math.inf  # what is not a number stays, and shows
    # Selected first: a row of nothing but -inf would have no gradient that is a number.
    positive = scores.positive[used] / temperature
    negatives = scores.negatives[used] / temperature
    if loss is Loss.PAIRWISE:
        return functional.softplus(negatives.amax(dim=1) - positive)
    return torch.cat([positive[:, None], negatives], dim=1).logsumexp(dim=1) - positive


def _one_hot(modality: Tensor) -> Tensor:
    """``(n, n_modalities)`` bool; a row of false for :data:`NO_MODALITY`."""
    every = torch.arange(N_MODALITIES, device=modality.device)
    return modality[:, None] == every
