"""A whole training run, from names of files to a folder with the trained model.

::

    OUTPUT/
      settings.json   what was asked for
      log.jsonl       a line every few steps, and one for each validation
      checkpoints/    see :mod:`~mmretrieve.training.clamr.checkpoint`
      start/          the projection that the run began with, where the backbone had none
      model/          the result, as ``mmretrieve.models.loading`` reads it
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmretrieve.errors import UsageError
from mmretrieve.training.clamr.plan import Plan, make_plan
from mmretrieve.training.clamr.rows import Example, check_pictures, read_examples
from mmretrieve.training.clamr.schedule import Schedule
from mmretrieve.training.clamr.settings import TrainSettings
from mmretrieve.training.clamr.start import Source, find_source

if TYPE_CHECKING:
    from mmretrieve.models.clamr import Clamr
    from mmretrieve.training.clamr.trainer import Outcome, Record

MODEL_FOLDER = "model"


@dataclass(frozen=True, slots=True)
class Wanted:
    """``model``: a folder or a hub id that was fetched before; ``backbone``: instead of what its adapter
    names. ``rows``, ``validation``: files or folders of rows; ``content``: see
    :func:`~mmretrieve.training.clamr.rows.read_examples`. ``weights``: how the backbone is held."""

    rows: Path
    model: str
    output: Path
    settings: TrainSettings
    backbone: str | None = None
    content: Path | None = None
    validation: Path | None = None
    weights: str = "auto"
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is known before anything heavy is loaded."""

    wanted: Wanted
    training: tuple[Example, ...]
    validation: tuple[Example, ...]
    source: Source
    plan: Plan


def prepare_run(wanted: Wanted) -> Prepared:
    """Read the rows, look at every picture and at the model's folders.

    Raises:
        UsageError: rows that cannot be read or are too few, a picture that is none.
        WeightsError: a part of the model is missing.
    """
    training = read_examples(wanted.rows, wanted.content)
    validation = (
        read_examples(wanted.validation, wanted.content) if wanted.validation is not None else ()
    )
    if wanted.output.exists() and not wanted.output.is_dir():
        raise UsageError(f"--output {wanted.output}: expected a folder, found a file")
    n_pictures = check_pictures((*training, *validation))
    source = find_source(wanted.model, wanted.backbone)
    optimiser, seed = wanted.settings.optimiser, wanted.settings.seed
    schedule = Schedule(len(training), int(os.environ.get("WORLD_SIZE", "1")), optimiser, seed)
    about = (source.config, source.new_projection)
    plan = make_plan(training, validation, n_pictures, schedule, wanted.settings, about)
    return Prepared(wanted, training, validation, source, plan)


def train(
    prepared: Prepared, *, resume: bool = False, on_record: Callable[[Record], None] | None = None
) -> Outcome:
    """Load, train, write the model.

    Raises:
        MmretrieveError: see :class:`~mmretrieve.training.clamr.trainer.Trainer`.
    """
    from mmretrieve.models.extras import Precision, require

    require("torch", "clamr")
    from mmretrieve.training.clamr.start import load_source
    from mmretrieve.training.clamr.trainer import Material, Trainer

    wanted = prepared.wanted
    device = wanted.device or _device()
    model = load_source(
        prepared.source,
        wanted.output,
        wanted.settings.seed,
        precision=Precision(wanted.weights),
        device=device,
    )
    trainer = Trainer(
        model,
        Material(prepared.training, prepared.validation),
        wanted.settings,
        wanted.output,
        on_record=on_record,
        cpu=device == "cpu",
    )
    outcome = trainer.run(resume=resume)
    if trainer.accelerator.is_main_process:
        _save(model, wanted.output / MODEL_FOLDER, prepared.source)
    return outcome


def _save(model: Clamr, folder: Path, source: Source) -> None:
    """The result without a copy of its backbone: an adapter names it, a projection alone has a link."""
    from mmretrieve.models.adapters import has_adapter
    from mmretrieve.models.loading import BACKBONE_FOLDER, save

    save(model, folder, base=source.base)
    link = folder / BACKBONE_FOLDER
    if not has_adapter(model) and not link.exists():
        link.symlink_to(source.files.backbone.resolve(), target_is_directory=True)


def _device() -> str:
    """The device of this process."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
