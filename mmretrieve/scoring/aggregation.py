"""From per-modality maxima to one score: calibrate against chance, sharpen, aggregate.

The formulas are those of :mod:`mmretrieve.scoring.reference`, vectorised over documents. With
``power=1``, no chance level and unit scale they are CLaMR's contextualised (``token_max``) and
modality-wise (``modality_max``) scores (arXiv 2506.06144).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, Aggregation, Modality
from mmretrieve.errors import UsageError

Array = NDArray[np.float32]

CHANCE = {
    Modality.FRAMES: 0.30,
    Modality.SPEECH: 0.45,
    Modality.OCR: 0.45,
    Modality.METADATA: 0.43,
    Modality.AUDIO: 0.30,
}
SCALE = dict.fromkeys(Modality, 0.25)
"""Measured for the ``lite`` encoders with queries that have no answer: the mean similarity, and a
distance above it in proportion to its spread. The tokens of one query agree with each other about a
picture far more than about a text, so a picture has to stand out further. ``lite`` does not hear: sound
is taken to be like pictures."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How maxima become a score.

    ``power`` sharpens: a few strong matches outweigh many weak ones. ``centre`` measures every query
    token against the similarity that it reaches by chance in each modality of this index, so that
    modalities on different scales can compete and words that match everything count for little.
    ``scale`` is the distance above chance that counts as 1. On an index of few videos
    chance is drawn towards ``prior`` as if by ``prior_weight`` more of them.
    """

    aggregation: Aggregation = Aggregation.TOKEN_MAX
    weights: Mapping[Modality, float] = field(default_factory=dict)
    power: float = 3.0
    centre: bool = True
    scale: Mapping[Modality, float] = field(default_factory=lambda: SCALE)
    prior: Mapping[Modality, float] = field(default_factory=lambda: CHANCE)
    prior_weight: float = 4.0
    gate: bool = False
    """Whether :mod:`mmretrieve.scoring.gate` multiplies weights of its own into ``weights``."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: a weight that is negative, not finite, or all weights zero.
        """
        for modality, weight in self.weights.items():
            if not (np.isfinite(weight) and weight >= 0):
                raise UsageError(f"weight {modality}={weight}: expected a number of at least 0")
        if not self.weight_vector.any():
            raise UsageError("all modality weights are 0: nothing would be searched")

    @property
    def key(self) -> str:
        """The same text for the same way of scoring. Sound is named where it is not as usual: what was
        measured before there was sound still holds where there is none."""
        usual = f"{Modality.AUDIO}:1,{SCALE[Modality.AUDIO]:g},{CHANCE[Modality.AUDIO]:g}"
        per_modality = [
            told
            for m, w in zip(MODALITIES, self.weight_vector, strict=True)
            if (told := f"{m}:{w:g},{self.scale[m]:g},{self.prior[m]:g}") != usual
        ]
        plain = f"{self.aggregation} {self.power:g} {self.centre} {self.prior_weight:g} {self.gate}"
        return " ".join([plain, *per_modality])

    @property
    def weight_vector(self) -> Array:
        """``(n_modalities,)`` in the order of :data:`MODALITIES`; 1 unless given."""
        return np.array([self.weights.get(m, 1.0) for m in MODALITIES], np.float32)


@dataclass(frozen=True, slots=True)
class Calibration:
    """``null``: ``(n_modalities, n_query_tokens)`` similarity reached by chance; ``scale``:
    ``(n_modalities,)``. Belongs to one query on one index."""

    null: Array
    scale: Array


def calibrate(similarity: Array, scoring: Scoring) -> Calibration:
    """The chance level of each query token, from ``(n_docs, n_modalities, n_tokens)`` maxima."""
    present = np.isfinite(similarity)
    total = np.where(present, similarity, 0).sum(axis=0, dtype=np.float64)
    return calibration_of(total, present.sum(axis=0)[:, 0], scoring)


def calibration_of(
    totals: NDArray[np.float64], counts: NDArray[np.int64] | NDArray[np.float64], scoring: Scoring
) -> Calibration:
    """The chance level of each query token, from sums ``(n_modalities, n_tokens)`` of similarities over
    ``counts`` ``(n_modalities,)`` documents.

    Nearly no document answers a given query, so the mean over all of them is the mean of the null
    distribution; a prior keeps it stable on an index of a few videos.
    """
    scale = np.array([scoring.scale[m] for m in MODALITIES], np.float32)
    if not scoring.centre:
        return Calibration(np.zeros(totals.shape, np.float32), np.ones_like(scale))
    prior = np.array([scoring.prior[m] for m in MODALITIES], np.float32)[:, None]
    k = scoring.prior_weight
    null = (totals + k * prior) / (counts[:, None] + k)
    return Calibration(null.astype(np.float32), scale)


def evidence(similarity: Array, calibration: Calibration, scoring: Scoring) -> Array:
    """``(n_docs, n_modalities, n_tokens)``: sharpened similarity above chance, ``-inf`` = missing."""
    above = (similarity - calibration.null) * (1 / calibration.scale[:, None])
    if scoring.centre:
        np.maximum(above, 0, out=above)
    if scoring.power == 3.0:  # np.power takes fifty times as long as two products
        above = above * above * above
    elif scoring.power != 1.0:
        above = np.sign(above) * np.abs(above) ** scoring.power
    above[np.isneginf(similarity)] = -np.inf
    return np.asarray(above, np.float32)


def token_scores(above: Array) -> Array:
    """``(n_docs,)`` of ``(n_docs, n_tokens)`` distances above chance, the largest of any modality and not
    negative: mean third powers, which is ``token_max`` without weights."""
    return np.asarray((above * above * above).mean(axis=1), np.float32)


def contributions(values: Array, scoring: Scoring) -> Array:
    """``(n_docs, n_modalities, n_tokens)``: what each token of the query adds to the score through
    each modality; their sum over modalities and tokens is the score. 0 where it adds nothing."""
    weights = scoring.weight_vector[:, None]
    present = np.isfinite(values) & (weights > 0)
    weighed = np.where(present, values, -np.inf) * (np.maximum(weights, 1e-9) / values.shape[2])
    if scoring.aggregation is Aggregation.TOKEN_MAX:
        keep = weighed.argmax(axis=1)[:, None, :] == np.arange(values.shape[1])[:, None]
    elif scoring.aggregation is Aggregation.MODALITY_MAX:
        keep = (
            weighed.sum(axis=2).argmax(axis=1)[:, None, None] == np.arange(values.shape[1])[:, None]
        )
    else:
        total = np.where(present[:, :, :1], weights, 0).sum(axis=1, keepdims=True)
        weighed = weighed / np.where(total > 0, total, 1)
        keep = present
    return np.where(keep & present, weighed, 0).astype(np.float32)


def aggregate(values: Array, scoring: Scoring) -> Array:
    """``(n_docs,)`` scores; ``-inf`` for a document with none of the weighted modalities."""
    if (
        scoring.aggregation is Aggregation.TOKEN_MAX
    ):  # the sum of contributions, without their table
        weights = scoring.weight_vector
        used = weights > 0
        best = (values[:, used] * weights[used, None]).max(axis=1)
        return np.asarray(best.mean(axis=1), np.float32)
    has_any = (np.isfinite(values[:, :, :1]) & (scoring.weight_vector[:, None] > 0)).any(
        axis=(1, 2)
    )
    scores = contributions(values, scoring).sum(axis=(1, 2), dtype=np.float64)
    return np.where(has_any, scores, -np.inf).astype(np.float32)
