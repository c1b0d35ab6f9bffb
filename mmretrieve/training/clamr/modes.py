"""Which parameters of a model are trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmretrieve.errors import UsageError
from mmretrieve.models.adapters import LoraSettings, add_adapter, has_adapter
from mmretrieve.training.clamr.settings import Mode, TrainSettings

PROJECTION = "custom_text_proj"


def prepare(model: Any, settings: TrainSettings) -> dict[str, Tensor]:
    """Choose what is trained, in single precision; name -> parameter, in the order of the model.

    An adapter that the model already has is trained on. New adapters start from ``settings.seed``.

    Raises:
        UsageError: the model has no projection to train, or its adapter has another rank.
        MissingExtraError: peft is not installed.
    """
    if not hasattr(model, PROJECTION):
        raise UsageError(f"{type(model).__name__} has no {PROJECTION}: it cannot be trained here")
    model.requires_grad_(False)
    if settings.mode is Mode.HEAD:
        _train(model, lambda name: name.startswith(PROJECTION) and "lora_" not in name)
    else:
        if not has_adapter(model):
            torch.manual_seed(settings.seed)
            lora = settings.lora
            add_adapter(model, LoraSettings(lora.rank, lora.alpha, lora.dropout))
        _check_rank(model, settings.lora.rank)
        _train(model, lambda name: "lora_" in name)
    if settings.gradient_checkpointing:
        _checkpoint_gradients(model)
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def kept(model: Any) -> dict[str, Tensor]:
    """Name -> parameter: all that a checkpoint must hold: what is trained, and the projection, which
    may have started at random."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or name.startswith(PROJECTION)
    }


def _train(model: Any, chosen: Any) -> None:
    for name, parameter in model.named_parameters():
        if chosen(name):
            # Steps of 1e-5 are lost in the seven bits of a bfloat16.
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)


def _check_rank(model: Any, rank: int) -> None:
    found = {p.shape[0] for name, p in model.named_parameters() if "lora_A" in name}
    if found != {rank}:
        shown = ", ".join(map(str, sorted(found))) or "no"
        raise UsageError(f"lora.rank = {rank}, but the model's adapter has rank {shown}: set that")


def _checkpoint_gradients(model: Any) -> None:
    backbone: Any = getattr(model, "backbone", None)
    # The second name is that of transformers before 5.
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    name = next((n for n in names if hasattr(backbone, n)), None)
    if name is None:
        raise UsageError("gradient_checkpointing = true: this model cannot do it, set it to false")
    getattr(backbone, name)({"use_reentrant": False})
    backbone.enable_input_require_grads()
