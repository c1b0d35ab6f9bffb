"""``mmretrieve eval``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmretrieve.cli.console import emit, out, say, stdout_is_terminal
from mmretrieve.cli.options import IndexOption, VerboseOption
from mmretrieve.cli.records import SCHEMA, Record, number, numbers, to_json
from mmretrieve.cli.text import clean
from mmretrieve.cli.times import took
from mmretrieve.datatypes import MODALITIES, Aggregation, Filter, GroupBy, Modality
from mmretrieve.errors import UsageError

if TYPE_CHECKING:
    from mmretrieve.engine import Engine
    from mmretrieve.evaluation.experiment import Comparison
    from mmretrieve.evaluation.measures import Measure
    from mmretrieve.evaluation.modality import ModalityReport
    from mmretrieve.evaluation.queries import Query
    from mmretrieve.evaluation.report import Section
    from mmretrieve.evaluation.trec import Qrels, Run
    from mmretrieve.scoring.aggregation import Scoring

CLAMR = "clamr"
EVERYTHING = "all"
WAYS: tuple[str, ...] = (*Aggregation, CLAMR, *MODALITIES)
"""What can be compared: aggregations, CLaMR's plain score, each modality alone."""
DEPTH = 100


class EvalFormat(StrEnum):
    """How results are written; ``auto`` is a table on a terminal, else JSON."""

    AUTO = "auto"
    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


@dataclass(frozen=True, slots=True)
class _Results:
    """Everything that is shown; ``modalities``: run -> its winning modalities."""

    comparison: Comparison
    modalities: Mapping[str, ModalityReport]


def evaluate(
    queries: Annotated[
        Path | None,
        typer.Argument(
            metavar="QUERIES.jsonl",
            help="Lines of {query_id, query, query_type, relevant}, or a folder with queries.jsonl; "
            "relevant names files, paths or ids of indexed videos.",
        ),
    ] = None,
    index: IndexOption = None,
    compared: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="NAME,...",
            help=f"Ways of searching: all, or some of {', '.join(WAYS)}; differences are to the "
            f"first.  [default: {Aggregation.TOKEN_MAX}]",
        ),
    ] = None,
    measures: Annotated[
        str | None,
        typer.Option(metavar="MEASURE,...", help="As nDCG@10,R@5,Success@5,P@5,RR,AP."),
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead of queries: judgements (TREC, BEIR)."),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="With --qrels: a TREC run; repeatable to compare."),
    ] = None,
    run_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the one run as a TREC file.")
    ] = None,
    qrels_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the judgements of the run with it.")
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Videos to rank for a query.  [default: 100]"),
    ] = None,
    chosen: Annotated[
        EvalFormat, typer.Option("--format", help="auto: a table on a terminal, JSON in a pipe.")
    ] = EvalFormat.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Measure how well the index answers queries with known answers, or measure TREC runs."""
    from mmretrieve.evaluation.measures import parse_measures

    wanted = parse_measures(measures)
    if qrels is not None or run:
        if qrels is None or not run or queries is not None:
            raise UsageError("give either QUERIES.jsonl or both --qrels and --run (TREC files)")
        if any(v is not None for v in (index, compared, run_out, qrels_out, depth)):
            raise UsageError("--qrels and --run measure files: only --measures and --format apply")
        results = _measure_files(qrels, run, wanted)
    elif queries is None:
        raise UsageError("nothing to measure: give QUERIES.jsonl, or --qrels with --run")
    else:
        ways = parse_ways(compared)
        check_outputs(run_out, qrels_out, ways)
        from mmretrieve.engine import Engine

        with Engine.open(index) as engine:
            found = _Evaluation(engine, queries, ways, wanted, depth or DEPTH)
            results = found.results()
        found.write(run_out, qrels_out)
    _show(results, chosen)


def parse_ways(text: str | None) -> tuple[str, ...]:
    """``"token_max,speech"``, each once; ``token_max`` for ``None``. ``all`` stays as it is.

    Raises:
        UsageError: none, or a name that is no way of searching.
    """
    if text is None:
        return (Aggregation.TOKEN_MAX.value,)
    names = tuple(dict.fromkeys(n.strip().lower() for n in text.split(",") if n.strip()))
    unknown = [name for name in names if name not in (*WAYS, EVERYTHING)]
    if unknown or not names:
        shown = repr(unknown[0]) if unknown else "nothing"
        raise UsageError(f"--compare: {shown}: expected some of {', '.join(WAYS)}, or all")
    return names


def check_outputs(run_out: Path | None, qrels_out: Path | None, ways: Sequence[str]) -> None:
    """Before any work: what is to be written can be.

    Raises:
        UsageError: several runs for one file, or a folder that is not there.
    """
    if run_out is not None and (len(ways) > 1 or EVERYTHING in ways):
        raise UsageError("--run-out writes one run: name one way of searching with --compare")
    for path in (run_out, qrels_out):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"{path}: there is no folder {path.parent} to write into")


class _Evaluation:
    """One set of queries on one index, searched in several ways."""

    def __init__(
        self,
        engine: Engine,
        file: Path,
        ways: Sequence[str],
        measures: Sequence[Measure],
        depth: int,
    ) -> None:
        from mmretrieve.evaluation.queries import judge, read_queries

        self._engine = engine
        self._measures = measures
        self._depth = max([depth, *(m.cutoff for m in measures if m.cutoff)])
        self._queries: tuple[Query, ...] = read_queries(file)
        paths = {video.video_id: video.path for video in engine.videos()}
        if not paths:
            raise UsageError("the index is empty: mmretrieve index FOLDER_WITH_VIDEOS")
        folder = file if file.is_dir() else file.parent
        self._qrels: Qrels = judge(self._queries, paths, folder)
        self._ways = self._present(ways)
        self._runs: list[Run] = []

    def results(self) -> _Results:
        """Search, measure, compare; says on standard error what takes time."""
        from mmretrieve.evaluation.experiment import measure_runs

        for way in self._ways:
            start = time.perf_counter()
            self._runs.append(self._search(way))
            spent = took(time.perf_counter() - start)
            say(f"{way}: {len(self._queries):,} queries in {spent}")
        types = {query.query_id: query.query_type for query in self._queries}
        comparison = measure_runs(self._qrels, self._runs, self._measures, types)
        joint = [run for run in self._runs if run.tag in (Aggregation.TOKEN_MAX, CLAMR)]
        reports = {run.tag: self._modalities(run) for run in joint}
        return _Results(comparison, {tag: r for tag, r in reports.items() if r.n_queries})

    def write(self, run_out: Path | None, qrels_out: Path | None) -> None:
        """Write what was asked for in the form of TREC."""
        from mmretrieve.evaluation.trec import write_qrels, write_run

        if run_out is not None:
            write_run(run_out, self._runs[0])
        if qrels_out is not None:
            write_qrels(qrels_out, self._qrels)

    def _present(self, ways: Sequence[str]) -> tuple[str, ...]:
        """``all`` spelt out, without the modalities that no video has."""
        if EVERYTHING not in ways:
            return tuple(ways)
        n_tokens = self._engine.info().n_tokens
        able = [way for way in WAYS if way not in n_tokens or n_tokens[Modality(way)]]
        return tuple(dict.fromkeys([*(way for way in ways if way != EVERYTHING), *able]))

    def _search(self, way: str) -> Run:
        from mmretrieve.evaluation.experiment import run_queries

        scoring, selection = _scoring(way), _selection(way)

        def search(text: str) -> dict[str, float]:
            result = self._engine.search(
                text, k=self._depth, scoring=scoring, filter=selection, group_by=GroupBy.VIDEO
            )
            return {hit.video.video_id: hit.score for hit in result.hits}

        return run_queries(way, self._queries, search)

    def _modalities(self, run: Run) -> ModalityReport:
        """Which modality wins each token of the relevant video (the best ranked, if several)."""
        from mmretrieve.evaluation.modality import TARGETS, modality_report

        asked = [query for query in self._queries if query.query_type in TARGETS]
        winners = []
        for query in asked:
            relevant, scores = self._qrels.relevance[query.query_id], run.scores[query.query_id]
            video_id = max(relevant, key=lambda key: scores.get(key, float("-inf")))
            result = self._engine.search(
                query.text, k=1, scoring=_scoring(run.tag), filter=Filter(video_glob=video_id),
                group_by=GroupBy.VIDEO,
            )  # fmt: skip
            winners.append([item.modality for hit in result.hits for item in hit.evidence])
        return modality_report([TARGETS[query.query_type] for query in asked], winners)


def _scoring(way: str) -> Scoring:
    from mmretrieve.scoring.aggregation import Scoring

    if way == CLAMR:
        return Scoring(power=1.0, centre=False)
    if way in list(MODALITIES):
        return Scoring()
    return Scoring(aggregation=Aggregation(way))


def _selection(way: str) -> Filter:
    return Filter(modalities=(Modality(way),)) if way in list(MODALITIES) else Filter()


def _measure_files(qrels: Path, runs: Sequence[Path], measures: Sequence[Measure]) -> _Results:
    """Measure TREC files; runs are named by their tags, or by their files where tags are shared."""
    from dataclasses import replace

    from mmretrieve.evaluation.experiment import coverage, measure_runs
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
    return _Results(measure_runs(judged, found, measures), {})


def _show(results: _Results, chosen: EvalFormat) -> None:
    if chosen is EvalFormat.AUTO:
        chosen = EvalFormat.TABLE if stdout_is_terminal() else EvalFormat.JSON
    if chosen is EvalFormat.JSON:
        emit(to_json(_record(results), indent=2))
        return
    from mmretrieve.evaluation.report import comparison_sections, markdown, modality_sections

    sections = comparison_sections(results.comparison)
    for tag, report in results.modalities.items():
        sections += modality_sections(tag, report)
    if chosen is EvalFormat.MARKDOWN:
        emit("\n".join(clean(line) for line in markdown(sections).splitlines()))
        return
    for section in sections:
        _print_table(section)


def _print_table(section: Section) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number_of, name in enumerate(section.header):
        is_name = number_of < section.n_names
        table.add_column(clean(name), justify="left" if is_name else "right", overflow="fold")
    for row in section.rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    console = out()
    console.print(Text(section.title, "bold"), soft_wrap=True)
    console.print(table)
    console.print()


def _record(results: _Results) -> Record:
    """The one object of ``eval --format json``."""
    names = [str(measure) for measure in results.comparison.measures]

    def named(values: Sequence[Any]) -> Record:
        kept = ("mean", "low", "high", "p")
        parts = [{k: v for k, v in asdict(value).items() if k in kept} for value in values]
        return {name: numbers(part) for name, part in zip(names, parts, strict=True)}

    return {
        "schema": SCHEMA,
        "measures": names,
        "runs": [
            {
                "run": row.tag,
                "queries": row.group,
                "n_queries": row.n_queries,
                "measures": named(row.intervals),
            }
            for row in results.comparison.rows
        ],
        "differences": [
            {"run": c.tag, "against": c.against, "measures": named(c.differences)}
            for c in results.comparison.contrasts
        ],
        "modalities": {tag: _modality_record(r) for tag, r in results.modalities.items()},
    }


def _modality_record(report: ModalityReport) -> Record:
    return {
        "n_queries": report.n_queries,
        "n_undecided": report.n_undecided,
        "accuracy": number(report.accuracy),
        "any_accuracy": number(report.any_accuracy),
        "macro_precision": number(report.precision),
        "macro_recall": number(report.recall),
        "macro_f1": number(report.f1),
        "distribution": numbers(report.distribution),
        "confusion": {
            row.value: {column.value: count for column, count in columns.items()}
            for row, columns in report.confusion.items()
        },
    }
