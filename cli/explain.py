"""``mmretrieve explain``."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from mmretrieve.cli.console import emit, out
from mmretrieve.cli.options import (
    AggregateOption,
    GateOption,
    IndexOption,
    ReportFormat,
    ReportFormatOption,
    Switch,
    VerboseOption,
    WeightOption,
    query_text,
    resolve_report,
    scoring,
)
from mmretrieve.cli.records import hit_record, to_json
from mmretrieve.cli.times import parse_time
from mmretrieve.datatypes import Aggregation

_TIME_LIKE = re.compile(r"[0-9:.]+")


def explain(
    text: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    video: Annotated[
        str,
        typer.Argument(
            metavar="VIDEO[@TIME]",
            help="A video by path, file name, glob or id, and a time in it if not its best moment.",
        ),
    ],
    weight: WeightOption = None,
    gate: GateOption = Switch.OFF,
    aggregate: AggregateOption = Aggregation.TOKEN_MAX,
    index: IndexOption = None,
    chosen: ReportFormatOption = ReportFormat.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Show how well one video answers QUERY, word by word, whatever its rank."""
    wanted = query_text([text])
    name, at_s = split_time(video)
    weighting = scoring(aggregate, weight, gate)
    from mmretrieve.engine import Engine

    with Engine.open(index) as engine:
        hit = engine.explain(wanted, name, at_s=at_s, scoring=weighting)
    if resolve_report(chosen) is ReportFormat.JSON:
        emit(to_json({**hit_record(hit, explain=True), "query": wanted}, indent=2))
        return
    from mmretrieve.cli.render_table import print_hit

    print_hit(out(), hit, wanted, explain=True)


def split_time(text: str) -> tuple[str, float | None]:
    """``"talk.mp4@1:15"`` -> ``("talk.mp4", 75.0)``; an ``@`` that no time follows is the name's.

    Raises:
        UsageError: what follows looks like a time and is none.
    """
    name, at, time = text.rpartition("@")
    if not at or not name or not _TIME_LIKE.fullmatch(time):
        return text, None
    return name, parse_time(time)
