"""``abstention``: how often "no good match" is said, where there is an answer and where there is none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.abstention_data import (
    OWN,
    TEST,
    TUNE,
    Asked,
    captions,
    event_queries,
    nonsense,
    off_topic,
    spread,
)
from benchmarks.abstention_fit import Rows, Weights, fit, outcome
from benchmarks.quality_data import SOURCES, Source
from benchmarks.result import RESULTS, Result
from mmretrieve import Engine, GroupBy, Settings
from mmretrieve.errors import UsageError
from mmretrieve.kernels.choose import kernels_on
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.scoring.answered import BIAS, SIGNS, WEIGHTS
from mmretrieve.search.searcher import Searcher
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.reader import Snapshot

N_OWN = 300
N_OTHER = 60
LEAST_SHARE = 0.60
"""From this share of null queries on, a hit was called an answer before there were signs."""

_COLUMNS = (
    "library", "answered", "refused", "from", "to", "off library", "refused", "from", "to",
    "nonsense", "refused", "from", "to", "AUROC", "refused where 5 % of the answered are",
)  # fmt: skip


def run(data: Path, cache: Path, *, fit: bool) -> None:
    """Print and keep all tables; with ``fit`` only the weights for the code."""
    asked = _asked(data)
    rows = {s.name: _measure(s, data, cache, asked[s.name]) for s in SOURCES}
    weights = _all_but(rows, "", TUNE)
    if fit:
        print(f"WEIGHTS = ({', '.join(f'{w:.4f}' for w in weights.weights)})")
        print(f"BIAS = {weights.bias:.4f}")
        return
    result = Result("abstention")
    shipped = Weights(np.array(WEIGHTS), BIAS)
    _table(result, "Before: score against null queries alone (all queries)", rows,
           {name: (one.share, LEAST_SHARE) for name, one in rows.items()})  # fmt: skip
    _table(result, "Signs, fitted on the other libraries (all queries)", rows,
           {name: (_all_but(rows, name, TUNE).logits(one), 0.0) for name, one in rows.items()})  # fmt: skip
    tests = {name: one.of(TEST) for name, one in rows.items()}
    _table(result, "Signs as shipped (test half)", tests,
           {name: (shipped.logits(one), 0.0) for name, one in tests.items()})  # fmt: skip
    _kinds(result, tests, shipped)
    result.note(f"Signs: {', '.join(SIGNS)}. Weights fitted on the tuning halves, libraries alike.")
    result.save()
    page = "\n".join(t.markdown() for t in result.tables)
    intro = f"# Abstention\n\nWritten by `python -m benchmarks abstention` at commit {result.commit}.\n\n"
    (RESULTS / "abstention.md").write_text(intro + page, encoding="utf-8")


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
        kernels = kernels_on("cpu")
        snapshot = Snapshot(folder, read_manifest(folder), lambda: kernels)
        searcher = Searcher(snapshot, engine.encode_query, kernels)
        known = searcher.nulls()[f"{Scoring().key} {GroupBy.MOMENT}"].nulls
        signs, share, kept = [], [], []
        for one in asked:
            try:
                vector, score, n_tokens = searcher.evidence_of_answer(one.text)
            except UsageError:  # No word that the encoder knows: nothing is searched for.
                continue
            signs.append(vector)
            share.append(known.confidence(score, n_tokens).p)
            kept.append(one)
    print(f"{source.name}: {len(kept)} queries, {time.perf_counter() - start:.0f} s", flush=True)
    kinds, halves = ([o.kind for o in kept], [o.half for o in kept])
    return Rows(np.array(signs), np.array(share), np.array(kinds), np.array(halves))


def _all_but(rows: Mapping[str, Rows], left_out: str, half: str) -> Weights:
    return fit([one.of(half) for name, one in rows.items() if name != left_out])


def _table(
    result: Result,
    title: str,
    rows: Mapping[str, Rows],
    values: Mapping[str, tuple[np.ndarray[tuple[int], np.dtype[np.float64]], float]],
) -> None:
    lines: list[tuple[str | float | None, ...]] = []
    for name, one in rows.items():
        found = outcome(one, *values[name])
        n_own = int(one.own.sum())
        n_senseless = int(np.isin(one.kind, ("random words", "letters", "foreign")).sum())
        n_off = len(one.kind) - n_own - n_senseless
        lines.append((name, n_own, *found[:3], n_off, *found[3:6], n_senseless, *found[6:]))
    result.add(title, _COLUMNS, lines)


def _kinds(result: Result, rows: Mapping[str, Rows], shipped: Weights) -> None:
    """Refused share by kind of query."""
    kinds = list(dict.fromkeys(k for one in rows.values() for k in one.kind.tolist()))
    lines: list[tuple[str | float | None, ...]] = []
    for kind in kinds:
        cells: list[float | None] = []
        for one in rows.values():
            mine = one.kind == kind
            cells.append(float((shipped.logits(one)[mine] < 0).mean()) if mine.any() else None)
        lines.append((kind, *cells))
    result.add("Share refused, by kind of query (test half)", ("queries", *rows), lines)
