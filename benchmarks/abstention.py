"""``abstention``: how often "no good match" is said, where there is an answer and where there is none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.abstention_data import (
    GENRES,
    OWN,
    TEST,
    TUNE,
    Asked,
    captions,
    event_queries,
    nonsense,
    off_topic,
    same_genre,
    spread,
)
from benchmarks.abstention_fit import Rows, Weights, outcome
from benchmarks.abstention_fit import fit as fit_weights
from benchmarks.quality import judged
from benchmarks.quality_data import SOURCES, Source
from benchmarks.result import RESULTS, Result
from mmretrieve import Engine, Settings
from mmretrieve.encoders.registry import load_encoder
from mmretrieve.errors import UsageError
from mmretrieve.evaluation.collection import Collection
from mmretrieve.kernels.choose import kernels_on
from mmretrieve.scoring.answered import BIAS, FITTED_PRESET, SIGNS, WEIGHTS, digest
from mmretrieve.search.searcher import Searcher
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.reader import Snapshot

N_OWN = 300
N_OTHER = 60
LEAST_SHARE = 0.60
"""From this share of null queries on, a hit is called an answer where no weights were fitted."""

_COLUMNS = (
    "library", "answered", "refused", "from", "to", "refused of right first", "refused of right in ten",
    "another genre", "refused", "from", "to", "nonsense", "refused", "from", "to",
    "all without", "refused", "from", "to", "same genre", "refused",
    "AUROC", "refused where 5 % of the answered are",
)  # fmt: skip
_Values = Mapping[str, tuple[NDArray[np.float64], float]]


def run(data: Path, cache: Path, *, fit: bool) -> None:
    """Print and keep all tables; with ``fit`` for new weights, which are printed for the code."""
    asked = _asked(data)
    rows = {s.name: _measure(s, data, cache, asked[s.name]) for s in SOURCES}
    shipped = _all_but(rows, "") if fit else Weights(np.array(WEIGHTS), BIAS)
    if fit:
        print(f"WEIGHTS = ({', '.join(f'{w:.4f}' for w in shipped.weights)})")
        print(f"BIAS = {shipped.bias:.4f}")
        print(f'FITTED_FOR = "{digest(load_encoder(FITTED_PRESET).fingerprints())}"')
    result = Result("abstention")
    left_out = {name: (_all_but(rows, name).logits(one), 0.0) for name, one in rows.items()}
    _table(result, "Signs, fitted on the other libraries (all queries)", rows, left_out)
    _table(result, "Share of null queries alone, as for presets without weights (all queries)", rows,
           {name: (one.share, LEAST_SHARE) for name, one in rows.items()})  # fmt: skip
    tests = {name: one.of(TEST) for name, one in rows.items()}
    _table(result, "Signs as shipped (test half)", tests,
           {name: (shipped.logits(one), 0.0) for name, one in tests.items()})  # fmt: skip
    _kinds(result, rows, left_out)
    genres = "; ".join(
        f"{genre}: {', '.join(n for n, g in GENRES.items() if g == genre)}"
        for genre in dict.fromkeys(GENRES.values())
    )
    notes = (
        f"Signs: {', '.join(SIGNS)}. Weights fitted on the tuning halves, libraries alike.",
        f"Genres: {genres}. A query from another library of the same genre may have an answer that nobody "
        "judged: nothing is fitted on such, and they are counted apart.",
        "`AUROC` and the last column are of answered queries against those of another genre and nonsense.",
    )
    for note in notes:
        result.note(note)
    result.save()
    page = "\n".join(t.markdown() for t in result.tables)
    intro = f"# Abstention\n\nWritten by `python -m benchmarks abstention` at commit {result.commit}.\n\n"
    told = "\n\n".join(notes)
    (RESULTS / "abstention.md").write_text(f"{intro}{told}\n\n{page}", encoding="utf-8")


def _asked(data: Path) -> Mapping[str, list[Asked]]:
    """Library -> what it is asked: its own queries, those of the others, off-topic ones, nonsense."""
    own = {s.name: [q.text for q in s.read(data).queries] for s in SOURCES}
    elsewhere = {
        "MultiVENT 2.0": event_queries(data / "layouts"),
        "MSR-VTT": captions(data / "layouts"),
    }
    asked = {}
    for name in own:
        others = {o: texts for o, texts in {**own, **elsewhere}.items() if o != name}
        asked[name] = [Asked(text, OWN) for text in spread(own[name], N_OWN)]
        asked[name] += [Asked(t, o) for o, texts in others.items() for t in spread(texts, N_OTHER)]
        asked[name] += [*off_topic(), *nonsense(N_OTHER)]
    return asked


def _measure(source: Source, data: Path, cache: Path, asked: Sequence[Asked]) -> Rows:
    start = time.perf_counter()
    folder = cache / source.name
    with Engine.create(folder, Settings(jobs=1)) as engine:
        collection = source.read(data)
        engine.index([data / source.files] if source.files else collection.documents)
        right = _right(engine, collection, data / (source.files or ""))
        kernels = kernels_on("cpu")
        snapshot = Snapshot(folder, read_manifest(folder), lambda: kernels)
        searcher = Searcher(snapshot, engine.encode_query, kernels)
        found, kept = [], []
        for one in asked:
            try:
                found.append(searcher.try_out(one.text))
            except UsageError:  # No word that the encoder knows: nothing is searched for.
                continue
            kept.append(one)
    ids = [video.video_id for video in snapshot.videos]
    ranks = [
        _rank([ids[v] for v in t.videos], right.get(one.text, set())) if one.kind == OWN else 0
        for t, one in zip(found, kept, strict=True)
    ]
    print(f"{source.name}: {len(kept)} queries, {time.perf_counter() - start:.0f} s", flush=True)
    return Rows(
        np.array([t.signs for t in found]),
        np.array([t.share for t in found]),
        np.array([one.kind for one in kept]),
        np.array([one.half for one in kept]),
        np.array(ranks),
        np.array([same_genre(source.name, one.kind) for one in kept]),
    )


def _right(engine: Engine, collection: Collection, folder: Path) -> dict[str, set[str]]:
    """Text of a query -> ids of what answers it."""
    queries, qrels = judged(engine, collection, folder)
    found: dict[str, set[str]] = {}
    for query in queries:
        found.setdefault(query.text, set()).update(qrels.relevance.get(query.query_id, {}))
    return found


def _rank(ids: Sequence[str], right: set[str]) -> int:
    """Of the first right one, from 1; 0 where there is none."""
    return next((place for place, one in enumerate(ids, 1) if one in right), 0)


def _all_but(rows: Mapping[str, Rows], left_out: str) -> Weights:
    return fit_weights([one.of(TUNE) for name, one in rows.items() if name != left_out])


def _table(result: Result, title: str, rows: Mapping[str, Rows], values: _Values) -> None:
    lines: list[tuple[str | float | None, ...]] = []
    for name, one in rows.items():
        o = outcome(one, *values[name])
        n_off, n_senseless = int(one.foreign_to.sum()), int(one.senseless.sum())
        lines.append((
            name, int(one.own.sum()), *o.own, o.first, o.ten, n_off, *o.off, n_senseless, *o.senseless,
            n_off + n_senseless, *o.without, int(one.alike.sum()), o.alike, o.auroc, o.at_five,
        ))  # fmt: skip
    result.add(title, _COLUMNS, lines)


def _kinds(result: Result, rows: Mapping[str, Rows], values: _Values) -> None:
    """Refused share by kind of query."""
    kinds = list(dict.fromkeys(k for one in rows.values() for k in one.kind.tolist()))
    lines: list[tuple[str | float | None, ...]] = []
    for kind in kinds:
        cells: list[float | None] = []
        for name, one in rows.items():
            mine = one.kind == kind
            found, least = values[name]
            cells.append(float((found[mine] < least).mean()) if mine.any() else None)
        lines.append((kind, *cells))
    title = "Share refused, by kind of query (fitted on the other libraries, all queries)"
    result.add(title, ("queries", *rows), lines)
