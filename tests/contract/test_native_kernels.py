"""The compiled kernels: all levels and numbers of threads give the same, and no array can harm them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmretrieve.datatypes import MODALITIES, Aggregation, Modality
from mmretrieve.kernels.arrays import (
    ByteTables,
    Codebook,
    Codes,
    Floats,
    Layout,
    Lists,
    Rule,
    Tokens8,
)
from mmretrieve.kernels.base import Kernels
from mmretrieve.kernels.choose import available
from mmretrieve.kernels.choose import kernels as choose
from mmretrieve.kernels.tables import byte_tables
from mmretrieve.scoring.aggregation import Calibration, Scoring

M = len(MODALITIES)
METADATA = MODALITIES.index(Modality.METADATA)
IN_TIME = [m for m in range(M) if m != METADATA]
NATIVE = tuple(name for name in available() if name != "numpy")
WIDTHS = (4, 128, 1024, 52, 36)

pytestmark = pytest.mark.skipif(not NATIVE, reason="the compiled kernels are not installed")


@dataclass(frozen=True, slots=True)
class Given:
    """All that the methods take, for one small index and one query."""

    layout: Layout
    tokens: list[Tokens8 | None]
    queries: list[Tokens8 | None]
    codes: list[Codes | None]
    books: list[Codebook | None]
    sims: list[Floats | None]
    tables: ByteTables
    lists: list[Lists | None]
    active: list[np.ndarray]
    rule: Rule
    keep: np.ndarray
    keep_passages: np.ndarray
    only: np.ndarray


def eight_bits(rng: np.random.Generator, n: int, width: int) -> Tokens8:
    values = rng.integers(-128, 128, (n, width)).astype(np.int8)
    return Tokens8(values, rng.uniform(0.001, 0.01, n).astype(np.float32))


def small_layout(rng: np.random.Generator, n_videos: int) -> Layout:
    """Every video: metadata, then passages with all other modalities."""
    n_timed = rng.integers(1, 6, n_videos)
    cells = np.concatenate([[METADATA, *(IN_TIME * n)] for n in n_timed]).astype(np.uint8)
    sizes = np.concatenate([[1, *([len(IN_TIME)] * n)] for n in n_timed])
    count = rng.integers(0, 40, len(cells)).astype(np.int32)
    begin = np.zeros(len(cells), np.int64)
    for m in range(M):
        begin[cells == m] = np.cumsum(count[cells == m]) - count[cells == m]
    return Layout(
        cells, begin, count, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate([[0], np.cumsum(n_timed + 1)]).astype(np.int64),
        np.concatenate([[1, *([0] * n)] for n in n_timed]).astype(np.uint8),
    )  # fmt: skip


def given(seed: int, nq: int, how: Aggregation, by_video: bool, n_centroids: int = 50) -> Given:
    rng = np.random.default_rng(seed)
    layout = small_layout(rng, 40)
    n = [int(layout.count[layout.modality == m].sum()) for m in range(M)]
    books = [
        Codebook(
            eight_bits(rng, n_centroids, w),
            rng.uniform(0.02, 0.1, w).astype(np.float32),
            np.array([-1.5, -0.4, 0.5, 1.4], np.float32),
        )
        for w in WIDTHS
    ]
    sims = [rng.normal(0.1, 0.2, (n_centroids, nq)).astype(np.float32) for _ in range(M)]
    null = rng.uniform(0, 0.2, (M, nq)).astype(np.float32)
    rule = Rule(Scoring(how), Calibration(null, np.full(M, 0.3, np.float32)), by_video)
    lists, n_passages = [], layout.n_passages
    for _ in range(M):
        named = [np.flatnonzero(rng.random(n_passages) < 0.2) for _ in range(n_centroids)]
        starts = np.cumsum([0, *(len(x) for x in named)]).astype(np.int64)
        lists.append(Lists(np.concatenate(named).astype(np.uint32), starts))
    n_documents = layout.n_videos if by_video else n_passages
    return Given(
        layout=layout,
        tokens=[eight_bits(rng, k, w) for k, w in zip(n, WIDTHS, strict=True)],
        queries=[eight_bits(rng, nq, w) for w in WIDTHS],
        codes=[
            Codes(
                rng.integers(0, n_centroids, k).astype(np.uint16),
                rng.integers(0, 256, (k, w // 4)).astype(np.uint8),
            )
            for k, w in zip(n, WIDTHS, strict=True)
        ],
        books=list(books), sims=list(sims),
        tables=byte_tables(choose("numpy"), sims, rule),
        lists=list(lists), active=[np.arange(0, n_centroids, 2) for _ in range(M)], rule=rule,
        keep=(rng.random(len(layout.modality)) < 0.8).astype(np.uint8),
        keep_passages=(rng.random(n_passages) < 0.8).astype(np.uint8),
        only=np.flatnonzero(rng.random(n_documents) < 0.5),
    )  # fmt: skip


def scores(kernels: Kernels, g: Given) -> dict[str, Floats]:
    return {
        "tokens": kernels.score_tokens(g.layout, g.tokens, g.queries, g.rule, g.keep, g.only),
        "all tokens": kernels.score_tokens(g.layout, g.tokens, g.queries, g.rule),
        "codes": kernels.score_codes(g.layout, g.codes, g.tables, g.rule, g.keep, g.only),
        "all codes": kernels.score_codes(g.layout, g.codes, g.tables, g.rule),
        "residuals": kernels.score_residuals(
            g.layout, g.codes, g.books, g.sims, g.queries, g.rule, g.keep, g.only
        ),
        "lists": kernels.score_lists(
            g.layout, g.lists, g.active, g.tables, g.rule.by_video, g.keep_passages
        ),
    }


CASES = [(how, by_video) for how in Aggregation for by_video in (False, True)]


@pytest.mark.parametrize(("how", "by_video"), CASES)
@pytest.mark.parametrize("nq", [1, 16, 31, 32, 48, 64])
def test_levels_and_threads_agree(nq: int, how: Aggregation, by_video: bool) -> None:
    g = given(nq, nq, how, by_video)
    plain = scores(choose("numpy"), g)
    first = scores(choose(NATIVE[0], threads=1), g)
    for name, found in first.items():
        np.testing.assert_allclose(found, plain[name], rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(first["lists"], plain["lists"])
    for level in NATIVE:
        for threads in (1, 2, 7):
            for name, found in scores(choose(level, threads), g).items():
                np.testing.assert_array_equal(found, first[name], err_msg=f"{name} {level}")


@pytest.mark.parametrize("level", NATIVE)
@pytest.mark.parametrize("width", [4, 8, 20, 100, 128, 384, 1024])
def test_products_are_exact(level: str, width: int) -> None:
    """Bit for bit what NumPy gives, the most negative numbers of all included."""
    rng = np.random.default_rng(width)
    kernels, plain = choose(level, threads=2), choose("numpy")
    for n, nq in ((1, 1), (37, 70), (9000, 33)):
        tokens, query = eight_bits(rng, n, width), eight_bits(rng, nq, width)
        tokens.values[0] = -128
        query.values[0] = -128
        np.testing.assert_array_equal(kernels.dots(tokens, query), plain.dots(tokens, query))
        best, product = kernels.assign(tokens, query)
        wanted_best, wanted_product = plain.assign(tokens, query)
        np.testing.assert_array_equal(best, wanted_best)
        np.testing.assert_array_equal(product, wanted_product)
        begin = np.sort(rng.integers(0, n, 20))
        count = np.minimum(rng.integers(0, 70, 20), n - begin).astype(np.int32)
        begin, count = begin[:1], count[:1]
        np.testing.assert_array_equal(
            kernels.maxima(tokens, begin, count, query), plain.maxima(tokens, begin, count, query)
        )


@pytest.mark.parametrize("level", NATIVE)
def test_what_indexes_are_built_with_is_bit_for_bit_the_same(level: str) -> None:
    rng = np.random.default_rng(0)
    kernels, plain = choose(level, threads=2), choose("numpy")
    for dim, kind in ((50, np.float32), (128, np.float16)):
        vectors: Any = rng.normal(0, 0.1, (5000, dim)).astype(kind)
        vectors[0] = 0
        vectors[1] = 6e-8
        vectors[2, 0] = 65504
        found, wanted = kernels.quantize(vectors), plain.quantize(vectors)
        width = int(wanted.values.shape[1])
        np.testing.assert_array_equal(found.values, wanted.values)
        np.testing.assert_array_equal(found.scales, wanted.scales)
        book = Codebook(
            eight_bits(rng, 70, width),
            rng.uniform(0, 0.1, width).astype(np.float32),
            np.array([-1.5, -0.4, 0.5, 1.4], np.float32),
        )
        centroid = rng.integers(0, 70, 5000).astype(np.uint16)
        np.testing.assert_array_equal(
            kernels.encode(vectors, centroid, book), plain.encode(vectors, centroid, book)
        )
    g = given(0, 17, Aggregation.TOKEN_MAX, False, n_centroids=3000)
    for power in (1.0, 2.0, 3.0):
        rule = replace(g.rule, scoring=Scoring(power=power))
        near = g.sims[0]
        assert near is not None
        floor = np.zeros(17, np.float32)
        table = kernels.table(near, rule, 0, floor, 0.01)
        np.testing.assert_array_equal(table, plain.table(near, rule, 0, floor, 0.01))
        assert 0 < (table > 0).mean() < 1


def test_lists_in_many_blocks() -> None:
    """More passages than one block holds, most of which no list names."""
    rng = np.random.default_rng(0)
    n_videos, per_video, nq = 15_000, 5, 33
    n = n_videos * per_video
    layout = Layout(
        np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int32),
        np.zeros(n + 1, np.int64), np.arange(0, n + 1, per_video),
        np.tile(np.array([1, 0, 0, 0, 0], np.uint8), n_videos),
    )  # fmt: skip
    named = [np.unique(rng.integers(0, n, 700)) for _ in range(30)]
    starts = np.cumsum([0, *(len(x) for x in named)]).astype(np.int64)
    lists = [Lists(np.concatenate(named).astype(np.uint32), starts), *[None] * (M - 1)]
    values = np.zeros((30, 48), np.uint8)
    values[:, :nq] = rng.integers(0, 256, (30, nq))
    tables = ByteTables((values, *[None] * (M - 1)), np.zeros((M, nq), np.float32), 0.1)
    active = [np.arange(30)] + [np.arange(0)] * (M - 1)
    keep = (rng.random(n) < 0.7).astype(np.uint8)
    for by_video in (False, True):
        for kept in (None, keep):
            wanted = choose("numpy").score_lists(layout, lists, active, tables, by_video, kept)
            assert 0 < (wanted > 0).mean() < 1
            for level in NATIVE:
                for threads in (1, 2):
                    found = choose(level, threads).score_lists(
                        layout, lists, active, tables, by_video, kept
                    )
                    np.testing.assert_array_equal(found, wanted)


def test_arrays_in_files_that_cannot_be_written(tmp_path: Path) -> None:
    g = given(0, 20, Aggregation.TOKEN_MAX, False)

    def mapped(array: np.ndarray) -> np.ndarray:
        np.save(tmp_path / "array.npy", array)
        (tmp_path / "array.npy").rename(path := tmp_path / f"{len(list(tmp_path.iterdir()))}.npy")
        out: np.ndarray = np.load(path, mmap_mode="r")
        return out

    layout = Layout(*(mapped(getattr(g.layout, f.name)) for f in fields(g.layout)))
    codes: list[Codes | None] = [
        Codes(mapped(c.centroid), mapped(c.residual)) for c in g.codes if c is not None
    ]
    in_files = replace(g, layout=layout, codes=codes)
    for name, found in scores(choose(NATIVE[0]), in_files).items():
        np.testing.assert_array_equal(found, scores(choose(NATIVE[0]), g)[name])


BROKEN = [
    ("modality", 5, M), ("begin", 5, -1), ("begin", 5, 1 << 40), ("count", 5, -1),
    ("count", 5, 1 << 30), ("passages", 3, -1), ("passages", 3, 1 << 40), ("passages", -1, 1 << 40),
    ("passages", 0, 1), ("videos", 2, 0), ("videos", 2, 1 << 40), ("videos", -1, 1 << 40),
    ("videos", 2, -(1 << 62)),
]  # fmt: skip


@pytest.mark.parametrize("level", NATIVE)
@pytest.mark.parametrize("by_video", [False, True])
@pytest.mark.parametrize(("name", "at", "number"), BROKEN)
def test_damaged_layouts_are_refused(
    level: str, by_video: bool, name: str, at: int, number: int
) -> None:
    g = given(0, 20, Aggregation.TOKEN_MAX, by_video)
    array = getattr(g.layout, name).copy()
    array[at] = number
    layout = replace(g.layout, **{name: array})
    kernels = choose(level, threads=2)
    with pytest.raises(ValueError, match="layout"):
        kernels.score_tokens(layout, g.tokens, g.queries, g.rule)
    with pytest.raises(ValueError, match="layout"):
        kernels.score_codes(layout, g.codes, g.tables, g.rule)


def test_numbers_out_of_range_are_refused() -> None:
    g = given(0, 20, Aggregation.TOKEN_MAX, False)
    kernels = choose(NATIVE[0], threads=2)
    for number in (-1, g.layout.n_passages, 1 << 60):
        with pytest.raises(ValueError, match="only"):
            kernels.score_tokens(g.layout, g.tokens, g.queries, g.rule, only=np.array([number]))
    few = [None if b is None else Codes(b.centroid + np.uint16(60), b.residual) for b in g.codes]
    with pytest.raises(ValueError, match="centroid beyond"):
        kernels.score_codes(g.layout, few, g.tables, g.rule)
    with pytest.raises(ValueError, match="centroid beyond"):
        kernels.score_residuals(g.layout, few, g.books, g.sims, g.queries, g.rule)
    for c in (-1, 50, 1 << 40):
        with pytest.raises(ValueError, match="active"):
            kernels.score_lists(g.layout, g.lists, [np.array([c])] * M, g.tables, False)
    unequal = replace(g.tables, floor=np.arange(M * 20, dtype=np.float32).reshape(M, 20))
    with pytest.raises(ValueError, match="floor"):
        kernels.score_codes(g.layout, g.codes, unequal, g.rule)
    n = np.uint32(g.layout.n_passages)
    far = [None if x is None else Lists(x.passages + n, x.starts) for x in g.lists]
    with pytest.raises(ValueError, match="lists: a passage beyond"):
        kernels.score_lists(g.layout, far, g.active, g.tables, False)


def test_other_types_and_shapes_are_refused() -> None:
    rng = np.random.default_rng(0)
    kernels = choose(NATIVE[0])
    tokens = eight_bits(rng, 10, 8)
    bad: list[Any] = [
        Tokens8(tokens.values.astype(np.int16), tokens.scales),
        Tokens8(tokens.values, tokens.scales.astype(np.float64)),
        Tokens8(tokens.values, tokens.scales[:9]),
        Tokens8(tokens.values[:, :6].copy(), tokens.scales),
        Tokens8(tokens.values[:, ::2], tokens.scales),
        Tokens8(tokens.values[0], tokens.scales),
        Tokens8(np.zeros((10, 1028), np.int8), tokens.scales),
        Tokens8(tokens.values.tolist(), tokens.scales),
        Tokens8(tokens.values, tokens.scales.astype(">f4")),
    ]
    for wrong in bad:
        with pytest.raises(ValueError, match="tokens"):
            kernels.dots(wrong, tokens)
    with pytest.raises(ValueError, match="vectors"):
        kernels.quantize(np.zeros((2, 8)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="outside"):
        kernels.maxima(tokens, np.array([5]), np.array([6], np.int32), tokens)
    g = given(0, 65, Aggregation.TOKEN_MAX, False)
    with pytest.raises(ValueError, match="64 query tokens"):
        kernels.score_tokens(g.layout, g.tokens, g.queries, g.rule)


def mutated(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """The array with another type, shape, order or with numbers from anywhere."""
    kind = rng.integers(6)
    if kind == 0:
        return array.astype(
            rng.choice(["i1", "u1", "i2", "u2", "i4", "i8", "u4", "f2", "f4", "f8"])
        )
    if kind == 1:
        return array[: rng.integers(0, len(array) + 1)]
    if kind == 2:
        return array[::2] if rng.random() < 0.5 else np.asfortranarray(array)
    if kind == 3:
        return array.reshape(-1) if array.ndim > 1 else array[None]
    out = array.copy()
    flat = out.reshape(-1).view(np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        if len(flat):
            flat[rng.integers(len(flat))] = rng.integers(256)
    return out


def mutate(rng: np.random.Generator, value: Any, share: float) -> Any:
    """Arrays anywhere inside of a value, changed with some probability."""
    if isinstance(value, np.ndarray):
        return mutated(rng, value) if rng.random() < share else value
    if isinstance(value, (list, tuple)):
        return type(value)(
            None if rng.random() < share / 4 else mutate(rng, item, share) for item in value
        )
    if isinstance(value, (Layout, Tokens8, Codes, Codebook, Lists, ByteTables, Calibration)):
        changed = {f.name: mutate(rng, getattr(value, f.name), share) for f in fields(value)}
        return replace(value, **changed)
    if isinstance(value, Rule):
        return replace(value, calibration=mutate(rng, value.calibration, share))
    return value


@pytest.mark.parametrize("level", NATIVE)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, on what cannot be a codebook
def test_no_array_can_harm(level: str, seed: int) -> None:
    """What cannot be used is refused; what can, whatever its numbers, is scored."""
    rng = np.random.default_rng(seed)
    g = given(seed, int(rng.integers(1, 65)), list(Aggregation)[seed % 3], seed % 2 == 0)
    kernels = choose(level, threads=2)
    n_refused = 0
    for _ in range(60):
        changed = {f.name: mutate(rng, getattr(g, f.name), 0.02) for f in fields(g)}
        bad = replace(g, **changed)
        for call in (
            lambda b: kernels.score_tokens(b.layout, b.tokens, b.queries, b.rule, b.keep, b.only),
            lambda b: kernels.score_codes(b.layout, b.codes, b.tables, b.rule, b.keep, b.only),
            lambda b: kernels.score_residuals(
                b.layout, b.codes, b.books, b.sims, b.queries, b.rule, b.keep, b.only
            ),
            lambda b: kernels.score_lists(
                b.layout, b.lists, b.active, b.tables, b.rule.by_video, b.keep_passages
            ),
            lambda b: kernels.assign(b.tokens[0], b.books[0].centroids),
            lambda b: kernels.dots(b.tokens[1], b.queries[1]),
        ):
            try:
                call(bad)
            except (ValueError, AttributeError, TypeError, IndexError):
                n_refused += 1
    assert 40 < n_refused < 320
