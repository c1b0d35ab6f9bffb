"""The modality importance score by hand."""

from __future__ import annotations

import math

import pytest

from mmretrieve.datatypes import Modality
from mmretrieve.evaluation.importance import importance, subsets

FR, SP = Modality.FRAMES, Modality.SPEECH
VALUES = {
    #                  speech alone, both needed, either, none, fusion hurts
    frozenset([FR]): [0.0, 0.2, 1.0, 0.0, 1.0],
    frozenset([SP]): [1.0, 0.2, 1.0, 0.0, 0.0],
    frozenset([FR, SP]): [1.0, 1.0, 1.0, 0.0, 0.5],
}


def test_importance_by_hand() -> None:
    found = importance("nDCG@10", [FR, SP], VALUES)
    # with frames: mean of v(F) and v(FS); without: mean of v(S) and v(none) = 0
    frames = [(0 + 1) / 2 - 1 / 2, (0.2 + 1) / 2 - 0.1, 1 - 0.5, 0, 0.75 - 0]
    speech = [(1 + 1) / 2 - 0, (0.2 + 1) / 2 - 0.1, 1 - 0.5, 0, 0.25 - 0.5]
    assert found.modalities[FR].importance.mean == pytest.approx(sum(frames) / 5)
    assert found.modalities[SP].importance.mean == pytest.approx(sum(speech) / 5)
    assert found.modalities[FR].alone.mean == pytest.approx(2.2 / 5)
    assert (found.modalities[FR].enough, found.modalities[SP].enough) == (2 / 5, 2 / 5)
    assert found.together.mean == pytest.approx(3.5 / 5)
    assert found.best_alone.mean == pytest.approx((1 + 0.2 + 1 + 0 + 1) / 5)
    assert (found.n_one_enough, found.n_several, found.n_unanswered) == (3, 1, 1)
    assert found.one_modality == 3 / 4


def test_subsets_and_what_is_refused() -> None:
    assert list(subsets([FR, SP])) == [(FR,), (SP,), (FR, SP)]
    assert len(list(subsets(list(Modality)))) == 31
    with pytest.raises(ValueError, match="3 subsets"):
        importance("x", [FR, SP], {frozenset([FR]): [1.0]})
    with pytest.raises(ValueError, match="same queries"):
        importance("x", [FR, SP], {**VALUES, frozenset([FR]): [1.0]})
    dead = importance("x", [FR], {frozenset([FR]): [0.0]})
    assert math.isnan(dead.one_modality)
