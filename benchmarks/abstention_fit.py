"""Logistic regression on the signs of answers, and how its decisions are counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.abstention_data import NONSENSE, OWN

Numbers = NDArray[np.float64]
Kinds = NDArray[np.str_]

_RIDGE = 3.0
_STEPS = 30
_TRUE_COSTS = 3.0


@dataclass(frozen=True, slots=True)
class Rows:
    """Queries of one library: ``signs`` ``(n, n_signs)``, ``share`` ``(n,)`` of null queries that score less,
    ``kind`` and ``half`` ``(n,)``."""

    signs: Numbers
    share: Numbers
    kind: Kinds
    half: Kinds

    def of(self, half: str) -> Rows:
        """Those of one half."""
        mine = self.half == half
        return Rows(self.signs[mine], self.share[mine], self.kind[mine], self.half[mine])

    @property
    def own(self) -> NDArray[np.bool_]:
        """Those that the library answers."""
        return np.asarray(self.kind == OWN)


@dataclass(frozen=True, slots=True)
class Weights:
    """``logit = signs @ weights + bias``; a query is answered from 0 on."""

    weights: Numbers
    bias: float

    def logits(self, rows: Rows) -> Numbers:
        """``(n,)``."""
        return np.asarray(rows.signs @ self.weights + self.bias)


def fit(libraries: Sequence[Rows]) -> Weights:
    """Ridge-penalised logistic regression by Newton's method (Hastie, Tibshirani & Friedman, 2009, 4.4.1).
    Libraries, queries with and without an answer, and kinds of the latter count alike; an answered query that
    is refused costs three times as much as the opposite."""
    signs = np.concatenate([rows.signs for rows in libraries])
    answered = np.concatenate([rows.own for rows in libraries]).astype(float)
    counts = np.concatenate([_counts(rows) for rows in libraries])
    centre, spread = signs.mean(axis=0), signs.std(axis=0) + 1e-9
    design = np.c_[(signs - centre) / spread, np.ones(len(signs))]
    penalty = np.diag([_RIDGE] * signs.shape[1] + [1e-9])
    found = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-design @ found))
        slope = design.T @ (counts * (p - answered)) + penalty @ found
        curve = (design * (counts * p * (1 - p))[:, None]).T @ design + penalty
        found -= np.linalg.solve(curve, slope)
    weights = found[:-1] / spread
    return Weights(weights, float(found[-1] - centre @ weights))


def _counts(rows: Rows) -> Numbers:
    counts = np.zeros(len(rows.kind))
    others = [k for k in np.unique(rows.kind) if k != OWN]
    for kind in others:
        mine = rows.kind == kind
        counts[mine] = 100 / len(others) / mine.sum()
    counts[rows.own] = 100 * _TRUE_COSTS / max(rows.own.sum(), 1)
    return counts


def wilson(n: int, of: int) -> tuple[float, float, float]:
    """A share and its 95 % interval (Wilson, 1927)."""
    if not of:
        return math.nan, math.nan, math.nan
    z, share = 1.959964, n / of
    centre = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return share, max(centre - half, 0.0), min(centre + half, 1.0)


def auroc(answered: Numbers, others: Numbers) -> float:
    """How often an answered query has the larger value; ties count half (Hanley & McNeil, 1982)."""
    ranked = np.sort(others)
    below = np.searchsorted(ranked, answered, "left") + np.searchsorted(ranked, answered, "right")
    return float(below.mean() / 2 / max(len(others), 1))


def outcome(rows: Rows, values: Numbers, least: float) -> tuple[float, ...]:
    """Share of refused queries among those with an answer, those of other libraries or topics, and
    nonsense, each with its interval; then the area under the curve, and the share refused of all without an
    answer where one in twenty with an answer is."""
    senseless = np.isin(rows.kind, NONSENSE)
    refused = values < least
    shares: list[float] = []
    for group in (rows.own, ~rows.own & ~senseless, senseless):
        shares += wilson(int(refused[group].sum()), int(group.sum()))
    own, others = values[rows.own], values[~rows.own]
    at_five = float((others < np.quantile(own, 0.05)).mean())
    return (*shares, auroc(own, others), at_five)
