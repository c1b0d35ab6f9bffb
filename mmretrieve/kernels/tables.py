"""From the similarities of centroids to the byte tables of one query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmretrieve.datatypes import Aggregation
from mmretrieve.kernels.arrays import ByteTables, Floats, Rule
from mmretrieve.kernels.base import Kernels
from mmretrieve.kernels.plain import values_of


def byte_tables(kernels: Kernels, sims: Sequence[Floats | None], rule: Rule) -> ByteTables:
    """Values of centroids on one scale of bytes for all modalities, weights and calibration included:
    every aggregation acts on values before any cut. ``sims[m]`` ``(n_centroids, nq)``.

    What lies below the floor is worth the floor: nothing, for similarities above chance; else what the
    mean centroid is worth, since nearly every document has a better token than that.
    """
    nq = rule.calibration.null.shape[1]
    floor = np.zeros((len(sims), nq), np.float32)
    top = np.full((len(sims), nq), -np.inf, np.float32)
    for m, near in enumerate(sims):
        if near is not None:
            low, top[m] = values_of(kernels.bounds(near), rule, m)
            floor[m] = 0 if rule.scoring.centre else low
    present = [m for m, near in enumerate(sims) if near is not None]
    if present and rule.scoring.aggregation is Aggregation.TOKEN_MAX:
        floor[:] = floor[present].min(axis=0)
    widest = float((top - floor)[present].max()) if present else 0.0
    step = max(widest, 1e-6) / 255
    values = tuple(
        None if near is None else kernels.table(near, rule, m, floor[m], step)
        for m, near in enumerate(sims)
    )
    return ByteTables(values, floor, step)
