"""Training of the text projection on made-up states, where a better projection exists and is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="needs PyTorch")

from mmretrieve.datatypes import Modality
from mmretrieve.training.clamr.losses import Loss
from mmretrieve.training.projection_data import Captions, Narrated, read_narrated
from mmretrieve.training.token_states import HIDDEN, Floats, States, kept
from mmretrieve.training.train_projection import Recipe, Trainer

pytestmark = pytest.mark.torch

N_VIDEOS = 40
DIM = 8


def states(rows: Sequence[NDArray[Any]]) -> States:
    starts = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return States(np.concatenate(rows).astype(np.float16), starts)


def made_up() -> tuple[Narrated, Captions, Floats]:
    """A video and its query share what stands in the first 16 places; loud noise stands in the next 16,
    which the starting projection mixes in."""
    rng = np.random.default_rng(0)

    def token(topic: Floats) -> Floats:
        out = np.zeros((3, HIDDEN))
        out[:, :16] = topic + 0.1 * rng.normal(size=(3, 16))
        out[:, 16:32] = 2.0 * rng.normal(size=(3, 16))
        return out.astype(np.float32)

    topics = rng.normal(size=(N_VIDEOS, 16)).astype(np.float32)
    documents = {
        Modality.OCR: states([token(t) for t in topics]),
        Modality.SPEECH: states([token(rng.normal(size=16).astype(np.float32)) for _ in topics]),
    }
    every = np.arange(N_VIDEOS)
    narrated = Narrated(
        states([token(t) for t in topics]), documents, every, every[:30], every[30:]
    )
    captions = states([token(t) for t in topics for _ in range(2)])
    start = (rng.normal(size=(HIDDEN, DIM)) / np.sqrt(HIDDEN)).astype(np.float32)
    return narrated, Captions(captions, 2 * np.arange(N_VIDEOS + 1), every[:30]), start


def found_first(narrated: Narrated, projection: Floats) -> float:
    """Share of the test queries whose video has the largest MaxSim among test videos."""
    right = 0
    for query in narrated.test:
        words = states([narrated.queries.of(query)]).projected(projection)
        scores = []
        for video in narrated.test:
            both = [narrated.documents[m].of(video) for m in (Modality.OCR, Modality.SPEECH)]
            tokens = states(both).projected(projection)
            scores.append(float((words @ tokens.T).max(axis=1).mean()))
        right += int(narrated.test[int(np.argmax(scores))] == query)
    return right / len(narrated.test)


@pytest.mark.parametrize("loss", [Loss.CONTRASTIVE, Loss.HARD_POSITIVE, Loss.HARD_NEGATIVE])
def test_training_finds_what_queries_and_videos_share(loss: Loss) -> None:
    narrated, captions, start = made_up()
    recipe = Recipe(loss=loss, passes=40, batch=15, rate=2e-2, caption_batch=10)
    trained = Trainer(narrated, captions, start, recipe).run()
    before, after = found_first(narrated, start), found_first(narrated, trained)
    assert after >= 0.8
    assert after >= before + 0.3
    # The noise has been given up for what is shared.
    signal, noise = np.linalg.norm(trained[:16]), np.linalg.norm(trained[16:32])
    assert signal > 2 * noise


def test_training_is_the_same_for_the_same_seed() -> None:
    narrated, captions, start = made_up()
    recipe = Recipe(passes=1, batch=10, caption_batch=5)
    left, right = (Trainer(narrated, captions, start, recipe).run() for _ in range(2))
    np.testing.assert_array_equal(left, right)
    assert np.abs(left - start).max() > 1e-5
    # What no token shows is left as it was.
    np.testing.assert_array_equal(left[32:], start[32:])


def test_states_are_made_once_and_project_to_unit_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [rng.normal(size=(n, HIDDEN)).astype(np.float32) for n in (3, 0, 2)]
    first = kept(tmp_path / "a.npz", lambda: rows)
    again = kept(tmp_path / "a.npz", lambda: pytest.fail("made a second time"))
    assert first.counts.tolist() == again.counts.tolist() == [3, 0, 2]
    np.testing.assert_array_equal(again.of(2), rows[2].astype(np.float16))
    projection = rng.normal(size=(HIDDEN, DIM)).astype(np.float32)
    tokens = again.projected(projection)
    assert tokens.shape == (5, DIM)
    expected = rows[2][1].astype(np.float16).astype(np.float64) @ projection
    np.testing.assert_allclose(tokens[4], expected / np.linalg.norm(expected), atol=1e-5)


def test_videos_for_testing_are_none_of_those_for_training(tmp_path: Path) -> None:
    folder, cache = tmp_path / "data", tmp_path / "cache"
    folder.mkdir()
    corpus = [
        {"_id": f"v{i}", "visual": [{"text": f"a cat number {i}"}], "asr": "hello" if i else " "}
        for i in range(5)
    ]
    queries = [{"_id": f"q{i}", "text": "a cat"} for i in range(4)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq0\tv3\t1\nq2\tv0\t1\nq3\tv1\t0\n"
    )
    found = read_narrated(folder, cache, 0.6)
    assert found.answer.tolist() == [3, 0]
    assert len(found.train) == 3
    assert sorted([*found.train, *found.test]) == list(range(5))
    assert found.documents[Modality.SPEECH].counts.tolist()[0] == 0
    assert (found.documents[Modality.OCR].counts >= 4).all()
    assert found.queries.of(0).shape == (2, HIDDEN)
