"""The model that a run begins with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmretrieve.errors import WeightsError
from mmretrieve.models.folders import read_json
from mmretrieve.models.loading import PROJECTION_FILE, Files, find

if TYPE_CHECKING:
    from mmretrieve.models.clamr import Clamr

FOLDER = "start"
DIM = 128


@dataclass(frozen=True, slots=True)
class Source:
    """``files``: where the weights lie; ``new_projection``: the backbone has none yet, as a plain Qwen,
    so that it starts at random; ``base``: what a trained model will name as its backbone."""

    files: Files
    new_projection: bool
    base: str
    config: dict[str, Any]


def find_source(name: str, backbone: str | None = None) -> Source:
    """Look at a folder, or at a hub id that was fetched before, without loading it.

    Raises:
        WeightsError: a part is missing; the message has the command that fetches it.
    """
    files = find(name, backbone)
    has_one = any(_has_projection(folder) for folder in {files.top, files.backbone})
    config = read_json(files.backbone / "config.json")
    is_folder = Path(files.base).exists() or (files.top / files.base).exists()
    base = str(files.backbone.resolve()) if is_folder else files.base
    return Source(files, not has_one, base, _text_config(config))


def load_source(source: Source, output: Path, seed: int, **options: Any) -> Clamr:
    """The model. A new projection is drawn by ``seed`` and kept in the output folder, so that a
    resumed run has the same.

    Raises:
        MissingExtraError: transformers or peft is not installed.
        WeightsError: damaged weights, or parts that do not fit.
    """
    from mmretrieve.models.loading import load

    backbone = str(source.files.backbone)
    if not source.new_projection:
        return load(str(source.files.top), backbone=backbone, **options)
    folder = output / FOLDER
    if not (folder / PROJECTION_FILE).is_file():
        _write_projection(folder, int(source.config["hidden_size"]), seed)
    return load(str(folder), backbone=backbone, **options)


def _write_projection(folder: Path, width: int, seed: int) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(width, DIM)
    state = {name: value.detach() for name, value in layer.state_dict().items()}
    # Several processes may write it at once; all of them write the same.
    partial = folder / f"{PROJECTION_FILE}.{os.getpid()}"
    save_file(state, partial)
    partial.replace(folder / PROJECTION_FILE)


def _has_projection(folder: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "np") as file:
                names = list(file.keys())
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} cannot be read ({error}): fetch it again") from error
        if path.name == PROJECTION_FILE or any("custom_text_proj." in name for name in names):
            return True
    return False


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part about the language model, wherever a version of transformers puts it."""
    thinker = config.get("thinker_config", config)
    found = thinker.get("text_config", thinker)
    if "hidden_size" not in found:
        raise WeightsError("config.json of the backbone has no hidden_size: fetch the model again")
    return dict(found)
