"""A missing modality neither sinks nor lifts a document: it counts as one that is there at chance."""

from __future__ import annotations

import numpy as np
import pytest

from mmretrieve.datatypes import MODALITIES, Aggregation
from mmretrieve.scoring.aggregation import Scoring, aggregate, calibrate, evidence

TOKENWISE = (Aggregation.TOKEN_MAX, Aggregation.MODALITY_MAX)
N_MODALITIES = len(MODALITIES)


def _scores(values: np.ndarray, reference: np.ndarray, scoring: Scoring) -> np.ndarray:
    return aggregate(evidence(values, calibrate(reference, scoring), scoring), scoring)


def _case(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    nq = int(rng.integers(1, 12))
    shape = (200, N_MODALITIES, nq)
    reference = rng.normal(0.45, 0.08, shape).astype(np.float32)
    values = rng.normal(0.45, 0.12, (30, N_MODALITIES, nq)).astype(np.float32)
    return values, reference


@pytest.mark.parametrize("how", TOKENWISE)
@pytest.mark.parametrize("seed", range(10))
def test_missing_equals_present_at_or_below_chance(how: Aggregation, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, reference = _case(rng)
    weights = dict(zip(MODALITIES, rng.choice([0.3, 1.0, 2.5], N_MODALITIES).tolist(), strict=True))
    scoring = Scoring(how, weights)
    null = calibrate(reference, scoring).null
    lacking = int(rng.integers(N_MODALITIES))
    below = values.copy()
    below[:, lacking] = null[lacking] - rng.uniform(0, 0.3, below[:, lacking].shape)
    missing = values.copy()
    missing[:, lacking] = -np.inf
    np.testing.assert_array_equal(
        _scores(missing, reference, scoring), _scores(below, reference, scoring)
    )


@pytest.mark.parametrize("how", TOKENWISE)
def test_a_modality_that_says_nothing_hardly_lifts(how: Aggregation) -> None:
    """Similarities that scatter around chance, as those of unrelated documents do, are worth
    little beside a word that is found (1 and more): their third powers are small."""
    rng = np.random.default_rng(3)
    lifts = []
    for _ in range(50):
        values, reference = _case(rng)
        missing = values.copy()
        missing[:, 1] = -np.inf
        values[:, 1] = rng.normal(0.45, 0.08, values[:, 1].shape)
        lifts.append(
            _scores(values, reference, Scoring(how)) - _scores(missing, reference, Scoring(how))
        )
    lift = np.concatenate(lifts)
    assert lift.min() >= 0
    assert lift.mean() < 0.02


@pytest.mark.parametrize("seed", range(5))
def test_weighted_averages_over_what_is_there(seed: int) -> None:
    """The one aggregation for which missing is not chance: a mean, by its definition, of the modalities
    that a document has. One that is there at chance takes its part of the mean."""
    rng = np.random.default_rng(seed)
    values, reference = _case(rng)
    scoring = Scoring(Aggregation.WEIGHTED)
    null = calibrate(reference, scoring).null
    missing, below = values.copy(), values.copy()
    missing[:, 2] = -np.inf
    below[:, 2] = null[2] - 0.1
    np.testing.assert_allclose(
        _scores(missing, reference, scoring) * (N_MODALITIES - 1) / N_MODALITIES,
        _scores(below, reference, scoring),
        rtol=1e-5,
    )
