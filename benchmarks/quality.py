"""``quality``: every way of ranking on every collection, with intervals, probes, and what failed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality_data import SOURCES, Source, activitynet_moments
from benchmarks.quality_page import write_page, write_readme
from benchmarks.result import Result
from mmretrieve import Engine, Settings
from mmretrieve.datatypes import Modality, Way
from mmretrieve.documents import Document
from mmretrieve.evaluation.collection import Collection
from mmretrieve.evaluation.experiment import Comparison, measure_runs
from mmretrieve.evaluation.importance import Importance
from mmretrieve.evaluation.measures import Measure, parse_measures, per_query
from mmretrieve.evaluation.modality import ModalityReport
from mmretrieve.evaluation.probes import Probe
from mmretrieve.evaluation.queries import Query, judge
from mmretrieve.evaluation.results import Drop, Results
from mmretrieve.evaluation.trec import Qrels, Run
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
from mmretrieve.experiments.probes import ON_AN_INDEX, Trial, content_drops, drops

MEASURES = parse_measures("R@1,R@5,R@10,nDCG@10,RR")
MAIN = Measure.parse("nDCG@10")
DEPTH = 100
JOINT = Way.TOKEN_MAX
PROBED = (Way.TOKEN_MAX, Way.CLAMR, Way.MEAN)
N_KNOWN = 200
N_FAILURES = 3
KNOWN_FROM = ("videos", "slides", "activitynet_asr")
_SEED = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A query that a rival answers better than joint late interaction does."""

    query: str
    relevant: str
    ours: float
    theirs: float
    our_first: str
    their_first: str


@dataclass(frozen=True, slots=True)
class Measured:
    """One collection. ``rival``: the best of the other ways; ``failures``: where it did better."""

    name: str
    about: str
    n_documents: int
    results: Results
    rival: str
    failures: tuple[Failure, ...]


def run(data: Path, cache: Path, only: Sequence[str], readme: bool) -> None:
    """Print all tables, write the JSON and the page, refresh the table of the README."""
    result = Result("quality")
    chosen = [s for s in SOURCES if not only or s.name in only]
    cache.mkdir(parents=True, exist_ok=True)
    found = []
    for source in chosen:
        start = time.perf_counter()
        found += _collection(source, data, cache)
        print(f"{source.name}: {time.perf_counter() - start:.0f} s\n", flush=True)
    if not only or "activitynet_asr" in only:
        found.append(_moments(data, cache))
    for measured in found:
        _tables(result, measured)
    result.note(f"Data: {data.name}. Ways, probes and measures: benchmarks/README.md.")
    result.save_by_commit()
    write_page(found, result.commit)
    if readme and not only:
        write_readme(found)


def _collection(source: Source, data: Path, cache: Path) -> list[Measured]:
    collection = source.read(data)
    with Engine.create(cache / source.name, Settings(jobs=1)) as engine:
        given = [data / source.files] if source.files else collection.documents
        engine.index(given)
        queries, qrels = judged(engine, collection, data / (source.files or ""))
        hidden = {q.query_id: q.text for q in queries} if source.hides else {}
        asked = ask(engine, queries, qrels, hidden)
        found = [_measure(engine, asked, source, collection.documents)]
        if source.name in KNOWN_FROM:
            found.append(_known(engine, source))
    return found


def judged(engine: Engine, collection: Collection, folder: Path) -> tuple[tuple[Query, ...], Qrels]:
    """Videos are judged by file name, documents by id."""
    if collection.documents:
        return collection.queries, collection.qrels
    paths = {video.video_id: video.path for video in engine.videos()}
    return collection.queries, judge(collection.queries, paths, folder.parent)


def _measure(
    engine: Engine, asked: Asked, source: Source, documents: Sequence[Document]
) -> Measured:
    answers = run_all(engine, asked, _contestants(engine, hidden=source.hides), DEPTH)
    types = {q.query_id: q.query_type for q in asked.queries}
    comparison = measure_runs(asked.qrels, answers.runs, MEASURES, types)
    reports = {
        tag: r
        for tag, r in modality_reports(asked, answers).items()
        if tag in (JOINT.value, Way.CLAMR.value)
    }
    several = sum(engine.info().n_tokens[m] > 0 for m in Modality) > 1
    results = Results(
        comparison,
        reports,
        importance=measure_importance(engine, asked, MAIN, DEPTH) if several else None,
        drops=tuple(_drops(engine, asked, answers.runs, documents)),
    )
    return _with_failures(engine, source.name, source.about, asked, answers.runs, results)


def _contestants(engine: Engine, *, hidden: bool) -> list[Contestant]:
    """All ways; where lines are hidden, without those that would see them."""
    every = [contestant(engine, way) for way in present_ways(engine)]
    return [one for one in every if one.hides or not hidden]


def _drops(
    engine: Engine, asked: Asked, clean: tuple[Run, ...], documents: Sequence[Document]
) -> list[Drop]:
    probed = [contestant(engine, way) for way in PROBED]
    trial = Trial(asked, clean, MAIN, DEPTH, _SEED)
    found = drops(engine, trial, probed, ON_AN_INDEX)
    if asked.hidden:  # A line that was misheard would not be found, and not be hidden.
        return found
    for probe, has in (
        (Probe.SPEECH_NOISE, any(d.segments.get(Modality.SPEECH) for d in documents)),
        (Probe.COMPRESSED_FRAMES, any(d.pictures for d in documents)),
    ):
        if has:
            found += content_drops(engine, trial, documents, PROBED, probe)
    return found


def _known(engine: Engine, source: Source) -> Measured:
    """Queries made of the lines of the index itself."""
    made = known_items(engine, N_KNOWN, _SEED)
    asked = ask(engine, made.queries, made.qrels, made.hidden)
    answers = run_all(engine, asked, _contestants(engine, hidden=True), DEPTH)
    types = {q.query_id: q.query_type for q in asked.queries}
    results = Results(
        measure_runs(asked.qrels, answers.runs, MEASURES, types),
        {JOINT.value: modality_reports(asked, answers)[JOINT.value]},
    )
    about = "lines of the index itself, each hidden while it is asked"
    return _with_failures(
        engine, f"{source.name}: known items", about, asked, answers.runs, results
    )


def _moments(data: Path, cache: Path) -> Measured:
    """Stretches of videos from captions with times."""
    collection = activitynet_moments(data)
    name = "activitynet_asr: moments"
    with Engine.create(cache / "activitynet_moments", Settings(jobs=1)) as engine:
        engine.index(collection.documents)
        asked = ask(engine, collection.queries, collection.qrels)
        contestants = [contestant(engine, way) for way in (JOINT, Way.CLAMR)]
        answers = run_all(engine, asked, contestants, DEPTH)
        comparison = measure_runs(asked.qrels, answers.runs, MEASURES)
        results = Results(comparison, moments=measure_moments(engine, asked, contestants))
        about = "another annotator's captions, with their times"
        return _with_failures(engine, name, about, asked, answers.runs, results)


def _with_failures(
    engine: Engine, name: str, about: str, asked: Asked, runs: Sequence[Run], results: Results
) -> Measured:
    """The rival is the best other way that is no variant of ours: neither another aggregation nor,
    where there is one modality, that modality alone."""
    column = MEASURES.index(MAIN)
    ours = [Way.TOKEN_MAX.value, Way.MODALITY_MAX.value, Way.WEIGHTED.value]
    present = [m.value for m in Modality if engine.info().n_tokens[m]]
    ours += present if len(present) == 1 else []
    means = {
        row.tag: row.intervals[column].mean
        for row in results.comparison.rows
        if row.group == "all" and row.tag not in ours
    }
    rival = max(means, key=lambda tag: means[tag])
    by_tag = {run.tag: run for run in runs}
    failures = _failures(engine, asked, by_tag[JOINT.value], by_tag[rival])
    return Measured(name, about, len(engine.videos()), results, rival, failures)


def _failures(engine: Engine, asked: Asked, ours: Run, theirs: Run) -> tuple[Failure, ...]:
    """The queries with the largest loss, by id where they lose the same."""
    values = [per_query(asked.qrels, one, [MAIN]) for one in (ours, theirs)]
    texts = {q.query_id: q.text for q in asked.queries}
    names = {v.video_id: Path(v.path).name.removeprefix("document:") for v in engine.videos()}
    losses = {key: values[0][key][0] - values[1][key][0] for key in values[0]}
    worst = sorted((key for key in losses if losses[key] < 0), key=lambda key: (losses[key], key))

    def first(scores: Run, key: str) -> str:
        ranked = scores.scores[key]
        return names[max(ranked, key=lambda v: ranked[v])] if ranked else "nothing"

    return tuple(
        Failure(
            texts[key],
            ", ".join(names[v] for v, grade in asked.qrels.relevance[key].items() if grade > 0),
            values[0][key][0],
            values[1][key][0],
            first(ours, key),
            first(theirs, key),
        )
        for key in worst[:N_FAILURES]
    )


def _tables(result: Result, measured: Measured) -> None:
    results = measured.results
    _comparison(result, f"{measured.name} ({measured.n_documents} documents)", results.comparison)
    if results.moments is not None:
        _comparison(result, f"{measured.name}, overlap", results.moments)
    for tag, report in results.modalities.items():
        _modality(result, f"{measured.name}, winning modality, {tag}", report)
    if results.importance is not None:
        _importance(result, measured.name, results.importance)
    if results.drops:
        result.add(
            f"{measured.name}, probes, {MAIN}",
            ("probe", "way", "changed", "clean", "with probe", "difference", "from", "to", "p"),
            [
                (d.probe.value, d.name, d.n_changed, d.clean, d.changed, d.difference.mean,
                 d.difference.low, d.difference.high, d.difference.p)
                for d in results.drops
            ],
        )  # fmt: skip
    result.add(
        f"{measured.name}, where {measured.rival} does better than {JOINT.value}",
        ("query", "relevant", JOINT.value, measured.rival, "our first", "their first"),
        [
            (f.query, f.relevant, f.ours, f.theirs, f.our_first, f.their_first)
            for f in measured.failures
        ],
    )


def _comparison(result: Result, title: str, found: Comparison) -> None:
    columns = [f"{name}{end}" for name in found.measures for end in ("", " from", " to")]
    rows: list[tuple[str | float, ...]] = [
        (
            row.group,
            row.tag,
            row.n_queries,
            *(v for i in row.intervals for v in (i.mean, i.low, i.high)),
        )
        for row in found.rows
    ]
    result.add(title, ("queries", "way", "n", *columns), rows)
    result.add(
        f"{title}, minus {JOINT.value}",
        ("way", *(f"{name}{end}" for name in found.measures for end in ("", " from", " to", " p"))),
        [
            (c.tag, *(v for d in c.differences for v in (d.mean, d.low, d.high, d.p)))
            for c in found.contrasts
        ],
    )


def _modality(result: Result, title: str, found: ModalityReport) -> None:
    result.add(
        title,
        ("queries", "undecided", "accuracy", "any accuracy", "macro P", "macro R", "macro F1",
         *(f"tokens, {m.value}" for m in Modality)),
        [(found.n_queries, found.n_undecided, found.accuracy, found.any_accuracy, found.precision,
          found.recall, found.f1, *(found.distribution[m] for m in Modality))],
    )  # fmt: skip


def _importance(result: Result, name: str, found: Importance) -> None:
    result.add(
        f"{name}, modality importance, {found.measure}",
        ("modality", "importance", "from", "to", "alone", "from", "to", "alone is enough"),
        [
            (m.value, one.importance.mean, one.importance.low, one.importance.high, one.alone.mean,
             one.alone.low, one.alone.high, one.enough)
            for m, one in found.modalities.items()
        ],
    )  # fmt: skip
    result.add(
        f"{name}, what one modality alone answers",
        ("together", "best alone", "one is enough", "several are better", "unanswered", "share"),
        [(found.together.mean, found.best_alone.mean, found.n_one_enough, found.n_several,
          found.n_unanswered, found.one_modality)],
    )  # fmt: skip
