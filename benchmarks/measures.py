"""Measures of rankings, and how sure a difference between two of them is."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

CUT = 10


@dataclass(frozen=True, slots=True)
class Scores:
    """Measures of one query, or their means over several."""

    r1: float
    r5: float
    r10: float
    ndcg10: float


def recall(ranking: Sequence[str], relevant: Collection[str], k: int) -> float:
    """``R@k`` as video retrieval uses it: 1 if any relevant document is among the first ``k``, else
    0 (TREC calls it Success@k; with one relevant document a query both are the same)."""
    return float(any(document in relevant for document in ranking[:k]))


def ndcg(ranking: Sequence[str], relevant: Collection[str], k: int = CUT) -> float:
    """``nDCG@k`` with binary relevance and the discount ``1 / log2(rank + 1)`` (Jaervelin &
    Kekaelaeinen, 2002). 0 where nothing is ranked; a document counts at its first place only.

    Raises:
        ValueError: no relevant document, so that the ideal ranking is empty.
    """
    if not relevant:
        raise ValueError("nDCG needs at least one relevant document: leave such queries out")
    distinct = list(dict.fromkeys(ranking))[:k]
    gain = sum(1 / math.log2(i + 2) for i, document in enumerate(distinct) if document in relevant)
    ideal = sum(1 / math.log2(i + 2) for i in range(min(k, len(set(relevant)))))
    return gain / ideal


def score(ranking: Sequence[str], relevant: Collection[str]) -> Scores:
    """All measures of one query; ``ranking`` is best first."""
    r1, r5, r10 = (recall(ranking, relevant, k) for k in (1, 5, 10))
    return Scores(r1, r5, r10, ndcg(ranking, relevant))


def mean(scores: Sequence[Scores]) -> Scores:
    """Means over queries; NaN without any."""
    rows = np.array([(s.r1, s.r5, s.r10, s.ndcg10) for s in scores], np.float64).reshape(-1, 4)
    if not len(rows):
        return Scores(math.nan, math.nan, math.nan, math.nan)
    r1, r5, r10, ndcg10 = (float(v) for v in rows.mean(axis=0))
    return Scores(r1, r5, r10, ndcg10)


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of paired differences with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], n_samples: int = 10_000, seed: int = 0
) -> Difference:
    """``ours - theirs``, query by query, with a percentile bootstrap over queries.

    Raises:
        ValueError: not the same queries, or none.
    """
    if len(ours) != len(theirs) or not len(ours):
        raise ValueError(f"expected the same queries twice, got {len(ours)} and {len(theirs)}")
    differences = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(differences), (n_samples, len(differences)))
    means = differences[picks].mean(axis=1)
    low, high = (float(v) for v in np.percentile(means, [2.5, 97.5]))
    return Difference(float(differences.mean()), low, high)
