"""``gate``: calibration against chance and the learned gate, each alone and together, with intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import _judged
from benchmarks.quality_data import SOURCES, Source
from benchmarks.result import RESULTS, Result
from mmretrieve import Engine, Modality, Scoring, Settings
from mmretrieve.evaluation.intervals import bootstrap, compare
from mmretrieve.evaluation.measures import Measure, values
from mmretrieve.evaluation.queries import Query
from mmretrieve.experiments.compare import ask
from mmretrieve.scoring.aggregation import aggregate, calibrate, evidence
from mmretrieve.scoring.gate import gated
from mmretrieve.search.similarities import Similarities
from mmretrieve.search.ways import PLAIN

MEASURES = (Measure.parse("nDCG@10"), Measure.parse("R@1"))
DEPTH = 10
COLLECTIONS = ("videos", "activitynet_asr", "slides", "multivent1", "cranfield", "cisi")
BOOSTS = (1.2, 1.5, 2.0)
"""Weights of the right modality, were it known: what any gate of this kind could reach."""

Score = Callable[[Similarities, Query], NDArray[np.float32]]


def run(data: Path, cache: Path) -> None:
    """Print and keep the tables."""
    result = Result("gate")
    for source in (s for s in SOURCES if s.name in COLLECTIONS):
        start = time.perf_counter()
        _collection(result, source, data, cache)
        print(f"{source.name}: {time.perf_counter() - start:.0f} s\n", flush=True)
    result.note("Differences: paired bootstrap and randomisation test over queries.")
    result.save()
    page = "\n".join(t.markdown() for t in result.tables)
    intro = f"# Calibration and gate\n\nWritten by `python -m benchmarks gate` at commit {result.commit}.\n\n"
    (RESULTS / "gate.md").write_text(intro + page, encoding="utf-8")


def _collection(result: Result, source: Source, data: Path, cache: Path) -> None:
    collection = source.read(data)
    with Engine.create(cache / source.name, Settings(jobs=1)) as engine:
        engine.index([data / source.files] if source.files else collection.documents)
        queries, qrels = _judged(engine, collection, data / (source.files or ""))
        hidden = {q.query_id: q.text for q in queries} if source.hides else {}
        asked = ask(engine, queries, qrels, hidden)
        everything = engine.everything()
        typed = all(q.query_type in list(Modality) for q in queries)
        ways = _ways(known=typed)
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
        for query, similar in zip(queries, engine.all_similarities(asked.tokens), strict=True):
            relevant = qrels.relevance[query.query_id]
            for video_id in relevant if hidden else ():
                similar = everything.hiding(similar, video_id, hidden[query.query_id])
            for name, score in ways.items():
                ranked = _best(score(similar, query), similar)
                found[name].append(values(MEASURES, ranked, frozenset(relevant)))
    _table(result, source.name, queries, found)


def _ways(*, known: bool) -> Mapping[str, Score]:
    ways: dict[str, Score] = {
        "neither": _by(PLAIN),
        "gate alone": _by(replace(PLAIN, gate=True)),
        "calibration alone": _by(Scoring()),
        "calibration and gate": _by(Scoring(gate=True)),
    }
    if known:
        ways |= {f"calibration, right modality x {boost}": _boosted(boost) for boost in BOOSTS}
    return ways


def _by(scoring: Scoring) -> Score:
    def score(found: Similarities, _: Query) -> NDArray[np.float32]:
        (tokens,) = found.query.vectors.values()
        mine = gated(scoring, tokens)
        calibration = calibrate(found.reference, mine)
        return aggregate(evidence(found.values, calibration, mine), mine)

    return score


def _boosted(boost: float) -> Score:
    def score(found: Similarities, query: Query) -> NDArray[np.float32]:
        return _by(Scoring(weights={Modality(query.query_type): boost}))(found, query)

    return score


def _best(scores: NDArray[np.float32], found: Similarities) -> list[str]:
    order = np.argsort(-scores, kind="stable")[:DEPTH]
    return [found.units.video_ids[i] for i in order[np.isfinite(scores[order])].tolist()]


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    mine: list[int]


def _table(
    result: Result,
    name: str,
    queries: Sequence[Query],
    found: Mapping[str, Sequence[tuple[float, ...]]],
) -> None:
    kinds = sorted({q.query_type for q in queries if q.query_type in list(Modality)})
    groups = [_Group("all", list(range(len(queries))))]
    groups += [_Group(k, [i for i, q in enumerate(queries) if q.query_type == k]) for k in kinds]
    rows: list[tuple[str | float, ...]] = []
    for group in groups:
        reference = [found["calibration alone"][i][0] for i in group.mine]
        for way, scores in found.items():
            first = [scores[i][0] for i in group.mine]
            mean, gain = bootstrap(first), compare(first, reference)
            second = float(np.mean([scores[i][1] for i in group.mine]))
            rows.append((group.name, way, len(first), mean.mean, mean.low, mean.high,
                         gain.mean, gain.low, gain.high, gain.p, second))  # fmt: skip
    columns = (
        "queries", "way", "n", "nDCG@10", "from", "to", "minus calibration alone", "from", "to", "p", "R@1",
    )  # fmt: skip
    result.add(name, columns, rows)
