"""How sure a hit is: the signs of its query, against the null queries of the index."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Confidence, GroupBy, QueryTokens
from mmretrieve.scoring.aggregation import token_scores
from mmretrieve.scoring.answered import (
    N_LOOKED_AT,
    Background,
    Masks,
    Signs,
    labelled,
    probability,
    signs_of,
)
from mmretrieve.scoring.nulls import Nulls
from mmretrieve.search.evidence import content_words
from mmretrieve.search.ranking import Ranking


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges the hits of one query of ``n_tokens``. ``best``: the best score in the library; ``p``: the
    probability that it is an answer, None where none was fitted: for scores that are not sharpened above
    chance, and for encoders other than that of the weights."""

    nulls: Nulls
    n_tokens: int
    best: float
    p: float | None

    def confidence(self, score: float) -> Confidence:
        """Of a hit with ``score``: that of the best, less by how many more null queries reach this score.
        Without a probability, scores are compared with those of the null queries alone."""
        if self.p is None:
            return self.nulls.confidence(score, self.n_tokens)
        share, most = (self.nulls.share(s, self.n_tokens) for s in (score, self.best))
        return labelled(self.p * min(1.0, share / most))


@dataclass(frozen=True, slots=True)
class Tried:
    """What confidence is fitted on: the signs of the best passage in the order of
    :data:`~mmretrieve.scoring.answered.SIGNS`, the share of null queries that score less, and the
    numbers of the videos of the ten best passages."""

    signs: NDArray[np.float64]
    share: float
    videos: NDArray[np.int32]


def judge(known: Background, ranking: Ranking, unit: GroupBy, *, fitted: bool) -> Judge:
    """The judge for the query of a ranking of the library; ``fitted``: whether there are weights for
    the encoder of the index."""
    scoring, n_tokens = ranking.scoring, len(ranking.query.texts)
    if not len(ranking.order):
        return Judge(known.nulls, n_tokens, 0.0, 0.0)
    first = int(ranking.order[0])
    best, p = float(ranking.scores[first]), None
    if fitted and scoring.centre and scoring.power == 3.0:
        p = probability(known.level(signs(ranking, unit)), plain_score(ranking, first))
    return Judge(known.nulls, n_tokens, best, p)


def tried(known: Background, ranking: Ranking) -> Tried:
    """What the best passage of a library shows of whether it answers the query."""
    first = ranking.order[:1].tolist()
    score = float(ranking.scores[first[0]]) if first else 0.0
    plain = plain_score(ranking, first[0]) if first else 0.0
    vector = known.vector(signs(ranking, GroupBy.MOMENT), plain)
    share = known.nulls.share(score, len(ranking.query.texts))
    return Tried(vector, share, ranking.documents.video[ranking.order[:10]])


def plain_score(ranking: Ranking, document: int) -> float:
    """The token-wise score of a document, weights left aside."""
    above = np.maximum(ranking.above_chance(document), 0)
    return float(token_scores(above[None])[0])


def signs(ranking: Ranking, unit: GroupBy) -> Signs:
    """The signs of a query, from its ranking of the library's moments or videos."""
    used = ranking.scoring.weight_vector > 0
    best = ranking.similarity[ranking.order[: N_LOOKED_AT[unit]]][:, used]
    calibration, query = ranking.calibration, ranking.query
    n_words = len(np.unique(query.word))
    return signs_of(
        best,
        calibration.null[used],
        calibration.scale[used],
        ranking.typical,
        _words(query),
        n_words,
    )


def background(
    queries: Iterable[str], ranked: Callable[[str], Ranking], unit: GroupBy
) -> Background:
    """Ask every null query; ``ranked`` gives the best documents of the index for it."""
    sizes, best, reached, typical = [], [], [], []
    for query in queries:
        ranking = ranked(query)
        found = signs(ranking, unit)
        sizes.append(len(ranking.query.texts))
        best.append(float(ranking.scores[ranking.order[0]]) if len(ranking.order) else 0.0)
        reached.append(found.reached)
        typical.append(found.typical)
    return Background(
        Nulls(np.array(sizes, np.int32), np.array(best, np.float32)),
        np.array(reached, np.float32),
        np.array(typical, np.float32),
    )


def _words(query: QueryTokens) -> Masks:
    """The tokens of each word that says what the query is about; without one, of the whole query."""
    found = tuple(mine for _, mine in content_words(query))
    return found or (np.ones(len(query.texts), bool),)
