"""What a query reaches by chance, measured on a fixed sample of the index, whatever a filter keeps: a
filter changes which documents are ranked, never the score of one."""

from __future__ import annotations

import numpy as np

from mmretrieve.datatypes import MODALITIES
from mmretrieve.kernels.arrays import Tokens8
from mmretrieve.kernels.base import Kernels, Numbers
from mmretrieve.scoring.aggregation import Calibration, Scoring, calibration_of
from mmretrieve.search.prepared import PreparedQuery
from mmretrieve.storage.codes.segment import Segment


class Chance:
    """Chance levels of one kind of document. Every video of ``sample`` is one sampled document."""

    def __init__(self, sample: Segment | None, kernels: Kernels) -> None:
        self._kernels = kernels
        self._tokens: tuple[Tokens8 | None, ...] = () if sample is None else sample.tokens
        self._cells: list[tuple[Numbers, np.ndarray[tuple[int], np.dtype[np.int32]], Numbers]] = []
        if sample is not None:
            layout = sample.layout
            first_cells = layout.passages[layout.videos[:-1]]
            for m in range(len(MODALITIES)):
                cells = np.flatnonzero((layout.modality == m) & (layout.count > 0))
                video = np.searchsorted(first_cells, cells, side="right") - 1
                starts = np.flatnonzero(np.diff(video, prepend=-1))
                self._cells.append((layout.begin[cells], layout.count[cells], starts))

    def levels(self, query: PreparedQuery, scoring: Scoring) -> Calibration:
        """Chance levels of a query's tokens, from eight-bit similarities. Modalities without weight are
        not looked at: there they are the prior."""
        totals = np.zeros((len(MODALITIES), query.n_tokens))
        counts = np.zeros(len(MODALITIES))
        for m, (begin, count, starts) in enumerate(self._cells if scoring.centre else ()):
            tokens = self._tokens[m]
            if tokens is not None and len(begin) and scoring.weight_vector[m] > 0:
                maxima = self._kernels.maxima(tokens, begin, count, query.tokens[m])
                totals[m] = np.maximum.reduceat(maxima, starts, axis=0).sum(
                    axis=0, dtype=np.float64
                )
                counts[m] = len(starts)
        return calibration_of(totals, counts, scoring)
