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


@dataclass(frozen=True, slots=True)
class Rows:
    """Queries of one library: ``signs`` ``(n, n_signs)``, ``share`` ``(n,)`` of null queries that score less,
    ``kind`` and ``half`` ``(n,)``, ``rank`` ``(n,)`` of the first right answer among ten, from 1, 0 without
    one, and ``alike`` ``(n,)``: whether the query is of another library of the same genre."""

    signs: Numbers
    share: Numbers
    kind: Kinds
    half: Kinds
    rank: NDArray[np.int64]
    alike: NDArray[np.bool_]

    def where(self, mine: NDArray[np.bool_]) -> Rows:
        """Some of them."""
        return Rows(
            self.signs[mine], self.share[mine], self.kind[mine], self.half[mine], self.rank[mine],
            self.alike[mine],
        )  # fmt: skip

    def of(self, half: str) -> Rows:
        """Those of one half."""
        return self.where(self.half == half)

    @property
    def own(self) -> NDArray[np.bool_]:
        """Those that the library answers."""
        return np.asarray(self.kind == OWN)

    @property
    def senseless(self) -> NDArray[np.bool_]:
        """Those that have no meaning, or are in a language that the encoder does not know."""
        return np.isin(self.kind, NONSENSE)

    @property
    def foreign_to(self) -> NDArray[np.bool_]:
        """Those about what the library is not about."""
        return ~self.own & ~self.senseless & ~self.alike


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
    Libraries, queries with and without an answer, and kinds of the latter count alike. Queries that may be
    answered though nobody judged it are left out."""
    libraries = [rows.where(~rows.alike) for rows in libraries]
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
    counts[rows.own] = 100 / max(rows.own.sum(), 1)
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """Shares refused, some with an interval: ``own`` of queries with an answer, ``first`` of those whose
    first hit is right, ``ten`` of those with a right one among ten, ``off`` of queries of another genre,
    ``senseless`` of nonsense, ``without`` of both together, ``alike`` of those of the same genre. ``auroc``
    and ``at_five`` (the share refused where one in twenty with an answer is) are of queries with an answer
    against all without one."""

    own: tuple[float, float, float]
    first: float
    ten: float
    off: tuple[float, float, float]
    senseless: tuple[float, float, float]
    without: tuple[float, float, float]
    alike: float
    auroc: float
    at_five: float


def outcome(rows: Rows, values: Numbers, least: float) -> Outcome:
    """What happens where queries of values below ``least`` are refused."""
    refused = values < least

    def share(mine: NDArray[np.bool_]) -> tuple[float, float, float]:
        return wilson(int(refused[mine].sum()), int(mine.sum()))

    without = rows.foreign_to | rows.senseless
    own, others = values[rows.own], values[without]
    return Outcome(
        own=share(rows.own),
        first=share(rows.own & (rows.rank == 1))[0],
        ten=share(rows.own & (rows.rank > 0))[0],
        off=share(rows.foreign_to),
        senseless=share(rows.senseless),
        without=share(without),
        alike=share(rows.alike)[0],
        auroc=auroc(own, others),
        at_five=float((others < np.quantile(own, 0.05)).mean()),
    )
