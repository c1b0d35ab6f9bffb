"""Robustness probes on an index: ask again with something changed, and report the drop."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from mmretrieve.datatypes import Modality, Way
from mmretrieve.documents import Document
from mmretrieve.engine import Engine
from mmretrieve.evaluation.intervals import compare
from mmretrieve.evaluation.measures import Measure, per_query
from mmretrieve.evaluation.probes import (
    NOBODY,
    PLANNERS,
    Mask,
    Plan,
    Probe,
    compressed_frames,
    insert_attributes,
    speech_noise,
    typos,
)
from mmretrieve.evaluation.results import Drop
from mmretrieve.evaluation.trec import Qrels, Run
from mmretrieve.experiments.compare import Asked, Contestant, ask, contestant, run_all
from mmretrieve.search.lines import words_of
from mmretrieve.search.similarities import Similarities

ON_AN_INDEX = (*PLANNERS, Probe.ATTRIBUTE_INSERTION, Probe.TYPOS)
"""Probes that need no content to be encoded again."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a probe is measured on: the ``clean`` runs of the same queries, and how."""

    asked: Asked
    clean: tuple[Run, ...]
    measure: Measure
    depth: int
    seed: int = 0

    def drop(self, probe: Probe, run: Run, n_changed: int) -> Drop:
        """How much worse a changed run is than the clean one of the same name."""
        clean = next(one for one in self.clean if one.tag == run.tag)
        qrels = self.asked.qrels
        ours, theirs = (
            [v for (v,) in per_query(qrels, one, [self.measure]).values()] for one in (run, clean)
        )
        means = float(np.mean(theirs)), float(np.mean(ours))
        return Drop(probe, run.tag, str(self.measure), *means, compare(ours, theirs), n_changed)


def drops(
    engine: Engine, trial: Trial, contestants: Sequence[Contestant], probes: Sequence[Probe]
) -> list[Drop]:
    """Each probe against the clean runs, for all contestants that it reaches."""
    asked, depth = trial.asked, trial.depth
    found = []
    for probe in probes:
        able = [c for c in contestants if probe not in PLANNERS or c.hides]
        if probe in PLANNERS:
            plan = plan_for(engine, asked.qrels, probe, trial.seed)
            n_changed = plan.n_changed
            names = [c.name for c in able]
            runs = tuple(run for run in trial.clean if run.tag in names)
            if n_changed:
                runs = run_all(engine, asked, able, depth, partial(changed, plan=plan)).runs
        else:
            other, n_changed = change_queries(engine, asked, probe, trial.seed)
            runs = run_all(engine, other, able, depth).runs
        found += [trial.drop(probe, run, n_changed) for run in runs]
    return found


def content_drops(
    engine: Engine,
    trial: Trial,
    documents: Sequence[Document],
    ways: Sequence[Way],
    probe: Probe,
) -> list[Drop]:
    """A probe of :data:`OF_CONTENT` against the clean runs: ``documents``, of which the index of
    ``engine`` is made, are changed and encoded again into an index that is gone afterwards."""
    altered = change_documents(documents, probe, trial.seed)
    n_changed = sum(a is not b for a, b in zip(altered, documents, strict=True))
    with (
        tempfile.TemporaryDirectory(prefix="mmretrieve-probe-") as folder,
        Engine.create(Path(folder) / "index", engine.settings) as other,
    ):
        other.index(altered)
        contestants = [contestant(other, way) for way in ways]
        runs = run_all(other, trial.asked, contestants, trial.depth).runs
    return [trial.drop(probe, run, n_changed) for run in runs]


def change_documents(documents: Sequence[Document], probe: Probe, seed: int) -> list[Document]:
    """The documents as a probe of :data:`OF_CONTENT` leaves them; those that it has nothing to do
    with are the same objects."""
    if probe is Probe.COMPRESSED_FRAMES:
        return [compressed_frames(d) if d.pictures else d for d in documents]
    spoken = [d for d in documents if d.segments.get(Modality.SPEECH)]
    said = (s.text for d in spoken for s in d.segments[Modality.SPEECH])
    vocabulary = {word for text in said for word in words_of(text)}
    return [
        speech_noise(d, vocabulary, seed) if d.segments.get(Modality.SPEECH) else d
        for d in documents
    ]


def plan_for(engine: Engine, qrels: Qrels, probe: Probe, seed: int) -> Plan:
    """The plan of a probe for the videos of an index."""
    units, present = engine.everything().units(), engine.pooled().present
    judged = {d for grades in qrels.relevance.values() for d, grade in grades.items() if grade > 0}
    relevant: Mask = np.array([video_id in judged for video_id in units.video_ids], bool)
    return PLANNERS[probe](present, relevant, seed)


def changed(found: Similarities, plan: Plan) -> Similarities:
    """Similarities as they would be in the changed index: a maximum over added tokens is the larger
    of two maxima. (Added text would share a context with what was there; here it has its own.)"""
    columns = np.arange(found.values.shape[1])[None, :]
    values = found.values[plan.source, columns]
    more = found.values[np.maximum(plan.added, 0), columns]
    more[plan.added == NOBODY] = -np.inf
    values = np.maximum(values, more)
    values[plan.dropped] = -np.inf
    return replace(found, values=values, reference=values[found.units.sample])


def change_queries(engine: Engine, asked: Asked, probe: Probe, seed: int) -> tuple[Asked, int]:
    """The queries as a probe leaves them, and how many it changed. A hidden line stays hidden."""
    alter = _alteration(engine, probe, seed)
    queries = [
        replace(q, text=alter(q.text, tuple(asked.qrels.relevance.get(q.query_id, ()))))
        for q in asked.queries
    ]
    n_changed = sum(a.text != b.text for a, b in zip(queries, asked.queries, strict=True))
    return ask(engine, queries, asked.qrels, asked.hidden), n_changed


def _alteration(engine: Engine, probe: Probe, seed: int) -> Callable[[str, tuple[str, ...]], str]:
    if probe is Probe.TYPOS:
        return lambda text, relevant: typos(text, seed)
    said: dict[str, set[str]] = {}
    for line in engine.everything().lines():
        said.setdefault(line.video_id, set()).update(words_of(line.text))
    known = {key: sorted(words) for key, words in said.items()}

    def insert(text: str, relevant: tuple[str, ...]) -> str:
        words = itertools.chain.from_iterable(known.get(video_id, ()) for video_id in relevant[:1])
        return insert_attributes(text, list(words), seed)

    return insert
