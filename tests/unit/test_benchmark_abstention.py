"""What the abstention benchmark fits and counts, on numbers that can be worked out."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.abstention_data import OWN, TEST, TUNE, Asked, nonsense, off_topic, spread
from benchmarks.abstention_fit import Rows, auroc, fit, outcome, wilson
from mmretrieve.scoring.nulls import null_queries


def _rows(rng: np.random.Generator, shift: float) -> Rows:
    own = rng.normal([1.5 + shift, 0], 0.5, (60, 2))
    others = rng.normal([-0.5 + shift, 0], 0.5, (80, 2))
    kinds = np.array([OWN] * 60 + ["elsewhere"] * 60 + ["letters"] * 20)
    halves = np.array([TUNE, TEST] * 70)
    return Rows(np.concatenate([own, others]), np.zeros(140), kinds, halves)


def test_fit_finds_what_separates_and_refuses_little_of_the_answered() -> None:
    rng = np.random.default_rng(0)
    libraries = [_rows(rng, 0.0), _rows(rng, 0.1)]
    weights = fit(libraries)
    assert weights.weights[0] > 5 * abs(weights.weights[1])
    found = outcome(libraries[0], weights.logits(libraries[0]), 0.0)
    assert found[0] < 0.05
    assert min(found[3], found[6]) > 0.85
    assert found[9] > 0.98


def test_wilson_interval_of_a_known_case() -> None:
    share, low, high = wilson(1, 10)
    assert (share, round(low, 4), round(high, 4)) == (0.1, 0.0179, 0.4042)
    assert np.isnan(wilson(0, 0)).all()


def test_area_under_the_curve_counts_ties_half() -> None:
    assert auroc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == 0.875


def test_halves_and_queries_are_always_the_same_and_no_null_query_is_asked() -> None:
    asked = [*off_topic(), *nonsense(60)]
    assert asked == [*off_topic(), *nonsense(60)]
    assert {a.text for a in asked}.isdisjoint(null_queries())
    halves = [a.half for a in asked]
    assert 0.35 < halves.count(TUNE) / len(halves) < 0.65
    assert Asked("a", OWN).half == Asked("a", "elsewhere").half
    assert spread(["b", "a", "b"], 5) == ["a", "b"]
    assert len(set(spread([str(i) for i in range(50)], 10))) == 10


@pytest.mark.parametrize("half", [TUNE, TEST])
def test_rows_of_a_half(half: str) -> None:
    rows = _rows(np.random.default_rng(1), 0.0)
    assert set(rows.of(half).half.tolist()) == {half}
    assert len(rows.of(half).kind) == 70
