"""Codebooks: how near tokens are to what they are coded as."""

from __future__ import annotations

import numpy as np
import pytest

from mmretrieve.kernels.plain import unpack
from mmretrieve.storage.codes.codebook import FEWEST, Trained, book_size, train
from tests.codes_index import KERNELS, unit_rows


def trained(tokens: np.ndarray, size: int) -> Trained:
    return train(tokens.astype(np.float16), size, KERNELS, 0, gpu=False)


def similarity(tokens: np.ndarray, made: Trained) -> float:
    _, best = KERNELS.assign(KERNELS.quantize(tokens), made.book.centroids)
    return float(best.mean())


def clusters(
    rng: np.random.Generator, n: int, n_tokens: int, width: int, noise: float
) -> np.ndarray:
    rows = unit_rows(rng, n, width)[rng.integers(n, size=n_tokens)]
    rows = rows + rng.normal(0, noise / width**0.5, rows.shape)
    unit: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.mark.parametrize(
    ("n_tokens", "size"),
    [
        (0, 16), (255, 16), (1_000, 32), (10_000, 512), (1_000_000, 8192), (10_000_000, 32768),
        (100_000_000, 65536), (10**10, 65536),
    ],
)  # fmt: skip
def test_codebooks_grow_with_the_number_of_tokens(n_tokens: int, size: int) -> None:
    assert book_size(n_tokens) == size


def test_two_levels_are_as_good_as_flat_k_means() -> None:
    import faiss

    tokens = clusters(np.random.default_rng(0), 300, 8192, 32, 0.6)
    made = trained(tokens, 256)
    assert len(made.book.centroids) == 256
    flat = faiss.Kmeans(32, 255, niter=10, spherical=True, seed=1, min_points_per_centroid=1)
    flat.train(tokens)
    best = float((tokens @ np.asarray(flat.centroids).T).max(axis=1).mean())
    found = similarity(tokens, made)
    assert found > best - 0.003, (found, best)
    assert abs(made.similarity - found) < 0.02


def test_residuals_bring_tokens_nearer() -> None:
    tokens = clusters(np.random.default_rng(0), 100, 6000, 50, 0.5)
    book = trained(tokens[:5000], 64).book
    rest = tokens[5000:].astype(np.float16)
    centroid, _ = KERNELS.assign(KERNELS.quantize(rest), book.centroids)
    residual = KERNELS.encode(rest, centroid, book)
    assert residual.shape == (1000, 13)
    near = book.centroids.values[centroid] * book.centroids.scales[centroid, None]
    left = np.zeros_like(near)
    left[:, :50] = rest
    left -= near
    coded = book.levels[unpack(residual)] * book.spread
    # Four levels leave 0.34 of a normal deviation, which is the best that they can do.
    ratio = np.linalg.norm(left - coded, axis=1).mean() / np.linalg.norm(left, axis=1).mean()
    assert 0.3 < ratio < 0.39
    assert np.abs(left - coded).max() <= np.abs(left).max() + 1e-6
    every = np.abs(left[:, :, None] - book.levels * book.spread[:, None])
    np.testing.assert_allclose(np.abs(left - coded), every.min(axis=2), atol=1e-6)
    assert np.all(np.diff(book.levels) > 0)
    assert not book.spread[50:].any()


def test_copies_share_a_centroid() -> None:
    rows = unit_rows(np.random.default_rng(0), 10, 32)
    made = trained(np.repeat(rows, 100, axis=0), 64)
    assert len(made.book.centroids) == 11
    assert made.similarity > 0.999
    two = trained(np.repeat(rows[:2], [10_000, 1], axis=0), 64)
    assert len(two.book.centroids) == 3


def test_centroids_are_never_more_than_the_sample_can_feed() -> None:
    tokens = unit_rows(np.random.default_rng(0), 1000, 32)
    assert len(trained(tokens, 4096).book.centroids) == 62
    assert len(trained(tokens[:100], 4096).book.centroids) == FEWEST
    assert len(trained(tokens[:3], 4096).book.centroids) == 4


def test_zeros_have_a_centroid_of_their_own() -> None:
    tokens = np.concatenate([np.zeros((500, 32)), unit_rows(np.random.default_rng(0), 500, 32)])
    book = trained(np.random.default_rng(1).permutation(tokens), 16).book
    centroid, best = KERNELS.assign(KERNELS.quantize(tokens.astype(np.float16)), book.centroids)
    assert not centroid[:500].any()
    assert centroid[500:].all()
    assert not best[:500].any()
    nothing = trained(np.zeros((5, 32)), 16)
    assert (len(nothing.book.centroids), nothing.similarity) == (1, 0.0)
    assert np.isfinite(nothing.book.levels).all()


def test_training_is_the_same_every_time() -> None:
    tokens = clusters(np.random.default_rng(0), 50, 3000, 32, 0.5)
    first, second = (trained(tokens, 64).book for _ in range(2))
    np.testing.assert_array_equal(first.centroids.values, second.centroids.values)
    np.testing.assert_array_equal(first.spread, second.spread)
