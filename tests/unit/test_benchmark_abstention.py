"""What the abstention benchmark fits and counts, on numbers that can be worked out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.abstention_data import (
    OWN,
    TEST,
    TUNE,
    Asked,
    nonsense,
    off_topic,
    same_genre,
    spread,
)
from benchmarks.abstention_fit import Rows, auroc, fit, outcome, wilson
from mmretrieve.scoring.nulls import null_queries


def _rows(rng: np.random.Generator, shift: float) -> Rows:
    own = rng.normal([1.5 + shift, 0], 0.5, (60, 2))
    others = rng.normal([-0.5 + shift, 0], 0.5, (80, 2))
    kinds = np.array([OWN] * 60 + ["elsewhere"] * 60 + ["letters"] * 20)
    halves = np.array([TUNE, TEST] * 70)
    ranks = np.array([1, 0, 3] * 20 + [0] * 80)
    return Rows(
        np.concatenate([own, others]), np.zeros(140), kinds, halves, ranks, np.zeros(140, bool)
    )


def test_fit_finds_what_separates_and_refuses_little_of_the_answered() -> None:
    rng = np.random.default_rng(0)
    libraries = [_rows(rng, 0.0), _rows(rng, 0.1)]
    weights = fit(libraries)
    assert weights.weights[0] > 5 * abs(weights.weights[1])
    found = outcome(libraries[0], weights.logits(libraries[0]), 0.0)
    assert found.own[0] < 0.05
    assert min(found.off[0], found.senseless[0]) > 0.85
    assert found.auroc > 0.98


def test_outcome_counts_each_group_and_refusals_of_what_was_found() -> None:
    kind = np.array([OWN] * 4 + ["near", "far", "far", "letters"])
    rank = np.array([1, 1, 4, 0, 0, 0, 0, 0])
    rows = Rows(np.zeros((8, 1)), np.zeros(8), kind, np.full(8, TEST), rank, kind == "near")
    found = outcome(rows, np.array([1.0, -1, 1, -1, -1, -1, 1, -1]), 0.0)
    assert (found.own[0], found.first) == (0.5, 0.5)
    assert found.ten == pytest.approx(1 / 3)
    assert (found.off[0], found.senseless[0], found.alike) == (0.5, 1.0, 1.0)
    assert found.without[0] == pytest.approx(2 / 3)


def test_nothing_is_fitted_on_queries_of_the_same_genre() -> None:
    rows = _rows(np.random.default_rng(2), 0.0)
    alike = replace(
        rows, signs=rows.signs.copy(), alike=(rows.kind == "elsewhere") & (np.arange(140) % 2 == 0)
    )
    alike.signs[alike.alike] = 50.0
    clean = rows.where(~alike.alike)
    np.testing.assert_allclose(fit([alike]).weights, fit([clean]).weights)


def test_same_genre_is_said_of_collections_and_not_of_nonsense() -> None:
    assert same_genre("flickr8k", "MSR-VTT")
    assert not same_genre("flickr8k", "cisi")
    assert not same_genre("flickr8k", "letters")


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
