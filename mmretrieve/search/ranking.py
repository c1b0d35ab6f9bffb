"""From a query to ranked documents. Weighting and filters act on all documents, before any cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import QueryTokens
from mmretrieve.scoring.aggregation import (
    Calibration,
    Scoring,
    aggregate,
    calibrate,
    contributions,
    evidence,
)
from mmretrieve.search.documents import Documents, passages, similarities, subset, videos
from mmretrieve.search.token_index import TokenIndex
from mmretrieve.storage.reader import Cells

Array = NDArray[np.float32]

REFERENCE_VIDEOS = 256
REFERENCE_PASSAGES = 1024


@dataclass(frozen=True, slots=True)
class Ranking:
    """All documents of one kind, scored for one query.

    ``maxima`` ``(n_cells, n_tokens)``; ``similarity`` ``(n_documents, n_modalities, n_tokens)``;
    ``scores`` ``(n_documents,)``, ``-inf`` for what a filter left out; ``order`` document numbers,
    best first, ties by number, without what was left out.
    """

    query: QueryTokens
    scoring: Scoring
    documents: Documents
    maxima: Array
    similarity: Array
    calibration: Calibration
    scores: Array
    order: NDArray[np.int64]

    def parts(self, document: int) -> Array:
        """``(n_modalities, n_tokens)``: contributions that add up to the document's score."""
        values = evidence(self.similarity[[document]], self.calibration, self.scoring)
        parts: Array = contributions(values, self.scoring)[0]
        return parts

    def above_chance(self, document: int) -> Array:
        """``(n_tokens,)``: how far each query token got above chance in any weighted modality, in
        units of the scale."""
        above = self.similarity[document] - self.calibration.null
        usable = self.scoring.weight_vector > 0
        reached: Array = (above[usable] / self.calibration.scale[usable, None]).max(axis=0)
        return reached


@dataclass(frozen=True, slots=True)
class Scan:
    """Maxima of one query, ``(n_cells, n_tokens)`` float32: ``kept`` of the cells that take part
    (``-inf`` elsewhere), ``reference`` also of the documents that chance is measured on."""

    query: QueryTokens
    kept: Array
    reference: Array


@dataclass(frozen=True, slots=True)
class _Kind:
    """All documents of one kind, and a fixed sample of them that stands for chance."""

    documents: Documents
    sample: Documents


class Ranker:
    """Ranks the videos or passages of one snapshot.

    Chance levels come from a fixed sample of the whole index, whatever a filter keeps: a filter
    changes which documents are ranked, never the score of one.
    """

    def __init__(self, cells: Cells, token_index: TokenIndex) -> None:
        self._cells = cells
        self._index = token_index
        self._videos = _kind(videos(cells), REFERENCE_VIDEOS)
        self._passages = _kind(passages(cells), REFERENCE_PASSAGES)
        self._reference = np.zeros(len(cells), bool)
        for kind in (self._videos, self._passages):
            self._reference[kind.sample.cell] = True

    def scan(self, query: QueryTokens, keep: NDArray[np.bool_]) -> Scan:
        """Maxima of every cell that takes part; ``keep`` is ``(n_cells,)``."""
        maxima = self._index.maxima(query, keep | self._reference)
        kept = maxima if keep.all() else np.where(keep[:, None], maxima, np.float32(-np.inf))
        return Scan(query, kept, maxima)

    def videos(self, scan: Scan, scoring: Scoring) -> Ranking:
        """Rank whole videos."""
        return self._rank(self._videos, scan, scoring)

    def passages(self, scan: Scan, scoring: Scoring) -> Ranking:
        """Rank passages, each together with its video's metadata."""
        return self._rank(self._passages, scan, scoring)

    def _rank(self, kind: _Kind, scan: Scan, scoring: Scoring) -> Ranking:
        similarity = similarities(kind.documents, self._cells, scan.kept)
        reference = similarities(kind.sample, self._cells, scan.reference)
        calibration = calibrate(reference, scoring)
        scores = aggregate(evidence(similarity, calibration, scoring), scoring)
        order = np.argsort(-scores, kind="stable")
        order = order[np.isfinite(scores[order])]
        return Ranking(
            scan.query, scoring, kind.documents, scan.kept, similarity, calibration, scores, order
        )


def _kind(documents: Documents, n_reference: int) -> _Kind:
    """``n_reference`` documents evenly spread over all of them, which are ordered by video id."""
    n = len(documents.video)
    if n <= n_reference:
        return _Kind(documents, documents)
    chosen = np.linspace(0, n - 1, n_reference).astype(np.int64)
    return _Kind(documents, subset(documents, chosen))
