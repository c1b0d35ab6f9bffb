"""A training run: rows in, weights out, with a log of JSON lines and checkpoints on the way.

Needs ``accelerate``, which brings mixed precision and several processes (``accelerate launch``). The
gradients of a step are those of one process with the whole batch; steps, rates and rows follow from
the number of the step, so that a run that goes on from a checkpoint gives the weights of one that
was never broken off.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmretrieve.errors import SetupError, UsageError
from mmretrieve.models.extras import require
from mmretrieve.models.protocol import MODALITIES
from mmretrieve.training.clamr import checkpoint
from mmretrieve.training.clamr.modes import kept, prepare
from mmretrieve.training.clamr.objective import BatchLoss, Objective, Pair, Place
from mmretrieve.training.clamr.rows import Example, digest
from mmretrieve.training.clamr.schedule import Schedule
from mmretrieve.training.clamr.settings import Precision, TrainSettings
from mmretrieve.training.clamr.validation import Validation, validate

LOG_FILE = "log.jsonl"
SETTINGS_FILE = "settings.json"
Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Material:
    """Rows to learn from, and rows to measure with (may be empty)."""

    training: Sequence[Example]
    validation: Sequence[Example] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """``losses``: of the steps of this call; ``before``/``after``: validation, where there are rows for
    it (``before`` not when the run was resumed)."""

    n_steps: int
    losses: tuple[float, ...]
    before: Validation | None = None
    after: Validation | None = None


@dataclass(slots=True)
class _Since:
    """What happened since the last line of the log."""

    losses: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)


class Trainer:
    """Trains ``model`` in place; ``output``: folder of log and checkpoints.

    Raises:
        UsageError: settings, rows and model do not fit each other.
        MissingExtraError: accelerate or peft is not installed.
    """

    def __init__(
        self,
        model: Any,
        material: Material,
        settings: TrainSettings,
        output: Path,
        *,
        on_record: Callable[[Record], None] | None = None,
        cpu: bool = False,
    ) -> None:
        self.model, self.material, self.settings, self.output = model, material, settings, output
        self.on_record = on_record
        self.accelerator = _accelerator(settings, cpu)
        self.schedule = Schedule(
            len(material.training),
            self.accelerator.num_processes,
            settings.optimiser,
            settings.seed,
        )
        self.trained = prepare(model, settings)
        optimiser = settings.optimiser
        self.optimiser = torch.optim.AdamW(
            list(self.trained.values()),
            lr=optimiser.learning_rate,
            weight_decay=optimiser.weight_decay,
        )
        self.pair, self._stepper = self.accelerator.prepare(Pair(model), self.optimiser)
        self.objective = Objective(settings)

    def run(self, *, resume: bool = False, until: int | None = None) -> Outcome:
        """Train to the end, or until ``until`` steps are done; there is a checkpoint then.

        Raises:
            UsageError: the folder holds a run and ``resume`` is false, or the other way round, or
                the run there is another one.
            SetupError: the loss is no longer a number.
            InputError: a picture cannot be read.
        """
        first = self._resume() if resume else self._begin()
        before = None if resume else self._validate(0)
        last = min(self.schedule.n_steps, until or self.schedule.n_steps)
        losses: list[float] = []
        after, since = None, _Since()
        self.pair.train()
        for step in range(first, last):
            losses.append(self._step(step, since))
            done = step + 1
            if _due(done, self.settings.validate_every, last):
                after = self._validate(done)
            if _due(done, self.settings.checkpoint_every, last):
                self._save(done)
        return Outcome(last, tuple(losses), before, after)

    def _step(self, step: int, since: _Since) -> float:
        """One step of the optimiser; its loss without regularisers."""
        n_parts = self.settings.optimiser.accumulation
        parts = []
        for part in range(n_parts):
            rows = self.schedule.rows(step, part, self.accelerator.process_index)
            batch = [self.material.training[row] for row in rows.tolist()]
            # Gradients are exchanged between processes once a step.
            waits = part < n_parts - 1
            with self.accelerator.no_sync(self.pair) if waits else nullcontext():
                found = self.objective(self.pair, batch, Place(self.settings.seed, step, part))
                self._check_number(found, step, batch)
                self.accelerator.backward(found.value / n_parts)
            parts.append(found)
        bound = self.settings.optimiser.max_gradient_norm
        norm = self.accelerator.clip_grad_norm_(list(self.trained.values()), bound)
        rate = self.schedule.rate(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self._stepper.step()
        self._stepper.zero_grad()
        loss = sum(part.main for part in parts) / n_parts
        since.losses.append(loss)
        if _due(step + 1, self.settings.log_every, self.schedule.n_steps):
            self._log_step(step, since, parts, float(norm), rate)
        return loss

    def _log_step(
        self, step: int, since: _Since, parts: Sequence[BatchLoss], norm: float, rate: float
    ) -> None:
        now = time.perf_counter()
        record: dict[str, Any] = {
            "step": step + 1,
            "epoch": self.schedule.epoch(step),
            "loss": sum(since.losses) / len(since.losses),
            "learning_rate": rate,
            "gradient_norm": norm,
            "n_used": sum(part.n_used for part in parts),
            "seconds_per_step": (now - since.started) / len(since.losses),
        }
        if self.settings.balance.competition > 0:
            record["competition"] = parts[-1].competition
        if parts[-1].factors:
            record["gradient_factors"] = dict(zip(MODALITIES, parts[-1].factors, strict=True))
        since.losses.clear()
        since.started = now
        self._log(record)

    def _validate(self, step: int) -> Validation | None:
        if not self.material.validation:
            return None
        how, size = self.settings.aggregation, self.settings.optimiser.batch_size
        found = validate(self.model, self.material.validation, how, size)
        self._log({"step": step, "validation": found.record()})
        return found

    def _save(self, step: int) -> None:
        accelerator = self.accelerator
        accelerator.wait_for_everyone()
        checkpoint.write_random(checkpoint.unfinished(self.output, step), accelerator.process_index)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            modulation, scaler = self.objective.modulation, accelerator.scaler
            state = checkpoint.State(
                step=step,
                settings=self.settings.key,
                rows=digest(self.material.training),
                n_processes=accelerator.num_processes,
                balance=modulation.state() if modulation else {},
                scale=scaler.state_dict() if scaler else {},
            )
            memory = checkpoint.optimiser_state(self.optimiser, self.trained)
            keep = self.settings.keep_checkpoints
            checkpoint.write(self.output, state, kept(self.model), memory, keep)
        accelerator.wait_for_everyone()

    def _begin(self) -> int:
        found = checkpoint.newest(self.output)
        if found is not None:
            raise UsageError(
                f"{self.output} holds a run already ({found.name}): resume it, or name a new folder"
            )
        self.output.mkdir(parents=True, exist_ok=True)
        if self.accelerator.is_main_process:
            (self.output / SETTINGS_FILE).write_text(
                self.settings.to_json() + "\n", encoding="utf-8"
            )
        torch.manual_seed(self.settings.seed + 1 + self.accelerator.process_index)
        return 0

    def _resume(self) -> int:
        folder = checkpoint.newest(self.output)
        if folder is None:
            raise UsageError(
                f"{self.output} has no checkpoint to resume from: start without --resume"
            )
        state = checkpoint.read_state(folder)
        rows, n = digest(self.material.training), self.accelerator.num_processes
        checkpoint.check(state, self.settings.key, rows, n, folder)
        checkpoint.read_weights(folder, kept(self.model))
        checkpoint.read_optimiser(folder, self.optimiser, self.trained)
        checkpoint.read_random(folder, self.accelerator.process_index)
        if self.objective.modulation is not None:
            self.objective.modulation.restore(dict(state.balance))
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(dict(state.scale))
        self._log({"step": state.step, "resumed": folder.name})
        return state.step

    def _log(self, record: Record) -> None:
        if not self.accelerator.is_main_process:
            return
        with (self.output / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.on_record is not None:
            self.on_record(record)

    def _check_number(self, found: BatchLoss, step: int, batch: Sequence[Example]) -> None:
        # The scaler of half precision leaves such steps out by itself.
        half = self.settings.precision is Precision.FP16
        if not math.isfinite(found.main) and not half:
            raise SetupError(
                f"the loss of step {step + 1} is {found.main} (its first row is at {batch[0].where}): "
                "lower optimiser.learning_rate, or use another precision"
            )


def _accelerator(settings: TrainSettings, cpu: bool) -> Any:
    """What cannot work is said before anything is read."""
    accelerate = require("accelerate", "clamr")
    cpu = cpu or not torch.cuda.is_available()
    if settings.precision is Precision.FP16 and cpu:
        raise UsageError('precision = "fp16" needs a GPU: on a CPU use "bf16" or "no"')
    accelerator = accelerate.Accelerator(mixed_precision=settings.precision.value, cpu=cpu)
    kind = accelerator.distributed_type.value
    if kind not in ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_NPU"):
        raise UsageError(
            f"processes of type {kind} are not supported: train with plain data parallelism "
            "(`accelerate launch --multi_gpu`)"
        )
    return accelerator


def _due(done: int, every: int, last: int) -> bool:
    return done == last or (every > 0 and done % every == 0)
