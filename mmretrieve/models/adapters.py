"""LoRA adapters in a :class:`~mmretrieve.models.clamr.Clamr`: put in, read, written.

On disk an adapter is as peft writes it, with the names of the public CLaMR and ColQwen checkpoints,
in which the backbone and the projection are one class (``base_model.model.custom_text_proj``). Names
of older versions of transformers are understood.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmretrieve.errors import WeightsError
from mmretrieve.models.extras import require
from mmretrieve.models.folders import read_json

if TYPE_CHECKING:
    from torch import Tensor

    from mmretrieve.models.clamr import Clamr

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
TARGETS = (
    r"(.*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    r"|(.*\.)?custom_text_proj)$"
)
"""All attention and MLP projections of the language model, and the projection to tokens."""

_PREFIX = "base_model.model."
_LORA = ".lora_"
_OLDER = (
    (re.compile(r"^thinker\."), ""),
    (re.compile(r"^model\.layers\."), "model.language_model.layers."),
    (re.compile(r"^visual\."), "model.visual."),
    (re.compile(r"^audio_tower\."), "model.audio_tower."),
)


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """The paper's recipe."""

    r: int = 128
    alpha: int = 128
    dropout: float = 0.1
    targets: str = TARGETS


def has_adapter(model: Clamr) -> bool:
    """Whether :func:`add_adapter` or :func:`load_adapter` was called before."""
    return getattr(model, "peft_config", None) is not None


def add_adapter(model: Clamr, settings: LoraSettings | None = None) -> None:
    """Put a new adapter in, which changes nothing yet; from now on it alone can be trained.

    Raises:
        MissingExtraError: peft is not installed.
    """
    chosen = settings or LoraSettings()
    peft = require("peft", "clamr")
    config = peft.LoraConfig(
        r=chosen.r,
        lora_alpha=chosen.alpha,
        lora_dropout=chosen.dropout,
        target_modules=chosen.targets,
        init_lora_weights="gaussian",
        bias="none",
    )
    model.requires_grad_(False)
    peft.inject_adapter_in_model(config, model)


def load_adapter(model: Clamr, folder: Path) -> None:
    """Put the adapter of a folder in, for inference (``requires_grad_`` of its layers trains it on).

    Raises:
        MissingExtraError: peft is not installed.
        WeightsError: not the adapter of this backbone, or damaged.
    """
    peft = require("peft", "clamr")
    found = _read(folder / WEIGHTS_FILE)
    state = {_inner(key): value for key, value in found.items() if _LORA in key}
    layers = sorted({key.partition(_LORA)[0] for key in state})
    strange = sorted(set(layers) - {name for name, _ in model.named_modules()})
    if strange or not layers:
        raise WeightsError(
            f"{folder / WEIGHTS_FILE} has {f'weights for {strange[0]}' if strange else 'no LoRA'}, which "
            f"does not fit a {model.kind.value}: name the backbone that the adapter was trained on"
        )
    try:
        config = peft.LoraConfig.from_pretrained(str(folder))
        # Its own patterns may be for names of an older version, and may fit towers that it lacks.
        config.target_modules, config.modules_to_save = layers, None
        config.inference_mode = True
        peft.inject_adapter_in_model(config, model)
        peft.set_peft_model_state_dict(model, state)
    except (ValueError, RuntimeError, TypeError) as error:
        raise WeightsError(
            f"{folder} cannot be put on this backbone ({error}): name the backbone that the adapter "
            "was trained on"
        ) from error
    for name, parameter in model.named_parameters():
        if _LORA in name:
            parameter.requires_grad_(False)


def save_adapter(model: Clamr, folder: Path, base: str) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``; ``base``: what is said to be
    the backbone."""
    peft = require("peft", "clamr")
    from safetensors.torch import save_file

    state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    outer = {
        _outer(key): value.detach().cpu().contiguous()
        for key, value in state.items()
        if _LORA in key
    }
    save_file(outer, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    config.update(base_model_name_or_path=base, inference_mode=True)
    for name, value in config.items():
        if isinstance(value, set):
            config[name] = sorted(value)
    text = json.dumps(config, indent=2, sort_keys=True, default=str)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def base_of(folder: Path) -> str | None:
    """What the adapter says its backbone is; None where there is no adapter."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        return None
    base = read_json(path).get("base_model_name_or_path")
    return base if isinstance(base, str) and base else None


def _inner(key: str) -> str:
    """The name on disk to the name in :class:`Clamr`."""
    name = key.removeprefix(_PREFIX)
    for pattern, replacement in _OLDER:
        name = pattern.sub(replacement, name)
    return name if name.startswith("custom_text_proj") else f"backbone.{name}"


def _outer(key: str) -> str:
    return _PREFIX + key.removeprefix("backbone.")


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise WeightsError(
            f"{path} is missing: an adapter has its weights there (pickled ones, as .bin and .pt, are "
            "not read; convert them to safetensors)"
        )
    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read ({error}): fetch it again") from error
    return state
