"""Which rows a step takes, and how far it goes. All of it follows from the number of the step, so
that a run that was broken off goes on where it was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.errors import UsageError
from mmretrieve.training.clamr.settings import OptimiserSettings


@dataclass(frozen=True, slots=True)
class Schedule:
    """``n_rows`` rows on ``n_processes`` processes. What does not fill a step at the end of an epoch is
    left out of that epoch; each epoch has an order of its own."""

    n_rows: int
    n_processes: int
    settings: OptimiserSettings
    seed: int

    def __post_init__(self) -> None:
        """Check that there is one step.

        Raises:
            UsageError: fewer rows than a step takes.
        """
        if self.steps_per_epoch == 0:
            o = self.settings
            raise UsageError(
                f"{self.n_rows} rows are fewer than the {self.rows_per_step} of one step "
                f"(batch_size {o.batch_size} x accumulation {o.accumulation} x {self.n_processes} "
                "processes): lower optimiser.batch_size"
            )

    @property
    def rows_per_step(self) -> int:
        return self.settings.batch_size * self.settings.accumulation * self.n_processes

    @property
    def steps_per_epoch(self) -> int:
        return self.n_rows // self.rows_per_step

    @property
    def n_steps(self) -> int:
        """Optimiser steps of the whole run."""
        every = self.settings.epochs * self.steps_per_epoch
        return every if self.settings.max_steps is None else min(every, self.settings.max_steps)

    def epoch(self, step: int) -> int:
        """From 0."""
        return step // self.steps_per_epoch

    def rows(self, step: int, part: int, rank: int) -> NDArray[np.int64]:
        """``(batch_size,)``: the rows of one process in one part of a step; ``part`` counts
        accumulated batches."""
        order = np.random.default_rng((self.seed, self.epoch(step))).permutation(self.n_rows)
        size = self.settings.batch_size
        first = (step % self.steps_per_epoch) * self.rows_per_step
        first += (part * self.n_processes + rank) * size
        return order[first : first + size]

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up over the first ``warmup`` share of all steps, then
        linear decay towards 0 after the last one."""
        n_warm = round(self.settings.warmup * self.n_steps)
        if step < n_warm:
            return self.settings.learning_rate * (step + 1) / n_warm
        return self.settings.learning_rate * (self.n_steps - step) / (self.n_steps - n_warm)
