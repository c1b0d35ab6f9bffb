"""What papers compare late interaction with: ranking by the scores of separate modalities.

All start from the same maxima ``s(q, m, d)``, ``(n_docs, n_modalities, n_tokens)`` with ``-inf`` for
a modality that a document lacks, through ``S_m(d) = 1/|Q| sum_q s(q, m, d)``. A missing modality is
left out, never counted as zero; a document with nothing to score gets ``-inf``. Pooled cosine and
Gramian volume are not here: they need pooled vectors, which these maxima do not hold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, Modality

Array = NDArray[np.float32]

RRF_K = 60
_LEAST_SPREAD = 1e-6
"""Rounding alone spreads equal float32 means by less; such a modality tells nothing apart."""


def modality_scores(similarity: Array) -> Array:
    """``(n_docs, n_modalities)``: ``S_m(d)``, MaxSim of each modality as a mean over query tokens
    (Khattab & Zaharia, 2020); ``-inf`` where missing."""
    present = np.asarray(np.isfinite(similarity).all(axis=2))
    means = np.where(present[:, :, None], similarity, 0).mean(axis=2, dtype=np.float64)
    return np.where(present, means, -np.inf).astype(np.float32)


def single_modality(similarity: Array, modality: Modality) -> Array:
    """``(n_docs,)``: ``S_m(d)`` of one modality alone."""
    return modality_scores(similarity)[:, MODALITIES.index(modality)]


def mean_similarity(similarity: Array) -> Array:
    """``(n_docs,)``: ``1/|M_d| sum_{m in M_d} S_m(d)`` over the modalities ``M_d`` that ``d`` has:
    the averaging that CLaMR (arXiv 2506.06144) finds to hurt."""
    scores = modality_scores(similarity)
    present = np.isfinite(scores)
    count = present.sum(axis=1)
    total = np.where(present, scores, 0).sum(axis=1, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), -np.inf).astype(np.float32)


def reciprocal_rank_fusion(similarity: Array, k: int = RRF_K) -> Array:
    """``(n_docs,)``: ``sum_{m in M_d} 1 / (k + rank_m(d))``, ranks from 1 in the ranking of each
    modality, ties by document number (Cormack, Clarke & Büttcher, 2009). As in the source, a
    document earns nothing in a ranking that it is not in."""
    scores = modality_scores(similarity)
    fused = np.zeros(len(scores))
    for column in scores.T:
        order = np.argsort(-column, kind="stable")
        order = order[np.isfinite(column[order])]
        fused[order] += 1 / (k + 1 + np.arange(len(order)))
    return np.where(fused > 0, fused, -np.inf).astype(np.float32)


def route(similarity: Array) -> Modality:
    """The modality whose best document stands out most, by the standard score of its maximum,
    ``max_m (max_d S_m(d) - mean_d S_m(d)) / std_d S_m(d)`` over the documents that have it.

    A modality of one document, or one that scores all the same, stands out by 0; ties go to the
    first in the order of columns among those that any document has. The criterion is that of score
    normalisation in metasearch (Montague & Aslam, 2001), used to choose instead of to add.
    """
    scores = modality_scores(similarity)
    standing = [_standing_out(column[np.isfinite(column)]) for column in scores.T]
    return MODALITIES[int(np.argmax(standing))]


def routed(similarity: Array) -> Array:
    """``(n_docs,)``: the scores of the modality that :func:`route` chooses; ``-inf`` for documents
    that lack it."""
    return single_modality(similarity, route(similarity))


def _standing_out(scores: Array) -> float:
    if not len(scores):
        return -np.inf
    spread = float(scores.std(dtype=np.float64))
    if spread < _LEAST_SPREAD:
        return 0.0
    return float((scores.max() - scores.mean(dtype=np.float64)) / spread)
