"""Does the library answer this query at all? Confidence from a few signs, and their background.

A score alone does not say: a library of one subject reaches high scores for every question near it, and a
picture can resemble a word by accident. So six signs are put together by logistic regression (Cox, 1958).
Two of them are measured against queries that have no answer, asked of the same library
(:mod:`mmretrieve.scoring.nulls`): what speaker verification calls normalisation by a cohort (Auckenthaler,
Carey & Lloyd-Thomas, 2000). A cohort chosen anew for every query (its adaptive kind: Matejka et al., 2017),
four times as many null queries, thirty more signs and products of signs were tried, and told answered queries
from others no better.

The weights below were fitted by ``python -m benchmarks abstention --fit``, which prints them, on seven
collections, each counted alike, in which half of the queries have an answer; how they do on collections left
out of the fit is what ``python -m benchmarks abstention`` measures. They belong to one encoder
(:data:`FITTED_FOR`): for another preset there is no probability, and hits are told by the share of null
queries that score less, which needs no fit (:meth:`mmretrieve.scoring.nulls.Nulls.confidence`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Confidence, ConfidenceLabel, GroupBy
from mmretrieve.scoring.nulls import Nulls

Array = NDArray[np.float32]
Masks = tuple[NDArray[np.bool_], ...]

N_LOOKED_AT = {GroupBy.MOMENT: 32, GroupBy.VIDEO: 16}
"""Of the best documents: so many are scored exactly in every search, however few hits are asked for."""

SIGNS = ("score", "reached", "typical", "matched", "common", "pieces")
WEIGHTS = (3.4474, 0.7258, 0.9277, 3.8808, 17.1524, -0.9730)
BIAS = -16.5424
FITTED_PRESET = "lite"
FITTED_FOR = "582e3bd34feac1ce"
"""Digest of the fingerprints of the encoder (:func:`digest`) that the weights were fitted with."""

_SPREAD = 0.01
_LABELS = (
    (0.95, ConfidenceLabel.HIGH),
    (0.80, ConfidenceLabel.MEDIUM),
    (0.50, ConfidenceLabel.LOW),
)


@dataclass(frozen=True, slots=True)
class Signs:
    """What one query found in a library, over the best :data:`N_LOOKED_AT` documents, weights left aside.

    ``reached``: mean over query tokens of the largest similarity in any of them. ``matched``: cube root of
    the mean, over words that say what the query is about, of their cubed distance above chance where it
    is largest. ``typical``: mean cube root of the scores of sampled documents, so how near the query is to
    what the library is about. ``common``: mean over query tokens of the similarity reached by chance where
    that is largest. ``pieces``: tokens a word, many for words that are none.
    """

    reached: float
    typical: float
    matched: float
    common: float
    pieces: float


@dataclass(frozen=True, slots=True)
class Background:
    """What null queries found in a library: their scores, and ``reached`` and ``typical`` ``(n_queries,)`` of
    their :class:`Signs`."""

    nulls: Nulls
    reached: Array
    typical: Array

    def vector(self, signs: Signs, score: float) -> NDArray[np.float64]:
        """The signs of a document with ``score``, in the order of :data:`SIGNS`. ``reached`` and
        ``typical`` are in standard deviations from the mean of the null queries."""
        return np.array(
            [
                np.cbrt(max(score, 0.0)),
                _standard(signs.reached, self.reached),
                _standard(signs.typical, self.typical),
                signs.matched,
                signs.common,
                signs.pieces,
            ]
        )

    def level(self, signs: Signs) -> float:
        """The logit of a document without a score, from what the query found elsewhere."""
        return float(self.vector(signs, 0.0) @ np.array(WEIGHTS)) + BIAS


def probability(level: float, score: float) -> float:
    """That the best document, with ``score``, answers a query of ``level`` (:meth:`Background.level`), where
    half of the queries have an answer. It rises with the score."""
    logit = level + WEIGHTS[0] * float(np.cbrt(max(score, 0.0)))
    return float(1 / (1 + np.exp(-np.clip(logit, -50, 50))))


def digest(fingerprints: Mapping[str, str]) -> str:
    """16 hex digits that stand for the weights of an encoder and how they are used."""
    told = "\n".join(f"{name} {value}" for name, value in sorted(fingerprints.items()))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def labelled(p: float) -> Confidence:
    """A probability with its label, which rises with it."""
    p = round(p, 3)
    label = next((label for least, label in _LABELS if p >= least), ConfidenceLabel.NONE)
    return Confidence(label, p)


def signs_of(
    similarity: Array, null: Array, scale: Array, typical: float, words: Masks, n_words: int
) -> Signs:
    """Signs of the best documents.

    ``similarity`` ``(n_documents, n_modalities, nq)`` of modalities that take part, ``-inf`` where missing;
    ``null`` ``(n_modalities, nq)`` and ``scale`` ``(n_modalities,)`` as in
    :class:`~mmretrieve.scoring.aggregation.Calibration`; ``words``: the tokens of each word with a
    meaning, all tokens for a query without one.
    """
    pieces = null.shape[1] / n_words
    common = float(null.max(axis=0).mean())
    if not len(similarity):
        return Signs(0.0, typical, 0.0, common, pieces)
    largest = np.maximum(similarity, -1.0).max(axis=(0, 1))
    above = (similarity - null) * (1 / scale[:, None])
    best = np.maximum(above, 0.0).max(axis=(0, 1)).astype(np.float64) ** 3
    matched = float(np.cbrt(np.mean([best[mine].mean() for mine in words])))
    return Signs(float(largest.mean()), typical, matched, common, pieces)


def _standard(value: float, background: Array) -> float:
    """``value`` in standard deviations from the mean; 0 without a background."""
    if not len(background):
        return 0.0
    spread = float(background.std(dtype=np.float64)) + _SPREAD
    return (value - float(background.mean(dtype=np.float64))) / spread
