"""What a run would do, without loading a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmretrieve.training.clamr.rows import Example, count_types
from mmretrieve.training.clamr.schedule import Schedule
from mmretrieve.training.clamr.settings import Mode, TrainSettings

_BYTES_A_PARAMETER = 16
"""Of what is trained: weight, gradient and two moments in single precision."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``n_aimless``: rows whose video has nothing in the modality that the query aims at; the hard
    losses learn nothing from them. ``n_trained``: parameters. ``state_bytes``: of them with gradients
    and optimiser, on each process."""

    n_rows: int
    n_videos: int
    n_pictures: int
    n_validation: int
    query_types: Mapping[str, int]
    n_aimless: int
    n_processes: int
    rows_per_step: int
    steps_per_epoch: int
    n_steps: int
    n_trained: int
    state_bytes: int
    new_projection: bool


def make_plan(
    training: Sequence[Example],
    validation: Sequence[Example],
    n_pictures: int,
    schedule: Schedule,
    settings: TrainSettings,
    source: tuple[Mapping[str, Any], bool],
) -> Plan:
    """``source``: settings of the language model, and whether its projection starts at random."""
    n_trained = count_trained(source[0], settings)
    return Plan(
        n_rows=len(training),
        n_videos=len({example.video_id for example in training}),
        n_pictures=n_pictures,
        n_validation=len(validation),
        query_types=count_types(training),
        n_aimless=sum(not example.has_target for example in training),
        n_processes=schedule.n_processes,
        rows_per_step=schedule.rows_per_step,
        steps_per_epoch=schedule.steps_per_epoch,
        n_steps=schedule.n_steps,
        n_trained=n_trained,
        state_bytes=n_trained * _BYTES_A_PARAMETER,
        new_projection=source[1],
    )


def count_trained(config: Mapping[str, Any], settings: TrainSettings, dim: int = 128) -> int:
    """Parameters that are trained: a pair of matrices of the rank for each projection of the language
    model and the one to tokens, or that one alone."""
    width = int(config["hidden_size"])
    if settings.mode is Mode.HEAD:
        return width * dim + dim
    inner, heads = int(config["intermediate_size"]), int(config["num_attention_heads"])
    each = int(config.get("head_dim") or width // heads)
    queries, keys = heads * each, int(config["num_key_value_heads"]) * each
    # Query and output projection, key and value, gate and up and down.
    layer = 2 * (width + queries) + 2 * (width + keys) + 3 * (width + inner)
    return settings.lora.rank * (int(config["num_hidden_layers"]) * layer + width + dim)
