"""How well search finds the right clip, for each way of scoring and each modality alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.plot import grouped_bars
from benchmarks.result import RESULTS, Result
from mmretrieve import Aggregation, Engine, Filter, GroupBy, Modality, Scoring, SearchResult
from mmretrieve.datatypes import COMMON
from mmretrieve.evaluation.intervals import compare
from mmretrieve.evaluation.measures import parse_measures, values

JOINT = "token_max"
ALL = "all"
ORACLE = "oracle: the query's own modality alone"
RAW = "paper: raw token_max"
NAMELESS = "token_max without metadata"
_DEEP = 10_000
_MANY_MOMENTS = 60

MEASURES = parse_measures("Success@1,Success@5,nDCG@10")
SHOWN = ("R@1", "R@5", "nDCG@10")
CUT = 10

Rank = Callable[[str], list[str]]
Scores = tuple[float, ...]
"""The measures of one query: what video retrieval calls R@k is Success@k of TREC."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query with the names of the files that answer it."""

    text: str
    kind: str
    relevant: frozenset[str]


def measure(result: Result, engine: Engine, path: Path) -> None:
    """Add tables to the result, and draw the picture next to it."""
    queries = _queries(path)
    ways = _ways(engine)
    rankings = {way: [rank(q.text) for q in queries] for way, rank in ways.items()}
    scores = {
        way: [values(MEASURES, r, q.relevant) for r, q in zip(found, queries, strict=True)]
        for way, found in rankings.items()
    }
    # What a perfect router to one modality would reach: no system can know the kind of a query.
    scores[ORACLE] = [scores[_alone(Modality(q.kind))][i] for i, q in enumerate(queries)]
    kinds = [ALL, *sorted({q.kind for q in queries})]
    means = {
        way: {k: _mean([s for s, q in zip(rows, queries, strict=True) if k in (ALL, q.kind)]) for k in kinds}
        for way, rows in scores.items()
    }  # fmt: skip
    counts = {k: sum(k in (ALL, q.kind) for q in queries) for k in kinds}
    columns = [f"{k} {name}" for k in kinds for name in ("R@1", "R@5", "nDCG")]
    shown = ", ".join(f"{n} {k}" for k, n in counts.items())
    title = f"Quality by video (nDCG@10; queries: {shown})"
    result.add(title, ("score", *columns), [
        (way, *(v for k in kinds for v in row[k]))
        for way, row in means.items()
    ])  # fmt: skip
    _differences(result, scores)
    _misses(result, engine, queries, rankings[JOINT])
    _draw(means, counts)


def _ways(engine: Engine) -> dict[str, Rank]:
    ways: dict[str, Rank] = {a.value: _by(engine, scoring=Scoring(a)) for a in Aggregation}
    ways[f"{JOINT} by moment"] = lambda text: _names(
        engine.search(text, k=_MANY_MOMENTS, group_by=GroupBy.MOMENT)
    )
    ways[RAW] = _by(engine, scoring=Scoring(power=1, centre=False))
    ways["paper: raw modality_max"] = _by(
        engine, scoring=Scoring(Aggregation.MODALITY_MAX, power=1, centre=False)
    )
    ways["mean of similarities"] = lambda text: _by_mean(engine, text)
    ways[NAMELESS] = _by(engine, only=(Modality.FRAMES, Modality.SPEECH, Modality.OCR))
    return ways | {_alone(m): _by(engine, only=(m,)) for m in COMMON}


def _by(
    engine: Engine, scoring: Scoring | None = None, only: tuple[Modality, ...] = tuple(Modality)
) -> Rank:
    wanted = Filter(modalities=only)

    def rank(text: str) -> list[str]:
        return _names(
            engine.search(text, k=CUT, scoring=scoring, filter=wanted, group_by=GroupBy.VIDEO)
        )

    return rank


def _by_mean(engine: Engine, text: str) -> list[str]:
    """Each video by the mean of the raw similarities of the modalities that it has."""
    found = engine.search(text, k=_DEEP, group_by=GroupBy.VIDEO)
    by_mean = sorted(found.hits, key=lambda h: -float(np.mean(list(h.modalities.values()))))
    return [Path(h.video.path).name for h in by_mean[:CUT]]


def _names(found: SearchResult) -> list[str]:
    return list(dict.fromkeys(Path(h.video.path).name for h in found.hits))[:CUT]


def _alone(modality: Modality) -> str:
    return f"{modality.value} alone"


def _differences(result: Result, scores: Mapping[str, Sequence[Scores]]) -> None:
    alone = [_alone(m) for m in COMMON]
    best = max(alone, key=lambda way: _mean(scores[way])[-1])
    rows = []
    for other in (best, ORACLE, RAW):
        for column, name in enumerate(SHOWN):
            ours, theirs = ([s[column] for s in scores[way]] for way in (JOINT, other))
            gain = compare(ours, theirs)
            rows.append((other, name, gain.mean, gain.low, gain.high))
    columns = ("against", "measure", "difference", "95 % from", "to")
    title = (
        f"{JOINT} minus the best modality alone ({best}) and others, paired bootstrap over queries"
    )
    result.add(title, columns, rows)


def _misses(
    result: Result, engine: Engine, queries: Sequence[Query], rankings: Sequence[list[str]]
) -> None:
    rows: list[tuple[str, ...]] = []
    for query, ranking in zip(queries, rankings, strict=True):
        if query.relevant.isdisjoint(ranking[:5]):
            found = engine.search(query.text, k=1, group_by=GroupBy.VIDEO).hits
            first = ranking[0] if ranking else "nothing"
            sure = found[0].confidence.label.value if found else ""
            rows.append((query.kind, query.text, ", ".join(sorted(query.relevant)), first, sure))
    columns = ("kind", "query", "expected", "first", "confidence of first")
    result.add("Not among the first five", columns, rows)


def _draw(means: Mapping[str, Mapping[str, Scores]], counts: Mapping[str, int]) -> None:
    groups = [f"{kind}\n({n} queries)" for kind, n in counts.items()]
    bars = {"all modalities together": [means[JOINT][k][1] for k in counts]}
    bars |= {_alone(m): [means[_alone(m)][k][1] for k in counts] for m in COMMON}
    path = RESULTS / "videos.png"
    if not grouped_bars(path, groups, bars, "right clip among the first five (R@5)"):
        print("matplotlib is not installed: no picture drawn")


def _queries(path: Path) -> list[Query]:
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [Query(r["query"], r["query_type"], frozenset(r["relevant"])) for r in rows]


def _mean(scores: Sequence[Scores]) -> Scores:
    return tuple(float(v) for v in np.mean(scores, axis=0))
