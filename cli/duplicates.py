"""``mmretrieve duplicates``."""

from __future__ import annotations

from typing import Annotated

import typer

from mmretrieve.cli.console import emit, say
from mmretrieve.cli.options import (
    IndexOption,
    ReportFormat,
    ReportFormatOption,
    VerboseOption,
    resolve_report,
)
from mmretrieve.cli.records import SCHEMA, Record, to_json
from mmretrieve.cli.text import plural, shown_path
from mmretrieve.cli.times import clock
from mmretrieve.reports import DuplicateGroup, SharedStretch

LeastOption = Annotated[
    float,
    typer.Option(
        "--min-similarity", min=0.0, max=1.0, metavar="S", help="Of the least alike, 0 to 1."
    ),
]


def duplicates(
    index: IndexOption = None,
    least: LeastOption = 0.9,
    chosen: ReportFormatOption = ReportFormat.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Videos that show the same: equal files, and copies encoded anew, scaled, cropped or trimmed."""
    from mmretrieve.engine import Engine

    with Engine.open(index) as engine:
        found = [group for group in engine.duplicates() if group.similarity >= least]
    if resolve_report(chosen) is ReportFormat.JSON:
        groups = [_record(group) for group in found]
        emit(to_json({"schema": SCHEMA, "groups": groups}, indent=2))
        return
    for number, group in enumerate(found, 1):
        _show(number, group)
    n_files = sum(len(group.paths) for group in found)
    say(f"{plural(len(found), 'group')} of {plural(n_files, 'file')}" if found else "no duplicates")


def _show(number: int, group: DuplicateGroup) -> None:
    emit(f"{number}. {len(group.paths)} files, similarity {group.similarity:.2f}")
    for path in group.paths:
        emit(f"     {shown_path(path)}")
    for equal in group.equal:
        emit(f"   equal bytes: {', '.join(shown_path(path) for path in equal)}")
    for s in group.stretches:
        emit(
            f"   {s.similarity:.2f}  {shown_path(s.first)} {_span(s.first_span)} = "
            f"{shown_path(s.second)} {_span(s.second_span)}"
        )


def _span(span: tuple[float, float]) -> str:
    return f"{clock(span[0])}-{clock(span[1])}"


def _record(group: DuplicateGroup) -> Record:
    return {
        "paths": list(group.paths),
        "similarity": group.similarity,
        "equal": [list(paths) for paths in group.equal],
        "stretches": [_stretch(s) for s in group.stretches],
    }


def _stretch(s: SharedStretch) -> Record:
    return {
        "first": s.first,
        "second": s.second,
        "similarity": s.similarity,
        "first_span_s": list(s.first_span),
        "second_span_s": list(s.second_span),
    }
