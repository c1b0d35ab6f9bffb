"""``mmretrieve train`` from a folder of tiny weights to a model that can be loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("transformers", reason="needs transformers")
pytest.importorskip("peft", reason="needs peft")
pytest.importorskip("accelerate", reason="needs accelerate")

import torch
from accelerate.state import AcceleratorState, PartialState
from PIL import Image
from typer.testing import CliRunner, Result

from mmretrieve.cli.app import app
from mmretrieve.models.dialects import Backbone
from mmretrieve.models.loading import load
from mmretrieve.models.protocol import Document
from tests import tiny_models

pytestmark = [pytest.mark.torch, pytest.mark.slow]

QUICK = ("lora.rank=4", "lora.alpha=8", "optimiser.batch_size=4", "optimiser.learning_rate=0.01",
         "optimiser.epochs=9", "checkpoint_every=2")  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    PartialState._reset_state()


def run(*args: str, steps: int = 4) -> Result:
    AcceleratorState._reset_state(reset_partial_state=True)
    changes = [part for s in (*QUICK, f"optimiser.max_steps={steps}") for part in ("--set", s)]
    return CliRunner().invoke(
        app, ["train", *args, *changes, "--format", "json", "--device", "cpu"]
    )


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = []
    for i in range(8):
        Image.new("RGB", (60, 60), (30 * i, 90, 90)).save(tmp_path / f"{i}.png")
        content = {
            "ocr": f"hours {i}",
            "asr": f"speaker {i}",
            "description": "",
            "images": [f"{i}.png"],
        }
        kind = ("video", "ocr", "asr", "description")[i % 4]
        lines.append({"video_id": f"v{i}", "query": f"video {i}", "query_type": kind, **content})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def plain_backbone(folder: Path, kind: Backbone) -> Path:
    """A backbone as Qwen publishes it: without projection."""
    tokens = tiny_models.tokenizer(kind)
    tiny_models.backbone(kind, tokens).save_pretrained(str(folder))
    tokens.save(str(folder / "tokenizer.json"))
    return folder


def test_from_a_plain_backbone_to_a_model(rows: Path, tmp_path: Path) -> None:
    start = plain_backbone(tmp_path / "qwen", Backbone.QWEN_VL)
    output = tmp_path / "run"
    common = (str(rows), "--model", str(start), "-o", str(output))
    planned = run(*common, "--dry-run")
    assert planned.exit_code == 0, planned.output
    plan = json.loads(planned.stdout)["plan"]
    assert (plan["n_rows"], plan["n_pictures"], plan["n_steps"]) == (8, 8, 4)
    assert plan["n_aimless"] == 2
    assert plan["new_projection"] is True
    assert "2 of 8 rows aim at a modality that their video lacks" in planned.stderr
    assert not output.exists()

    done = run(*common, "--validation", str(rows))
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["n_steps"] == 4
    assert set(told["after"]["measures"]) == {"all", "asr", "description", "ocr", "video"}
    assert "step 4: " in done.stderr
    trained = load(told["model"])
    n_trained = sum(p.numel() for n, p in trained.named_parameters() if "lora_" in n)
    assert n_trained == plan["n_trained"]
    documents = [Document(speech="speaker 3", ocr="hours 3")]
    untrained = load(str(output / "start"), backbone=str(start))
    with torch.no_grad():
        after, before = (m.encode_documents(documents).vectors for m in (trained, untrained))
    assert after.shape == before.shape
    assert not torch.allclose(after, before, atol=1e-3)

    again = run(*common)
    assert again.exit_code == 2
    assert "holds a run already" in again.stderr
    resumed = run(*common, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "resumed from step-0000004" in resumed.stderr
    with torch.no_grad():
        same = load(told["model"]).encode_documents(documents).vectors
    assert torch.equal(same, after)


def test_the_projection_alone(rows: Path, tmp_path: Path) -> None:
    start = plain_backbone(tmp_path / "qwen", Backbone.QWEN_VL)
    output = tmp_path / "run"
    done = run(str(rows), "--model", str(start), "-o", str(output), "--set", "mode=head", steps=2)
    assert done.exit_code == 0, done.output
    trained = load(str(output / "model"))
    untrained = load(str(output / "start"), backbone=str(start))
    moved = {
        name
        for (name, one), (_, other) in zip(
            trained.named_parameters(), untrained.named_parameters(), strict=True
        )
        if not torch.equal(one, other)
    }
    assert moved == {"custom_text_proj.weight", "custom_text_proj.bias"}


def test_resuming_the_true_architecture_is_exact(rows: Path, tmp_path: Path) -> None:
    start = tiny_models.write_clamr(tmp_path / "omni", Backbone.QWEN_OMNI, lora=False)
    weights = []
    for name in ("whole", "broken"):
        output = tmp_path / name
        common = (str(rows), "--model", str(start), "-o", str(output))
        assert run(*common).exit_code == 0
        if name == "broken":  # as if it had been killed after two of the four steps
            import shutil

            shutil.rmtree(output / "checkpoints" / "step-0000004")
            shutil.rmtree(output / "model")
            assert "resumed from step-0000002" in run(*common, "--resume").stderr
        model = load(str(output / "model"))
        weights.append({n: p.detach().clone() for n, p in model.named_parameters()})
    assert any("lora_B" in name and bool(w.abs().sum() > 0) for name, w in weights[0].items())
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (("--model", "no/such"), 4, "hf download no/such"),
        (("--config", "none.toml"), 2, "none.toml: cannot be read"),
        (("--set", "loss=hinge"), 2, "expected one of contrastive"),
        (("--set", "optimiser.batch_size=64"), 2, "8 rows are fewer than the 64 of one step"),
        (("--set", "precision=fp16"), 2, "needs a GPU"),
        (("--resume",), 2, "no checkpoint to resume from"),
    ],
)
def test_bad_wishes_are_refused_early(
    change: tuple[str, ...], code: int, said: str, rows: Path, tmp_path: Path
) -> None:
    start = plain_backbone(tmp_path / "qwen", Backbone.QWEN_VL)
    args = ["train", str(rows), "--model", str(start), "-o", str(tmp_path / "run"),
            "--set", "optimiser.batch_size=4", "--device", "cpu", *change]  # fmt: skip
    result = CliRunner().invoke(app, args)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output
