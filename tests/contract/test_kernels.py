"""Every set of kernels gives what the plain loops of ``scoring/reference.py`` give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmretrieve.datatypes import MODALITIES, Aggregation, Modality
from mmretrieve.kernels.arrays import Codebook, Codes, Layout, Lists, Rule, Tokens8, padded
from mmretrieve.kernels.base import Kernels
from mmretrieve.kernels.choose import LEVELS, available
from mmretrieve.kernels.choose import kernels as choose
from mmretrieve.kernels.plain import eight_bit_levels, unpack
from mmretrieve.kernels.tables import byte_tables
from mmretrieve.scoring import reference
from mmretrieve.scoring.aggregation import Calibration, Scoring

M = len(MODALITIES)
METADATA = MODALITIES.index(Modality.METADATA)
IN_TIME = [m for m in range(M) if m != METADATA]
DIMS = (32, 128, 100, 64, 48)
"""Widths of the modalities' tokens: they need not agree."""


@pytest.fixture(params=LEVELS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """Every level that runs here, with more threads than most of the small inputs have videos."""
    if request.param not in available():
        pytest.skip(f"{request.param}: this processor or this build has not got it")
    return choose(request.param, threads=3)


def unit_rows(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    rows = rng.normal(size=(n, dim))
    unit: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def layout_of(rng: np.random.Generator, n_videos: int) -> Layout:
    """Videos with and without metadata, passages with some of the modalities, cells without tokens."""
    modality: list[int] = []
    passages, videos, timeless = [0], [0], []
    for _ in range(n_videos):
        n_timed = int(rng.integers(0, 5))
        if not n_timed or rng.random() < 0.7:
            modality.append(METADATA)
            passages.append(len(modality))
            timeless.append(1)
        for _ in range(n_timed):
            modality += [m for m in IN_TIME if rng.random() < 0.6]
            passages.append(len(modality))
            timeless.append(0)
        videos.append(len(timeless))
    which = np.array(modality, np.uint8)
    count = rng.integers(0, 9, len(which)).astype(np.int32)
    begin = np.zeros(len(which), np.int64)
    for m in range(M):
        mine = which == m
        begin[mine] = np.cumsum(count[mine]) - count[mine]
    return Layout(
        which, begin, count, np.array(passages, np.int64), np.array(videos, np.int64),
        np.array(timeless, np.uint8),
    )  # fmt: skip


def rule_of(rng: np.random.Generator, nq: int, how: Aggregation, by_video: bool) -> Rule:
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], M)
    weights[rng.integers(M)] = 1
    centre = bool(rng.random() < 0.7)
    scoring = Scoring(
        how, dict(zip(MODALITIES, weights.tolist(), strict=True)),
        power=float(rng.choice([1, 2, 3])) if centre else 1.0, centre=centre,
    )  # fmt: skip
    null = rng.uniform(0, 0.2, (M, nq)) if centre else np.zeros((M, nq))
    scale = rng.uniform(0.2, 0.4, M) if centre else np.ones(M)
    return Rule(scoring, Calibration(null.astype(np.float32), scale.astype(np.float32)), by_video)


def expected_scores(
    layout: Layout,
    tokens: list[np.ndarray],
    queries: list[np.ndarray],
    rule: Rule,
    keep: np.ndarray,
) -> np.ndarray:
    """Plain loops over documents: cells, then the reference's formulas."""
    weights = rule.scoring.weight_vector
    nq = len(queries[0])

    def of_passages(numbers: list[int]) -> np.ndarray:
        out = np.full((M, nq), -np.inf, np.float32)
        for p in numbers:
            for c in range(layout.passages[p], layout.passages[p + 1]):
                m, n = int(layout.modality[c]), int(layout.count[c])
                if n and keep[c] and weights[m] > 0:
                    own = tokens[m][layout.begin[c] : layout.begin[c] + n]
                    out[m] = np.maximum(out[m], reference.maxima(queries[m], [own])[0])
        return out

    found = []
    for v in range(layout.n_videos):
        mine = list(range(layout.videos[v], layout.videos[v + 1]))
        if rule.by_video:
            found.append(of_passages(mine))
            continue
        own = {p: of_passages([p]) for p in mine}
        timed = {p for p in mine if not layout.timeless[p] and np.isfinite(own[p]).any()}
        about = [p for p in mine if layout.timeless[p]]
        for p in mine:
            if p in timed:
                found.append(of_passages([*about, p]))
            elif layout.timeless[p] and not timed:
                found.append(own[p])
            else:
                found.append(np.full((M, nq), -np.inf, np.float32))
    values = np.stack(found)
    scale, null = rule.calibration.scale, rule.calibration.null
    if rule.scoring.centre:
        values = reference.evidence(values, null, scale, rule.scoring.power)
    return reference.aggregate(values, rule.scoring.aggregation, weights)


CASES = [(how, by_video) for how in Aggregation for by_video in (False, True)]


def library(
    rng: np.random.Generator, layout: Layout, kernels: Kernels
) -> tuple[list[np.ndarray], list[Tokens8]]:
    rows = [
        unit_rows(rng, int(layout.count[layout.modality == m].sum()), DIMS[m]) for m in range(M)
    ]
    return rows, [kernels.quantize(r) for r in rows]


def decoded(tokens: Tokens8, dim: int) -> np.ndarray:
    """The vectors that eight bits stand for: what integer kernels must agree with exactly."""
    return np.asarray(tokens.values[:, :dim] * tokens.scales[:, None], np.float32)


@pytest.mark.parametrize(("how", "by_video"), CASES)
@pytest.mark.parametrize("seed", range(6))
def test_scores_from_eight_bits(
    kernels: Kernels, seed: int, how: Aggregation, by_video: bool
) -> None:
    rng = np.random.default_rng(seed)
    layout, nq = layout_of(rng, 7), int(rng.integers(1, 65))
    _, tokens = library(rng, layout, kernels)
    queries = [kernels.quantize(unit_rows(rng, nq, d)) for d in DIMS]
    rule = rule_of(rng, nq, how, by_video)
    keep = (rng.random(len(layout.modality)) < 0.8).astype(np.uint8)
    found = kernels.score_tokens(layout, tokens, queries, rule, keep)
    plain_tokens = [decoded(t, d) for t, d in zip(tokens, DIMS, strict=True)]
    plain_queries = [decoded(q, d) for q, d in zip(queries, DIMS, strict=True)]
    wanted = expected_scores(layout, plain_tokens, plain_queries, rule, keep)
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)
    only = np.flatnonzero(rng.random(len(found)) < 0.5)
    np.testing.assert_array_equal(
        kernels.score_tokens(layout, tokens, queries, rule, keep, only), found[only]
    )


@pytest.mark.parametrize(("how", "by_video"), CASES)
@pytest.mark.parametrize("seed", range(6))
def test_scores_from_codes(kernels: Kernels, seed: int, how: Aggregation, by_video: bool) -> None:
    rng = np.random.default_rng(seed)
    layout, nq = layout_of(rng, 7), int(rng.integers(1, 65))
    rows, _ = library(rng, layout, kernels)
    raw = [unit_rows(rng, nq, d) for d in DIMS]
    queries = [kernels.quantize(r) for r in raw]
    rule = rule_of(rng, nq, how, by_video)
    keep = (rng.random(len(layout.modality)) < 0.8).astype(np.uint8)
    books = [
        Codebook(
            kernels.quantize(unit_rows(rng, 20, d)),
            np.resize(rng.uniform(0.02, 0.1, d), -(-d // 4) * 4).astype(np.float32),
            np.array([-1.5, -0.4, 0.5, 1.4], np.float32),
        )
        for d in DIMS
    ]
    codes = [
        Codes(
            rng.integers(0, 20, len(r)).astype(np.uint16),
            rng.integers(0, 256, (len(r), -(-d // 4))).astype(np.uint8),
        )
        for r, d in zip(rows, DIMS, strict=True)
    ]
    sims = [kernels.dots(b.centroids, q) for b, q in zip(books, queries, strict=True)]

    tables = byte_tables(kernels, sims, rule)
    coarse = [
        decoded(b.centroids, d)[c.centroid] for b, c, d in zip(books, codes, DIMS, strict=True)
    ]
    plain = [decoded(q, d) for q, d in zip(queries, DIMS, strict=True)]
    wanted = expected_scores(layout, coarse, plain, rule, keep)
    found = kernels.score_codes(layout, codes, tables, rule, keep)
    below = np.abs(tables.floor).max() if not rule.scoring.centre else 0.0
    if below == 0:  # else what lies below the floor is worth the floor
        np.testing.assert_allclose(found, wanted, atol=tables.step * 1.01, rtol=2e-4)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))

    stretched = [
        kernels.quantize(r * b.spread[: r.shape[1]]) for r, b in zip(raw, books, strict=True)
    ]
    found = kernels.score_residuals(layout, codes, books, sims, stretched, rule, keep)
    fine_similarity = []
    for near, book, code, query in zip(sims, books, codes, stretched, strict=True):
        levels, worth = eight_bit_levels(book)
        inner = levels[unpack(code.residual)].astype(np.float64) @ query.values.T.astype(np.float64)
        fine_similarity.append(near[code.centroid] + inner * (worth * query.scales))
    identity = [np.eye(nq, dtype=np.float32)] * M
    wanted = expected_scores(
        layout, [f.astype(np.float32) for f in fine_similarity], identity, rule, keep
    )
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("by_video", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_scores_from_lists(kernels: Kernels, seed: int, by_video: bool) -> None:
    """With every centroid active, the lists give what a scan of the codes gives token-wise."""
    rng = np.random.default_rng(seed)
    layout, nq, n = layout_of(rng, 7), int(rng.integers(1, 65)), 20
    passage = np.repeat(np.arange(layout.n_passages), np.diff(layout.passages))
    codes, lists = [], []
    for m in range(M):
        cells = np.flatnonzero(layout.modality == m)
        owner = np.repeat(passage[cells], layout.count[cells])
        centroid = rng.integers(0, n, len(owner)).astype(np.uint16)
        codes.append(Codes(centroid, np.zeros((len(owner), 8), np.uint8)))
        named = [np.unique(owner[centroid == c]) for c in range(n)]
        starts = np.cumsum([0, *(len(x) for x in named)]).astype(np.int64)
        lists.append(Lists(np.concatenate(named).astype(np.uint32), starts))
    sims = [rng.uniform(0, 1, (n, nq)).astype(np.float32) for _ in range(M)]
    rule = Rule(
        Scoring(),
        Calibration(np.full((M, nq), 0.1, np.float32), np.full(M, 0.3, np.float32)),
        by_video,
    )
    tables = byte_tables(kernels, sims, rule)
    everything = [np.arange(n) for _ in range(M)]
    found = kernels.score_lists(layout, lists, everything, tables, by_video)
    scanned = kernels.score_codes(layout, codes, tables, rule)
    wanted = scanned * nq / tables.step
    has = np.isfinite(scanned)
    np.testing.assert_allclose(found[has], wanted[has], rtol=1e-4, atol=0.01)
    keep = (rng.random(layout.n_passages) < 0.6).astype(np.uint8)
    kept = kernels.score_lists(layout, lists, everything, tables, by_video, keep)
    assert (kept <= found).all()
    if not by_video:
        assert (kept[keep == 0] == 0).all()
        own = (keep == 1) & (layout.timeless == 1)
        np.testing.assert_array_equal(kept[own], found[own])


def test_small_parts(kernels: Kernels) -> None:
    rng = np.random.default_rng(0)
    for dim in (32, 50, 128, 1024):
        rows = unit_rows(rng, 40, dim)
        tokens, query = kernels.quantize(rows), kernels.quantize(rows[:5])
        np.testing.assert_allclose(decoded(tokens, dim), rows, atol=tokens.scales.max() * 0.51)
        half = kernels.quantize(rows.astype(np.float16))
        assert np.abs(half.values.astype(int) - tokens.values).max() <= 1
        exact = tokens.values.astype(int) @ query.values.T.astype(int)
        wanted = exact * (tokens.scales[:, None] * query.scales)
        np.testing.assert_allclose(kernels.dots(tokens, query), wanted, rtol=1e-6)
        begin, count = np.array([0, 7, 30], np.int64), np.array([7, 0, 10], np.int32)
        found = kernels.maxima(tokens, begin, count, query)
        np.testing.assert_allclose(found[0], wanted[:7].max(axis=0), rtol=1e-6)
        assert np.isneginf(found[1]).all()
        best, product = kernels.assign(tokens, query)
        np.testing.assert_array_equal(best, kernels.dots(tokens, query).argmax(axis=1))
        np.testing.assert_allclose(product, wanted.max(axis=1), rtol=1e-6)
    zero = kernels.quantize(np.zeros((1, 8), np.float32))
    assert not zero.values.any()
    assert zero.scales[0] == 0


def test_exact_maxima(kernels: Kernels) -> None:
    """Those of the plain loops, for float16 and float32, bit by bit the same alone and in company."""
    rng = np.random.default_rng(2)
    for dim, nq in ((32, 1), (100, 17), (128, 40), (257, 64)):
        rows, query = unit_rows(rng, 60, dim), unit_rows(rng, nq, dim)
        begin = np.array([20, 0, 3, 59, 60], np.int64)
        count = np.array([30, 3, 0, 1, 0], np.int32)
        for vectors in (rows, rows.astype(np.float16)):
            found = kernels.exact_maxima(vectors, begin, count, query)
            cells = [
                vectors[b : b + n].astype(np.float32) for b, n in zip(begin, count, strict=True)
            ]
            np.testing.assert_allclose(found, reference.maxima(query, cells), atol=1e-6)
            alone = kernels.exact_maxima(vectors, begin[3:4], count[3:4], query)
            np.testing.assert_array_equal(alone, found[3:4])


def test_coded_maxima(kernels: Kernels) -> None:
    rng = np.random.default_rng(3)
    for dim, nq in ((32, 1), (100, 17), (128, 64)):
        width = -(-dim // 4) * 4
        spread = np.zeros(width, np.float32)
        spread[:dim] = rng.uniform(0.02, 0.1, dim)
        levels = np.array([-1.5, -0.4, 0.5, 1.4], np.float32)
        book = Codebook(kernels.quantize(unit_rows(rng, 20, dim)), spread, levels)
        codes = Codes(
            rng.integers(0, 20, 50).astype(np.uint16),
            rng.integers(0, 256, (50, width // 4)).astype(np.uint8),
        )
        raw = unit_rows(rng, nq, dim)
        query, stretched = kernels.quantize(raw), kernels.quantize(raw * spread[:dim])
        sims = kernels.dots(book.centroids, query)
        begin, count = np.array([10, 0, 50], np.int64), np.array([40, 7, 0], np.int32)
        found = kernels.coded_maxima(codes, book, sims, stretched, begin, count)
        eight, worth = eight_bit_levels(book)
        inner = eight[unpack(codes.residual)].astype(np.float64) @ stretched.values.T.astype(float)
        every = sims[codes.centroid] + inner * (worth * stretched.scales)
        np.testing.assert_allclose(found[0], every[10:50].max(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[1], every[:7].max(axis=0), rtol=1e-5, atol=1e-6)
        assert np.isneginf(found[2]).all()


def test_residuals_are_the_nearest_levels(kernels: Kernels) -> None:
    rng = np.random.default_rng(0)
    levels = np.array([-1.5, -0.4, 0.5, 1.4], np.float32)
    for dim, kind in ((8, np.float32), (50, np.float16), (128, np.float16)):
        rows: Any = unit_rows(rng, 300, dim).astype(kind)
        width = -(-dim // 4) * 4
        spread = rng.uniform(0.02, 0.1, width).astype(np.float32)
        spread[0] = 0
        book = Codebook(kernels.quantize(unit_rows(rng, 9, dim)), spread, levels)
        centroid = rng.integers(0, 9, 300).astype(np.uint16)
        found = unpack(kernels.encode(rows, centroid, book))
        assert found.shape == (300, width)
        rest = rows.astype(np.float64) - decoded(book.centroids, dim)[centroid]
        with np.errstate(divide="ignore"):
            wanted = np.abs(rest[:, :, None] / spread[:dim, None] - levels).argmin(axis=2)
        wanted[:, 0] = 1  # no spread: the level nearest to 0
        differs = found[:, :dim] != wanted
        assert differs.mean() < 1e-3  # within rounding of a threshold
        assert (found[:, dim:] == 1).all()


def test_bounds_of_columns(kernels: Kernels) -> None:
    sims = np.random.default_rng(0).normal(size=(1000, 17)).astype(np.float32)
    found = kernels.bounds(sims)
    np.testing.assert_allclose(found[0], sims.mean(axis=0, dtype=np.float64), rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(found[1], sims.max(axis=0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused(kernels: Kernels, bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        kernels.quantize(np.array([[1, bad, 0, 0]], np.float32))


def test_select_among_many(kernels: Kernels) -> None:
    rng = np.random.default_rng(0)
    for n_values in (7, 100_000):  # many ties, few
        scores = (rng.integers(0, n_values, 150_000) / n_values).astype(np.float32)
        scores[rng.random(len(scores)) < 0.3] = -np.inf
        for n in (1, 1000, 50_000):
            order = np.argsort(-scores, kind="stable")[:n]
            np.testing.assert_array_equal(kernels.select(scores, n), np.sort(order))


def test_select(kernels: Kernels) -> None:
    scores = np.array([1, 3, -np.inf, 3, 0, 2, 3], np.float32)
    assert kernels.select(scores, 2).tolist() == [1, 3]
    assert kernels.select(scores, 5).tolist() == [0, 1, 3, 5, 6]
    assert kernels.select(scores, 50).tolist() == [0, 1, 3, 4, 5, 6]
    assert kernels.select(scores[:0], 3).tolist() == []


def test_padding_of_tables(kernels: Kernels) -> None:
    assert [padded(n) for n in (1, 16, 17, 64)] == [16, 16, 32, 64]
    rule = Rule(Scoring(), Calibration(np.zeros((M, 3), np.float32), np.ones(M, np.float32)), False)
    table = kernels.table(np.ones((2, 3), np.float32), rule, 0, np.zeros(3, np.float32), 1 / 255)
    assert table.shape == (2, 16)
    assert (table[:, :3] == 255).all()
    assert not table[:, 3:].any()
