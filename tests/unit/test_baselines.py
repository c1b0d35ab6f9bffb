"""Fusion baselines on cases small enough to compute by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmretrieve.datatypes import Modality
from mmretrieve.scoring.baselines import (
    mean_similarity,
    modality_scores,
    reciprocal_rank_fusion,
    route,
    routed,
    single_modality,
)

MISSING = -np.inf

# Means over two tokens, by frames, speech, ocr, metadata.
MEANS = np.array(
    [
        [0.2, 0.9, MISSING, 0.4],
        [0.6, 0.1, MISSING, MISSING],
        [0.4, MISSING, MISSING, 0.4],
        [MISSING, MISSING, MISSING, MISSING],
        [MISSING, 0.1, MISSING, MISSING],
        [MISSING, 0.1, MISSING, MISSING],
    ],
    np.float32,
)
SIMILARITY = np.stack([MEANS - np.float32(0.05), MEANS + np.float32(0.05)], axis=2)


def test_scores_of_modalities_are_means_over_tokens() -> None:
    np.testing.assert_allclose(modality_scores(SIMILARITY), MEANS, atol=1e-6)


def test_mean_is_over_the_modalities_that_a_document_has() -> None:
    np.testing.assert_allclose(
        mean_similarity(SIMILARITY), [0.5, 0.35, 0.4, MISSING, 0.1, 0.1], atol=1e-6
    )


def test_reciprocal_ranks_add_up() -> None:
    # frames: 1, 2, 0; speech: 0, then 1, 4, 5 tied by number; metadata: 0, 2 tied by number
    expected = [
        1 / 63 + 1 / 61 + 1 / 61,
        1 / 61 + 1 / 62,
        1 / 62 + 1 / 62,
        MISSING,
        1 / 63,
        1 / 64,
    ]
    np.testing.assert_allclose(reciprocal_rank_fusion(SIMILARITY), expected, atol=1e-7)


def test_k_flattens_the_ranks() -> None:
    np.testing.assert_allclose(
        reciprocal_rank_fusion(SIMILARITY, k=0),
        [1 / 3 + 1 + 1, 1 + 1 / 2, 1 / 2 + 1 / 2, MISSING, 1 / 3, 1 / 4],
        atol=1e-6,
    )


def test_routing_takes_the_modality_whose_best_document_stands_out() -> None:
    # frames: (0.6 - 0.4) / 0.1633 = 1.22; speech: (0.9 - 0.3) / 0.3464 = 1.73; metadata: equal, 0
    assert route(SIMILARITY) is Modality.SPEECH
    np.testing.assert_allclose(
        routed(SIMILARITY), [0.9, 0.1, MISSING, MISSING, 0.1, 0.1], atol=1e-6
    )


def test_routing_never_takes_a_modality_that_no_document_has() -> None:
    only_ocr = np.full((3, 4, 2), MISSING, np.float32)
    only_ocr[1, 2] = 0.3
    assert route(only_ocr) is Modality.OCR
    np.testing.assert_allclose(routed(only_ocr), [MISSING, 0.3, MISSING], atol=1e-6)


def test_rounding_does_not_stand_out() -> None:
    near = np.full((100, 4, 3), 0.1, np.float32)
    near[0, 0] = np.nextafter(np.float32(0.1), np.float32(1))
    near[:50, 1] = 0.2
    assert route(near) is Modality.SPEECH


def test_single_modality() -> None:
    np.testing.assert_allclose(
        single_modality(SIMILARITY, Modality.METADATA), MEANS[:, 3], atol=1e-6
    )


def test_scores_do_not_change_the_maxima() -> None:
    before = SIMILARITY.copy()
    for score in (modality_scores, mean_similarity, reciprocal_rank_fusion, routed):
        assert score(SIMILARITY).dtype == np.float32
    np.testing.assert_array_equal(SIMILARITY, before)


@pytest.mark.parametrize("score", [mean_similarity, reciprocal_rank_fusion, routed])
def test_no_documents(score: object) -> None:
    assert callable(score)
    assert score(np.empty((0, 4, 2), np.float32)).shape == (0,)
