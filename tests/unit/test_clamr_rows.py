"""Rows and settings of a training run: what is read, and what is said of what cannot be."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmretrieve.datatypes import Aggregation
from mmretrieve.errors import InputError, UsageError
from mmretrieve.models.protocol import MODALITIES
from mmretrieve.training.clamr.plan import count_trained, make_plan
from mmretrieve.training.clamr.rows import (
    check_pictures,
    count_types,
    digest,
    joint_document,
    read_examples,
)
from mmretrieve.training.clamr.schedule import Schedule
from mmretrieve.training.clamr.settings import Loss, Mode, OptimiserSettings, TrainSettings

ROW = {
    "video_id": "a", "query": "who bakes bread", "query_type": "asr", "ocr": "Rye flour",
    "description": "A baker at work", "asr": "we knead the dough", "images": ["a0.png", "a1.png"],
}  # fmt: skip


def write_rows(folder: Path, *rows: Mapping[str, object]) -> Path:
    folder.mkdir(exist_ok=True)
    for i, colour in enumerate(("red", "blue")):
        Image.new("RGB", (6, 4), colour).save(folder / f"a{i}.png")
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_joined_rows(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path, ROW, {**ROW, "query": "flour", "query_type": "ocr"},
        {"video_id": "b", "query": "silence", "query_type": "video", "ocr": "x"},
    )  # fmt: skip
    examples = read_examples(path)
    assert [(e.query, MODALITIES[e.target], e.video_id, e.has_target) for e in examples] == [
        ("who bakes bread", "speech", "a", True),
        ("flour", "ocr", "a", True),
        ("silence", "frames", "b", False),
    ]
    assert len({e.query_id for e in examples}) == 3
    assert check_pictures(examples) == 2
    joint = joint_document(examples[0])
    assert (joint.speech, joint.ocr, joint.metadata) == (
        "we knead the dough", "Rye flour", "A baker at work",
    )  # fmt: skip
    assert [np.asarray(frame).shape for frame in joint.frames] == [(4, 6, 3)] * 2
    assert np.asarray(joint.frames[0])[0, 0].tolist() == [255, 0, 0]
    assert joint.audio is None
    assert count_types(examples) == {"asr": 1, "ocr": 1, "video": 1}
    assert digest(examples) != digest(examples[::-1])


def test_queries_joined_with_content_by_video_id(tmp_path: Path) -> None:
    queries = {"a": {"query": "who bakes bread", "query_type": "asr"},
               "b": {"query": "night train", "query_type": "description"}}  # fmt: skip
    folder = tmp_path / "pp"
    folder.mkdir()
    (folder / "queries.json").write_text(json.dumps(queries, indent=1))
    content = [
        {"video_id": "b", "description": "train to Lisbon"},
        {"video_id": "a", "asr": "dough"},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in content)
    (folder / "documents.jsonl").write_text(lines)
    beside = read_examples(folder)
    assert [(e.query_id, joint_document(e).speech) for e in beside] == [("a", "dough"), ("b", "")]
    elsewhere = tmp_path / "content.jsonl"
    elsewhere.write_text(lines.splitlines()[0])
    with pytest.raises(
        UsageError, match=r"queries\.json:2: no content for video 'a'.*content\.jsonl"
    ):
        read_examples(folder, elsewhere)
    (folder / "documents.jsonl").unlink()
    with pytest.raises(UsageError, match=r"no content for video 'a': expected a row of documents"):
        read_examples(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query": ""}, r'rows\.jsonl:2: "query": expected text'),
        ({"query_type": "smell"}, r"rows\.jsonl:2: \"query_type\": 'smell'"),
        ({"video_id": None}, r'rows\.jsonl:2: "video_id"'),
        ({"asr": 3}, r'rows\.jsonl:2: "asr"'),
        ({"images": [7]}, r'rows\.jsonl:2: "images"'),
        ({"ocr": "Wheat"}, r"rows\.jsonl:2: 'a' was there before with other content"),
    ],
)
def test_faulty_rows_are_named(change: dict[str, object], said: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path, ROW, {**ROW, **change})
    with pytest.raises(UsageError, match=said):
        read_examples(path)


def test_faulty_pictures_are_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path, ROW)
    examples = read_examples(path)
    (tmp_path / "a1.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"rows\.jsonl:1: video 'a': picture .*a1\.png cannot be"):
        check_pictures(examples)
    with pytest.raises(InputError, match=r"rows\.jsonl:1: video 'a': picture .*a1\.png"):
        joint_document(examples[0])
    (tmp_path / "a0.png").unlink()
    with pytest.raises(UsageError, match=r"a0\.png cannot be read"):
        check_pictures(examples)


def test_settings_from_file_and_changes(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        'loss = "pairwise"\n[optimiser]\nepochs = 3\nlearning_rate = 1\n[lora]\nrank = 8\n'
    )
    found = TrainSettings.read(
        path, ["optimiser.epochs=5", "mode=head", "aggregation=modality_max"]
    )
    assert found.loss is Loss.PAIRWISE
    assert found.mode is Mode.HEAD
    assert found.aggregation is Aggregation.MODALITY_MAX
    assert (found.optimiser.epochs, found.optimiser.learning_rate, found.lora.rank) == (5, 1.0, 8)
    assert isinstance(found.optimiser.learning_rate, float)
    assert found.temperature == 0.02
    again = json.loads(found.to_json())
    assert again["optimiser"]["epochs"] == 5
    assert TrainSettings.read().key == TrainSettings.read(None, ["log_every=3"]).key
    assert TrainSettings.read().key != TrainSettings.read(None, ["seed=3"]).key
    assert tomllib.loads(path.read_text())["optimiser"]["epochs"] == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("temperature=0", "temperature = 0: expected at least 0.0001"),
        ("temperature=nan", "temperature = nan"),
        ("loss=hinge", "loss = 'hinge': expected one of contrastive, hard_positive"),
        ("aggregation=weighted", "expected token_max or modality_max"),
        ("optimizer.epochs=3", "unknown setting 'optimizer': expected some of mode"),
        ("optimiser.epoch=3", "unknown setting 'epoch'"),
        ("optimiser.epochs=1.5", "epochs = 1.5: expected a value of type int"),
        ("optimiser.epochs=true", "epochs = True: expected a value of type int"),
        ("optimiser.batch_size=1", "batch_size = 1: expected at least 2"),
        ("gradient_checkpointing=1", "expected a value of type bool"),
        ("balance.modality_dropout=1.5", "at most 1"),
        ("lora=8", "expected a table"),
        ("lora", "expected NAME=VALUE"),
        ("a b=1", "expected NAME=VALUE"),
    ],
)
def test_settings_that_cannot_be(change: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        TrainSettings.read(None, [change])


def test_settings_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read"):
        TrainSettings.read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("loss = ")
    with pytest.raises(UsageError, match=r"bad\.toml: not valid TOML"):
        TrainSettings.read(tmp_path / "bad.toml")


def test_plan_by_hand(tmp_path: Path) -> None:
    rows = [{**ROW, "video_id": f"v{i}", "images": []} for i in range(7)]
    rows.append({"video_id": "silent", "query": "x", "query_type": "asr", "ocr": "y"})
    examples = read_examples(write_rows(tmp_path, *rows))
    settings = TrainSettings(optimiser=OptimiserSettings(batch_size=3, epochs=2))
    schedule = Schedule(len(examples), 1, settings.optimiser, 0)
    config = {"hidden_size": 8, "intermediate_size": 20, "num_attention_heads": 4,
              "num_key_value_heads": 2, "num_hidden_layers": 3}  # fmt: skip
    plan = make_plan(examples, (), 0, schedule, settings, (config, True))
    assert (plan.n_rows, plan.n_videos, plan.n_aimless) == (8, 8, 1)
    assert (plan.rows_per_step, plan.steps_per_epoch, plan.n_steps) == (3, 2, 4)
    # q, o: 8 -> 8; k, v: 8 -> 4; gate, up, down: 8 <-> 20; projection: 8 -> 128
    per_layer = 2 * (8 + 8) + 2 * (8 + 4) + 3 * (8 + 20)
    assert plan.n_trained == 128 * (3 * per_layer + 8 + 128)
    assert plan.state_bytes == 16 * plan.n_trained
    head = TrainSettings(mode=Mode.HEAD)
    assert count_trained(config, head) == 8 * 128 + 128
