"""Measures against hand-computed values and against ``pytrec_eval``."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
import pytrec_eval

from mmretrieve.errors import UsageError
from mmretrieve.evaluation.measures import (
    DEFAULT,
    Measure,
    parse_measures,
    per_query,
    ranking,
    value,
    values,
)
from mmretrieve.evaluation.moments import (
    NAMES,
    Span,
    moment_values,
    success_at_iou,
    temporal_iou,
)
from mmretrieve.evaluation.trec import Qrels, Run

PYTREC_NAMES = {
    "nDCG": "ndcg",
    "nDCG@10": "ndcg_cut_10",
    "R@5": "recall_5",
    "P@5": "P_5",
    "Success@5": "success_5",
    "RR": "recip_rank",
    "AP": "map",
    "AP@10": "map_cut_10",
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ndcg@10", "nDCG@10"),
        ("MRR", "RR"),
        ("map", "AP"),
        ("recall@5", "R@5"),
        (" rr@10 ", "RR@10"),
    ],
)
def test_measures_print_as_the_field_writes_them(text: str, shown: str) -> None:
    assert str(Measure.parse(text)) == shown
    assert Measure.parse(shown) == Measure.parse(text)


@pytest.mark.parametrize("text", ["", "F1", "nDCG@", "nDCG@0", "R", "P", "nDCG@-1", "nDCG 10"])
def test_what_is_no_measure(text: str) -> None:
    with pytest.raises(UsageError, match="measure"):
        Measure.parse(text)


def test_lists_of_measures() -> None:
    assert [str(m) for m in DEFAULT] == ["R@1", "R@5", "R@10", "nDCG@10", "RR"]
    assert parse_measures(None) == DEFAULT
    assert [str(m) for m in parse_measures("AP, ndcg@5,AP")] == ["AP", "nDCG@5"]
    with pytest.raises(UsageError, match="no measure"):
        parse_measures(" , ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nDCG@3", (2 / math.log2(3)) / (2 + 1 / math.log2(3) + 1 / math.log2(4))),
        ("R@2", 1 / 3),
        ("R@4", 2 / 3),
        ("P@4", 2 / 4),
        ("P@10", 2 / 10),
        ("Success@1", 0.0),
        ("Success@2", 1.0),
        ("RR", 1 / 2),
        ("RR@1", 0.0),
        ("AP", (1 / 2 + 2 / 4) / 3),
        ("AP@2", (1 / 2) / 3),
    ],
)
def test_by_hand(text: str, expected: float) -> None:
    judged = {"a": 2, "b": 1, "c": 1, "x": 0, "y": -2}
    assert value(Measure.parse(text), ["x", "a", "y", "b"], judged) == pytest.approx(expected)


def test_ties_go_to_the_later_id_and_scores_are_of_single_precision() -> None:
    assert ranking({"a": 1.0, "c": 1.0, "b": 2.0}) == ["b", "c", "a"]
    assert ranking({"a": 1000.00001, "b": 1000.0}) == ["b", "a"]
    assert ranking({"a": 1e300, "b": 1e299}) == ["b", "a"]
    assert ranking({}) == []


def test_missing_data() -> None:
    qrels = Qrels({"answered": {"a": 1}, "left out": {"a": 1}, "nothing relevant": {"a": 0}})
    run = Run("t", {"answered": {"a": 1.0}, "nothing relevant": {"a": 1.0}, "unjudged": {"a": 1.0}})
    found = per_query(qrels, run, DEFAULT)
    assert list(found) == ["answered", "left out", "nothing relevant"]
    assert found["answered"] == (1.0,) * 5
    assert found["left out"] == found["nothing relevant"] == (0.0,) * 5


def test_agrees_with_pytrec_eval() -> None:
    rng = np.random.default_rng(5)
    qrels: dict[str, dict[str, int]] = {}
    scores: dict[str, dict[str, float]] = {}
    for number in range(60):
        pool = [f"d{i}" for i in rng.permutation(80)]
        judged, ranked = pool[: rng.integers(1, 30)], pool[rng.integers(0, 20) :]
        qrels[f"q{number}"] = {d: int(rng.integers(-1, 4)) for d in judged}
        # few distinct values: many ties
        scores[f"q{number}"] = {d: float(rng.integers(0, 25)) / 7 for d in ranked}
    names = {n.replace("_cut_", "_cut.").replace("ll_5", "ll.5") for n in PYTREC_NAMES.values()}
    names = {n.replace("P_5", "P.5").replace("success_5", "success.5") for n in names}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, names).evaluate(scores)
    measures = [Measure.parse(text) for text in PYTREC_NAMES]
    ours = per_query(Qrels(qrels), Run("t", scores), measures)
    for query_id, found in ours.items():
        expected = [theirs[query_id][name] for name in PYTREC_NAMES.values()]
        assert found == pytest.approx(expected, abs=1e-6), query_id


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_ir_measures_on_random_runs_without_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    qrels = {
        f"q{q}": {f"d{d}": int(rng.integers(0, 3)) for d in rng.permutation(50)[:12]}
        for q in range(40)
    }
    scores = {
        f"q{q}": {f"d{d}": float(s) for d, s in enumerate(rng.permutation(50))} for q in range(35)
    }
    names = ["nDCG@10", "R@1", "R@5", "R@10", "RR", "RR@10", "AP", "P@5", "Success@5"]
    theirs: dict[tuple[str, str], float] = {
        (found.query_id, str(found.measure)): found.value
        for found in ir_measures.iter_calc(
            [ir_measures.parse_measure(name) for name in names], qrels, scores
        )
    }
    ours = per_query(Qrels(qrels), Run("t", scores), [Measure.parse(name) for name in names])
    for query_id, found in ours.items():
        expected = [theirs[query_id, name] for name in names]
        assert found == pytest.approx(expected, abs=1e-6), query_id


def test_values_of_a_ranking_and_what_is_relevant() -> None:
    measures = parse_measures("Success@1,Success@5,nDCG@10")
    assert values(measures, list("abcdef"), {"a"}) == (1.0, 1.0, 1.0)
    assert values(measures, list("abcdef"), {"f"}) == pytest.approx((0, 0, 1 / math.log2(7)))
    assert values(measures, [], {"a"}) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 10), (5, 15), 5 / 15),
        ((0, 10), (0, 10), 1.0),
        ((0, 10), (2, 4), 0.2),
        ((0, 10), (10, 20), 0.0),
        ((0, 1), (5, 6), 0.0),
        ((3, 3), (3, 3), 1.0),
        ((3, 3), (4, 4), 0.0),
        ((3, 3), (0, 9), 0.0),
    ],
)
def test_overlap_in_time(
    one: tuple[float, float], other: tuple[float, float], expected: float
) -> None:
    first, second = Span("v", *one), Span("v", *other)
    assert temporal_iou(first, second) == pytest.approx(expected)
    assert temporal_iou(second, first) == pytest.approx(expected)
    assert temporal_iou(first, Span("w", *other)) == 0.0


def test_success_at_an_overlap() -> None:
    truth = [Span("v", 0, 10)]
    answers = [Span("w", 0, 10), Span("v", 0, 4), Span("v", 1, 9)]
    assert [success_at_iou(answers, truth, k, 0.5) for k in (1, 2, 3)] == [0.0, 0.0, 1.0]
    assert success_at_iou(answers, truth, 2, 0.4) == 1.0


@pytest.mark.parametrize("times", [(2.0, 1.0), (math.nan, 1.0), (0.0, math.nan)])
def test_a_span_that_ends_before_it_starts(times: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="start_s <= end_s"):
        Span("v", *times)


def test_moments_of_queries() -> None:
    truth = {"1": [Span("v", 0, 10), Span("v", 20, 30)], "2": [Span("w", 0, 4)]}
    answers = {"1": [Span("v", 24, 32), Span("v", 0, 10)]}
    found = moment_values(answers, truth)
    first = dict(zip(NAMES, found["1"], strict=True))
    assert first == {
        "R@1,IoU>=0.3": 1.0, "R@1,IoU>=0.5": 1.0, "R@1,IoU>=0.7": 0.0,
        "R@5,IoU>=0.3": 1.0, "R@5,IoU>=0.5": 1.0, "R@5,IoU>=0.7": 1.0,
        "mIoU": pytest.approx(6 / 12),
    }  # fmt: skip
    assert found["2"] == (0.0,) * len(NAMES)
