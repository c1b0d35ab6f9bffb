"""Two processes take the step that one with the whole batch takes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("accelerate", reason="needs accelerate")

import torch
from safetensors.torch import load_file

from mmretrieve.training.clamr import checkpoint
from mmretrieve.training.clamr.settings import BalanceSettings, OptimiserSettings
from tests.late_model import WordModel
from tests.unit.test_clamr_trainer import QUICK, ROWS

pytestmark = [pytest.mark.torch, pytest.mark.slow]

_TIMEOUT_S = 1200
SETTINGS = replace(
    QUICK,
    balance=BalanceSettings(gradient_modulation=0.5, competition=0.1),
    optimiser=OptimiserSettings(learning_rate=0.02, epochs=9, batch_size=12, max_steps=4),
)

_CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from mmretrieve.training.clamr.trainer import Material, Trainer
from tests.unit.test_clamr_processes import ROWS, SETTINGS, WordModel

settings = replace(SETTINGS, optimiser=replace(SETTINGS.optimiser, batch_size=int(sys.argv[2])))
trainer = Trainer(WordModel(), Material(ROWS, ROWS), settings, Path(sys.argv[1]), cpu=True)
outcome = trainer.run()
print(trainer.accelerator.num_processes, outcome.after.value("nDCG@10"), outcome.after.modality.accuracy)
"""


def run(folder: Path, n_processes: int) -> list[str]:
    """The output of each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    size = str(SETTINGS.optimiser.batch_size // n_processes)
    children = []
    for rank in range(n_processes):
        about = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n_processes)}
        about |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        environment = {**os.environ, **about, "OMP_NUM_THREADS": "1"} if n_processes > 1 else None
        children.append(
            subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(folder), size],
                env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    ended = [child.communicate(timeout=_TIMEOUT_S) for child in children]
    assert [child.returncode for child in children] == [0] * n_processes, ended[0][1][-2000:]
    return [out.splitlines()[-1] for out, _ in ended]


def test_two_processes_are_one_with_the_whole_batch(tmp_path: Path) -> None:
    (alone,) = run(tmp_path / "one", 1)
    first, second = run(tmp_path / "two", 2)
    assert first == second
    assert first.split()[0] == "2"
    assert [float(v) for v in first.split()[1:]] == pytest.approx(
        [float(v) for v in alone.split()[1:]]
    )
    start = dict(WordModel().named_parameters())
    weights = [
        load_file(folder / "weights.safetensors")
        for folder in map(checkpoint.newest, (tmp_path / "one", tmp_path / "two"))
        if folder is not None
    ]
    for name, one in weights[0].items():
        assert torch.allclose(one, weights[1][name], atol=1e-5), name
        assert not torch.allclose(one, start[name], atol=1e-2), name
    assert len(ROWS) == 36
