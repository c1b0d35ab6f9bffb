"""``mmretrieve train`` as far as it needs no PyTorch: the plan, and what is said without the extra."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from mmretrieve.cli.app import app


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Rows and a folder that looks like a backbone, where PyTorch cannot be imported."""
    monkeypatch.setitem(sys.modules, "torch", None)
    rows = tmp_path / "rows.jsonl"
    row = {"query": "who speaks", "query_type": "asr", "asr": "a speaker", "ocr": "hours"}
    rows.write_text("".join(json.dumps({"video_id": f"v{i}", **row}) + "\n" for i in range(9)))
    model = tmp_path / "qwen"
    model.mkdir()
    config = {"model_type": "qwen2_5_vl", "hidden_size": 64, "intermediate_size": 128,
              "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}  # fmt: skip
    (model / "config.json").write_text(json.dumps(config))
    save_file({"model.embed_tokens.weight": np.zeros((3, 64), np.float32)}, model / "a.safetensors")
    return ["train", str(rows), "--model", str(model), "-o", str(tmp_path / "run"),
            "--set", "optimiser.batch_size=4"]  # fmt: skip


def run(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


def test_the_plan_needs_no_torch(arguments: list[str], tmp_path: Path) -> None:
    shown = run(*arguments, "--dry-run", "--set", "mode=head", "--format", "table")
    assert shown.exit_code == 0, shown.output
    lines = dict(line.split(maxsplit=1) for line in shown.stdout.split("{")[0].splitlines())
    assert lines["rows"] == "9 (9 asr) of 9 videos"
    assert lines["steps"] == "2 of 4 rows, 2 an epoch"
    assert lines["trained"].startswith("8,320 parameters (head)")  # 64 x 128 and 128
    assert lines["projection"] == "new, at random"
    assert '"mode": "head"' in shown.stdout
    assert not (tmp_path / "run").exists()


def test_without_the_extra_the_command_that_installs_it(
    arguments: list[str], tmp_path: Path
) -> None:
    result = run(*arguments)
    assert result.exit_code == 4, result.output
    assert 'pip install "mmretrieve[clamr]"' in result.stderr
    assert not (tmp_path / "run").exists()


def test_damaged_weights_are_named(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "qwen" / "a.safetensors").write_bytes(b"\x00" * 20)
    result = run(*arguments, "--dry-run")
    assert result.exit_code == 4
    assert "a.safetensors cannot be read" in result.stderr
