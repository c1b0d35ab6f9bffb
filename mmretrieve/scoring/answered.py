"""Does the library answer this query at all? Confidence from a few signs, and their background.

A score alone does not say: a library of one subject reaches high scores for every question near it, and a
picture can resemble a word by accident. So signs are put together by logistic regression (Cox, 1958), some of
them measured against queries without an answer, asked of the same library (:mod:`mmretrieve.scoring.nulls`):
against all of them, and against those that mean about the same as the query. Speaker verification calls the
first normalisation by a cohort (Auckenthaler, Carey & Lloyd-Thomas, 2000), and the second adaptive, as the
cohort is chosen anew for every trial (Matejka et al., 2017). A research question is so compared with research
questions, and a caption with captions.

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

SIGNS = ("score", "matched", "common", "pieces", "reached", "typical",
         "score nearby", "matched nearby", "reached nearby", "typical nearby")  # fmt: skip
WEIGHTS = (3.9907, 3.5004, 18.3373, -0.9737, 0.8821, 1.2910, -0.2352, 0.3760, -0.3883, -0.4934)
BIAS = -17.2764
FITTED_PRESET = "lite"
FITTED_FOR = "582e3bd34feac1ce"
"""Digest of the fingerprints of the encoder (:func:`digest`) that the weights were fitted with."""

N_NEARBY = 32
"""How many null queries that mean about the same a query is compared with."""

_SPREAD = 0.01
_STEADY = 0.2
"""Of the spread of all null queries, added to that of few."""
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
    that is largest. ``pieces``: tokens a word, many for words that are none. ``meaning`` ``(dim,)``: the mean
    of the query's tokens, of length 1.
    """

    reached: float
    typical: float
    matched: float
    common: float
    pieces: float
    meaning: Array


@dataclass(frozen=True, slots=True)
class Background:
    """What null queries found in a library: their best scores, ``found`` ``(n_queries, 4)``: cube root of
    the best score and ``matched``, ``reached``, ``typical`` of their :class:`Signs`, and ``meaning``
    ``(n_queries, dim)`` in steps of 1/127."""

    nulls: Nulls
    found: Array
    meaning: NDArray[np.int8]

    @property
    def spread(self) -> NDArray[np.float64]:
        """``(4,)``: standard deviations of ``found``; 0 without null queries."""
        return self.found.std(axis=0, dtype=np.float64) if len(self.found) else np.zeros(4)

    def vector(self, signs: Signs, score: float) -> NDArray[np.float64]:
        """The signs of a document with ``score``, in the order of :data:`SIGNS`. ``reached`` and ``typical``
        are in standard deviations from the mean of all null queries, what is nearby from the mean of those
        that mean about the same."""
        root = float(np.cbrt(max(score, 0.0)))
        own = np.array([root, signs.matched, signs.reached, signs.typical])
        near = self.meaning.astype(np.float32) @ signs.meaning
        nearest = np.argsort(-near, kind="stable")[:N_NEARBY]
        everywhere = _standard(own, self.found, _SPREAD)[2:]
        nearby = _standard(own, self.found[nearest], _SPREAD + _STEADY * self.spread)
        plain = [root, signs.matched, signs.common, signs.pieces]
        return np.concatenate([plain, everywhere, nearby])


def probability(vector: NDArray[np.float64]) -> float:
    """That a document with these signs (:meth:`Background.vector`) answers its query, where half of the
    queries have an answer."""
    logit = float(vector @ np.array(WEIGHTS)) + BIAS
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
    similarity: Array,
    null: Array,
    scale: Array,
    typical: float,
    words: Masks,
    n_words: int,
    meaning: Array,
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
        return Signs(0.0, typical, 0.0, common, pieces, meaning)
    largest = np.maximum(similarity, -1.0).max(axis=(0, 1))
    above = (similarity - null) * (1 / scale[:, None])
    best = np.maximum(above, 0.0).max(axis=(0, 1)).astype(np.float64) ** 3
    matched = float(np.cbrt(np.mean([best[mine].mean() for mine in words])))
    return Signs(float(largest.mean()), typical, matched, common, pieces, meaning)


def _standard(
    own: NDArray[np.float64], background: Array, least: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """``own`` ``(n,)`` in standard deviations from the mean of ``background`` ``(n_queries, n)``, which are
    widened by ``least`` so that none is 0; 0 without a background."""
    if not len(background):
        return np.zeros(len(own))
    spread = background.std(axis=0, dtype=np.float64) + least
    return np.asarray((own - background.mean(axis=0, dtype=np.float64)) / spread)
