"""Every path of search equals the plain loops of ``scoring/reference.py`` on real token embeddings, under
filters, weights, missing modalities, additions, replacements and deletions."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mmretrieve.datatypes import (
    METADATA_PASSAGE,
    MODALITIES,
    Aggregation,
    Filter,
    Modality,
    Passage,
    Probe,
    QueryTokens,
    Segment,
    TokenEmbeddings,
)
from mmretrieve.encoders.lite import LiteEncoder
from mmretrieve.kernels.choose import kernels
from mmretrieve.scoring import reference
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.search.prepared import Space, prepare
from mmretrieve.search.ranking import Ranker, Ranking
from mmretrieve.search.selection import select
from mmretrieve.search.stages import Limits
from mmretrieve.search.stages import Path as SearchPath
from mmretrieve.storage.codes.policy import Limits as CodeLimits
from mmretrieve.storage.codes.update import update
from mmretrieve.storage.folder import Manifest, write_manifest
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import VideoEntry, VideoRecord
from mmretrieve.storage.writer import IndexWriter

ROOT = Path(__file__).parents[2]
DIM = LiteEncoder.dim
MANIFEST = Manifest("lite", DIM, {"text": "0" * 64}, {m.value: "text" for m in Modality}, "")
SPACES = [Space("text", DIM)] * len(MODALITIES)
N_VIDEOS = 60
QUERIES = (
    "may I use the weights in a product", "how is a frame encoded", "the score of a query token",
    "licensed under the apache license", "late interaction over all modalities",
)  # fmt: skip
CODED = CodeLimits(exact_below=1, lists_from=1)
EXACT = CodeLimits()
WIDE = Limits(residuals_below=0, lists_from=1, after_lists=400, after_centroids=200, list_share=0.5)
PATHS = {
    SearchPath.EXACT: (EXACT, Limits()),
    SearchPath.RESIDUALS: (CODED, Limits()),
    SearchPath.CENTROIDS: (CODED, replace(WIDE, lists_from=10**9)),
    SearchPath.LISTS: (CODED, WIDE),
}


@dataclass(frozen=True)
class Library:
    """Real token embeddings of paragraphs, to make videos of."""

    texts: tuple[np.ndarray, ...]
    queries: tuple[QueryTokens, ...]


@pytest.fixture(scope="module")
def library() -> Library:
    encoder = LiteEncoder()
    words = " ".join((ROOT / n).read_text("utf-8") for n in ("LICENSE", "NOTICE", "README.md"))
    plain = re.sub(r"[^A-Za-z ]+", " ", words).split()
    parts = [" ".join(plain[i : i + 25]) for i in range(0, len(plain), 25)]
    texts = [
        encoder.texts({Modality.SPEECH: [Segment(part)]})[Modality.SPEECH].vectors for part in parts
    ]
    return Library(tuple(texts), tuple(encoder.query(q) for q in QUERIES))


def entry(library: Library, number: int, rng: np.random.Generator) -> VideoEntry:
    """A video of up to five passages; some modalities are missing, some videos have metadata alone."""
    parts = []
    if rng.random() < 0.8:
        parts.append(_part(library, rng, METADATA_PASSAGE, Modality.METADATA, None))
    for passage in range(int(rng.integers(0 if parts else 1, 6))):
        for modality in (Modality.FRAMES, Modality.SPEECH, Modality.OCR):
            if rng.random() < 0.6:
                parts.append(_part(library, rng, passage, modality, 20.0 * passage))
    if not parts:
        parts.append(_part(library, rng, 0, Modality.SPEECH, 0.0))
    facts = {"number": number}
    record = VideoRecord(
        f"{number:032x}",
        uuid.uuid4().hex,
        f"/v/{number}.mp4",
        "",
        100.0,
        Probe(1.0, "mp4", 1),
        facts,
    )
    return VideoEntry(record, tuple(parts), ())


def _part(
    library: Library, rng: np.random.Generator, passage: int, modality: Modality, at_s: float | None
) -> tuple[Passage, TokenEmbeddings]:
    vectors = library.texts[int(rng.integers(len(library.texts)))]
    vectors = vectors[: int(rng.integers(1, len(vectors) + 1))]
    noisy = vectors + rng.normal(0, 0.2 / DIM**0.5, vectors.shape)
    vectors = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    none = np.zeros(len(vectors), np.int32)
    end_s = None if at_s is None else at_s + 20
    segment = Segment("text", at_s, end_s)
    tokens = TokenEmbeddings(vectors, none, none, none)
    return Passage(passage, modality, at_s, end_s, (segment,), "test"), tokens


@pytest.fixture(scope="module", params=[EXACT, CODED], ids=["exact", "coded"])
def index(
    request: pytest.FixtureRequest, library: Library, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, CodeLimits]:
    """Sealed once, then changed: some videos are newer than the codes, some are gone, some replaced."""
    folder = tmp_path_factory.mktemp("contract") / "index"
    rng = np.random.default_rng(5)
    write_manifest(folder, MANIFEST)
    entries = [entry(library, i, rng) for i in range(N_VIDEOS)]
    with IndexWriter(folder, MANIFEST) as writer:
        writer.commit(entries[:40], [])
        writer.optimize()
        assert not update(folder, MANIFEST, kernels(), request.param).notes
        writer.commit(entries[40:], [])
        writer.remove_videos([e.video.video_id for e in entries[3:40:7]])
        writer.commit([entry(library, i, rng) for i in (5, 11, 50)], [])
    return folder, request.param


@dataclass(frozen=True)
class Expected:
    """All documents in the order of the plain loops: (video number, passage) and scores."""

    keys: list[tuple[int, int]]
    scores: np.ndarray


def expected(
    snapshot: Snapshot, query: QueryTokens, scoring: Scoring, null: np.ndarray, by_video: bool,
    keep: np.ndarray,
) -> Expected:  # fmt: skip
    """Plain loops over all documents of the index; ``keep`` ``(n_cells,)``."""
    stored = snapshot.library
    cells, vectors = stored.cells, stored.vectors
    keep = keep & (scoring.weight_vector[cells.modality] > 0) & (np.diff(cells.offsets) > 0)
    found: dict[tuple[int, int], list[int]] = {}
    for c in np.flatnonzero(keep).tolist():
        passage = -1 if by_video else int(cells.passage[c])
        found.setdefault((int(cells.video[c]), passage), []).append(c)
    if not by_video:
        timed = {v for v, p in found if p >= 0}
        for (v, p), mine in found.items():
            if p >= 0:
                mine += found.get((v, METADATA_PASSAGE), [])
        found = {(v, p): m for (v, p), m in found.items() if p >= 0 or v not in timed}
    keys = sorted(found)
    tokens = query.vectors["text"]
    values = np.full((len(keys), len(MODALITIES), len(tokens)), -np.inf, np.float32)
    for d, key in enumerate(keys):
        for c in found[key]:
            own = vectors[cells.offsets[c] : cells.offsets[c + 1]]
            m = cells.modality[c]
            values[d, m] = np.maximum(values[d, m], reference.maxima(tokens, [own])[0])
    if scoring.centre:
        scale = np.array([scoring.scale[m] for m in MODALITIES], np.float32)
        values = reference.evidence(values, null, scale, scoring.power)
    scores = reference.aggregate(values, scoring.aggregation, scoring.weight_vector)
    return Expected(keys, scores)


def recall_of(ranking: Ranking, wanted: Expected, n: int) -> float:
    """Share of the plain loops' first ``n`` that are among the ranking's, whose order and scores are
    theirs but for what rounding cannot tell apart."""
    score_of = dict(zip(wanted.keys, wanted.scores.tolist(), strict=True))
    documents, order = ranking.documents, ranking.order[:n].tolist()
    found = [(int(documents.video[d]), int(documents.passage[d])) for d in order]
    scores = [float(ranking.scores[d]) for d in order]
    assert len(set(found)) == len(found) == min(n, len(wanted.keys))
    np.testing.assert_allclose(scores, [score_of[key] for key in found], rtol=1e-4, atol=1e-6)
    assert scores == sorted(scores, reverse=True)
    best = sorted(wanted.scores.tolist(), reverse=True)[:n]
    least = best[-1] - 1e-5 * max(1, abs(best[-1])) if best else 0.0
    return float(sum(score_of[key] >= least for key in found) / max(len(best), 1))


@pytest.mark.parametrize("by_video", [False, True])
@pytest.mark.parametrize("path", list(PATHS))
def test_paths_equal_the_reference(
    index: tuple[Path, CodeLimits], library: Library, path: SearchPath, by_video: bool
) -> None:
    folder, sealed = index
    limits, stages_limits = PATHS[path]
    if limits != sealed:
        pytest.skip("this path is of the other kind of index")
    snapshot = Snapshot(folder, MANIFEST, kernels)
    assert len(snapshot.searchable.segments) == 2  # sealed, and the tail
    ranker = Ranker(snapshot, kernels(), stages_limits)
    rng = np.random.default_rng(list(PATHS).index(path))
    cells = snapshot.library.cells
    recalls = []
    for query in library.queries:
        for how in Aggregation:
            scoring, wanted = _random_request(rng, how)
            stages = ranker.stages(prepare(query, SPACES, kernels()), scoring, by_video)
            ranking = ranker.rank(stages, select(snapshot, wanted), 46)
            keep = _kept(snapshot, wanted, cells.video)
            truth = expected(snapshot, query, scoring, stages.rule.calibration.null, by_video, keep)
            recalls.append(recall_of(ranking, truth, 10))
            if wanted == Filter() and sealed is CODED:
                assert path in ranking.paths
    assert np.mean(recalls) >= (1.0 if sealed is EXACT else 0.99)


def _random_request(rng: np.random.Generator, how: Aggregation) -> tuple[Scoring, Filter]:
    weights = {m: float(rng.choice([0.0, 0.5, 1.0, 3.0])) for m in MODALITIES}
    weights[MODALITIES[int(rng.integers(len(MODALITIES)))]] = 1.0
    centre = bool(rng.random() < 0.7)
    scoring = Scoring(how, weights, power=3.0 if centre else 1.0, centre=centre)
    if rng.random() < 0.5:
        return scoring, Filter()
    least = int(rng.integers(0, N_VIDEOS - 10))
    return scoring, Filter(where=(("number>=", str(least)),))


def _kept(snapshot: Snapshot, wanted: Filter, video: Sequence[int] | np.ndarray) -> np.ndarray:
    least = int(wanted.where[0][1]) if wanted.where else 0
    numbers = np.array([int(v.facts["number"]) for v in snapshot.videos])  # type: ignore[arg-type]
    return np.asarray(numbers[np.asarray(video)] >= least)


def test_chance_is_measured_on_the_sample(index: tuple[Path, CodeLimits], library: Library) -> None:
    """The levels equal the plain loops' over the sampled documents, to the rounding of eight bits."""
    snapshot = Snapshot(index[0], MANIFEST, kernels)
    ranker = Ranker(snapshot, kernels(), Limits())
    scoring = Scoring()
    prior = np.array([scoring.prior[m] for m in MODALITIES], np.float32)
    for by_video in (False, True):
        sample = (
            snapshot.searchable.sample_videos if by_video else snapshot.searchable.sample_passages
        )
        assert sample is not None
        layout = sample.layout
        for query in library.queries:
            values = np.full(
                (layout.n_videos, len(MODALITIES), len(query.texts)), -np.inf, np.float32
            )
            for v in range(layout.n_videos):
                first, last = (
                    layout.passages[layout.videos[v]],
                    layout.passages[layout.videos[v + 1]],
                )
                mine = np.arange(first, last)
                rows = snapshot.cells.vectors(sample.row[mine], layout.modality[mine])
                for c, vectors in zip(mine, rows, strict=True):
                    m = layout.modality[c]
                    best = reference.maxima(query.vectors["text"], [vectors.astype(np.float32)])[0]
                    values[v, m] = np.maximum(values[v, m], best)
            null = reference.chance(values, prior, scoring.prior_weight)
            found = ranker.stages(prepare(query, SPACES, kernels()), scoring, by_video)
            np.testing.assert_allclose(found.rule.calibration.null, null, atol=2e-3)


def test_a_score_is_the_same_whatever_else_is_searched(
    index: tuple[Path, CodeLimits], library: Library
) -> None:
    """Filters and the number of hits change which documents are ranked, never a score: bit by bit."""
    snapshot = Snapshot(index[0], MANIFEST, kernels)
    ranker = Ranker(snapshot, kernels(), Limits())
    for query in library.queries:
        stages = ranker.stages(prepare(query, SPACES, kernels()), Scoring(), by_video=False)
        seen: dict[tuple[int, int], float] = {}
        for n in (3, 16, 64):
            for wanted in (Filter(), Filter(where=(("number>=", "20"),)), Filter(to_s=30.0)):
                ranking = ranker.rank(stages, select(snapshot, wanted), n)
                documents = ranking.documents
                for d in ranking.order.tolist():
                    key = (int(documents.video[d]), int(documents.passage[d]))
                    assert seen.setdefault(key, float(ranking.scores[d])) == ranking.scores[d]
