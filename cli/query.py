"""``mmretrieve query``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mmretrieve.cli.console import say
from mmretrieve.cli.exits import ExitCode
from mmretrieve.cli.options import (
    Format,
    FormatOption,
    GateOption,
    IndexOption,
    Switch,
    VerboseOption,
    WeightOption,
    parse_modalities,
    query_text,
    resolve,
    scoring,
)
from mmretrieve.cli.times import parse_time
from mmretrieve.datatypes import Aggregation, ConfidenceLabel, Filter, GroupBy, SearchResult, Way
from mmretrieve.errors import UsageError

if TYPE_CHECKING:
    from mmretrieve.scoring.aggregation import Scoring

TextArgument = Annotated[list[str], typer.Argument(metavar="TEXT", help="What to look for.")]
CountOption = Annotated[int, typer.Option("-k", min=1, help="How many hits.")]
ModalitiesOption = Annotated[
    str | None,
    typer.Option(
        "--in",
        metavar="MODALITY,...",
        help="Search only in some of frames, speech, ocr, metadata, audio.",
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help="A fact about the video, as channel=NASA or duration_s>=60; with = != > < >= <= or "
        "~ (contains); repeatable, all must hold.",
    ),
]
VideoOption = Annotated[
    str | None, typer.Option(metavar="GLOB", help="Only in videos of this path, file name or id.")
]
FromOption = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="Not before this time: 75.5, 1:15, 00:01:15.250."),
]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Not after this time.")]
PhraseOption = Annotated[
    str | None, typer.Option(metavar="WORDS", help="These very words must be said or be on screen.")
]
GroupOption = Annotated[GroupBy, typer.Option("--group-by", help="Moments, or each video once.")]
ConfidenceOption = Annotated[
    ConfidenceLabel | None,
    typer.Option("--min-confidence", help="Leave out hits that are less sure."),
]
WayOption = Annotated[
    Way,
    typer.Option(
        "--aggregate",
        help="How the modalities become one score; from clamr on: what papers compare with, by "
        "whole documents and without evidence.",
    ),
]
ExplainOption = Annotated[
    bool, typer.Option("--explain", help="Show what each word of the query earned, and where.")
]
FailOption = Annotated[
    bool, typer.Option("--fail-if-empty", help="Exit with 3 when there is no good match.")
]


def query(
    text: TextArgument,
    k: CountOption = 10,
    modalities: ModalitiesOption = None,
    weight: WeightOption = None,
    gate: GateOption = Switch.OFF,
    where: WhereOption = None,
    video: VideoOption = None,
    from_time: FromOption = None,
    to_time: ToOption = None,
    phrase: PhraseOption = None,
    aggregate: WayOption = Way.TOKEN_MAX,
    group_by: GroupOption = GroupBy.MOMENT,
    min_confidence: ConfidenceOption = None,
    explain: ExplainOption = False,
    fail_if_empty: FailOption = False,
    index: IndexOption = None,
    chosen: FormatOption = Format.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Find the moments of videos that answer TEXT, and say why they do."""
    wanted = query_text(text)
    selection = _filter(modalities, where or [], video, (from_time, to_time), phrase)
    weighting = _weighting(aggregate, weight, gate)
    from mmretrieve.engine import Engine

    with Engine.open(index) as engine:
        if weighting is not None:
            result = engine.search(
                wanted, k=k, scoring=weighting,
                filter=selection, group_by=group_by, min_confidence=min_confidence,
            )  # fmt: skip
        else:
            result = engine.search_by(
                aggregate, wanted, k=k, filter=selection, group_by=group_by,
                min_confidence=min_confidence,
            )  # fmt: skip
        write(result, str(engine.folder), resolve(chosen), explain=explain)
    if fail_if_empty and (result.no_good_match or not result.hits):
        raise typer.Exit(ExitCode.NOTHING_MATCHED)


def write(result: SearchResult, index: str, chosen: Format, *, explain: bool) -> None:
    """The answer on standard output; notes, and beside machine formats what they lack, on standard
    error."""
    if chosen is Format.TABLE:
        from mmretrieve.cli.render_table import print_result

        print_result(result, explain=explain)
    else:
        from mmretrieve.cli.render_lines import write_hits

        if result.no_good_match or not result.hits:
            say(f"no good match for {result.query!r}")
        write_hits(result, index, chosen, explain=explain)
    for note in result.notes:
        say(f"note: {note}")


def _weighting(way: Way, weights: list[str] | None, gate: Switch) -> Scoring | None:
    """The scoring of an aggregation; None for the other ways, which weigh nothing."""
    if way.value in list(Aggregation):
        return scoring(Aggregation(way.value), weights, gate)
    if weights or gate is Switch.ON:
        raise UsageError(
            f"--weight and --gate on go with --aggregate {', '.join(Aggregation)}; {way} weighs nothing"
        )
    return None


def _filter(
    modalities: str | None,
    where: list[str],
    video: str | None,
    times: tuple[str | None, str | None],
    phrase: str | None,
) -> Filter:
    wanted = parse_modalities(modalities)
    from_s, to_s = (None if text is None else parse_time(text) for text in times)
    return Filter(
        modalities=wanted,
        video_glob=video,
        where=_conditions(where),
        from_s=from_s,
        to_s=to_s,
        phrase=phrase,
    )


def _conditions(texts: list[str]) -> tuple[tuple[str, str], ...]:
    if not texts:
        return ()
    from mmretrieve.search.filters import parse_condition

    return tuple(parse_condition(text) for text in texts)
