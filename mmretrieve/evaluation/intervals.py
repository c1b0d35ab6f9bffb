"""How sure a mean over queries is, and a difference between two runs: bootstrap and randomisation.

Queries are the sample: what is asked is how the numbers would move with other queries of the kind.
Every function gives the same numbers again for the same values and seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_SAMPLES = 10_000
LEVEL = 0.95
_CELLS_AT_ONCE = 2_000_000
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over ``n`` queries and its percentile bootstrap interval; all NaN without queries."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of paired differences, its interval, and ``p``: the chance of one at least as large, to
    either side, if the two runs were exchangeable."""

    mean: float
    low: float
    high: float
    p: float


def bootstrap(
    values: Sequence[float], *, n_samples: int = N_SAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """The mean and its percentile interval over resampled queries (Efron, 1979)."""
    table = np.asarray(values, np.float64).reshape(-1, 1)
    return bootstrap_columns(table, n_samples=n_samples, level=level, seed=seed)[0]


def bootstrap_columns(
    table: NDArray[np.float64],
    *,
    n_samples: int = N_SAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> list[Interval]:
    """:func:`bootstrap` of each column of ``(n_queries, n_columns)``, all on the same samples."""
    n, width = table.shape
    if not n:
        return [Interval(math.nan, math.nan, math.nan, 0)] * width
    rng = np.random.default_rng(seed)
    means = []
    for rows in _batches(n_samples, n):
        # How often each query was drawn times its values: one product for all columns.
        drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        means.append(counts.astype(np.float64) @ table / n)
    found = np.concatenate(means)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(found, [tail, 100 - tail], axis=0)
    centre = table.mean(axis=0)
    return [Interval(float(centre[i]), float(low[i]), float(high[i]), n) for i in range(width)]


def compare(
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    n_samples: int = N_SAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Difference:
    """``ours - theirs``, query by query: bootstrap interval, and p of the paired randomisation test
    (signs of the differences flipped at random; Smucker, Allan & Carterette, 2007).

    Raises:
        ValueError: not the same number of queries.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"expected the same queries twice, got {len(ours)} and {len(theirs)}")
    differences = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    table = differences.reshape(-1, 1)
    return compare_columns(table, n_samples=n_samples, level=level, seed=seed)[0]


def compare_columns(
    differences: NDArray[np.float64],
    *,
    n_samples: int = N_SAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> list[Difference]:
    """:func:`compare` of each column of ``(n_queries, n_columns)`` paired differences."""
    n, width = differences.shape
    if not n:
        return [Difference(math.nan, math.nan, math.nan, math.nan)] * width
    spreads = bootstrap_columns(differences, n_samples=n_samples, level=level, seed=seed)
    rng = np.random.default_rng(seed)
    observed = np.abs(differences.mean(axis=0)) - _ROUNDING
    extreme = np.zeros(width, np.int64)
    for rows in _batches(n_samples, n):
        signs = rng.integers(0, 2, (rows, n)) * 2.0 - 1.0
        extreme += (np.abs(signs @ differences / n) >= observed).sum(axis=0)
    p = (extreme + 1) / (n_samples + 1)
    return [
        Difference(found.mean, found.low, found.high, float(p[i]))
        for i, found in enumerate(spreads)
    ]


def _batches(n_samples: int, width: int) -> Iterator[int]:
    """Rows at a time that keep a resampled table small."""
    most = max(1, _CELLS_AT_ONCE // width)
    for start in range(0, n_samples, most):
        yield min(most, n_samples - start)
