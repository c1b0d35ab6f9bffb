"""A run on disk, so that it can be broken off: tensors as safetensors, everything else as JSON. Nothing
here can run code when it is read.

::

    checkpoints/step-0000200/
      weights.safetensors     name -> parameter that is trained, and the projection
      optimiser.safetensors   exp_avg/NAME, exp_avg_sq/NAME, step/NAME
      random-0.safetensors    state of the random numbers of process 0 (one file a process)
      state.json              step, settings and rows by digest, balance, loss scale

A folder gets its name when all is in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmretrieve.errors import UsageError, WeightsError

FOLDER = "checkpoints"
_FORMAT = 1
_NAME = re.compile(r"step-(\d{7,})")
_WEIGHTS, _OPTIMISER, _STATE = "weights.safetensors", "optimiser.safetensors", "state.json"


@dataclass(frozen=True, slots=True)
class State:
    """``step``: steps done, which is the place in the data and in the rate too. ``settings``, ``rows``:
    digests; ``balance``: see :meth:`~mmretrieve.training.clamr.balance.GradientModulation.state`;
    ``scale``: of the loss, in half precision."""

    step: int
    settings: str
    rows: str
    n_processes: int
    balance: Mapping[str, list[float]] = field(default_factory=dict)
    scale: Mapping[str, Any] = field(default_factory=dict)


def newest(output: Path) -> Path | None:
    """The checkpoint of the most steps in the folder of a run."""
    found = {int(match[1]): path for path in (output / FOLDER).glob("step-*")
             if (match := _NAME.fullmatch(path.name))}  # fmt: skip
    return found[max(found)] if found else None


def write(
    output: Path,
    state: State,
    weights: Mapping[str, Tensor],
    optimiser: Mapping[str, Tensor],
    keep: int,
) -> Path:
    """Write a checkpoint (process 0; the others have written their random numbers into
    :func:`unfinished` before) and remove all but the ``keep`` newest."""
    partial = unfinished(output, state.step)
    _save(weights, partial / _WEIGHTS)
    _save(optimiser, partial / _OPTIMISER)
    text = json.dumps({"format": _FORMAT, **asdict(state)}, indent=1)
    (partial / _STATE).write_text(text + "\n", encoding="utf-8")
    for file in partial.iterdir():
        _flush(file)
    folder = partial.with_suffix("")
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    for old in _older(output, keep):
        shutil.rmtree(old)
    return folder


def unfinished(output: Path, step: int) -> Path:
    """The folder that becomes the checkpoint of a step; made if it is not there."""
    folder = output / FOLDER / f"step-{step:07}.partial"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_state(folder: Path) -> State:
    """What a checkpoint says of itself.

    Raises:
        WeightsError: damaged, or of another version.
    """
    try:
        data = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        if data.pop("format") != _FORMAT:
            raise WeightsError(f"{folder} was written by another version: start without --resume")
        return State(**data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{folder / _STATE} cannot be read ({error}): remove the folder {folder.name}, an older "
            "one may be there"
        ) from error


def check(state: State, settings: str, rows: str, n_processes: int, folder: Path) -> None:
    """That a run goes on as it began.

    Raises:
        UsageError: other settings, rows or number of processes.
    """
    changed = [
        name
        for name, before, now in (
            ("settings", state.settings, settings),
            ("rows", state.rows, rows),
            ("number of processes", state.n_processes, n_processes),
        )
        if before != now
    ]
    if changed:
        raise UsageError(
            f"{folder} was written with other {' and '.join(changed)}: resume with the same, or name "
            "a new output folder"
        )


def read_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Put the weights of a checkpoint into the parameters.

    Raises:
        WeightsError: damaged, or of another model.
    """
    found = _load(folder / _WEIGHTS)
    if {n: t.shape for n, t in found.items()} != {n: t.shape for n, t in weights.items()}:
        strange = sorted(set(found) ^ set(weights)) or ["their shapes"]
        raise WeightsError(f"{folder / _WEIGHTS} is of another model ({strange[0]} differ)")
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(found[name])


def optimiser_state(optimiser: Any, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What AdamW remembers, by kind and name of the parameter."""
    return {
        f"{kind}/{name}": value
        for name, parameter in trained.items()
        for kind, value in optimiser.state[parameter].items()
    }


def read_optimiser(folder: Path, optimiser: Any, trained: Mapping[str, Tensor]) -> None:
    """Give AdamW back what it remembered.

    Raises:
        WeightsError: damaged, or of other parameters.
    """
    for key, value in _load(folder / _OPTIMISER).items():
        kind, _, name = key.partition("/")
        if name not in trained:
            raise WeightsError(f"{folder / _OPTIMISER} has {key!r}, which is not trained here")
        parameter = trained[name]
        device = "cpu" if kind == "step" else parameter.device
        optimiser.state[parameter][kind] = value.to(device)


def write_random(folder: Path, rank: int) -> None:
    """Keep the state of PyTorch's random numbers of this process."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    _save(states, folder / f"random-{rank}.safetensors")


def read_random(folder: Path, rank: int) -> None:
    """Go on with the random numbers of this process.

    Raises:
        WeightsError: damaged.
    """
    states = _load(folder / f"random-{rank}.safetensors")
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)


def _load(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} cannot be read ({error}): remove the folder {path.parent.name}, an older one may "
            "be there"
        ) from error
    return found


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _older(output: Path, keep: int) -> list[Path]:
    found = sorted(p for p in (output / FOLDER).glob("step-*") if _NAME.fullmatch(p.name))
    return found[:-keep]
