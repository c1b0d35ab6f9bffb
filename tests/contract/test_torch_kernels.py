"""The kernels with PyTorch: the suite of all kernels, and a larger case against those in NumPy."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch")

import torch

from mmretrieve.datatypes import MODALITIES, Aggregation
from mmretrieve.errors import SetupError, UsageError
from mmretrieve.kernels.arrays import Codebook, Codes, Layout, Lists, Rule, Tokens8
from mmretrieve.kernels.base import Kernels
from mmretrieve.kernels.plain import PlainKernels
from mmretrieve.kernels.tables import byte_tables
from mmretrieve.kernels.torch_kernels import TorchKernels, torch_kernels
from tests.contract import test_kernels as suite

pytestmark = pytest.mark.torch

# What every set of kernels has to pass, here with the fixture `kernels` of this module.
globals().update(
    (name, test)
    for name, test in vars(suite).items()
    if name.startswith("test_") and "kernels" in inspect.signature(test).parameters
)

PLAIN = PlainKernels()
TINY = 1 << 15
"""Bytes for work: some hundred tokens and a few passages at a time."""
K = 300
CASES = [(how, by_video) for how in Aggregation for by_video in (False, True)]


@pytest.fixture(params=["room", "tiny", "nothing kept"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    sizes = {"room": (1 << 29, 1 << 32), "tiny": (TINY, 1 << 32), "nothing kept": (TINY, 100)}
    return TorchKernels("cpu", *sizes[request.param])


@dataclass(frozen=True)
class Case:
    """A segment of some thousand tokens in all forms that kernels take, and a query."""

    layout: Layout
    tokens: list[Tokens8]
    codes: list[Codes]
    books: list[Codebook]
    lists: list[Lists]
    queries: list[Tokens8]
    stretched: list[Tokens8]
    sims: list[np.ndarray]
    nq: int

    def rule(self, seed: int, how: Aggregation, by_video: bool) -> Rule:
        return suite.rule_of(np.random.default_rng(seed), self.nq, how, by_video)


@pytest.fixture(scope="module")
def case() -> Case:
    rng = np.random.default_rng(11)
    layout, nq = suite.layout_of(rng, 160), 23
    _, tokens = suite.library(rng, layout, PLAIN)
    raw = [suite.unit_rows(rng, nq, d) for d in suite.DIMS]
    queries = [PLAIN.quantize(r) for r in raw]
    widths = [t.values.shape[1] for t in tokens]
    books = [
        Codebook(
            PLAIN.quantize(suite.unit_rows(rng, K, d)),
            rng.uniform(0.02, 0.1, w).astype(np.float32),
            np.array([-1.5, -0.4, 0.5, 1.4], np.float32),
        )
        for d, w in zip(suite.DIMS, widths, strict=True)
    ]
    codes = [
        Codes(
            PLAIN.assign(t, b.centroids)[0],
            rng.integers(0, 256, (len(t), w // 4)).astype(np.uint8),
        )
        for t, b, w in zip(tokens, books, widths, strict=True)
    ]
    stretched = [
        PLAIN.quantize(r * b.spread[: r.shape[1]]) for r, b in zip(raw, books, strict=True)
    ]
    sims = [PLAIN.dots(b.centroids, q) for b, q in zip(books, queries, strict=True)]
    lists = [lists_of(layout, m, c.centroid) for m, c in enumerate(codes)]
    return Case(layout, tokens, codes, books, lists, queries, stretched, sims, nq)


def lists_of(layout: Layout, modality: int, centroid: np.ndarray) -> Lists:
    passage = np.repeat(np.arange(layout.n_passages), np.diff(layout.passages))
    cells = np.flatnonzero(layout.modality == modality)
    owner = np.repeat(passage[cells], layout.count[cells])
    named = [np.unique(owner[centroid == c]) for c in range(K)]
    starts = np.cumsum([0, *(len(n) for n in named)]).astype(np.int64)
    return Lists(np.concatenate(named).astype(np.uint32), starts)


def some(n: int, share: float) -> np.ndarray:
    """``(n,)`` uint8, one for about that share."""
    return (np.random.default_rng(n).random(n) < share).astype(np.uint8)


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == wanted.dtype == np.float32
    assert np.isfinite(wanted).mean() > 0.1
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_quantizing_gives_the_same_bytes(kernels: Kernels) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(3000, 50)).astype(np.float32)
    rows[7] = 0
    rows[8] = np.linspace(-63.5, 63.5, 50)
    rows[9, :4], rows[9, 4:] = [127, 0.5, 1.5, -2.5], 0  # halves go to even numbers
    for given in (rows, rows.astype(np.float16), rows[:0]):
        found, wanted = kernels.quantize(given), PLAIN.quantize(given)
        assert found.values.dtype == np.int8
        np.testing.assert_array_equal(found.values, wanted.values)
        np.testing.assert_array_equal(found.scales, wanted.scales)
    assert kernels.quantize(rows).values[9, :4].tolist() == [127, 0, 2, -2]


@pytest.mark.parametrize("width", [4, 128, 1024, 1500])
def test_products_are_exact(kernels: Kernels, width: int) -> None:
    """The largest products there are: one bit lost anywhere would show."""
    rng = np.random.default_rng(width)
    values = rng.choice([-127, -126, 126, 127], (700, width)).astype(np.int8)
    values[:3] = values[3] = 127
    tokens = Tokens8(values, np.ones(700, np.float32))
    query = Tokens8(values[:9].copy(), np.ones(9, np.float32))
    exact = values.astype(np.int64) @ query.values.T.astype(np.int64)
    np.testing.assert_array_equal(kernels.dots(tokens, query), exact.astype(np.float32))
    best, product = kernels.assign(tokens, query)
    np.testing.assert_array_equal(best, exact.argmax(axis=1))  # the first three rows are equal
    np.testing.assert_array_equal(product, exact.max(axis=1).astype(np.float32))


def test_products_are_exact_whatever_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 and autocast that others switched on do not reach these products, and stay on."""
    matmul = torch.backends.cuda.matmul
    since_2_9 = hasattr(matmul, "fp32_precision")
    name = "fp32_precision" if since_2_9 else "allow_tf32"
    full, fast = ("ieee", "tf32") if since_2_9 else (False, True)
    seen = []
    product = torch.Tensor.__matmul__

    def recording(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.append((getattr(matmul, name), a.dtype))
        return product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", recording)
    tokens = PLAIN.quantize(np.random.default_rng(2).normal(size=(40, 128)).astype(np.float32))
    before = getattr(matmul, name)
    setattr(matmul, name, fast)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = TorchKernels("cpu").dots(tokens, tokens)
        assert getattr(matmul, name) == fast
    finally:
        setattr(matmul, name, before)
    np.testing.assert_array_equal(found, PLAIN.dots(tokens, tokens))
    assert seen == [(full, torch.float32)]


def test_maxima(kernels: Kernels, case: Case) -> None:
    """Over cells in order, in another order, overlapping, and over none."""
    rng = np.random.default_rng(3)
    for m, tokens in enumerate(case.tokens):
        mine = case.layout.modality == m
        begin, count = case.layout.begin[mine], case.layout.count[mine]
        query = case.queries[m]
        dots = PLAIN.dots(tokens, query)
        order = rng.permutation(len(begin))
        wide = np.minimum(count + 5, len(tokens) - begin).astype(np.int32)
        for b, n in ((begin, count), (begin[order], count[order]), (begin, wide), ([], [])):
            starts, counts = np.asarray(b, np.int64), np.asarray(n, np.int32)
            wanted = np.full((len(starts), case.nq), -np.inf, np.float32)
            for i, (s, c) in enumerate(zip(starts, counts, strict=True)):
                wanted[i] = dots[s : s + c].max(axis=0, initial=-np.inf)
            np.testing.assert_array_equal(kernels.maxima(tokens, starts, counts, query), wanted)
        coded = (case.codes[m], case.books[m], case.sims[m], case.stretched[m])
        np.testing.assert_array_equal(
            kernels.coded_maxima(*coded, begin, count), PLAIN.coded_maxima(*coded, begin, count)
        )


def test_maxima_of_a_cell_beyond_the_memory(kernels: Kernels, case: Case) -> None:
    """Cells before and after it have no tokens, and fill a block of their own."""
    m = int(np.argmax([len(c) for c in case.codes]))
    n = len(case.codes[m])
    begin, count = np.array([0, 0, 0, n], np.int64), np.array([0, 0, n, 0], np.int32)
    fine = (case.codes[m], case.books[m], case.sims[m], case.stretched[m], begin, count)
    for found, wanted in (
        (kernels.coded_maxima(*fine), PLAIN.coded_maxima(*fine)),
        (
            kernels.maxima(case.tokens[m], begin, count, case.queries[m]),
            PLAIN.maxima(case.tokens[m], begin, count, case.queries[m]),
        ),
    ):
        assert np.isneginf(wanted).all(axis=1).tolist() == [True, True, False, True]
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("seed", range(4))
def test_tables(kernels: Kernels, case: Case, seed: int) -> None:
    rule = case.rule(seed, Aggregation.TOKEN_MAX, False)
    found, wanted = (byte_tables(k, case.sims, rule) for k in (kernels, PLAIN))
    for mine, theirs in zip(found.values, wanted.values, strict=True):
        assert mine is not None
        assert theirs is not None
        assert mine.dtype == np.uint8
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(("how", "by_video"), CASES)
@pytest.mark.parametrize("share", [None, 0.6, 0.01])
def test_scores(
    kernels: Kernels, case: Case, how: Aggregation, by_video: bool, share: float | None
) -> None:
    layout, rule = case.layout, case.rule(7, how, by_video)
    keep = None if share is None else some(len(layout.modality), share)
    tables = byte_tables(PLAIN, case.sims, rule)
    coded = (layout, case.codes, case.books, case.sims, case.stretched, rule, keep)
    n = layout.n_videos if by_video else layout.n_passages
    only = np.flatnonzero(some(n, 0.2))

    def all_three(k: Kernels, only: np.ndarray | None = None) -> list[np.ndarray]:
        return [
            k.score_tokens(layout, case.tokens, case.queries, rule, keep, only),
            k.score_codes(layout, case.codes, tables, rule, keep, only),
            k.score_residuals(*coded, only),
        ]

    whole = all_three(kernels)
    for found, wanted in zip(whole, all_three(PLAIN), strict=True):
        assert found.shape == (n,)
        if share is None:
            close(found, wanted)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    for found, wanted in zip(all_three(kernels, only), whole, strict=True):
        np.testing.assert_array_equal(found, wanted[only])
    for found in all_three(kernels, only[:0]):
        assert found.shape == (0,)


def test_modalities_without_tokens(kernels: Kernels, case: Case) -> None:
    rule = case.rule(7, Aggregation.MODALITY_MAX, False)
    weights = rule.scoring.weight_vector
    missing = int(weights.argmax())
    tokens: list[Tokens8 | None] = list(case.tokens)
    tokens[missing] = None
    found = kernels.score_tokens(case.layout, tokens, case.queries, rule)
    close(found, PLAIN.score_tokens(case.layout, tokens, case.queries, rule))
    nothing = kernels.score_tokens(case.layout, [None] * len(MODALITIES), case.queries, rule)
    assert nothing.shape == (case.layout.n_passages,)
    assert np.isneginf(nothing).all()


@pytest.mark.parametrize("by_video", [False, True])
@pytest.mark.parametrize("keeping", [False, True])
def test_lists(kernels: Kernels, case: Case, by_video: bool, keeping: bool) -> None:
    rng = np.random.default_rng(5)
    tables = byte_tables(PLAIN, case.sims, case.rule(2, Aggregation.TOKEN_MAX, by_video))
    active = [np.sort(rng.choice(K, n, replace=False)) for n in (40, 1, 0, 200, 7)]
    keep = some(case.layout.n_passages, 0.7) if keeping else None
    found, wanted = (
        k.score_lists(case.layout, case.lists, active, tables, by_video, keep)
        for k in (kernels, PLAIN)
    )
    assert found.dtype == np.float32
    assert (wanted > 0).mean() > 0.3
    np.testing.assert_array_equal(found, wanted)


def test_selecting_among_equal_scores(kernels: Kernels) -> None:
    scores = np.random.default_rng(6).integers(0, 50, 5000).astype(np.float32)
    scores[::3] = -np.inf
    for n in (0, 1, 30, 500, 4999, 5000, 9000):
        found = kernels.select(scores, n)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, PLAIN.select(scores, n))


def test_centroid_numbers_above_32767(kernels: Kernels) -> None:
    """PyTorch counts sixteen bits with a sign."""
    n = 65536
    sims = np.arange(n, dtype=np.float32)[:, None]
    book = Codebook(
        Tokens8(np.zeros((n, 4), np.int8), np.zeros(n, np.float32)),
        np.ones(4, np.float32),
        np.array([-2, -1, 1, 2], np.float32),
    )
    centroid = np.array([0, 32767, 32768, 65535, 40000], np.uint16)
    codes = Codes(centroid, np.zeros((5, 1), np.uint8))
    nothing = Tokens8(np.zeros((1, 4), np.int8), np.ones(1, np.float32))
    each = np.arange(5), np.ones(5, np.int32)
    found = kernels.coded_maxima(codes, book, sims, nothing, *each)
    assert found[:, 0].tolist() == centroid.tolist()


def test_work_stays_within_its_bytes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """No product and no block of documents is larger than what they may take."""
    largest = 0
    made = torch.Tensor.to

    def measured(self: torch.Tensor, *args: object) -> torch.Tensor:
        nonlocal largest
        out: torch.Tensor = made(self, *args)
        largest = max(largest, out.nbytes)
        return out

    monkeypatch.setattr(torch.Tensor, "to", measured)
    rule = case.rule(7, Aggregation.TOKEN_MAX, True)
    for memory, smallest in ((1 << 17, 1 << 12), (1 << 26, 1 << 18)):
        largest = 0
        TorchKernels("cpu", memory).score_tokens(case.layout, case.tokens, case.queries, rule)
        assert smallest < largest <= memory / 2


def test_a_second_query_moves_only_itself(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = case.rule(7, Aggregation.TOKEN_MAX, False)
    kernels = TorchKernels("cpu")
    coded = (case.layout, case.codes, case.books, case.sims, case.stretched, rule)

    def both() -> None:
        kernels.score_tokens(case.layout, case.tokens, case.queries, rule)
        kernels.score_residuals(*coded)

    both()
    held = kernels.arrays.n_bytes
    moved = []
    made = torch.from_numpy

    def counting(array: np.ndarray) -> torch.Tensor:
        moved.append(array.nbytes)
        return made(array)

    monkeypatch.setattr(torch, "from_numpy", counting)
    both()
    per_query = sum(q.values.nbytes + q.scales.nbytes for q in [*case.queries, *case.stretched])
    assert sum(moved) <= per_query + sum(s.nbytes for s in case.sims) + 20_000
    assert kernels.arrays.n_bytes == held > 100_000


def test_names_and_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch_kernels("cpu").name == "torch cpu"
    for wrong in ("gpu", "cuda:x", "mps", "cpu:1"):
        with pytest.raises(UsageError, match=f"device '{wrong}': expected cpu, cuda"):
            torch_kernels(wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SetupError, match=r"'cuda': PyTorch 2.* sees 0 CUDA devices.*cpu"):
        torch_kernels()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert torch_kernels("cuda").name == "torch cuda:1"
    assert torch_kernels("cuda:0").name == "torch cuda:0"
    with pytest.raises(SetupError, match=r"'cuda:2': PyTorch .* sees 2 CUDA devices"):
        torch_kernels("cuda:2")


def test_without_pytorch() -> None:
    """In an interpreter of its own, where importing PyTorch fails as if it were not installed."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import mmretrieve\n"
        "from mmretrieve.errors import MissingExtraError\n"
        "try:\n"
        "    import mmretrieve.kernels.torch_kernels\n"
        "except MissingExtraError as error:\n"
        "    assert 'pip install \"mmretrieve[torch]\"' in str(error), error\n"
        "    sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, timeout=120)
    assert done.returncode == 7
