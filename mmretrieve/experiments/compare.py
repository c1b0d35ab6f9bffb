"""Many queries, several rankings, all documents: runs and winning modalities in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, Modality, QueryTokens, Way
from mmretrieve.engine import Engine
from mmretrieve.errors import UsageError
from mmretrieve.evaluation.modality import TARGETS, ModalityReport, modality_report
from mmretrieve.evaluation.queries import Query
from mmretrieve.evaluation.trec import Qrels, Run
from mmretrieve.scoring.aggregation import Scoring, calibrate, contributions, evidence
from mmretrieve.search.similarities import Similarities
from mmretrieve.search.ways import Rank, from_similarities, modality_of, scoring_of

Array = NDArray[np.float32]
Change = Callable[[Similarities], Similarities]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A ranking under a name. With a ``scoring`` it is late interaction over all modalities, and it
    can be told which of them won a token. ``hides``: it sees nothing but similarities, so that what
    is hidden or changed there is so for it."""

    name: str
    rank: Rank
    scoring: Scoring | None = None
    hides: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries with their tokens. ``hidden``: query id -> a line of its relevant videos, which are
    looked at without it."""

    queries: tuple[Query, ...]
    tokens: tuple[QueryTokens, ...]
    qrels: Qrels
    hidden: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answers:
    """``winners``: name -> query id -> for each query token that found anything the modality that
    won it in the relevant video (the best ranked, if several)."""

    runs: tuple[Run, ...]
    winners: Mapping[str, Mapping[str, tuple[Modality, ...]]]


def ask(
    engine: Engine,
    queries: Sequence[Query],
    qrels: Qrels,
    hidden: Mapping[str, str] | None = None,
) -> Asked:
    """Encode the queries.

    Raises:
        UsageError: a query that cannot be searched for, with file and line.
    """
    tokens = []
    for query in queries:
        try:
            tokens.append(engine.encode_query(query.text))
        except UsageError as error:
            raise UsageError(f"{query.where}: {error}") from error
    return Asked(tuple(queries), tuple(tokens), qrels, hidden or {})


def contestant(engine: Engine, way: Way) -> Contestant:
    """A way of ranking videos of the engine's index."""
    joint = scoring_of(way) if modality_of(way) is None else None
    return Contestant(way.value, engine.ranking(way), joint, from_similarities(way))


def present_ways(engine: Engine) -> tuple[Way, ...]:
    """All ways but those of a modality that no video has."""
    n_tokens = engine.info().n_tokens
    return tuple(w for w in Way if (only := modality_of(w)) is None or n_tokens[only])


def run_all(
    engine: Engine,
    asked: Asked,
    contestants: Sequence[Contestant],
    depth: int,
    change: Change | None = None,
    on_query: Callable[[int], None] | None = None,
) -> Answers:
    """One run a contestant, of the best ``depth`` videos a query. ``change``: what a probe does to
    the similarities before they are ranked.

    Raises:
        UsageError: something is hidden or changed, and a contestant would see it all the same.
    """
    blind = [c.name for c in contestants if not c.hides]
    if blind and (asked.hidden or change is not None):
        raise UsageError(
            f"{blind[0]} does not rank by similarities, so that hidden lines would not be hidden "
            f"from it: leave out {', '.join(blind)}"
        )
    everything = engine.everything()
    scores: dict[str, dict[str, dict[str, float]]] = {c.name: {} for c in contestants}
    winners: dict[str, dict[str, tuple[Modality, ...]]] = {
        c.name: {} for c in contestants if c.scoring is not None
    }
    numbers = {name: i for i, name in enumerate(everything.units().video_ids)}
    found = engine.all_similarities(asked.tokens)
    for place, (query, similar) in enumerate(zip(asked.queries, found, strict=True)):
        relevant = asked.qrels.relevance.get(query.query_id, {})
        line = asked.hidden.get(query.query_id)
        for video_id in relevant if line is not None else ():
            similar = everything.hiding(similar, video_id, line or "")
        similar = similar if change is None else change(similar)
        for one in contestants:
            ranked = one.rank(similar)
            scores[one.name][query.query_id] = _best(ranked, similar, depth)
            if one.scoring is not None:
                mine = [numbers[v] for v in relevant if v in numbers]
                won = _winners(similar, one.scoring, mine, ranked)
                winners[one.name][query.query_id] = won
        if on_query is not None:
            on_query(place + 1)
    return Answers(tuple(Run(name, found_) for name, found_ in scores.items()), winners)


def modality_reports(asked: Asked, answers: Answers) -> dict[str, ModalityReport]:
    """Contestant -> does the right modality win, for the queries whose type names a modality."""
    targeted = [q for q in asked.queries if q.query_type in TARGETS]
    if not targeted:
        return {}
    targets = [TARGETS[q.query_type] for q in targeted]
    return {
        name: modality_report(targets, [won[q.query_id] for q in targeted])
        for name, won in answers.winners.items()
    }


def _best(scores: Array, found: Similarities, depth: int) -> dict[str, float]:
    order = np.argsort(-scores, kind="stable")[:depth]
    order = order[np.isfinite(scores[order])]
    return {found.units.video_ids[i]: float(scores[i]) for i in order.tolist()}


def _winners(
    found: Similarities, scoring: Scoring, relevant: Sequence[int], scores: Array
) -> tuple[Modality, ...]:
    if not relevant:
        return ()
    best = max(relevant, key=lambda number: float(scores[number]))
    calibration = calibrate(found.reference, scoring)
    values = evidence(found.values[[best]], calibration, scoring)
    parts = contributions(values, scoring)[0]
    return tuple(MODALITIES[m] for q, m in enumerate(parts.argmax(axis=0)) if parts[m, q] > 0)
