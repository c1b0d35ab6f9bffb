"""Probes: the same seed the same change, and each changes what it says, nothing else."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mmretrieve.datatypes import MODALITIES, Modality, QueryTokens, Segment
from mmretrieve.documents import Document, Picture
from mmretrieve.evaluation.probes import (
    NOBODY,
    PLANNERS,
    RATE,
    Probe,
    compressed_frames,
    insert_attributes,
    speech_noise,
    typos,
)
from mmretrieve.experiments.probes import changed
from mmretrieve.search.similarities import Similarities, Units

RNG = np.random.default_rng(0)
M = len(MODALITIES)
PRESENT = RNG.random((400, M)) < 0.7
RELEVANT = np.arange(400) % 2 == 0
OWN = np.repeat(np.arange(400)[:, None], M, axis=1)
SENTENCE = "a brown dog catches a yellow frisbee in the garden"


@pytest.mark.parametrize("probe", list(PLANNERS))
def test_plans_are_drawn_by_the_seed(probe: Probe) -> None:
    plans = [PLANNERS[probe](PRESENT, RELEVANT, seed) for seed in (0, 0, 1)]
    columns = [(p.dropped, p.source, p.added) for p in plans]
    assert all(np.array_equal(a, b) for a, b in zip(columns[0], columns[1], strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(columns[0], columns[2], strict=True))
    assert plans[0].n_changed > 0


def test_missing_at_random() -> None:
    plan = PLANNERS[Probe.MISSING_AT_RANDOM](PRESENT, RELEVANT, 3)
    assert not plan.dropped[~PRESENT].any()
    left = PRESENT & ~plan.dropped
    assert np.array_equal(left.any(axis=1), PRESENT.any(axis=1))
    share = plan.dropped.sum() / PRESENT.sum()
    assert RATE - 0.06 < share < RATE + 0.03
    assert plan.n_changed == plan.dropped.sum()
    assert np.array_equal(plan.source, OWN)


def test_missing_not_at_random_takes_from_answers_alone() -> None:
    plan = PLANNERS[Probe.MISSING_NOT_AT_RANDOM](PRESENT, RELEVANT, 3)
    mild = PLANNERS[Probe.MISSING_AT_RANDOM](PRESENT, RELEVANT, 3)
    assert not plan.dropped[~RELEVANT].any()
    assert np.array_equal(plan.dropped[RELEVANT], mild.dropped[RELEVANT])
    assert plan.dropped.any()


def test_dilution_adds_and_interference_replaces() -> None:
    dilution = PLANNERS[Probe.CONTENT_DILUTION](PRESENT, RELEVANT, 5)
    swapped = PLANNERS[Probe.MODALITY_INTERFERENCE](PRESENT, RELEVANT, 5)
    for other, which in (
        (dilution.added, dilution.added != NOBODY),
        (swapped.source, swapped.source != OWN),
    ):
        documents, modalities = np.nonzero(which)
        assert len(set(documents)) == len(documents)  # one modality a document
        assert 0.4 < len(documents) / PRESENT.any(axis=1).sum() < 0.6
        assert PRESENT[documents, modalities].all()
        assert PRESENT[other[which], modalities].all()
        assert (other[which] != documents).all()
    assert np.array_equal(dilution.source, OWN)
    assert (swapped.added == NOBODY).all()


def test_a_lone_document_cannot_be_mixed() -> None:
    for probe in (Probe.CONTENT_DILUTION, Probe.MODALITY_INTERFERENCE):
        assert PLANNERS[probe](np.ones((1, M), bool), np.ones(1, bool), 0).n_changed == 0


@pytest.mark.parametrize("probe", list(PLANNERS))
def test_similarities_change_where_the_plan_says(probe: Probe) -> None:
    values = np.where(PRESENT[:, :, None], RNG.random((400, M, 3)), -np.inf).astype(np.float32)
    sample = np.arange(0, 400, 7)
    nowhere = np.full(400, np.nan)
    units = Units(tuple(map(str, range(400))), np.full(400, -1, np.int32), nowhere, nowhere, sample)
    asked = QueryTokens("q", {}, ("a", "b", "c"), np.arange(3, dtype=np.int32))
    before = Similarities(asked, units, values, values[sample])
    plan = PLANNERS[probe](PRESENT, RELEVANT, 1)
    after = changed(before, plan)
    for d, m in np.ndindex(400, M):
        if plan.dropped[d, m]:
            right = np.full(3, -np.inf)
        elif plan.added[d, m] != NOBODY:
            right = np.maximum(values[d, m], values[plan.added[d, m], m])
        else:
            right = values[plan.source[d, m], m]
        assert np.array_equal(after.values[d, m], right)
    assert np.array_equal(after.reference, after.values[sample])
    assert before.values is values


def test_attributes_are_put_before_words_that_mean_something() -> None:
    text = insert_attributes(SENTENCE, ["muddy", "the", "dog", "it", "42"], 0)
    added = [w for w in text.split() if w == "muddy"]
    assert len(added) == 2  # of six words that mean something every third
    assert re.sub(r"muddy ", "", text) == SENTENCE
    assert not re.search(r"muddy (a|in|the)\b", text)
    assert text == insert_attributes(SENTENCE, ["muddy", "the"], 0)
    assert insert_attributes(SENTENCE, ["dog", "the"], 0) == SENTENCE
    assert insert_attributes("to be", ["muddy"], 0) == "to be"
    variants = {insert_attributes(SENTENCE, ["muddy", "happy"], seed) for seed in range(8)}
    assert len(variants) > 1


def test_typos_touch_long_words_once() -> None:
    text = typos(SENTENCE, 0)
    assert text == typos(SENTENCE, 0) != SENTENCE
    pairs = list(zip(SENTENCE.split(), text.split(), strict=True))
    touched = [(a, b) for a, b in pairs if a != b]
    assert len(touched) == round(RATE * 5)
    assert all(len(a) >= 4 and abs(len(a) - len(b)) <= 1 for a, b in touched)
    assert len({typos(SENTENCE, seed) for seed in range(8)}) > 4
    assert typos("a big dog", 0) == "a big dog"


def test_every_slip_changes_the_word() -> None:
    for seed in range(300):
        assert typos("noon", seed) != "noon"


def test_speech_noise_keeps_times_and_other_modalities() -> None:
    said = " ".join(["station", "platform", "departure", "luggage"] * 50)
    document = Document(
        "a",
        segments={
            Modality.SPEECH: (Segment(said, 1, 9), Segment("ok")), Modality.OCR: (Segment("Exit"),)
        },
    )  # fmt: skip
    words = {"stable", "plate", "depot", "lump", "station"}
    noisy = speech_noise(document, words, 0)
    assert noisy == speech_noise(document, words, 0)
    assert noisy != speech_noise(document, words, 1)
    heard = noisy.segments[Modality.SPEECH][0]
    assert (heard.start_s, heard.end_s) == (1, 9)
    before, after = said.split(), heard.text.split()
    kept = sum(w in ("station", "platform", "departure", "luggage") for w in after)
    assert {"stable", "plate", "depot", "lump"} <= set(after)
    assert 0.6 * len(before) < kept < 0.95 * len(before)
    assert noisy.segments[Modality.OCR] == document.segments[Modality.OCR]
    assert speech_noise(document, words, 0, rate=0.0) == document


def test_compressed_frames_lose_detail_but_keep_their_size() -> None:
    image = RNG.integers(0, 256, (64, 48, 3), dtype=np.uint8)
    document = Document("a", pictures=(Picture(image, 1, 2),))
    poor = compressed_frames(document).pictures[0]
    again = compressed_frames(document).pictures[0]
    assert isinstance(poor.image, np.ndarray)
    assert isinstance(again.image, np.ndarray)
    assert np.array_equal(poor.image, again.image)
    assert poor.image.shape == image.shape
    assert (poor.start_s, poor.end_s) == (1, 2)
    assert poor.image.astype(float).std() < 0.6 * image.astype(float).std()
