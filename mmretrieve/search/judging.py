"""How sure a hit is: the signs of its query, against the null queries of the index."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from mmretrieve.datatypes import Confidence, GroupBy, QueryTokens
from mmretrieve.scoring.aggregation import token_scores
from mmretrieve.scoring.answered import N_LOOKED_AT, Background, Masks, Signs, confidence, signs_of
from mmretrieve.scoring.nulls import Nulls
from mmretrieve.search.evidence import content_words
from mmretrieve.search.ranking import Ranking


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges the hits of one query. ``level``: see
    :meth:`~mmretrieve.scoring.answered.Background.level`."""

    nulls: Nulls
    level: float

    def confidence(self, ranking: Ranking, document: int) -> Confidence:
        """Of a document of ``ranking``. Scores that are not sharpened above chance are compared with
        those of the null queries alone."""
        scoring = ranking.scoring
        if not (scoring.centre and scoring.power == 3.0):
            score = float(ranking.scores[document])
            return self.nulls.confidence(score, len(ranking.query.texts))
        return confidence(self.level, plain_score(ranking, document))


def judge(known: Background, ranking: Ranking, unit: GroupBy) -> Judge:
    """The judge for the query of a ranking of the library."""
    return Judge(known.nulls, known.level(signs(ranking, unit)))


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
