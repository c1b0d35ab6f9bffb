"""What a training run is told: frozen, from TOML, checked before anything is loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, get_type_hints

from mmretrieve.datatypes import Aggregation
from mmretrieve.errors import UsageError


class Loss(StrEnum):
    """See :mod:`mmretrieve.training.clamr.losses`."""

    CONTRASTIVE = "contrastive"
    HARD_POSITIVE = "hard_positive"
    HARD_NEGATIVE = "hard_negative"
    PAIRWISE = "pairwise"


class Mode(StrEnum):
    """What is trained: low-rank adapters of the language model and the projection, or the projection
    alone."""

    LORA = "lora"
    HEAD = "head"


class Precision(StrEnum):
    """Numbers of the forward pass; ``no`` is single precision."""

    NO = "no"
    BF16 = "bf16"
    FP16 = "fp16"


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Low-rank adaptation (arXiv 2106.09685); the defaults are CLaMR's."""

    rank: int = 128
    alpha: int = 128
    dropout: float = 0.1


@dataclass(frozen=True, slots=True)
class BalanceSettings:
    """Against modalities that learn at each other's cost; all off by default. See
    :mod:`mmretrieve.training.clamr.balance`."""

    gradient_modulation: float = 0.0
    """Strength (alpha) of adaptive gradient modulation; 0 is off."""
    modality_dropout: float = 0.0
    """Chance for each modality of a document, other than the target, to be left out of a step."""
    competition: float = 0.0
    """Weight of the competition regulariser; 0 is off."""


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """AdamW with linear warm-up and decay. ``batch_size`` is that of one process: the negatives of a
    query are the other documents of all processes. ``max_steps`` ends the run early, if given; the
    rate decays over the steps that are run."""

    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    epochs: int = 1
    max_steps: int | None = None
    batch_size: int = 16
    accumulation: int = 1
    max_gradient_norm: float = 1.0


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Everything that decides the weights that come out, and how often a run reports and saves.

    Steps are optimiser steps. ``validate_every`` and ``checkpoint_every`` 0: only at the end.
    """

    mode: Mode = Mode.LORA
    loss: Loss = Loss.HARD_NEGATIVE
    aggregation: Aggregation = Aggregation.TOKEN_MAX
    temperature: float = 0.02
    precision: Precision = Precision.NO
    gradient_checkpointing: bool = False
    seed: int = 0
    log_every: int = 10
    validate_every: int = 0
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    lora: LoraSettings = field(default_factory=LoraSettings)
    balance: BalanceSettings = field(default_factory=BalanceSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: a value that cannot be, by its name.
        """
        if self.aggregation is Aggregation.WEIGHTED:
            raise UsageError('aggregation = "weighted": expected token_max or modality_max')
        for name, value, least, most in _bounds(self):
            inside = math.isfinite(value) and least <= value <= most
            if not inside:
                to = "" if most == math.inf else f" and at most {most:g}"
                raise UsageError(f"{name} = {value:g}: expected at least {least:g}{to}")

    @property
    def key(self) -> str:
        """Hex digest of what decides the weights: a run resumes only with the same."""
        silent = ("log_every", "validate_every", "checkpoint_every", "keep_checkpoints")
        told = {k: v for k, v in dataclasses.asdict(self).items() if k not in silent}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def read(cls, path: Path | None = None, changes: Sequence[str] = ()) -> TrainSettings:
        """The settings of a TOML file, with some of them changed (``["optimiser.epochs=5"]``); what is
        not named keeps its default.

        Raises:
            UsageError: not TOML, a name that is no setting, a value of the wrong kind or size.
        """
        data = _toml_file(path) if path is not None else {}
        for change in changes:
            _merge(data, _change(change))
        found = _read(cls, data, str(path) if path is not None and not changes else "settings")
        assert isinstance(found, cls)
        return found

    def to_json(self) -> str:
        """For people and for the record of a run."""
        return json.dumps(dataclasses.asdict(self), indent=2)


def _toml_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error


def _change(text: str) -> dict[str, Any]:
    """``group.name=value`` as a table; a value that is no TOML is a text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--set {text!r}: expected NAME=VALUE, as optimiser.epochs=5")
    for shown in (value.strip(), json.dumps(value.strip())):
        try:
            return tomllib.loads(f"{name} = {shown}")
        except tomllib.TOMLDecodeError:
            continue
    raise UsageError(f"--set {text!r}: expected NAME=VALUE, as optimiser.epochs=5")


def _merge(data: dict[str, Any], other: dict[str, Any]) -> None:
    for name, value in other.items():
        if isinstance(value, dict) and isinstance(data.get(name), dict):
            _merge(data[name], value)
        else:
            data[name] = value


_TINY = 1e-12


def _bounds(s: TrainSettings) -> list[tuple[str, float, float, float]]:
    """Name, value, least and most."""
    o, b, lora = s.optimiser, s.balance, s.lora
    inf = math.inf
    return [
        ("temperature", s.temperature, 1e-4, inf),
        ("seed", s.seed, 0, 2**31),
        ("log_every", s.log_every, 1, inf),
        ("validate_every", s.validate_every, 0, inf),
        ("checkpoint_every", s.checkpoint_every, 0, inf),
        ("keep_checkpoints", s.keep_checkpoints, 1, inf),
        ("lora.rank", lora.rank, 1, inf),
        ("lora.alpha", lora.alpha, 1, inf),
        ("lora.dropout", lora.dropout, 0, 0.95),
        ("balance.gradient_modulation", b.gradient_modulation, 0, inf),
        ("balance.modality_dropout", b.modality_dropout, 0, 1),
        ("balance.competition", b.competition, 0, inf),
        ("optimiser.learning_rate", o.learning_rate, _TINY, inf),
        ("optimiser.weight_decay", o.weight_decay, 0, inf),
        ("optimiser.warmup", o.warmup, 0, 1),
        ("optimiser.epochs", o.epochs, 1, inf),
        ("optimiser.max_steps", 1 if o.max_steps is None else o.max_steps, 1, inf),
        ("optimiser.batch_size", o.batch_size, 2, inf),
        ("optimiser.accumulation", o.accumulation, 1, inf),
        ("optimiser.max_gradient_norm", o.max_gradient_norm, _TINY, inf),
    ]


def _read(kind: type[Any], data: dict[str, Any], where: str) -> Any:
    """A settings class from a table of TOML."""
    hints = get_type_hints(kind)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        known = ", ".join(hints)
        raise UsageError(f"{where}: unknown setting {unknown[0]!r}: expected some of {known}")
    return kind(**{n: _value(hints[n], v, f"{where}: {n}") for n, v in data.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise UsageError(f"{where} = {value!r}: expected a table")
        assert isinstance(hint, type)
        return _read(hint, value, where)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        if value not in list(hint):
            raise UsageError(f"{where} = {value!r}: expected one of {', '.join(hint)}")
        return hint(value)
    wanted = {float: (int, float), bool: (bool,)}.get(hint, (int,))
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        name = hint.__name__ if isinstance(hint, type) else "int"
        raise UsageError(f"{where} = {value!r}: expected a value of type {name}")
    return float(value) if hint is float else value
