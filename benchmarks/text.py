"""``text``: one context or several, and how sharply to score, on collections of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.result import Result
from benchmarks.text_data import Collection, abstracts, activitynet, slides
from benchmarks.text_tokens import Reading, TokenCache
from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.evaluation.intervals import compare
from mmretrieve.evaluation.measures import parse_measures, values
from mmretrieve.scoring.aggregation import Scoring, aggregate, calibrate, evidence
from mmretrieve.storage.codes.sample import VIDEOS

Array = NDArray[np.float32]
PLAIN = Scoring(power=1, centre=False)
COLUMNS = ("R@1", "R@5", "R@10", "nDCG@10")
MEASURES = parse_measures("Success@1,Success@5,Success@10,nDCG@10")
CUT = 10

Scores = tuple[float, ...]
"""The measures of one query: what video retrieval calls R@k is Success@k of TREC."""


class Matches:
    """All similarities of a collection's queries and documents."""

    def __init__(self, collection: Collection, cache: TokenCache, how: Reading) -> None:
        self._collection = collection
        name = collection.name
        queries = cache.queries(name, collection.queries)
        documents = cache.documents(name, collection.documents, how)
        self._maxima = [_maxima(queries, [d[m] for d in documents]) for m in MODALITIES]
        ends = np.cumsum([len(q) for q in queries])
        self._rows = [slice(int(e) - len(q), int(e)) for e, q in zip(ends, queries, strict=True)]
        masked = cache.documents(
            f"{name}-masked", [m.content for m in collection.masked], how
        ) if collection.masked else []  # fmt: skip
        for what, tokens in zip(collection.masked, masked, strict=True):
            for code, modality in enumerate(MODALITIES):
                found = _maxima([queries[what.query]], [tokens[modality]])[:, 0]
                self._maxima[code][self._rows[what.query], what.document] = found

    def scores(self, scoring: Scoring, modalities: Sequence[Modality] = MODALITIES) -> list[Scores]:
        """Measures of every query, with only some modalities in play."""
        ids, relevant = self._collection.ids, self._collection.relevant
        out = [m not in modalities for m in MODALITIES]
        found = []
        for rows, answers in zip(self._rows, relevant, strict=True):
            similarity = np.stack([m[rows].T for m in self._maxima], axis=1)
            similarity[:, out] = -np.inf
            calibration = calibrate(similarity[_sample(len(ids))], scoring)
            totals = aggregate(evidence(similarity, calibration, scoring), scoring)
            order = np.argsort(-totals, kind="stable")[:CUT]
            found.append(
                values(MEASURES, [ids[i] for i in order if np.isfinite(totals[i])], answers)
            )
        return found


def run(data: Path, cache_folder: Path) -> None:
    """Print all tables and write the result."""
    result, cache = Result("text"), TokenCache(cache_folder)
    collections = (
        (activitynet(data), "captions"),
        (slides(data), "on-screen text"),
        (abstracts(data, "cranfield"), "abstracts"),
        (abstracts(data, "cisi"), "abstracts"),
    )
    shipped = {c.name: Matches(c, cache, Reading.SHIPPED) for c, _ in collections}
    _sharpening(result, shipped)
    for collection, shown in collections:
        ways = {how: Matches(collection, cache, how) for how in (Reading.APART, Reading.TOGETHER)}
        ways[Reading.SHIPPED] = shipped[collection.name]
        _contexts(result, collection, shown, ways)
    result.note(
        "R@k: a relevant document is among the first k. Chance is measured as in a search, on at "
        f"most {VIDEOS.most} documents spread over the collection. Gains are against each modality read on "
        f"its own. Data: {data.name}."
    )
    result.save()


def _sharpening(result: Result, collections: Mapping[str, Matches]) -> None:
    ways = {"raw MaxSim": PLAIN, **{f"centred, power {p}": Scoring(power=p) for p in (1, 2, 3, 4)}}
    rows: list[tuple[str | float, ...]] = [
        (name, way, *_row(matches.scores(scoring)))
        for name, matches in collections.items()
        for way, scoring in ways.items()
    ]
    result.add("Sharpening (token_max)", ("collection", "score", *COLUMNS), rows)


def _contexts(
    result: Result, collection: Collection, shown: str, ways: Mapping[Reading, Matches]
) -> None:
    parts: dict[str, tuple[Modality, ...]] = {shown: (Modality.OCR,)}
    if any(Modality.SPEECH in document for document in collection.documents):
        parts |= {"speech": (Modality.SPEECH,), "both": (Modality.OCR, Modality.SPEECH)}
    rows: list[tuple[str | float, ...]] = []
    for title, scoring in (("raw MaxSim", PLAIN), ("default", Scoring())):
        for part, modalities in parts.items():
            found = {how: matches.scores(scoring, modalities) for how, matches in ways.items()}
            alone = [s[-1] for s in found[Reading.APART]]
            for how, scores in found.items():
                gain = compare([s[-1] for s in scores], alone)
                interval = f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
                rows.append((title, part, how, *_row(scores), interval))
    columns = ("score", "modality", "read", *COLUMNS, "nDCG@10 gain [95 %]")
    result.add(f"Contexts: {collection.name}", columns, rows)


def _row(scores: Sequence[Scores]) -> Scores:
    return tuple(float(v) for v in np.mean(scores, axis=0))


def _maxima(queries: Sequence[Array], documents: Sequence[Array]) -> Array:
    """``(n_query_tokens, n_documents)``, ``-inf`` for a document without tokens."""
    tokens = np.concatenate(queries)
    filled = [i for i, d in enumerate(documents) if len(d)]
    out = np.full((len(tokens), len(documents)), -np.inf, np.float32)
    if filled:
        vectors = np.concatenate([documents[i] for i in filled])
        starts = np.cumsum([0, *(len(documents[i]) for i in filled[:-1])])
        for low in range(0, len(tokens), 512):
            products = tokens[low : low + 512] @ vectors.T
            out[low : low + 512, filled] = np.maximum.reduceat(products, starts, axis=1)
    return out


def _sample(n: int) -> NDArray[np.int64]:
    return np.linspace(0, n - 1, min(n, VIDEOS.most)).astype(np.int64)
