"""Thirty steps on the true architectures, with random weights and few of them: towers, joint turns,
LoRA on every projection of the language model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("transformers", reason="needs transformers")
pytest.importorskip("peft", reason="needs peft")
pytest.importorskip("accelerate", reason="needs accelerate")

import numpy as np
import torch
from accelerate.state import AcceleratorState, PartialState

from mmretrieve.datatypes import Modality, Segment
from mmretrieve.documents import Document, Picture
from mmretrieve.models.dialects import Backbone
from mmretrieve.models.protocol import MODALITIES
from mmretrieve.training.clamr.rows import Example
from mmretrieve.training.clamr.settings import (
    LoraSettings,
    Loss,
    Mode,
    OptimiserSettings,
    TrainSettings,
)
from mmretrieve.training.clamr.trainer import Material, Trainer
from tests import tiny_models

pytestmark = [pytest.mark.torch, pytest.mark.slow]

WORDS = ["balloon", "harbour", "speaker", "model", "entrance", "smoking", "Friday", "people"]
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "grey": (128,) * 3}
CUES = {"video": "show", "asr": "say", "ocr": "written", "description": "about"}
TARGETS = {"video": "frames", "asr": "speech", "ocr": "ocr", "description": "metadata"}


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    PartialState._reset_state()


def rows() -> tuple[Example, ...]:
    """Eight videos, each asked for by what is seen, said, written and known."""
    made = []
    colours = list(COLOURS)
    for i in range(len(WORDS)):
        said, written, known = (WORDS[(i + k) % len(WORDS)] for k in (0, 3, 5))
        colour = colours[i % len(colours)]
        pixels = np.full((56, 56, 3), COLOURS[colour], np.uint8)
        pixels[: 7 * i] = 255
        texts = zip(
            (Modality.SPEECH, Modality.OCR, Modality.METADATA), (said, written, known), strict=True
        )
        video = Document(
            f"v{i}", segments={m: (Segment(t),) for m, t in texts}, pictures=(Picture(pixels),)
        )
        shown = f"{colour} {i}"
        for kind, text in zip(CUES, (shown, said, written, known), strict=True):
            target = MODALITIES.index(TARGETS[kind])
            made.append(
                Example(f"{i}-{kind}", f"{CUES[kind]} {text}", kind, target, video, f"row:{i}")
            )
    return tuple(made)


@pytest.mark.parametrize("kind", list(Backbone))
def test_thirty_steps_learn(kind: Backbone, tmp_path: Path) -> None:
    settings = TrainSettings(
        mode=Mode.LORA,
        loss=Loss.HARD_NEGATIVE,
        temperature=0.05,
        lora=LoraSettings(rank=16, alpha=32, dropout=0.0),
        optimiser=OptimiserSettings(learning_rate=5e-3, epochs=99, batch_size=8, max_steps=30),
    )
    material = Material(rows(), rows())
    model = tiny_models.clamr(kind)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = Trainer(model, material, settings, tmp_path / "run", cpu=True)
    outcome = trainer.run()
    assert outcome.before is not None
    assert outcome.after is not None
    assert sum(outcome.losses[-5:]) < 0.6 * sum(outcome.losses[:5])
    assert outcome.before.modality.accuracy < 0.5
    assert outcome.after.modality.accuracy > 0.8
    assert outcome.after.value("nDCG@10") > outcome.before.value("nDCG@10") + 0.1
    moved = {n for n, p in model.named_parameters() if n in start and not torch.equal(p, start[n])}
    assert moved == set()  # the backbone and the projection themselves stay
    assert all("lora_" in name for name in trainer.trained)
    assert any("custom_text_proj" in name for name in trainer.trained)
    assert not any("visual" in name or "audio_tower" in name for name in trainer.trained)


@pytest.mark.parametrize("kind", list(Backbone))
def test_gradient_checkpointing_changes_memory_alone(kind: Backbone, tmp_path: Path) -> None:
    losses = []
    for on in (False, True):
        settings = TrainSettings(
            gradient_checkpointing=on,
            lora=LoraSettings(rank=4, alpha=8, dropout=0.0),
            optimiser=OptimiserSettings(learning_rate=5e-3, batch_size=4, max_steps=3),
        )
        trainer = Trainer(
            tiny_models.clamr(kind), Material(rows()), settings, tmp_path / str(on), cpu=True
        )
        losses.append(trainer.run().losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(set(losses[0])) == 3
