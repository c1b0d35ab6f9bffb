"""The search benchmark itself: its data, its truth, what it reads off measurements, its FAISS peer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import registry
from benchmarks.peers.faiss_xtr import FaissXtr, impute
from benchmarks.peers.numpy_exact import NumpyExact
from benchmarks.peers.subject import Dial, best
from benchmarks.search_bars import Bar, bars
from benchmarks.search_base import Base, by_topic, joined
from benchmarks.search_cases import CASES, MERGED, Case, find_cases
from benchmarks.search_corpus import METADATA, N_METADATA, Corpus
from benchmarks.search_data import Grown, count_videos, to_halves, write_corpus
from benchmarks.search_records import Build, Opened, Records, Speed, cheapest, frontier
from benchmarks.search_truth import N_BEST, Questions, Truth, score_all
from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.scoring import reference

DIM = 16
SPEECH, OCR = MODALITIES.index(Modality.SPEECH), MODALITIES.index(Modality.OCR)


def unit(rng: np.random.Generator, n: int, dim: int = DIM) -> np.ndarray:
    rows = rng.normal(size=(n, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def base() -> Base:
    """Five videos of one to three passages, some with speech and text, some with one of them."""
    rng = np.random.default_rng(1)
    one, other, both = (OCR,), (SPEECH,), (SPEECH, OCR)
    videos: list[list[tuple[int, ...]]] = [[one, both], [other], [both] * 3, [one] * 2, [other]]
    passages = [p for video in videos for p in video]
    modality = [m for p in passages for m in p]
    lengths = rng.integers(N_METADATA, 20, len(modality))
    return Base(
        unit(rng, int(lengths.sum())),
        rng.integers(0, 50, int(lengths.sum())),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.array(modality, np.uint8),
        np.cumsum([0, *(len(p) for p in passages)]),
        np.cumsum([0, *(len(v) for v in videos)]),
    )


@pytest.fixture
def corpus(base: Base, tmp_path: Path) -> Corpus:
    return write_corpus(Grown(base), base, 3 * len(base.vectors) - 30, tmp_path)


# --- data


def test_a_video_needs_none_before_it(base: Base) -> None:
    forward = [Grown(base, 3).video(i) for i in range(12)]
    grown = Grown(base, 3)
    for i in reversed(range(12)):
        made = grown.video(i)
        np.testing.assert_array_equal(made.vectors, forward[i].vectors)
        np.testing.assert_array_equal(made.metadata, forward[i].metadata)


def test_another_seed_makes_other_copies_of_the_same_originals(base: Base) -> None:
    one, other = Grown(base, 0), Grown(base, 1)
    np.testing.assert_array_equal(one.video(2).vectors, other.video(2).vectors)
    assert (one.video(7).vectors != other.video(7).vectors).mean() > 0.9
    assert one.key != other.key


def test_copies_are_as_far_as_the_noise_is_long(base: Base) -> None:
    grown = Grown(base)
    source = np.concatenate([grown.video(i).vectors for i in range(5)]).astype(np.float32)
    copies = []
    for copy in range(1, 30):
        parts = [grown.video(5 * copy + i).vectors for i in range(5)]
        copies.append(np.concatenate(parts).astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(copies[0], axis=1), 1, atol=2e-3)
    near = np.mean([(c * source).sum(axis=1).mean() for c in copies])
    assert near == pytest.approx(1 / np.sqrt(1 + 2 * 0.15**2), abs=0.004)
    # Of the noise of two tokens of one cell half is shared; of tokens of different cells none.
    noise = np.stack([c - source for c in copies])
    first = slice(base.cells[0], base.cells[1])
    own = noise[:, first]
    within = np.einsum("cd,cd->c", own[:, 0], own[:, 1]).mean()
    between = np.einsum("cd,cd->c", own[:, 0], noise[:, base.cells[1]]).mean()
    assert within == pytest.approx(0.15**2, rel=0.35)
    assert abs(between) < 0.006


def test_halves_are_the_nearest() -> None:
    rows = np.random.default_rng(0).normal(0, 0.1, (200, 64)).astype(np.float32)
    rows[0, :4] = [0, -1, 1.5, 3e-6]
    out = np.empty(rows.shape, np.float16)
    to_halves(rows.copy(), out)
    step = np.spacing(np.abs(rows).astype(np.float16)).astype(np.float32)
    assert (np.abs(out.astype(np.float32) - rows) <= 0.5001 * step).all()
    assert out[0, :3].tolist() == [0, -1, 1.5]
    kept = rows.astype(np.float16)
    to_halves(kept.astype(np.float32), out)
    np.testing.assert_array_equal(out, kept)


def test_a_corpus_holds_the_videos_and_what_belongs_to_what(base: Base, corpus: Corpus) -> None:
    grown = Grown(base)
    assert corpus.n_tokens >= 3 * len(base.vectors) - 30
    assert corpus.n_videos == count_videos(base, 3 * len(base.vectors) - 30)
    seen = 0
    for block in corpus.blocks(4):
        for i in range(len(block.metadata)):
            number = block.first_video + i
            cells = np.flatnonzero(block.video == number)
            rows = block.vectors[block.cells[cells[0]] : block.cells[cells[-1] + 1]]
            made = grown.video(number)
            np.testing.assert_array_equal(rows, made.vectors)
            np.testing.assert_array_equal(block.metadata[i], made.metadata)
            of = base.passages[base.videos[[number % 5, number % 5 + 1]]]
            np.testing.assert_array_equal(block.modality[cells], base.modality[of[0] : of[1]])
            seen += 1
    assert seen == corpus.n_videos
    assert corpus.pieces[: len(base.pieces)].tolist() == base.pieces.tolist()
    assert len(corpus.pieces) == corpus.n_tokens


def test_a_corpus_may_begin_anywhere(base: Base, tmp_path: Path) -> None:
    grown = Grown(base)
    whole = write_corpus(grown, base, 400, tmp_path / "whole")
    part = write_corpus(grown, base, 60, tmp_path / "part", first=3)
    block, same = part.block(0, part.n_videos), whole.block(3, 3 + part.n_videos)
    np.testing.assert_array_equal(block.vectors, same.vectors)
    np.testing.assert_array_equal(block.cells, same.cells)
    np.testing.assert_array_equal(block.modality, same.modality)
    np.testing.assert_array_equal(block.passage, same.passage - same.passage[0])
    begin = int(whole.cells[whole.passages[whole.videos[3]]])
    assert part.pieces.tolist() == whole.pieces[begin : begin + part.n_tokens].tolist()


def test_merged_passages_are_one_cell_each(corpus: Corpus) -> None:
    merged = Corpus(corpus.folder, merged=True)
    np.testing.assert_array_equal(merged.offsets, corpus.offsets)
    np.testing.assert_array_equal(merged.vectors, corpus.vectors)
    block = merged.block(1, 4)
    assert block.passage.tolist() == list(range(corpus.videos[1], corpus.videos[4]))
    assert block.metadata.shape[1] == 0


def test_what_the_corpus_knows_of_modalities_is_true() -> None:
    assert MODALITIES[METADATA] is Modality.METADATA


def test_neighbours_in_the_order_of_topics_are_near() -> None:
    rng = np.random.default_rng(0)
    centres = unit(rng, 4, 8) * 5
    topic = rng.permutation(np.repeat(np.arange(4), 16))
    order = by_topic((centres[topic] + rng.normal(0, 0.1, (64, 8))).astype(np.float32))
    assert sorted(order.tolist()) == list(range(64))
    for group in np.split(topic[order], 8):
        assert len(set(group.tolist())) == 1


def test_queries_are_joined_whole_and_cut_to_length() -> None:
    parts = [np.full((n, 2), n, np.float32) for n in (3, 4, 5, 9, 1)]
    made = joined(parts, 6, 2)
    assert [m[:, 0].tolist() for m in made] == [[3, 3, 3, 4, 4, 4], [5, 5, 5, 5, 5, 9]]
    with pytest.raises(ValueError, match="enough for 2"):
        joined(parts, 6, 3)


# --- truth


def by_loops(corpus: Corpus, query: np.ndarray, case: Case) -> dict[int, float]:
    """Scores by document, with the loops of the reference on plain lists."""
    cells: dict[tuple[int, int], np.ndarray] = {}
    block = corpus.block(0, corpus.n_videos)
    rows = block.vectors.astype(np.float32)
    for i, (m, p) in enumerate(zip(block.modality.tolist(), block.passage.tolist(), strict=True)):
        cells[p, m] = rows[block.cells[i] : block.cells[i + 1]]
    video_of = corpus.video_of_passage.tolist()
    n = corpus.n_videos if case.by_video else corpus.n_passages
    similarity = np.full((n, len(MODALITIES), len(query)), -np.inf, np.float32)
    for p, video in enumerate(video_of):
        found = [cells.get((p, m), np.empty((0, DIM), np.float32)) for m in range(len(MODALITIES))]
        if block.metadata.shape[1]:
            found[METADATA] = block.metadata[video].astype(np.float32)
        document = video if case.by_video else p
        similarity[document] = np.maximum(similarity[document], reference.maxima(query, found))
    scoring = case.scoring
    prior = np.array([scoring.prior[m] for m in MODALITIES], np.float32)
    scale = np.array([scoring.scale[m] for m in MODALITIES], np.float32)
    weights = np.where([m in case.modalities for m in MODALITIES], scoring.weight_vector, 0)
    if scoring.centre:
        null = reference.chance(similarity, prior, scoring.prior_weight)
        values = reference.evidence(similarity, null, scale, scoring.power)
    else:
        values = similarity
    scores = reference.aggregate(values, scoring.aggregation, weights.astype(np.float32))
    kept = corpus.kept(case.share)
    used = [m for m in range(METADATA) if weights[m] > 0]
    own = np.asarray(np.isfinite(similarity[:, used, 0]).any(axis=1))
    return {
        d: float(scores[d])
        for d in range(n)
        if own[d] and kept[d if case.by_video else video_of[d]] and np.isfinite(scores[d])
    }


@pytest.mark.parametrize("case", [*CASES, MERGED], ids=lambda c: c.name)
def test_truth_equals_the_loops_of_the_reference(corpus: Corpus, case: Case) -> None:
    rng = np.random.default_rng(5)
    queries = [unit(rng, n) for n in (1, 4, 7)]
    (truth,) = score_all(corpus, Questions(queries), [case])
    for i, query in enumerate(queries):
        expected = by_loops(corpus, query, case)
        order = sorted(expected, key=lambda d: (-expected[d], d))[:N_BEST]
        n = int(np.isfinite(truth.scores[i]).sum())
        assert n == len(order)
        assert (truth.ids[i, n:] == -1).all()
        np.testing.assert_allclose(
            truth.scores[i, :n], [expected[d] for d in order], rtol=1e-4, atol=1e-6
        )
        assert truth.recall(i, order) == 1


def test_merged_truth_is_plain_maxsim_of_the_passages(corpus: Corpus) -> None:
    merged = Corpus(corpus.folder, merged=True)
    query = unit(np.random.default_rng(2), 5)
    plain = np.array(
        [
            (query @ merged.vectors[a:b].astype(np.float32).T).max(axis=1).sum()
            for a, b in zip(merged.offsets[:-1], merged.offsets[1:], strict=True)
        ]
    )
    for one in (corpus, merged):
        (truth,) = score_all(one, Questions([query]), [MERGED])
        assert truth.ids[0, :8].tolist() == best(plain, 8).tolist()
        np.testing.assert_allclose(truth.scores[0, :8] * 5, np.sort(plain)[::-1][:8], rtol=1e-5)


def test_recall_counts_each_right_document_and_forgives_ties() -> None:
    ids = np.arange(20)[None]
    scores = np.concatenate([np.linspace(2, 1, 9), [0.5, 0.5, 0.5], np.linspace(0.4, 0.1, 8)])[None]
    truth = Truth(ids, scores)
    assert truth.recall(0, range(10)) == 1
    assert truth.recall(0, [*range(9), 11]) == 1  # scores what the tenth does
    assert truth.recall(0, [*range(9), 12]) == pytest.approx(0.9)
    assert truth.recall(0, [19, 18, 0]) == pytest.approx(0.1)
    assert truth.recall(0, [50] * 0) == 0
    assert truth.recall(0, [*range(15, 20), *range(10)]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="twice"):
        truth.recall(0, [1, 1, 2])


def test_recall_where_fewer_than_ten_take_part() -> None:
    truth = Truth(np.array([[3, 5, -1, -1]]), np.array([[1.0, 0.5, -np.inf, -np.inf]]))
    assert truth.recall(0, [5, 3]) == 1
    assert truth.recall(0, [5, 4, 6]) == 0.5


def test_cases_by_the_beginning_of_their_names() -> None:
    assert [c.name for c in find_cases("default,1 %")] == ["default", "1 % of videos"]
    assert find_cases("all") == CASES
    with pytest.raises(ValueError, match="no case 'fast'"):
        find_cases("fast")


# --- peers


def test_imputation_by_hand() -> None:
    # Two query tokens, three tokens found of each: the first twice in passage 7.
    scores = np.array([[0.9, 0.8, 0.5], [0.7, 0.6, -1]], np.float32)
    passages = np.array([[7, 7, 2], [2, 9, 0]])
    found = np.array([[True, True, True], [True, True, False]])
    candidates, imputed = impute(scores, passages, found)
    assert candidates.tolist() == [2, 7, 9]
    # 2: 0.5 + 0.7; 7: 0.9 + the least of the second (0.6); 9: the least of the first (0.5) + 0.6
    np.testing.assert_allclose(imputed, [1.2, 1.5, 1.1], atol=1e-6)


def test_faiss_peer_is_exact_where_it_looks_everywhere(corpus: Corpus, tmp_path: Path) -> None:
    merged, folder = Corpus(corpus.folder, merged=True), tmp_path / "index"
    folder.mkdir()
    FaissXtr().build(merged, folder, 1)
    peer = FaissXtr()
    peer.open(merged, folder, 1)
    queries = [unit(np.random.default_rng(i), 6) for i in range(5)]
    (truth,) = score_all(merged, Questions(queries), [MERGED])
    everything = Dial(
        "all", {"nprobe": 1000, "tokens": merged.n_tokens, "exact": merged.n_passages}
    )
    little = replace(everything, values={"nprobe": 1, "tokens": 4, "exact": 0})
    for i, query in enumerate(queries):
        assert truth.recall(i, peer.search(query, 10, everything, MERGED.name)) == 1
    some = [truth.recall(i, peer.search(q, 10, little, MERGED.name)) for i, q in enumerate(queries)]
    assert np.mean(some) < 1


@pytest.mark.parametrize("threads", [1, 2])
def test_baseline_is_exact(corpus: Corpus, tmp_path: Path, threads: int) -> None:
    merged = Corpus(corpus.folder, merged=True)
    baseline = NumpyExact()
    baseline.open(merged, tmp_path, threads)
    queries = [unit(np.random.default_rng(i), 6) for i in range(5)]
    (truth,) = score_all(merged, Questions(queries), [MERGED])
    for i, query in enumerate(queries):
        found = baseline.search(query, 10, Dial("exact"), MERGED.name)
        assert found.tolist() == truth.ids[i, :10].tolist()


def test_the_engine_answers_every_case_and_forgets_what_is_deleted(
    base: Base, corpus: Corpus, tmp_path: Path
) -> None:
    from benchmarks.peers.engine import Engine

    engine = Engine()
    engine.build(corpus, tmp_path, 1)
    engine.open(corpus, tmp_path, 1)
    (dial,) = engine.dials()
    query = unit(np.random.default_rng(0), 5)
    for case, truth in zip(CASES, score_all(corpus, Questions([query]), CASES), strict=True):
        assert truth.recall(0, engine.search(query, 10, dial, case.name)) == 1, case.name
    first = int(engine.search(query, 1, dial, "plain")[0])
    engine.delete([int(corpus.video_of_passage[first])])
    assert first not in engine.search(query, 10, dial, "plain")


def test_peers_by_the_beginning_of_their_names() -> None:
    names = [e.name for e in registry.find_peers("lance,TACH")]
    assert names == ["LanceDB scan", "LanceDB IVF_PQ 16", "LanceDB IVF_PQ 64", "TACHIOM"]
    assert registry.OURS not in [e.name for e in registry.find_peers("all")]
    assert registry.find_peers("none") == ()
    with pytest.raises(ValueError, match="no peer 'qdrant'"):
        registry.find_peers("qdrant")


# --- what is read off measurements


def speed(
    engine: str, recall: float, ms: float, dial: str = "default", case: str = MERGED.name
) -> Speed:
    seconds = (ms / 1e3,) * 5
    return Speed(engine, dial, case, "even", 1_000_000, 2, recall, 50, seconds, (0.1,) * 5)


def test_latency_at_a_recall_is_that_of_a_setting_that_reaches_it() -> None:
    sweep = [speed("x", 0.85, 1), speed("x", 0.95, 3), speed("x", 0.93, 5), speed("x", 0.97, 9)]
    assert [getattr(cheapest(sweep, r), "p50_ms", None) for r in (0.9, 0.95, 0.99)] == [3, 3, None]
    assert [s.recall for s in frontier(sweep)] == [0.85, 0.95, 0.97]
    assert sweep[1].to_baseline == pytest.approx(100 / 3)


def verdicts(records: Records, name: str) -> list[Bar]:
    return [b for b in bars(records) if b.name.startswith(name)]


def test_bars_are_met_and_missed_on_the_right_side() -> None:
    records = Records(task=MERGED.name)
    records.speeds = [
        speed("mmretrieve", 0.995, 4.9),
        speed("mmretrieve", 0.9999, 11.0, "exact"),
        speed("mmretrieve", 0.992, 5.0, case="default"),
        speed("mmretrieve", 0.991, 5.2, case="weighted token_max"),
        speed("mmretrieve", 0.993, 0.4, case="1 % of videos"),
        speed("fast-plaid", 0.94, 60.0, "8"),
        speed("TACHIOM", 0.80, 4.0, "10"),
        speed("TACHIOM", 0.88, 20.0, "80"),
    ]
    records.builds = [Build("mmretrieve", 1_000_000, False, 31.0, 900_000_000, 0, 1)]
    facts: dict[str, str | int | float] = {
        "disk_bytes": 70_000_000
    }  # of the codes: the tables are not counted
    records.opened = [Opened("mmretrieve", 1_000_000, 2, False, 0, facts)]
    assert [b.met for b in verdicts(records, "p50")] == [True, True]
    (recall,) = verdicts(records, "recall@10")
    assert recall.met and "0.9910" in str(recall.measured)
    (exact,) = verdicts(records, "exact scan")
    assert not exact.met and exact.measured == "9.1x"
    (plaid,) = verdicts(records, "against fast-plaid")
    assert plaid.met and plaid.measured == "12.2x at 0.9"
    (tachiom,) = verdicts(records, "against TACHIOM")
    assert not tachiom.met  # its fastest setting is faster
    assert [b.met for b in verdicts(records, "filter")] == [True]
    assert [b.met for b in verdicts(records, "four-way")] == [True]
    assert [b.met for b in verdicts(records, "build")] == [False]
    assert [b.met for b in verdicts(records, "bytes a token on disk")] == [True]
    assert [b.verdict for b in verdicts(records, "hot bytes")] == ["not measured"]
