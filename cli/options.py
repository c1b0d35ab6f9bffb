"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmretrieve.cli.console import stdout_is_terminal
from mmretrieve.datatypes import MODALITIES, Aggregation, Modality
from mmretrieve.errors import UsageError

if TYPE_CHECKING:
    from mmretrieve.scoring.aggregation import Scoring

_VERBOSE = "mmretrieve.verbose"


class Format(StrEnum):
    """How hits or videos are written; ``auto`` is a table on a terminal, else JSON lines."""

    AUTO = "auto"
    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    PATHS = "paths"
    CSV = "csv"


class Layout(StrEnum):
    """How a published collection lies on disk; see :mod:`mmretrieve.evaluation.datasets.readers`."""

    FOLDER = "folder"
    MULTIVENT2 = "multivent2"
    MULTIVENT2PP = "multivent2pp"
    MSRVTT = "msrvtt"
    ACTIVITYNET = "activitynet"
    TVR = "tvr"


class ReportFormat(StrEnum):
    """How one report is written; ``auto`` is a table on a terminal, else JSON."""

    AUTO = "auto"
    TABLE = "table"
    JSON = "json"


def _remember_verbose(ctx: typer.Context, wanted: bool) -> bool:
    if wanted:
        ctx.meta[_VERBOSE] = True
    return wanted


def is_verbose(ctx: Any) -> bool:
    """Whether the command that runs was given ``-v``."""
    return bool(ctx.meta.get(_VERBOSE))


IndexOption = Annotated[
    Path | None,
    typer.Option(
        "--index",
        metavar="DIR",
        help="The index; else $MMRETRIEVE_INDEX, else the nearest .mmretrieve here or above.",
    ),
]
LayoutOption = Annotated[
    Layout | None,
    typer.Option("--layout", help="The path is a collection in this published layout."),
]
FormatOption = Annotated[
    Format,
    typer.Option("--format", help="auto: a table on a terminal, one JSON object a line in a pipe."),
]
ReportFormatOption = Annotated[
    ReportFormat, typer.Option("--format", help="auto: text on a terminal, JSON in a pipe.")
]
VerboseOption = Annotated[
    bool,
    typer.Option("-v", "--verbose", callback=_remember_verbose, help="Say more; trace errors."),
]
WeightOption = Annotated[
    list[str] | None,
    typer.Option(
        "--weight", metavar="MODALITY=NUMBER", help="Count a modality more or less; repeatable."
    ),
]


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


GateOption = Annotated[
    Switch,
    typer.Option("--gate", help="Let a learned gate weigh modalities by the words of the query."),
]
AggregateOption = Annotated[
    Aggregation, typer.Option("--aggregate", help="How the modalities become one score.")
]


def resolve(chosen: Format) -> Format:
    """The format to write now."""
    if chosen is not Format.AUTO:
        return chosen
    return Format.TABLE if stdout_is_terminal() else Format.NDJSON


def resolve_report(chosen: ReportFormat) -> ReportFormat:
    """The format of a report to write now."""
    if chosen is not ReportFormat.AUTO:
        return chosen
    return ReportFormat.TABLE if stdout_is_terminal() else ReportFormat.JSON


def parse_modalities(text: str | None) -> tuple[Modality, ...]:
    """``"speech,ocr"`` in the order of columns; all of them for ``None``.

    Raises:
        UsageError: empty, or a name that is no modality.
    """
    if text is None:
        return MODALITIES
    wanted = {_modality(name) for name in text.split(",") if name.strip()}
    if not wanted:
        raise UsageError(f"--in {text!r}: expected some of {', '.join(MODALITIES)}, as a,b")
    return tuple(modality for modality in MODALITIES if modality in wanted)


def parse_weights(texts: Sequence[str]) -> dict[Modality, float]:
    """``["speech=2"]`` as weights; of several for one modality the last counts.

    Raises:
        UsageError: not of the form MODALITY=NUMBER.
    """
    weights = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            weights[_modality(name)] = float(number)
        except ValueError:
            raise UsageError(f"--weight {text!r}: expected MODALITY=NUMBER, as speech=2") from None
    return weights


def scoring(
    aggregate: Aggregation, weights: Sequence[str] | None, gate: Switch = Switch.OFF
) -> Scoring:
    """The scoring that the flags ask for."""
    parsed = parse_weights(weights or ())
    from mmretrieve.scoring.aggregation import Scoring

    return Scoring(aggregation=aggregate, weights=parsed, gate=gate is Switch.ON)


def query_text(words: Sequence[str]) -> str:
    """The query as one line.

    Raises:
        UsageError: there is nothing to look for.
    """
    readable = " ".join(words).encode("utf-8", "replace").decode("utf-8")
    text = " ".join(readable.split())
    if not text:
        raise UsageError("the query is empty: say what to look for, as in 'red car on a bridge'")
    return text


def _modality(name: str) -> Modality:
    try:
        return Modality(name.strip().lower())
    except ValueError:
        from difflib import get_close_matches

        near = get_close_matches(name.strip().lower(), MODALITIES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"no modality {name.strip()!r}: expected one of {', '.join(MODALITIES)}{hint}"
        ) from None
