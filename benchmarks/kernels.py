"""Speed of the compiled kernels at every level, against NumPy in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.result import Result, Value
from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.kernels import choose
from mmretrieve.kernels.arrays import Codebook, Codes, Layout, Lists, Rule, Tokens8
from mmretrieve.kernels.base import Kernels
from mmretrieve.kernels.tables import byte_tables
from mmretrieve.scoring.aggregation import Calibration, Scoring

N_QUERY_TOKENS, WIDTH, N_CENTROIDS, N_ASSIGNED = 32, 128, 16384, 4096
N_VIDEOS, N_TIMED = 900, 20
TOKENS = {
    Modality.FRAMES: 16,
    Modality.SPEECH: 24,
    Modality.OCR: 12,
    Modality.METADATA: 20,
    Modality.AUDIO: 0,
}
"""Mean numbers of tokens of a cell, as ``lite`` makes them, which does not hear."""
LEAST_MEASURED_S, MOST_REPEATS = 0.3, 50
Run = Callable[[Kernels], object]


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel on one input; ``n`` counts what ``unit`` names, in one call."""

    name: str
    unit: str
    n: float
    run: Run


def run() -> None:
    """Measure all kernels and write ``results/kernels.json``."""
    result = Result("kernels")
    rows: list[list[Value]] = []
    for case in cases(np.random.default_rng(0)):
        plain_s = best_s(case.run, choose.kernels("numpy"))
        rows.append([case.name, "numpy", 1, plain_s * 1e3, case.n / plain_s / 1e6, case.unit, 1.0])
        for level in choose.available()[:-1]:
            for threads in (1, 2):
                took_s = best_s(case.run, choose.kernels(level, threads))
                rate, ratio = case.n / took_s / 1e6, plain_s / took_s
                rows.append(
                    [case.name, level, threads, took_s * 1e3, rate, case.unit, ratio]
                )  # fmt: skip
    result.add(
        f"Kernels, {N_QUERY_TOKENS} query tokens, width {WIDTH}, {N_CENTROIDS} centroids",
        ("kernel", "level", "threads", "best ms", "millions a second", "of", "times numpy"),
        rows,
    )
    result.note(
        "Random numbers, best of several calls; numpy uses as many threads as its BLAS does."
    )
    result.save()


def best_s(work: Run, kernels: Kernels) -> float:
    """The fastest of several calls."""
    took_s: list[float] = []
    while (sum(took_s) < LEAST_MEASURED_S and len(took_s) < MOST_REPEATS) or len(took_s) < 2:
        start = time.perf_counter()
        work(kernels)
        took_s.append(time.perf_counter() - start)
    return min(took_s)


def cases(rng: np.random.Generator) -> list[Case]:
    """Inputs like those of an index of about a million tokens."""
    layout = videos_of(rng)
    n = [int(layout.count[layout.modality == m].sum()) for m in range(len(MODALITIES))]
    return [*scoring_cases(rng, layout, n), *list_cases(rng), *building_cases(rng)]


def videos_of(rng: np.random.Generator) -> Layout:
    """Videos of metadata and passages with every other modality."""
    about = MODALITIES.index(Modality.METADATA)
    timed = [m for m, kind in enumerate(MODALITIES) if TOKENS[kind] and m != about]
    modality = np.tile(np.array([about, *timed * N_TIMED], np.uint8), N_VIDEOS)
    count = rng.poisson(np.array([TOKENS[m] for m in MODALITIES])[modality]).astype(np.int32)
    begin = np.zeros(len(count), np.int64)
    for m in range(len(MODALITIES)):
        mine = modality == m
        begin[mine] = np.cumsum(count[mine]) - count[mine]
    cells = np.tile([1, *[len(timed)] * N_TIMED], N_VIDEOS)
    return Layout(
        modality, begin, count, np.concatenate([[0], np.cumsum(cells)]).astype(np.int64),
        np.arange(N_VIDEOS + 1) * (N_TIMED + 1),
        np.tile(np.array([1, *[0] * N_TIMED], np.uint8), N_VIDEOS),
    )  # fmt: skip


def eight_bits(rng: np.random.Generator, n: int) -> Tokens8:
    """Random rows of nearly unit length."""
    values = rng.integers(-127, 128, (n, WIDTH)).astype(np.int8)
    return Tokens8(values, np.full(n, 1 / (127 * np.sqrt(WIDTH / 3)), np.float32))


def rule_of(n_modalities: int) -> Rule:
    """Token-wise scores of passages, as the engine asks for by default."""
    null = np.full((n_modalities, N_QUERY_TOKENS), 0.1, np.float32)
    return Rule(Scoring(), Calibration(null, np.full(n_modalities, 0.25, np.float32)), False)


def scoring_cases(rng: np.random.Generator, layout: Layout, n: list[int]) -> list[Case]:
    """Scans of all documents, and of a few hundred."""
    rule, total, nq = rule_of(len(n)), sum(n), N_QUERY_TOKENS
    tokens = [eight_bits(rng, k) for k in n]
    queries = [eight_bits(rng, nq) for _ in n]
    codes = [
        Codes(
            rng.integers(0, N_CENTROIDS, k).astype(np.uint16),
            rng.integers(0, 256, (k, WIDTH // 4)).astype(np.uint8),
        )
        for k in n
    ]
    levels = np.array([-1.5, -0.4, 0.5, 1.4], np.float32)
    spread = np.full(WIDTH, 0.05, np.float32)
    books = [Codebook(eight_bits(rng, 1), spread, levels) for _ in n]
    sims = [rng.normal(0, 0.1, (N_CENTROIDS, nq)).astype(np.float32) for _ in n]
    tables = byte_tables(choose.kernels(), sims, rule)
    some = np.sort(rng.choice(layout.n_passages, 400, replace=False))
    n_some = int(400 * total / layout.n_passages)
    floor = np.zeros(nq, np.float32)
    return [
        Case("score_tokens", "tokens", total, lambda k: k.score_tokens(layout, tokens, queries, rule)),
        Case("score_codes", "tokens", total, lambda k: k.score_codes(layout, codes, tables, rule)),
        Case(
            "score_residuals", "tokens", total,
            lambda k: k.score_residuals(layout, codes, books, sims, queries, rule),
        ),
        Case(
            "score_residuals of 400 passages", "tokens", n_some,
            lambda k: k.score_residuals(layout, codes, books, sims, queries, rule, None, some),
        ),
        Case("dots", "tokens", n[0], lambda k: k.dots(tokens[0], queries[0])),
        Case("table", "centroids", N_CENTROIDS, lambda k: k.table(sims[0], rule, 0, floor, 0.01)),
        Case("bounds", "centroids", N_CENTROIDS, lambda k: k.bounds(sims[0])),
    ]  # fmt: skip


def list_cases(rng: np.random.Generator) -> list[Case]:
    """A million postings among 1.3 million passages, and the best of as many scores."""
    n_lists, n_videos = 250, 62_000
    n = n_videos * (N_TIMED + 1)
    layout = Layout(
        np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int32),
        np.zeros(n + 1, np.int64), np.arange(n_videos + 1) * (N_TIMED + 1),
        np.tile(np.array([1, *[0] * N_TIMED], np.uint8), n_videos),
    )  # fmt: skip
    lists, starts = [], np.arange(n_lists + 1) * 1000
    for _ in MODALITIES:
        named = [np.sort(rng.choice(n, 1000, replace=False)) for _ in range(n_lists)]
        lists.append(Lists(np.concatenate(named).astype(np.uint32), starts))
    active = [np.arange(n_lists) for _ in MODALITIES]
    sims = [rng.normal(0.2, 0.2, (n_lists, N_QUERY_TOKENS)).astype(np.float32) for _ in MODALITIES]
    tables = byte_tables(choose.kernels(), sims, rule_of(len(MODALITIES)))
    scores = rng.normal(size=n).astype(np.float32)
    return [
        Case(
            "score_lists", "postings", len(MODALITIES) * n_lists * 1000,
            lambda k: k.score_lists(layout, lists, active, tables, False),
        ),
        Case("select 4096", "scores", n, lambda k: k.select(scores, 4096)),
    ]  # fmt: skip


def building_cases(rng: np.random.Generator) -> list[Case]:
    """What an index is built with."""
    tokens, centroids = eight_bits(rng, 20_000), eight_bits(rng, N_ASSIGNED)
    vectors = rng.normal(size=(100_000, WIDTH)).astype(np.float16)
    nearest = rng.integers(0, N_ASSIGNED, len(vectors)).astype(np.uint16)
    levels = np.array([-1.5, -0.4, 0.5, 1.4], np.float32)
    book = Codebook(centroids, np.full(WIDTH, 0.05, np.float32), levels)
    return [
        Case(
            f"assign to {N_ASSIGNED}", "products", len(tokens) * N_ASSIGNED,
            lambda k: k.assign(tokens, centroids),
        ),
        Case("quantize float16", "tokens", len(vectors), lambda k: k.quantize(vectors)),
        Case("encode float16", "tokens", len(vectors), lambda k: k.encode(vectors, nearest, book)),
    ]  # fmt: skip
