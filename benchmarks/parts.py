"""``parts``: what each part of the ranking adds, alone and together, on every collection."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import _judged
from benchmarks.quality_data import SOURCES, Source
from benchmarks.result import RESULTS, Result
from mmretrieve import Engine, Modality, Scoring, Settings
from mmretrieve.encoders.frames import BACKBONE_FILE, CLASSES_FILE, HEAD_FILE, FrameEncoder
from mmretrieve.encoders.lite import LiteEncoder
from mmretrieve.encoders.text import EncodedText, TextEncoder
from mmretrieve.encoders.weights import weight_path
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
BOOSTS = (1.2, 1.5, 2.0)
"""Weights of the right modality, were it known: what any gate of this kind could reach."""

HEAD, CONTEXT, CALIBRATION, GATE = "trained head", "contexts", "calibration", "gate"
WITHOUT = {HEAD: ("activitynet_asr", "multivent1", "cranfield", "cisi"), CONTEXT: ("flickr8k",)}
"""Parts that change tokens, and the collections where they cannot: without pictures, without texts."""

NOTHING = "none of them"
SHIPPED = "shipped: head, context, calibration"
WAYS: Mapping[str, frozenset[str]] = {
    NOTHING: frozenset(),
    **{f"{part} alone": frozenset({part}) for part in (HEAD, CONTEXT, CALIBRATION, GATE)},
    SHIPPED: frozenset({HEAD, CONTEXT, CALIBRATION}),
    **{
        f"shipped without {part}": frozenset({HEAD, CONTEXT, CALIBRATION}) - {part}
        for part in (HEAD, CONTEXT, CALIBRATION)
    },
    "shipped and gate": frozenset({HEAD, CONTEXT, CALIBRATION, GATE}),
}

Scores = dict[str, list[tuple[float, ...]]]
"""Way -> the measures of every query."""


class Apart(TextEncoder):
    """Each text on its own, in one context."""

    def in_contexts(self, texts: Sequence[str]) -> list[EncodedText]:
        """Tokens of each text."""
        return [self.encode(text) for text in texts]


def run(data: Path, cache: Path) -> None:
    """Print and keep the tables."""
    result, found = Result("parts"), {}
    for source in SOURCES:
        start = time.perf_counter()
        found[source.name] = _collection(result, source, data, cache)
        print(f"{source.name}: {time.perf_counter() - start:.0f} s\n", flush=True)
    rows: list[tuple[str | float, ...]] = [
        (way, *(_mean(scores[way]) for scores in found.values())) for way in WAYS
    ]
    result.add("nDCG@10", ("way", *found), rows)
    result.note("Differences: paired bootstrap and randomisation test over queries.")
    result.save()
    page = "\n".join(t.markdown() for t in [result.tables[-1], *result.tables[:-1]])
    intro = (
        f"# What each part adds\n\nWritten by `python -m benchmarks parts` at commit "
        f"{result.commit}. Without a "
        "trained head frames are the names of likely ImageNet classes, without contexts each modality "
        "of a passage is read on its own and not line by line, without calibration the score is plain "
        "MaxSim of all tokens.\n\n"
    )
    (RESULTS / "parts.md").write_text(intro + page, encoding="utf-8")


def _collection(result: Result, source: Source, data: Path, cache: Path) -> Scores:
    able = frozenset(part for part, names in WITHOUT.items() if source.name not in names)
    found: Scores = {}
    queries: Sequence[Query] = ()
    for made in sorted({parts & able for parts in WAYS.values()}, key=sorted):
        mine = {way: parts for way, parts in WAYS.items() if parts & able == made}
        ways = {way: _by(_scoring(parts)) for way, parts in mine.items()}
        queries, scores = _measure(source, data, cache, made, able, ways)
        found |= scores
    found = {way: found[way] for way in [*WAYS, *(w for w in found if w not in WAYS)]}
    _table(result, source.name, queries, found)
    return found


def _measure(
    source: Source, data: Path, cache: Path, made: frozenset[str], able: frozenset[str],
    ways: Mapping[str, Callable[[Similarities, Query], NDArray[np.float32]]],
) -> tuple[Sequence[Query], Scores]:  # fmt: skip
    """Rank one collection, whose tokens have the parts ``made``, in some ways."""
    collection = source.read(data)
    name = "-".join([source.name, *sorted(able - made)]).replace(" ", "-")
    with _encoder(able - made), Engine.create(cache / name, Settings(jobs=1)) as engine:
        engine.index([data / source.files] if source.files else collection.documents)
        queries, qrels = _judged(engine, collection, data / (source.files or ""))
        if SHIPPED in ways and all(q.query_type in list(Modality) for q in queries):
            ways = {**ways, **{f"shipped, right modality x {b}": _boosted(b) for b in BOOSTS}}
        hidden = {q.query_id: q.text for q in queries} if source.hides else {}
        asked = ask(engine, queries, qrels, hidden)
        everything = engine.everything()
        found: Scores = {name: [] for name in ways}
        for query, similar in zip(queries, engine.all_similarities(asked.tokens), strict=True):
            relevant = qrels.relevance[query.query_id]
            for video_id in relevant if hidden else ():
                similar = everything.hiding(similar, video_id, hidden[query.query_id])
            for way, score in ways.items():
                ranked = _best(score(similar, query), similar)
                found[way].append(values(MEASURES, ranked, frozenset(relevant)))
    return queries, found


@contextmanager
def _encoder(lacking: frozenset[str]) -> Iterator[None]:
    """Engines of this process embed without some parts."""
    with tempfile.TemporaryDirectory(prefix="mmretrieve-parts-") as name:
        frames = _class_names(Path(name)) if HEAD in lacking else None
        text = Apart() if CONTEXT in lacking else None

        def load(*_: object) -> LiteEncoder:
            return LiteEncoder(text=text, frames=frames)

        with (
            mock.patch("mmretrieve.engine.load_encoder", load),
            mock.patch("mmretrieve.index_facts.load_encoder", load),
        ):
            yield


def _class_names(folder: Path) -> FrameEncoder:
    """Frames as the names of likely classes alone, which needs no training."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    for name in (BACKBONE_FILE, CLASSES_FILE):
        (folder / name).symlink_to(weight_path(name))
    with safe_open(str(weight_path(HEAD_FILE)), framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {**file.metadata(), "blend": json.dumps(1.0)}
    save_file(tensors, folder / HEAD_FILE, metadata)
    return FrameEncoder(folder)


def _scoring(parts: frozenset[str]) -> Scoring:
    scoring = Scoring() if CALIBRATION in parts else PLAIN
    return replace(scoring, gate=GATE in parts)


def _by(scoring: Scoring) -> Callable[[Similarities, Query], NDArray[np.float32]]:
    def score(found: Similarities, _: Query) -> NDArray[np.float32]:
        (tokens,) = found.query.vectors.values()
        mine = gated(scoring, tokens)
        calibration = calibrate(found.reference, mine)
        return aggregate(evidence(found.values, calibration, mine), mine)

    return score


def _boosted(boost: float) -> Callable[[Similarities, Query], NDArray[np.float32]]:
    def score(found: Similarities, query: Query) -> NDArray[np.float32]:
        return _by(Scoring(weights={Modality(query.query_type): boost}))(found, query)

    return score


def _best(scores: NDArray[np.float32], found: Similarities) -> list[str]:
    order = np.argsort(-scores, kind="stable")[:DEPTH]
    return [found.units.video_ids[i] for i in order[np.isfinite(scores[order])].tolist()]


def _mean(scores: Sequence[tuple[float, ...]]) -> float:
    return float(np.mean([first for first, *_ in scores]))


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    mine: list[int]


def _table(result: Result, name: str, queries: Sequence[Query], found: Scores) -> None:
    kinds = sorted({q.query_type for q in queries if q.query_type in list(Modality)})
    groups = [_Group("all", list(range(len(queries))))]
    if len(kinds) > 1:
        groups += [
            _Group(k, [i for i, q in enumerate(queries) if q.query_type == k]) for k in kinds
        ]
    rows: list[tuple[str | float, ...]] = []
    for group in groups:
        reference = [found[SHIPPED][i][0] for i in group.mine]
        for way, scores in found.items():
            first = [scores[i][0] for i in group.mine]
            mean, gain = bootstrap(first), compare(first, reference)
            second = float(np.mean([scores[i][1] for i in group.mine]))
            rows.append((group.name, way, len(first), mean.mean, mean.low, mean.high,
                         gain.mean, gain.low, gain.high, gain.p, second))  # fmt: skip
    columns = (
        "queries", "way", "n", "nDCG@10", "from", "to", "minus shipped", "from", "to", "p", "R@1",
    )  # fmt: skip
    result.add(name, columns, rows)
