"""The gate: what it does to weights, and what fitting it gives."""

from __future__ import annotations

import numpy as np
import pytest

from mmretrieve.datatypes import COMMON, MODALITIES, Modality
from mmretrieve.encoders.lite import LiteEncoder
from mmretrieve.errors import UsageError
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.scoring.gate import FILE, Gate, gated, shipped
from mmretrieve.training.fit_gate import Typed, balance, fit


def test_a_query_that_says_nothing_is_weighed_by_one() -> None:
    gate = Gate(np.zeros((8, 4), np.float32), np.zeros(4, np.float32))
    tokens = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    assert gate.modality_weights(tokens).tolist() == [1.0] * 4


def test_weights_are_probabilities_against_an_even_prior() -> None:
    gate = Gate(np.zeros((2, 4), np.float32), np.log(np.array([4, 2, 1, 1], np.float32)))
    tokens = np.ones((3, 2), np.float32)
    np.testing.assert_allclose(gate.probabilities(tokens), [0.5, 0.25, 0.125, 0.125], rtol=1e-6)
    weights = gate.modality_weights(tokens, strength=0.5)
    np.testing.assert_allclose(weights, np.sqrt([2, 1, 0.5, 0.5]), rtol=1e-6)
    np.testing.assert_allclose(gate.modality_weights(tokens, strength=0.0), 1.0)


def test_user_weights_multiply_on_top_and_zero_stays_zero() -> None:
    tokens = LiteEncoder().query("a dog jumps over a red fence").vectors["text"]
    own = shipped().modality_weights(tokens)
    given = Scoring(weights={Modality.FRAMES: 2.0, Modality.OCR: 0.0}, gate=True)
    found = gated(given, tokens)
    assert not found.gate
    np.testing.assert_allclose(found.weight_vector, [*(own * [2.0, 1.0, 0.0, 1.0]), 1.0], rtol=1e-6)
    assert gated(Scoring(), tokens) == Scoring()
    assert given.key != Scoring(weights=given.weights).key


def test_the_shipped_gate_knows_a_caption_and_is_small() -> None:
    encoder = LiteEncoder()
    caption = shipped().probabilities(
        encoder.query("two brown dogs run on wet sand").vectors["text"]
    )
    event = shipped().probabilities(encoder.query("2018 Lombok earthquake").vectors["text"])
    frames = MODALITIES.index(Modality.FRAMES)
    assert caption.argmax() == frames
    assert event[frames] < 0.25 < caption[frames]
    assert FILE.stat().st_size < 10_000


def test_tokens_of_another_width_are_refused() -> None:
    with pytest.raises(UsageError, match=r"width 128.*have 64"):
        gated(Scoring(gate=True), np.ones((2, 64), np.float32))


def test_fit_tells_separable_modalities_apart_and_counts_sources_alike() -> None:
    rng = np.random.default_rng(0)
    queries, means = [], []
    for number, modality in enumerate(COMMON):
        for source, n in (("a", 40), ("b", 10)):
            queries += [Typed("q", modality, source)] * n
            means += list(np.eye(6)[number] + 0.1 * rng.normal(size=(n, 6)))
    counts = balance(queries)
    assert counts.sum() == pytest.approx(1)
    assert counts[:40].sum() == pytest.approx(counts[40:50].sum()) == pytest.approx(0.125)
    gate = fit(np.array(means), queries, ridge=1e-4)
    told = (np.array(means) @ gate.weights + gate.bias).argmax(axis=1)
    right = np.array([COMMON[i] is q.modality for i, q in zip(told, queries, strict=True)])
    assert right.mean() > 0.98
