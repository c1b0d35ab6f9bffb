"""Signs of an answer, on numbers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmretrieve.datatypes import ConfidenceLabel
from mmretrieve.encoders.lite import LiteEncoder
from mmretrieve.scoring.answered import (
    BIAS,
    FITTED_FOR,
    SIGNS,
    WEIGHTS,
    Background,
    Signs,
    digest,
    labelled,
    probability,
    signs_of,
)
from mmretrieve.scoring.nulls import Nulls, null_queries
from mmretrieve.search.judging import Judge

LABELS = list(ConfidenceLabel)


def _background() -> Background:
    nulls = Nulls(np.array([1, 2], np.int32), np.array([0.1, 0.3], np.float32))
    return Background(nulls, np.array([0.4, 0.6], np.float32), np.array([0.2, 0.2], np.float32))


def test_signs_are_what_they_say() -> None:
    similarity = np.full((2, 2, 3), -np.inf, np.float32)
    similarity[0, 0] = [0.5, 0.2, 0.9]
    similarity[1, 1] = [0.4, 0.7, 0.3]
    null = np.array([[0.3, 0.3, 0.3], [0.2, 0.5, 0.2]], np.float32)
    scale = np.array([0.1, 0.2], np.float32)
    words = (np.array([True, False, False]), np.array([False, True, True]))
    found = signs_of(similarity, null, scale, 0.25, words, n_words=2)
    assert found.reached == pytest.approx((0.5 + 0.7 + 0.9) / 3)
    assert found.common == pytest.approx((0.3 + 0.5 + 0.3) / 3)
    assert found.pieces == 1.5
    assert found.typical == 0.25
    # Above chance: 2 by frames; 1 by the other modality; 6 by frames.
    assert found.matched == pytest.approx(np.cbrt((8 + (1 + 216) / 2) / 2), rel=1e-5)


def test_signs_without_a_document_are_those_of_nothing_found() -> None:
    null = np.full((1, 2), 0.4, np.float32)
    every = (np.ones(2, bool),)
    found = signs_of(np.empty((0, 1, 2), np.float32), null, np.ones(1, np.float32), 0.0, every, 2)
    assert (found.reached, found.matched, found.pieces) == (0.0, 0.0, 1.0)


def test_two_signs_are_measured_against_null_queries() -> None:
    vector = _background().vector(Signs(0.5, 0.2, 1.0, 0.4, 1.0), score=8.0)
    assert len(vector) == len(SIGNS) == len(WEIGHTS)
    assert vector[0] == pytest.approx(2.0)
    assert vector[1] == pytest.approx(0.0, abs=1e-6)
    higher = _background().vector(Signs(0.61, 0.2, 1.0, 0.4, 1.0), score=8.0)
    assert higher[1] == pytest.approx(1.0, abs=1e-5)  # spread 0.1, and 0.01 so that it is never 0


def test_confidence_rises_with_the_score_and_labels_with_p() -> None:
    signs = Signs(0.55, 0.2, 1.0, 0.45, 1.2)
    level = _background().level(signs)
    found = [labelled(probability(level, float(s))) for s in np.linspace(0, 30, 200)]
    p = [one.p for one in found]
    assert p == sorted(p)
    assert p[-1] > p[0]
    whole = float(_background().vector(signs, 30.0) @ np.array(WEIGHTS)) + BIAS
    assert p[-1] == pytest.approx(1 / (1 + np.exp(-whole)), abs=6e-4)
    labels = [LABELS.index(one.label) for one in found]
    assert labels == sorted(labels)


def test_without_null_queries_nothing_is_measured_against_them() -> None:
    none = np.empty(0, np.float32)
    empty = Background(Nulls(np.empty(0, np.int32), none), none, none)
    assert empty.vector(Signs(0.9, 0.9, 1.0, 0.4, 1.0), 1.0)[1:3].tolist() == [0.0, 0.0]


def test_weights_are_those_fitted_for_this_encoder() -> None:
    assert digest(LiteEncoder().fingerprints()) == FITTED_FOR, (
        "weights of an encoder changed: fit confidence anew (python -m benchmarks abstention --fit)"
    )
    assert digest({"a": "1", "b": "2"}) == digest({"b": "2", "a": "1"}) != digest({"a": "1"})


def test_null_queries_are_many_distinct_ones_of_all_lengths() -> None:
    queries = null_queries()
    assert queries == null_queries()
    assert len(set(queries)) == len(queries) >= 100
    assert {1, 2, 5, 12} <= {len(q.split()) for q in queries}


def test_a_weaker_hit_is_as_sure_as_the_best_only_where_null_queries_do_not_reach_it() -> None:
    nulls = Nulls(np.full(3, 4, np.int32), np.array([0.1, 0.2, 0.3], np.float32))
    judge = Judge(nulls, 4, best=2.0, p=0.96)
    found = [judge.confidence(score) for score in (2.0, 0.4, 0.25, 0.05)]
    assert [one.p for one in found] == [
        0.96,
        0.96,
        round(0.96 * 2.5 / 3.5, 3),
        round(0.96 * 0.5 / 3.5, 3),
    ]
    assert found[0].label is ConfidenceLabel.HIGH
    assert found[-1].label is ConfidenceLabel.NONE
    assert Judge(nulls, 4, best=2.0, p=None).confidence(0.25) == nulls.confidence(0.25, 4)
