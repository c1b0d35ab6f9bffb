"""What ``mmretrieve eval`` does with an index."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmretrieve.cli.console import say
from mmretrieve.cli.eval import EVERYTHING, Wanted
from mmretrieve.cli.times import took
from mmretrieve.datatypes import Way
from mmretrieve.engine import Engine
from mmretrieve.errors import UsageError
from mmretrieve.evaluation.experiment import measure_runs
from mmretrieve.evaluation.measures import Measure
from mmretrieve.evaluation.probes import OF_CONTENT, Probe
from mmretrieve.evaluation.queries import Query, judge, read_queries
from mmretrieve.evaluation.results import Drop, Results
from mmretrieve.evaluation.trec import Qrels, Run, write_qrels, write_run
from mmretrieve.experiments.compare import (
    Asked,
    Contestant,
    ask,
    contestant,
    modality_reports,
    present_ways,
    run_all,
)
from mmretrieve.experiments.importance import measure_importance
from mmretrieve.experiments.known_items import known_items
from mmretrieve.experiments.moments import measure_moments
from mmretrieve.experiments.probes import Trial, content_drops, drops
from mmretrieve.search.ways import from_similarities

if TYPE_CHECKING:
    from mmretrieve.documents import Document


@dataclass(frozen=True, slots=True)
class _Material:
    """Queries that can be asked, with the content of documents where it is given."""

    asked: Asked
    documents: tuple[Document, ...] = ()
    notes: tuple[str, ...] = ()


def evaluate_index(
    wanted: Wanted, index: Path | None, run_out: Path | None, qrels_out: Path | None
) -> Results:
    """Search, measure, compare; says on standard error what takes time."""
    with Engine.open(index) as engine:
        if not engine.videos():
            raise UsageError("the index is empty: mmretrieve index FOLDER_WITH_VIDEOS")
        material = _material(engine, wanted)
        results, runs = _measure(engine, material, wanted)
    if run_out is not None:
        write_run(run_out, runs[0])
    if qrels_out is not None:
        write_qrels(qrels_out, material.asked.qrels)
    return results


def _measure(
    engine: Engine, material: _Material, wanted: Wanted
) -> tuple[Results, tuple[Run, ...]]:
    asked, depth = material.asked, max([wanted.depth, *(m.cutoff or 0 for m in wanted.measures)])
    ways = _ways(engine, wanted.ways, hidden=bool(asked.hidden))
    contestants = [contestant(engine, way) for way in ways]
    start = time.perf_counter()
    answers = run_all(engine, asked, contestants, depth)
    shown = f"{len(ways)} ways" if len(ways) > 1 else ways[0].value
    say(f"{len(asked.queries):,} queries in {took(time.perf_counter() - start)}: {shown}")
    types = {query.query_id: query.query_type for query in asked.queries}
    found = Results(
        measure_runs(asked.qrels, answers.runs, wanted.measures, types),
        {tag: r for tag, r in modality_reports(asked, answers).items() if r.n_queries},
        measure_moments(engine, asked, contestants),
        measure_importance(engine, asked, _main(wanted), depth) if wanted.importance else None,
        tuple(_drops(engine, material, contestants, wanted, answers.runs)),
        material.notes,
    )
    return found, answers.runs


def _ways(engine: Engine, names: tuple[str, ...], *, hidden: bool) -> tuple[Way, ...]:
    """``all`` spelt out, without the modalities that no video has and, where lines are hidden, without
    the ways that would see them."""
    named = [Way(name) for name in names if name != EVERYTHING]
    every = present_ways(engine) if EVERYTHING in names else ()
    able = [way for way in every if from_similarities(way) or not hidden]
    if len(able) < len(every):
        shown = ", ".join(way for way in every if way not in able)
        say(f"left out, since hidden lines are not hidden from them: {shown}")
    return tuple(dict.fromkeys([*named, *able]))


def _main(wanted: Wanted) -> Measure:
    """The measure of probes and importance: nDCG where it is asked for, else the first."""
    named = [m for m in wanted.measures if str(m) == "nDCG@10"]
    return (named or list(wanted.measures))[0]


def _drops(
    engine: Engine,
    material: _Material,
    contestants: list[Contestant],
    wanted: Wanted,
    clean: tuple[Run, ...],
) -> list[Drop]:
    measure = _main(wanted)
    depth = max(wanted.depth, measure.cutoff or 0)
    trial = Trial(material.asked, clean, measure, depth, wanted.seed)
    probes = [Probe(name) for name in wanted.probes]
    found = drops(engine, trial, contestants, [p for p in probes if p not in OF_CONTENT])
    for probe in probes:
        if probe not in OF_CONTENT:
            continue
        if not material.documents:
            say(f"{probe}: left out, the layout gives no content")
            continue
        say(f"{probe}: encoding {len(material.documents):,} documents again")
        ways = [Way(c.name) for c in contestants]
        found += content_drops(engine, trial, material.documents, ways, probe)
    return found


def _material(engine: Engine, wanted: Wanted) -> _Material:
    if wanted.n_known_items is not None:
        made = known_items(engine, wanted.n_known_items, wanted.seed)
        return _Material(ask(engine, made.queries, made.qrels, made.hidden))
    assert wanted.queries is not None
    paths = {video.video_id: video.path for video in engine.videos()}
    if wanted.layout is not None:
        return _collection(engine, wanted.queries, wanted.layout, paths)
    queries = read_queries(wanted.queries)
    folder = wanted.queries if wanted.queries.is_dir() else wanted.queries.parent
    return _Material(ask(engine, queries, judge(queries, paths, folder)))


def _collection(engine: Engine, path: Path, layout: str, paths: dict[str, str]) -> _Material:
    """A published collection, as far as its videos are in the index."""
    from mmretrieve.evaluation.datasets.readers import read_collection
    from mmretrieve.evaluation.queries import known_only

    collection = read_collection(layout, path)
    queries, qrels = known_only(collection.queries, collection.qrels, paths)
    if not queries:
        raise UsageError(
            f"{path}: none of its {len(collection.queries):,} queries is answered by a video of the "
            f"index: mmretrieve index {path} --layout {layout}, or index the videos themselves"
        )
    n_lost = len(collection.queries) - len(queries)
    notes = (
        (f"{n_lost:,} of {len(collection.queries):,} queries have no answer in the index",)
        if n_lost
        else ()
    )
    for note in notes:
        say(note)
    asked: tuple[Query, ...] = queries
    return _Material(ask(engine, asked, Qrels(qrels.relevance)), collection.documents, notes)
