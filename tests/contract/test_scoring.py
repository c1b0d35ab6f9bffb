"""Every fast path equals the plain loops of ``scoring/reference.py``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmretrieve.datatypes import MODALITIES, Aggregation, Modality
from mmretrieve.errors import UsageError
from mmretrieve.scoring import reference
from mmretrieve.scoring.aggregation import Scoring, aggregate, calibrate, contributions, evidence

AGGREGATIONS = list(Aggregation)
M = len(MODALITIES)


def similarity(rng: np.random.Generator, n_docs: int, n_tokens: int) -> np.ndarray:
    """Maxima with modalities missing at random, like a library of real files."""
    out = rng.uniform(-0.2, 1.0, (n_docs, len(MODALITIES), n_tokens)).astype(np.float32)
    out[rng.random((n_docs, len(MODALITIES))) < 0.4] = -np.inf
    return out


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    how=st.sampled_from(AGGREGATIONS),
    power=st.sampled_from([1.0, 2.0, 3.0]),
    n_tokens=st.integers(1, 12),
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=M, max_size=M).filter(any),
)
def test_scores_equal_the_reference(
    seed: int, how: Aggregation, power: float, n_tokens: int, weights: list[float]
) -> None:
    rng = np.random.default_rng(seed)
    values = similarity(rng, 7, n_tokens)
    scoring = Scoring(how, dict(zip(MODALITIES, weights, strict=True)), power=power)
    calibration = calibrate(values, scoring)
    prior = np.array([scoring.prior[m] for m in MODALITIES], np.float32)
    null = reference.chance(values, prior, scoring.prior_weight)
    np.testing.assert_allclose(calibration.null, null, atol=1e-6)

    sharpened = evidence(values, calibration, scoring)
    expected = reference.evidence(values, null, calibration.scale, power)
    np.testing.assert_allclose(sharpened, expected, rtol=2e-4, atol=1e-6)

    scores = aggregate(sharpened, scoring)
    wanted = reference.aggregate(expected, how, scoring.weight_vector)
    np.testing.assert_allclose(scores, wanted, rtol=2e-4, atol=1e-6)
    parts = contributions(sharpened, scoring).sum(axis=(1, 2))
    np.testing.assert_allclose(parts[np.isfinite(scores)], scores[np.isfinite(scores)], rtol=1e-5)


def test_a_missing_modality_neither_lifts_nor_sinks_a_document() -> None:
    """Token-wise, a modality at chance level and an absent one are worth the same: nothing."""
    present = np.full((1, M, 3), -np.inf, np.float32)
    present[0, 1] = [0.9, 0.8, 0.7]
    beside = present.copy()
    beside[0, 0] = 0.1
    both = np.concatenate([present, beside])
    scoring = Scoring()
    calibration = calibrate(both, scoring)
    first, second = aggregate(evidence(both, calibration, scoring), scoring)
    assert first == second > 0


def test_negative_similarities_lose_to_nothing() -> None:
    """No padding or default of 0 may beat a negative similarity in the paper's plain score."""
    values = np.full((1, M, 2), -np.inf, np.float32)
    values[0, 2] = -0.5
    plain = Scoring(power=1, centre=False)
    assert aggregate(evidence(values, calibrate(values, plain), plain), plain)[0] == -0.5


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_a_document_without_the_searched_modality_is_out(how: Aggregation) -> None:
    values = np.full((2, M, 2), -np.inf, np.float32)
    values[0, 0], values[1, 1] = 0.9, 0.9
    scoring = Scoring(how, {m: float(m is Modality.SPEECH) for m in MODALITIES})
    scores = aggregate(evidence(values, calibrate(values, scoring), scoring), scoring)
    assert np.isneginf(scores[0])
    assert scores[1] > 0


def test_weights_change_the_winner() -> None:
    values = np.full((2, M, 1), -np.inf, np.float32)
    values[0, 1], values[1, 2] = 0.8, 0.78
    for weights, winner in (({}, 0), ({Modality.OCR: 3.0}, 1)):
        scoring = Scoring(weights=weights)
        scores = aggregate(evidence(values, calibrate(values, scoring), scoring), scoring)
        assert scores.argmax() == winner


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_an_impossible_weight_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="at least 0"):
        Scoring(weights={Modality.OCR: weight})


def test_all_weights_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing would be searched"):
        Scoring(weights=dict.fromkeys(MODALITIES, 0.0))


def test_what_was_measured_before_there_was_sound_still_holds() -> None:
    """The key of the usual scoring, under which indexes keep their null scores, is as it was."""
    assert Scoring().key == (
        "token_max 3 True 4 False frames:1,0.25,0.3 speech:1,0.25,0.45 ocr:1,0.25,0.45 "
        "metadata:1,0.25,0.43"
    )
    assert Scoring(weights={Modality.AUDIO: 2.0}).key.endswith(" audio:2,0.25,0.3")
    assert Scoring(weights={Modality.AUDIO: 0.0}).key != Scoring().key


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_sound_that_no_document_has_changes_no_bit(how: Aggregation) -> None:
    rng = np.random.default_rng(11)
    values = similarity(rng, 500, 9)
    values[:, MODALITIES.index(Modality.AUDIO)] = -np.inf
    found = []
    for weights in ({}, {Modality.AUDIO: 0.0}, {Modality.AUDIO: 7.0}):
        scoring = Scoring(how, weights)
        found.append(aggregate(evidence(values, calibrate(values, scoring), scoring), scoring))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
