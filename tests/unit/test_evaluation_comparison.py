"""Intervals, tests of differences, winning modalities, groups of queries, tables."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest

from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.errors import UsageError
from mmretrieve.evaluation import intervals
from mmretrieve.evaluation.experiment import coverage, measure_runs, run_queries
from mmretrieve.evaluation.intervals import (
    bootstrap,
    bootstrap_columns,
    compare,
    compare_columns,
)
from mmretrieve.evaluation.measures import parse_measures
from mmretrieve.evaluation.modality import TARGETS, modality_report, winner
from mmretrieve.evaluation.queries import Query
from mmretrieve.evaluation.report import comparison_sections, markdown, modality_sections
from mmretrieve.evaluation.trec import Qrels, Run

FR, SP, OC, ME, AU = MODALITIES


def test_the_interval_of_a_known_proportion() -> None:
    found = bootstrap([1.0] * 50 + [0.0] * 50)
    assert (found.mean, found.n) == (0.5, 100)
    # the normal approximation: 0.5 -+ 1.96 sqrt(0.25 / 100)
    assert found.low == pytest.approx(0.402, abs=0.012)
    assert found.high == pytest.approx(0.598, abs=0.012)
    assert found == bootstrap([1.0] * 50 + [0.0] * 50)
    assert found != bootstrap([1.0] * 50 + [0.0] * 50, seed=1, n_samples=999)


def test_level_and_degenerate_values() -> None:
    values = np.random.default_rng(0).normal(size=40).tolist()
    wide, narrow = bootstrap(values, level=0.99), bootstrap(values, level=0.5)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high
    same = bootstrap([0.25])
    assert (same.mean, same.low, same.high) == (0.25, 0.25, 0.25)
    none = bootstrap([])
    assert none.n == 0
    assert all(math.isnan(v) for v in (none.mean, none.low, none.high))


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    samples = rng.exponential(size=(300, 60))
    held = 0
    for sample in samples:
        found = bootstrap(sample.tolist(), n_samples=500)
        held += found.low <= 1.0 <= found.high
    assert 0.88 <= held / len(samples) <= 0.98


def test_differences_by_hand() -> None:
    # 2 of the 2^5 ways to flip five equal signs are as extreme
    found = compare([0.6] * 5, [0.5] * 5)
    assert found.mean == pytest.approx(0.1)
    assert found.p == pytest.approx(2 / 32, abs=0.01)
    equal = compare([0.1, 0.9], [0.1, 0.9])
    assert (equal.mean, equal.low, equal.high, equal.p) == (0.0, 0.0, 0.0, 1.0)


def test_differences_are_paired_and_have_a_sign() -> None:
    rng = np.random.default_rng(3)
    theirs = rng.uniform(size=80)
    ours = theirs + 0.02 + rng.normal(scale=0.02, size=80)
    better, worse = compare(ours.tolist(), theirs.tolist()), compare(theirs.tolist(), ours.tolist())
    assert better.low > 0
    assert better.p < 0.001
    assert worse.mean == -better.mean
    with pytest.raises(ValueError, match="80 and 79"):
        compare(ours.tolist(), theirs[:-1].tolist())
    nothing = compare([], [])
    assert math.isnan(nothing.mean)
    assert math.isnan(nothing.p)


def test_memory_does_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).uniform(size=30).tolist()
    whole, test = bootstrap(values), compare(values, values[::-1])
    monkeypatch.setattr(intervals, "_CELLS_AT_ONCE", 100)
    for found, before in ((bootstrap(values), whole), (compare(values, values[::-1]), test)):
        assert astuple(found) == pytest.approx(astuple(before), abs=1e-12)


def test_columns_are_resampled_like_one_alone() -> None:
    table = np.random.default_rng(4).uniform(size=(50, 3))
    spreads, differences = bootstrap_columns(table), compare_columns(table - 0.5)
    for column in range(3):
        values = table[:, column].tolist()
        alone = bootstrap(values)
        assert astuple(spreads[column]) == pytest.approx(astuple(alone), abs=1e-12)
        paired = compare(values, [0.5] * 50)
        assert astuple(differences[column]) == pytest.approx(astuple(paired), abs=1e-12)


def test_winning_modalities_by_hand() -> None:
    targets = [FR, FR, SP, OC]
    winners = [(FR, FR, SP), (SP, SP, FR), (SP,), ()]
    report = modality_report(targets, winners)
    assert (report.n_queries, report.n_undecided) == (4, 1)
    assert report.accuracy == 2 / 4
    assert report.any_accuracy == 3 / 4
    assert report.confusion[FR] == {FR: 1, SP: 1, OC: 0, ME: 0, AU: 0}
    assert report.confusion[SP][SP] == 1
    assert sum(report.confusion[OC].values()) == 0
    # frames P 1/1 R 1/2 F 2/3; speech P 1/2 R 1/1 F 2/3; ocr 0; metadata takes no part
    assert report.precision == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert report.recall == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert report.f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert report.distribution == {FR: 3 / 7, SP: 4 / 7, OC: 0.0, ME: 0.0, AU: 0.0}


def test_sound_is_shown_where_it_is_asked_for_or_wins() -> None:
    for targets, winners, shown in (
        ([FR], [(FR, SP)], (FR, SP, OC, ME)),
        ([FR], [(FR, FR, AU)], (FR, SP, OC, ME, AU)),
        ([AU], [(SP,)], (FR, SP, OC, ME, AU)),
    ):
        report = modality_report(targets, winners)
        assert report.shown == shown
        table = modality_sections("run", report)[1]
        assert table.header == ("wanted", *shown)
        assert {len(row) for row in table.rows} == {len(shown) + 1}


def test_ties_and_words_of_clamr() -> None:
    assert winner((SP, FR)) is FR
    assert winner(()) is None
    assert (TARGETS["asr"], TARGETS["speech"], TARGETS["video"]) == (SP, SP, FR)
    with pytest.raises(ValueError, match="2 queries, got 1"):
        modality_report([FR, SP], [(FR,)])
    empty = modality_report([], [])
    assert math.isnan(empty.accuracy)
    assert math.isnan(empty.f1)
    assert empty.distribution[Modality.FRAMES] == 0.0


QRELS = Qrels({"1": {"a": 1}, "2": {"b": 1}, "3": {"c": 1}})
GOOD = Run("good", {"1": {"a": 2.0, "b": 1.0}, "2": {"b": 1.0}, "3": {"c": 1.0}})
POOR = Run("poor", {"1": {"a": 2.0}, "2": {"a": 2.0, "b": 1.0}})


def test_groups_and_contrasts() -> None:
    found = measure_runs(
        QRELS, [GOOD, POOR], parse_measures("RR,R@1"), {"1": "ocr", "2": "frames", "3": ""}
    )
    assert [(r.group, r.tag, r.n_queries, r.intervals[0].mean) for r in found.rows] == [
        ("all", "good", 3, 1.0),
        ("all", "poor", 3, 0.5),
        ("frames", "good", 1, 1.0),
        ("frames", "poor", 1, 0.5),
        ("ocr", "good", 1, 1.0),
        ("ocr", "poor", 1, 1.0),
    ]
    (contrast,) = found.contrasts
    assert (contrast.tag, contrast.against) == ("poor", "good")
    assert [d.mean for d in contrast.differences] == pytest.approx([-0.5, -2 / 3])


def test_one_type_for_all_is_no_group() -> None:
    found = measure_runs(QRELS, [GOOD], parse_measures("RR"), dict.fromkeys("123", "ocr"))
    assert [row.group for row in found.rows] == ["all"]
    assert found.contrasts == ()


def test_how_qrels_and_run_fit() -> None:
    fit = coverage(QRELS, Run("t", {"1": {"a": 1.0}, "9": {"a": 1.0}}))
    assert (fit.n_judged, fit.n_unanswered, fit.n_unjudged) == (3, 2, 1)
    with pytest.raises(UsageError, match="share no query: ids like '9' and '1'"):
        coverage(QRELS, Run("t", {"9": {"a": 1.0}}))


def test_asking_keeps_queries_without_an_answer() -> None:
    queries = [Query("1", "dog", "", ("a",), "f:1"), Query("2", "cat", "", ("b",), "f:2")]
    run = run_queries("t", queries, lambda text: {"a": 1.0} if text == "dog" else {})
    assert run == Run("t", {"1": {"a": 1.0}, "2": {}})


def test_a_query_that_cannot_be_asked_is_placed() -> None:
    def search(text: str) -> dict[str, float]:
        raise UsageError(f"no word in {text!r}")

    with pytest.raises(UsageError, match=r"^f:7: no word in '\?'$"):
        run_queries("t", [Query("1", "?", "", ("a",), "f:7")], search)


def test_markdown() -> None:
    found = measure_runs(QRELS, [GOOD, Run("po|or", POOR.scores)], parse_measures("RR"))
    text = markdown(
        [*comparison_sections(found), *modality_sections("t", modality_report([FR], [(FR,)]))]
    )
    lines = text.splitlines()
    assert lines[2:6] == [
        "| queries | run | n | RR |",
        "| --- | --- | --: | --: |",
        "| all | good | 3 | 1.000 [1.000, 1.000] |",
        "| all | po\\|or | 3 | 0.500 [0.000, 1.000] |",
    ]
    assert any(line.startswith("| po\\|or | -0.500 [-1.000, +0.000] p=") for line in lines)
    assert "| 1 | 0 | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 |" in lines
    assert "| frames | 1 | 0 | 0 | 0 |" in lines
