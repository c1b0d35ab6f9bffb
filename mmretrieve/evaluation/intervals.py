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
    array = np.asarray(values, np.float64)
    if not len(array):
        return Interval(math.nan, math.nan, math.nan, 0)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            array[rng.integers(0, len(array), (rows, len(array)))].mean(axis=1)
            for rows in _batches(n_samples, len(array))
        ]
    )
    low, high = _ends(means, level)
    return Interval(float(array.mean()), low, high, len(array))


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
    spread = bootstrap(differences.tolist(), n_samples=n_samples, level=level, seed=seed)
    if not len(differences):
        return Difference(math.nan, math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    observed = abs(spread.mean) - _ROUNDING
    extreme = 0
    for rows in _batches(n_samples, len(differences)):
        signs = rng.integers(0, 2, (rows, len(differences))) * 2.0 - 1.0
        extreme += int(np.count_nonzero(np.abs((signs * differences).mean(axis=1)) >= observed))
    return Difference(spread.mean, spread.low, spread.high, (extreme + 1) / (n_samples + 1))


def _ends(means: NDArray[np.float64], level: float) -> tuple[float, float]:
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def _batches(n_samples: int, width: int) -> Iterator[int]:
    """Rows at a time that keep a resampled table small."""
    most = max(1, _CELLS_AT_ONCE // width)
    for start in range(0, n_samples, most):
        yield min(most, n_samples - start)
