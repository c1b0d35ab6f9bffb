"""``mmretrieve eval``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmretrieve.cli.console import say
from mmretrieve.cli.eval_show import EvalFormat, show, write_report
from mmretrieve.cli.options import IndexOption, LayoutOption, VerboseOption
from mmretrieve.datatypes import Way
from mmretrieve.errors import UsageError

if TYPE_CHECKING:
    from mmretrieve.evaluation.measures import Measure
    from mmretrieve.evaluation.results import Results

EVERYTHING = "all"
WAYS: tuple[str, ...] = tuple(Way)
"""What can be compared: aggregations, the baselines of papers, each modality alone."""
DEPTH = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be measured, and how."""

    queries: Path | None
    layout: str | None
    n_known_items: int | None
    ways: tuple[str, ...]
    probes: tuple[str, ...]
    importance: bool
    measures: tuple[Measure, ...]
    depth: int
    seed: int


QueriesOption = Annotated[
    Path | None,
    typer.Argument(
        metavar="QUERIES.jsonl",
        help="Lines of {query_id, query, query_type, relevant, moments}, or a folder with "
        "queries.jsonl; relevant names files, paths or ids of indexed videos.",
    ),
]
KnownItemsOption = Annotated[
    int | None,
    typer.Option(
        "--known-items",
        metavar="N",
        min=1,
        help="Instead of queries: N lines of the index itself, each hidden while it is asked.",
    ),
]
ComparedOption = Annotated[
    str | None,
    typer.Option(
        "--compare",
        metavar="NAME,...",
        help=f"Ways of searching: all, or some of {', '.join(WAYS)}; differences are to the "
        f"first.  [default: {Way.TOKEN_MAX}]",
    ),
]
ProbeOption = Annotated[
    str | None,
    typer.Option(
        "--probe",
        metavar="NAME,...",
        help="Robustness probes, as drops against the clean run: all, or some of "
        "missing_at_random, missing_not_at_random, content_dilution, modality_interference, "
        "attribute_insertion, typos; with --layout also speech_noise, compressed_frames.",
    ),
]
ImportanceOption = Annotated[
    bool,
    typer.Option("--importance", help="How much each modality matters; what one alone answers."),
]
MeasuresOption = Annotated[
    str | None,
    typer.Option(metavar="MEASURE,...", help="As nDCG@10,R@5,Success@5,P@5,RR,AP."),
]
QrelsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Instead of queries: judgements (TREC, BEIR)."),
]
RunOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="With --qrels: a TREC run; repeatable to compare."),
]
RunOutOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the one run as a TREC file.")
]
QrelsOutOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the judgements of the run with it.")
]
ReportOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also write FILE.html with charts, or FILE.md."),
]
DepthOption = Annotated[
    int | None,
    typer.Option(min=1, max=10_000, help="Videos to rank for a query.  [default: 100]"),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of known items and probes.")]
ChosenOption = Annotated[
    EvalFormat, typer.Option("--format", help="auto: a table on a terminal, JSON in a pipe.")
]


def evaluate(
    queries: QueriesOption = None,
    index: IndexOption = None,
    layout: LayoutOption = None,
    known_items: KnownItemsOption = None,
    compared: ComparedOption = None,
    probe: ProbeOption = None,
    importance: ImportanceOption = False,
    measures: MeasuresOption = None,
    qrels: QrelsOption = None,
    run: RunOption = None,
    run_out: RunOutOption = None,
    qrels_out: QrelsOutOption = None,
    report: ReportOption = None,
    depth: DepthOption = None,
    seed: SeedOption = 0,
    chosen: ChosenOption = EvalFormat.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Measure how well the index answers queries with known answers, or measure TREC runs.

    Queries come from a file (--compare all gives the table of papers for your own library), from the
    index itself (--known-items), or from a published collection (--layout). Means have 95 % bootstrap
    intervals, differences the p of a paired randomisation test.
    """
    from mmretrieve.evaluation.measures import parse_measures

    parsed = parse_measures(measures)
    _check_report(report)
    if qrels is not None or run:
        if qrels is None or not run or queries is not None:
            raise UsageError("give either QUERIES.jsonl or both --qrels and --run (TREC files)")
        others = (index, layout, known_items, compared, probe, run_out, qrels_out, depth)
        if importance or any(value is not None for value in others):
            raise UsageError(
                "--qrels and --run measure files: only --measures, --report and --format apply"
            )
        results = _measure_files(qrels, run, parsed)
    else:
        _check_source(queries, layout, known_items)
        ways = parse_ways(compared)
        check_outputs(run_out, qrels_out, ways)
        wanted = Wanted(
            queries, layout, known_items, ways, parse_probes(probe, layout), importance, parsed,
            depth or DEPTH, seed,
        )  # fmt: skip
        from mmretrieve.cli.eval_run import evaluate_index

        results = evaluate_index(wanted, index, run_out, qrels_out)
    write_report(results, report)
    show(results, chosen)


def parse_ways(text: str | None) -> tuple[str, ...]:
    """``"token_max,speech"``, each once; ``token_max`` for ``None``. ``all`` stays as it is.

    Raises:
        UsageError: none, or a name that is no way of searching.
    """
    if text is None:
        return (Way.TOKEN_MAX.value,)
    return _names("--compare", text, WAYS)


def parse_probes(text: str | None, layout: str | None) -> tuple[str, ...]:
    """``"typos,content_dilution"``, each once; ``all`` spelt out, as far as it applies.

    Raises:
        UsageError: none, or a name that is no probe, or one that needs content to encode again.
    """
    if text is None:
        return ()
    from mmretrieve.evaluation.probes import OF_CONTENT, Probe

    names = _names("--probe", text, tuple(Probe))
    if EVERYTHING in names:
        return tuple(p.value for p in Probe if layout is not None or p not in OF_CONTENT)
    needy = [name for name in names if name in list(OF_CONTENT)]
    if needy and layout is None:
        raise UsageError(
            f"--probe {needy[0]} encodes content again: it needs documents whose content is given, "
            "with --layout"
        )
    return names


def check_outputs(run_out: Path | None, qrels_out: Path | None, ways: Sequence[str]) -> None:
    """Before any work: what is to be written can be.

    Raises:
        UsageError: several runs for one file, or a folder that is not there.
    """
    if run_out is not None and (len(ways) > 1 or EVERYTHING in ways):
        raise UsageError("--run-out writes one run: name one way of searching with --compare")
    for path in (run_out, qrels_out):
        _check_folder(path)


def _names(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(n.strip().lower() for n in text.split(",") if n.strip()))
    unknown = [name for name in names if name not in (*known, EVERYTHING)]
    if unknown or not names:
        shown = repr(unknown[0]) if unknown else "nothing"
        raise UsageError(f"{option}: {shown}: expected some of {', '.join(known)}, or all")
    return names


def _check_source(queries: Path | None, layout: str | None, n_known_items: int | None) -> None:
    if n_known_items is not None and (queries is not None or layout is not None):
        raise UsageError("--known-items makes its own queries: leave QUERIES and --layout out")
    if layout is not None and queries is None:
        raise UsageError(f"--layout {layout}: name the folder (or file) that has this layout")
    if queries is None and n_known_items is None:
        raise UsageError(
            "nothing to measure: give QUERIES.jsonl, --known-items N, or --qrels with --run"
        )


def _check_report(path: Path | None) -> None:
    if path is not None and path.suffix.lower() not in (".html", ".htm", ".md"):
        raise UsageError(f"--report {path}: expected a name that ends in .html or .md")
    _check_folder(path)


def _check_folder(path: Path | None) -> None:
    if path is not None and not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent} to write into")


def _measure_files(qrels: Path, runs: Sequence[Path], measures: Sequence[Measure]) -> Results:
    """Measure TREC files; runs are named by their tags, or by their files where tags are shared."""
    from dataclasses import replace

    from mmretrieve.evaluation.experiment import coverage, measure_runs
    from mmretrieve.evaluation.results import Results
    from mmretrieve.evaluation.trec import read_qrels, read_run

    judged = read_qrels(qrels)
    found = [read_run(path) for path in runs]
    if len({run.tag for run in found}) < len(found):
        found = [replace(run, tag=str(path)) for run, path in zip(found, runs, strict=True)]
    for run in found:
        covered = coverage(judged, run)
        if covered.n_unanswered:
            share = f"{covered.n_unanswered} of {covered.n_judged} judged queries"
            say(f"{run.tag}: {share} are not in the run and score 0")
        if covered.n_unjudged:
            say(f"{run.tag}: {covered.n_unjudged} queries without judgements are ignored")
    return Results(measure_runs(judged, found, measures))
