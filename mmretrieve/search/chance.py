"""What a query reaches by chance, measured on a fixed sample of the index, whatever a filter keeps: a
filter changes which documents are ranked, never the score of one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES
from mmretrieve.kernels.arrays import Floats, Tokens8
from mmretrieve.kernels.base import Kernels, Numbers
from mmretrieve.scoring.aggregation import (
    Calibration,
    Scoring,
    calibration_of,
    token_scores,
)
from mmretrieve.search.prepared import PreparedQuery
from mmretrieve.storage.codes.segment import Segment


@dataclass(frozen=True, slots=True)
class Level:
    """What a query reaches by chance. ``typical``: mean over sampled documents of the cube root of their
    token-wise scores without weights; 0 for scores that are not above chance."""

    calibration: Calibration
    typical: float


class Chance:
    """Chance levels of one kind of document. Every video of ``sample`` is one sampled document."""

    def __init__(self, sample: Segment | None, kernels: Kernels) -> None:
        self._kernels = kernels
        self._n_documents = 0 if sample is None else sample.layout.n_videos
        self._cells = [] if sample is None else [_cells(sample, m) for m in range(len(MODALITIES))]

    def levels(self, query: PreparedQuery, scoring: Scoring) -> Level:
        """Chance levels of a query's tokens, from eight-bit similarities. Modalities without weight are
        not looked at: there they are the prior."""
        totals = np.zeros((len(MODALITIES), query.n_tokens))
        counts = np.zeros(len(MODALITIES))
        found = {}
        for m, cells in enumerate(self._cells if scoring.centre else ()):
            if cells is not None and scoring.weight_vector[m] > 0:
                found[m] = (cells.document, self._maxima(cells, query, m))
                totals[m] = found[m][1].sum(axis=0, dtype=np.float64)
                counts[m] = len(cells.document)
        calibration = calibration_of(totals, counts, scoring)
        best = np.zeros((self._n_documents, query.n_tokens), np.float32)
        for m, (document, maxima) in found.items():
            above = (maxima - calibration.null[m]) * (1 / calibration.scale[m])
            best[document] = np.maximum(best[document], above)
        typical = np.cbrt(token_scores(best)).mean() if self._n_documents else 0.0
        return Level(calibration, float(typical))

    def similarities(self, query: PreparedQuery) -> Floats:
        """``(n_documents, n_modalities, nq)`` of the sample in eight bits, ``-inf`` where missing."""
        shape = (self._n_documents, len(MODALITIES), query.n_tokens)
        out = np.full(shape, -np.inf, np.float32)
        for m, cells in enumerate(self._cells):
            if cells is not None:
                out[cells.document, m] = self._maxima(cells, query, m)
        return out

    def _maxima(self, cells: _Cells, query: PreparedQuery, m: int) -> Floats:
        found = self._kernels.maxima(cells.tokens, cells.begin, cells.count, query.tokens[m])
        best: Floats = np.maximum.reduceat(found, cells.starts, axis=0)
        return best


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of one modality that have tokens; those of document ``document[i]`` begin at
    ``starts[i]``."""

    tokens: Tokens8
    begin: Numbers
    count: NDArray[np.int32]
    starts: Numbers
    document: Numbers


def _cells(sample: Segment, m: int) -> _Cells | None:
    layout, tokens = sample.layout, sample.tokens[m]
    cells = np.flatnonzero((layout.modality == m) & (layout.count > 0))
    if tokens is None or not len(cells):
        return None
    first_cells = layout.passages[layout.videos[:-1]]
    document = np.searchsorted(first_cells, cells, side="right") - 1
    starts = np.flatnonzero(np.diff(document, prepend=-1))
    return _Cells(tokens, layout.begin[cells], layout.count[cells], starts, document[starts])
