"""Every way of ranking (:class:`Way`), from the same similarities: ours and those of papers.

==============  ===========================================================================
way             score of a document
==============  ===========================================================================
token_max ...   the aggregations of :mod:`mmretrieve.scoring.aggregation`, above chance
clamr           CLaMR's contextualised score: plain MaxSim over all modalities together
frames ...      ``token_max`` with one modality alone
mean            mean over modalities of plain MaxSim
rrf             reciprocal rank fusion of the rankings of the modalities
route           plain MaxSim in the one modality whose best document stands out most
pooled          cosine of mean vectors, one a document
gramian         volume spanned by the query and the pooled modalities (GRAM)
bm25            words alone: LanceDB's full-text index
==============  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import (
    MODALITIES,
    Aggregation,
    Filter,
    GroupBy,
    Modality,
    QueryTokens,
    Way,
)
from mmretrieve.scoring import baselines
from mmretrieve.scoring.aggregation import Scoring, aggregate, calibrate, evidence
from mmretrieve.scoring.pooled import gramian_volume, pooled_cosine, pooled_query
from mmretrieve.search.fulltext import FullText, document_texts
from mmretrieve.search.pooling import Pooled, pool
from mmretrieve.search.similarities import Similarities, SimilarityScan
from mmretrieve.storage.reader import Snapshot

Array = NDArray[np.float32]
Rank = Callable[[Similarities], Array]
"""All documents for one query -> ``(n_documents,)`` scores, ``-inf`` for what is not ranked."""

PLAIN = Scoring(power=1.0, centre=False)

_FROM_MAXIMA: dict[Way, Callable[[Array], Array]] = {
    Way.MEAN: baselines.mean_similarity,
    Way.RRF: baselines.reciprocal_rank_fusion,
    Way.ROUTE: baselines.routed,
}


def from_similarities(way: Way) -> bool:
    """Whether a way ranks by :class:`Similarities` alone, so that what is changed or hidden there is
    changed for it; the others read pooled vectors or words of their own."""
    return way not in (Way.POOLED, Way.GRAMIAN, Way.BM25)


def scoring_of(way: Way) -> Scoring | None:
    """The scoring of a way that is late interaction; None for the others."""
    if way is Way.CLAMR:
        return PLAIN
    if way.value in list(Aggregation):
        return Scoring(aggregation=Aggregation(way.value))
    return Scoring() if modality_of(way) is not None else None


def modality_of(way: Way) -> Modality | None:
    """The modality that a way looks at alone; None where it takes several."""
    return Modality(way.value) if way.value in list(MODALITIES) else None


def selection_of(way: Way) -> Filter:
    """The filter with which a search does what a way of late interaction does."""
    only = modality_of(way)
    return Filter() if only is None else Filter(modalities=(only,))


def late_interaction(scoring: Scoring, only: tuple[Modality, ...] = MODALITIES) -> Rank:
    """Ranking by a scoring, with some modalities alone."""
    out = [m not in only for m in MODALITIES]

    def rank(found: Similarities) -> Array:
        values, reference = found.values, found.reference
        if any(out):
            values, reference = values.copy(), reference.copy()
            values[:, out], reference[:, out] = -np.inf, -np.inf
        calibration = calibrate(reference, scoring)
        return aggregate(evidence(values, calibration, scoring), scoring)

    return rank


class Ways:
    """Rankings of one snapshot; what some of them need besides similarities is made once."""

    def __init__(self, snapshot: Snapshot, scan: SimilarityScan) -> None:
        self._snapshot = snapshot
        self._scan = scan
        self._pooled: dict[GroupBy, Pooled] = {}
        self._texts: dict[tuple[GroupBy, tuple[Modality, ...]], FullText] = {}

    def rank(self, way: Way, unit: GroupBy, modalities: tuple[Modality, ...] = MODALITIES) -> Rank:
        """How ``way`` ranks videos or passages. ``modalities``: those whose words BM25 reads; for
        the other ways what the similarities leave out is left out."""
        scoring = scoring_of(way)
        if scoring is not None:
            only = modality_of(way)
            return late_interaction(scoring, MODALITIES if only is None else (only,))
        if way is Way.BM25:
            return self._bm25(unit, modalities)
        if way in _FROM_MAXIMA:
            return lambda found: _FROM_MAXIMA[way](found.values)
        return self._from_pooled(way, unit)

    def pooled(self, unit: GroupBy) -> Pooled:
        """The pooled vectors of all documents."""
        if unit not in self._pooled:
            snapshot = self._snapshot
            documents = self._scan.documents(unit)
            self._pooled[unit] = pool(documents, snapshot.library.cells, snapshot.library.vectors)
        return self._pooled[unit]

    def _from_pooled(self, way: Way, unit: GroupBy) -> Rank:
        pooled = self.pooled(unit)
        score = pooled_cosine if way is Way.POOLED else gramian_volume

        def rank(found: Similarities) -> Array:
            present = pooled.present & np.isfinite(found.values).any(axis=2)
            return score(self._query_vector(found.query), pooled.vectors, present)

        return rank

    def _query_vector(self, query: QueryTokens) -> Array:
        spaces = {self._snapshot.manifest.space(m) for m in MODALITIES}
        return pooled_query(np.mean([query.vectors[space] for space in sorted(spaces)], axis=0))

    def _bm25(self, unit: GroupBy, modalities: tuple[Modality, ...]) -> Rank:
        key = (unit, modalities)
        if key not in self._texts:
            documents = self._scan.documents(unit)
            texts = document_texts(self._snapshot, documents, modalities)
            self._texts[key] = FullText(texts)
        words = self._texts[key]

        def rank(found: Similarities) -> Array:
            shown = np.isfinite(found.values).any(axis=(1, 2))
            return np.where(shown, words.scores(found.query.text), np.float32(-np.inf))

        return rank
