"""Exact answers by brute force over the tables: what any search must give. Knows nothing of segments,
codes or kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import METADATA_PASSAGE, MODALITIES
from mmretrieve.scoring.aggregation import Calibration, Scoring, aggregate, evidence
from mmretrieve.storage.library import Library

Array = NDArray[np.float32]
Key = tuple[int, int]
"""Number of a video in the snapshot, and of its passage (-1: the whole video, or metadata alone)."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """Brute force over one state of an index."""

    stored: Library

    def scores(
        self, tokens: Array, scoring: Scoring, calibration: Calibration, by_video: bool,
        keep_videos: NDArray[np.bool_],
    ) -> Mapping[Key, float]:  # fmt: skip
        """Score of every document; ``tokens`` ``(nq, dim)``, ``keep_videos`` ``(n_videos,)``."""
        cells = self.stored.cells
        n_tokens = np.diff(cells.offsets)
        weighted = scoring.weight_vector[cells.modality] > 0
        kept = np.flatnonzero(keep_videos[cells.video] & weighted & (n_tokens > 0))
        if not len(kept):
            return {}
        products = self.stored.vectors @ tokens.T
        maxima = np.maximum.reduceat(products, cells.offsets[:-1][n_tokens > 0], axis=0)
        row = np.cumsum(n_tokens > 0) - 1
        keys = self._documents(kept.tolist(), by_video)
        values = np.full((len(keys), len(MODALITIES), len(tokens)), -np.inf, np.float32)
        for d, own in enumerate(keys.values()):
            for c in own:
                m = cells.modality[c]
                values[d, m] = np.maximum(values[d, m], maxima[row[c]])
        found = aggregate(evidence(values, calibration, scoring), scoring)
        return dict(zip(keys, found.tolist(), strict=True))

    def _documents(self, kept: list[int], by_video: bool) -> dict[Key, list[int]]:
        cells = self.stored.cells
        found: dict[Key, list[int]] = {}
        for c in kept:
            passage = METADATA_PASSAGE if by_video else int(cells.passage[c])
            found.setdefault((int(cells.video[c]), passage), []).append(c)
        if by_video:
            return found
        timed = {v for v, p in found if p != METADATA_PASSAGE}
        whole = {
            (v, p): own + (found.get((v, METADATA_PASSAGE), []) if p != METADATA_PASSAGE else [])
            for (v, p), own in found.items()
        }
        return {(v, p): o for (v, p), o in whole.items() if p != METADATA_PASSAGE or v not in timed}


def recall(found: list[Key], scores: Mapping[Key, float], n: int) -> float:
    """Share of the best ``n`` that are among ``found``; what ties with the last of them counts as it."""
    best = sorted(scores.values(), reverse=True)[:n]
    if not best:
        return 1.0
    least = best[-1] - 1e-5 * max(1.0, abs(best[-1]))
    return sum(scores[key] >= least for key in set(found[:n])) / len(best)
