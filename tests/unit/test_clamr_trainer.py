"""Training runs: steps, resuming, what is refused. The model is a toy; the trainer is the real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("accelerate", reason="needs accelerate")

import torch
from accelerate.state import AcceleratorState, PartialState

from mmretrieve.datatypes import Aggregation
from mmretrieve.documents import text_document
from mmretrieve.errors import SetupError, UsageError, WeightsError
from mmretrieve.models.protocol import MODALITIES
from mmretrieve.training.clamr import checkpoint
from mmretrieve.training.clamr.rows import Example
from mmretrieve.training.clamr.schedule import Schedule
from mmretrieve.training.clamr.settings import (
    BalanceSettings,
    Loss,
    Mode,
    OptimiserSettings,
    Precision,
    TrainSettings,
)
from mmretrieve.training.clamr.trainer import LOG_FILE, Material, Trainer
from tests.late_model import WordModel

pytestmark = pytest.mark.torch

THINGS = ["owl", "oak", "ink", "ant", "elm", "ivy", "jay", "koi", "yak", "zip", "fox", "gnu"]
TYPES = {"asr": "speech", "ocr": "ocr", "description": "metadata"}


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """Precision is kept by the process, not by the trainer."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


def examples() -> tuple[Example, ...]:
    """One thing is said, another is written, a third is known; each is asked for once. What one
    video says another one shows, so that a model has to learn where to look."""
    made = []
    n = len(THINGS)
    for i in range(n):
        said, written, known = (THINGS[(i + k) % n] for k in (0, 1, 2))
        video = text_document(f"v{i}", speech=said, ocr=written, description=known)
        for kind, word in zip(TYPES, (said, written, known), strict=True):
            target = MODALITIES.index(TYPES[kind])
            cue = {"asr": "hear", "ocr": "read", "description": "about"}[kind]
            made.append(Example(f"{i}-{kind}", f"{cue} {word}", kind, target, video, f"r:{i}"))
    return tuple(made)


ROWS = examples()
QUICK = TrainSettings(
    mode=Mode.HEAD,
    loss=Loss.HARD_NEGATIVE,
    temperature=0.1,
    checkpoint_every=0,
    log_every=4,
    optimiser=OptimiserSettings(learning_rate=0.02, epochs=40, batch_size=6, max_steps=12),
)


def trained(
    folder: Path, settings: TrainSettings, *, until: int | None = None, resume: bool = False
) -> tuple[WordModel, tuple[float, ...]]:
    model = WordModel(dropout=0.2)
    trainer = Trainer(model, Material(ROWS, ()), settings, folder, cpu=True)
    return model, trainer.run(until=until, resume=resume).losses


BALANCED = BalanceSettings(gradient_modulation=0.5, modality_dropout=0.3, competition=0.1)


@pytest.mark.parametrize(
    "settings",
    [
        QUICK,
        replace(QUICK, balance=BALANCED, optimiser=replace(QUICK.optimiser, accumulation=2)),
        replace(QUICK, precision=Precision.BF16, aggregation=Aggregation.MODALITY_MAX),
    ],
    ids=["plain", "balanced", "bf16"],
)
def test_resuming_gives_the_weights_of_an_unbroken_run(
    settings: TrainSettings, tmp_path: Path
) -> None:
    whole, losses = trained(tmp_path / "whole", settings)
    first, early = trained(tmp_path / "broken", settings, until=5)
    rest, late = trained(tmp_path / "broken", settings, resume=True)
    assert early + late == losses
    for one, other in zip(whole.parameters(), rest.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first.custom_text_proj.weight, rest.custom_text_proj.weight)


def test_a_run_lowers_the_loss_and_finds_the_right_modality(tmp_path: Path) -> None:
    settings = replace(QUICK, optimiser=replace(QUICK.optimiser, max_steps=60))
    told: list[dict[str, object]] = []
    trainer = Trainer(
        WordModel(), Material(ROWS, ROWS), settings, tmp_path / "run", cpu=True,
        on_record=lambda record: told.append(dict(record)),
    )  # fmt: skip
    outcome = trainer.run()
    assert sum(outcome.losses[-6:]) < 0.7 * sum(outcome.losses[:6])
    assert outcome.before is not None
    assert outcome.after is not None
    assert outcome.after.modality.accuracy > outcome.before.modality.accuracy + 0.2
    assert outcome.after.value("R@1") > outcome.before.value("R@1")
    assert outcome.after.value("nDCG@10", "ocr") > outcome.before.value("nDCG@10", "ocr")
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG_FILE).read_text().splitlines()]
    assert lines == told
    assert [line["step"] for line in lines] == [0, *range(4, 61, 4), 60]
    assert set(lines[-1]["validation"]["measures"]) == {"all", "asr", "ocr", "description"}


def test_the_adapter_alone_is_trained_and_starts_from_the_seed(tmp_path: Path) -> None:
    settings = replace(QUICK, balance=BalanceSettings(gradient_modulation=1.0))
    before = WordModel()
    model, _ = trained(tmp_path, settings)
    moved = {
        name
        for (name, one), (_, other) in zip(
            before.named_parameters(), model.named_parameters(), strict=True
        )
        if not torch.equal(one, other)
    }
    assert moved == {"custom_text_proj.weight", "custom_text_proj.bias"}


def test_modulation_changes_the_weights(tmp_path: Path) -> None:
    plain, _ = trained(tmp_path / "a", QUICK)
    for name, balance in {
        "b": BalanceSettings(gradient_modulation=1.0),
        "c": BalanceSettings(modality_dropout=0.5),
        "d": BalanceSettings(competition=0.5),
    }.items():
        other, _ = trained(tmp_path / name, replace(QUICK, balance=balance))
        assert not torch.equal(plain.custom_text_proj.weight, other.custom_text_proj.weight)


def test_what_resuming_refuses(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint to resume from"):
        trained(tmp_path, QUICK, resume=True)
    trained(tmp_path, QUICK, until=2)
    with pytest.raises(UsageError, match="holds a run already"):
        trained(tmp_path, QUICK)
    other = replace(QUICK, temperature=0.2)
    with pytest.raises(UsageError, match="written with other settings"):
        trained(tmp_path, other, resume=True)
    trained(tmp_path, replace(QUICK, log_every=1), resume=True, until=3)  # changes no weight
    folder = checkpoint.newest(tmp_path)
    assert folder is not None
    data = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(data[:-7])
    with pytest.raises(WeightsError, match="cannot be read"):
        trained(tmp_path, QUICK, resume=True)
    (folder / "state.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"state\.json cannot be read"):
        trained(tmp_path, QUICK, resume=True)


def test_checkpoints_are_few_and_run_no_code(tmp_path: Path) -> None:
    settings = replace(QUICK, checkpoint_every=3, keep_checkpoints=2)
    trained(tmp_path, settings, until=10)
    folders = sorted(p.name for p in (tmp_path / checkpoint.FOLDER).iterdir())
    assert folders == ["step-0000009", "step-0000010"]
    files = {p.suffix for p in (tmp_path / checkpoint.FOLDER).rglob("*.*") if p.is_file()}
    assert files == {".safetensors", ".json"}
    # What a crash left behind is no checkpoint.
    (tmp_path / checkpoint.FOLDER / "step-0000099.partial").mkdir()
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.name == "step-0000010"


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    model = WordModel()
    with torch.no_grad():
        model.words.weight.fill_(float("nan"))
    trainer = Trainer(model, Material(ROWS), replace(QUICK, mode=Mode.HEAD), tmp_path, cpu=True)
    with pytest.raises(SetupError, match=r"the loss of step 1 is .*lower optimiser.learning_rate"):
        trainer.run()


def test_half_precision_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='use "bf16" or "no"'):
        trained(tmp_path, replace(QUICK, precision=Precision.FP16))


def test_schedule_by_hand() -> None:
    o = OptimiserSettings(learning_rate=1.0, warmup=0.2, epochs=2, batch_size=2, accumulation=2)
    schedule = Schedule(23, 2, o, seed=1)
    assert (schedule.steps_per_epoch, schedule.n_steps) == (2, 4)
    rates = [schedule.rate(step) for step in range(4)]
    assert rates == pytest.approx([1.0, 1.0, 2 / 3, 1 / 3])
    rows = {
        step: [
            int(r) for part in (0, 1) for rank in (0, 1) for r in schedule.rows(step, part, rank)
        ]
        for step in range(4)
    }
    for first in (0, 2):  # no row twice in an epoch
        assert len(set(rows[first] + rows[first + 1])) == 16
    assert rows[0] != rows[2]
    with pytest.raises(UsageError, match="7 rows are fewer than the 8 of one step"):
        Schedule(7, 2, o, seed=1)
    assert Schedule(23, 2, replace(o, max_steps=3), seed=1).n_steps == 3
