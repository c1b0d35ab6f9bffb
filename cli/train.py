"""``mmretrieve train``."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmretrieve.cli.console import emit, say
from mmretrieve.cli.options import ReportFormat, ReportFormatOption, VerboseOption, resolve_report

if TYPE_CHECKING:
    from mmretrieve.training.clamr.run import Prepared
    from mmretrieve.training.clamr.trainer import Outcome, Record


class Weights(StrEnum):
    """How the backbone is held: ``auto`` is bfloat16 on a GPU, float32 on a CPU."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    NF4 = "nf4"


RowsArgument = Annotated[
    Path,
    typer.Argument(
        metavar="ROWS",
        help="Joined rows (*.jsonl: video_id, query, query_type, ocr, asr, description, images), or "
        "MultiVENT 2.0++: queries *.json with documents.jsonl beside them.",
    ),
]
ModelOption = Annotated[
    str,
    typer.Option("--model", metavar="DIR|ID", help="CLaMR weights, or a plain Qwen backbone."),
]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Log, checkpoints and the result.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings of the run.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="One setting, over the file: as loss=pairwise, optimiser.epochs=5, lora.rank=32, "
        "balance.modality_dropout=0.2; repeatable.",
    ),
]
ValidationOption = Annotated[
    Path | None, typer.Option("--validation", metavar="ROWS", help="Rows to measure with.")
]
ContentOption = Annotated[
    Path | None,
    typer.Option("--content", metavar="FILE.jsonl", help="Content of the videos, by video_id."),
]
BackboneOption = Annotated[
    str | None, typer.Option("--backbone", metavar="DIR|ID", help="Not the one the adapter names.")
]
WeightsOption = Annotated[Weights, typer.Option("--weights", help="How the backbone is held.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="cpu, cuda:1; else a GPU if any.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on from the newest checkpoint in --output.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print the plan, load no model.")
]


def train(
    rows: RowsArgument,
    model: ModelOption,
    output: OutputOption,
    config: ConfigOption = None,
    changes: SetOption = None,
    validation: ValidationOption = None,
    content: ContentOption = None,
    backbone: BackboneOption = None,
    weights: WeightsOption = Weights.AUTO,
    device: DeviceOption = None,
    resume: ResumeOption = False,
    dry_run: DryRunOption = False,
    chosen: ReportFormatOption = ReportFormat.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Train a joint encoder (CLaMR) on queries that aim at a modality.

    Needs pip install "mmretrieve[clamr]". On several GPUs: accelerate launch --multi_gpu -m
    mmretrieve.cli train ROWS ...
    """
    from mmretrieve.training.clamr.run import Wanted, prepare_run
    from mmretrieve.training.clamr.settings import TrainSettings

    settings = TrainSettings.read(config, changes or ())
    wanted = Wanted(
        rows, model, output, settings, backbone, content, validation, weights.value, device
    )
    prepared = prepare_run(wanted)
    if prepared.plan.n_aimless:
        say(
            f"note: {prepared.plan.n_aimless:,} of {prepared.plan.n_rows:,} rows aim at a modality that "
            "their video lacks: hard losses learn nothing from them"
        )
    if dry_run:
        _show_plan(prepared, resolve_report(chosen))
        return
    from mmretrieve.training.clamr.run import train as run

    outcome = run(prepared, resume=resume, on_record=_tell)
    _show_outcome(prepared, outcome, resolve_report(chosen))


def _show_plan(prepared: Prepared, chosen: ReportFormat) -> None:
    plan, settings = prepared.plan, prepared.wanted.settings
    if chosen is ReportFormat.JSON:
        emit(json.dumps({"plan": asdict(plan), "settings": asdict(settings)}))
        return
    types = ", ".join(f"{n:,} {name}" for name, n in plan.query_types.items())
    about = [
        ("rows", f"{plan.n_rows:,} ({types}) of {plan.n_videos:,} videos"),
        ("pictures", f"{plan.n_pictures:,}, all can be opened"),
        ("validation", f"{plan.n_validation:,} rows"),
        ("steps", f"{plan.n_steps:,} of {plan.rows_per_step:,} rows, {plan.steps_per_epoch:,} an epoch"),
        ("processes", f"{plan.n_processes}"),
        ("trained", f"{plan.n_trained:,} parameters ({settings.mode.value}), "
                    f"{plan.state_bytes / 1e6:,.0f} MB with gradients and optimiser"),
        ("projection", "new, at random" if plan.new_projection else "as the model has it"),
        ("output", str(prepared.wanted.output)),
    ]  # fmt: skip
    for name, text in about:
        emit(f"{name:<11} {text}")
    emit(settings.to_json())


def _show_outcome(prepared: Prepared, outcome: Outcome, chosen: ReportFormat) -> None:
    folder = prepared.wanted.output / "model"
    if chosen is ReportFormat.JSON:
        record: dict[str, Any] = {"model": str(folder), "n_steps": outcome.n_steps}
        for name, found in (("before", outcome.before), ("after", outcome.after)):
            if found is not None:
                record[name] = found.record()
        emit(json.dumps(record))
        return
    emit(f"{folder}: {outcome.n_steps:,} steps")
    for name, found in (("before", outcome.before), ("after", outcome.after)):
        if found is not None:
            emit(
                f"{name:<7} nDCG@10 {found.value('nDCG@10'):.3f}, R@1 {found.value('R@1'):.3f}, "
                f"modality accuracy {found.modality.accuracy:.3f}"
            )


def _tell(record: Record) -> None:
    if "validation" in record:
        found = record["validation"]
        say(
            f"step {record['step']:,}: nDCG@10 {found['measures']['all']['nDCG@10']:.3f}, modality "
            f"accuracy {found['modality_accuracy']:.3f}"
        )
    elif "resumed" in record:
        say(f"resumed from {record['resumed']}")
    else:
        say(
            f"step {record['step']:,}: loss {record['loss']:.4f}, "
            f"{record['seconds_per_step']:.2f} s a step"
        )
