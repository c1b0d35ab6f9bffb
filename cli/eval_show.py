"""How ``mmretrieve eval`` shows what it found: tables, JSON, Markdown, a report file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmretrieve.cli.console import emit, out, say, stdout_is_terminal
from mmretrieve.cli.records import SCHEMA, Record, number, numbers, to_json
from mmretrieve.cli.text import clean, shown_path
from mmretrieve.errors import UsageError

if TYPE_CHECKING:
    from mmretrieve.evaluation.experiment import Comparison
    from mmretrieve.evaluation.importance import Importance
    from mmretrieve.evaluation.modality import ModalityReport
    from mmretrieve.evaluation.report import Section
    from mmretrieve.evaluation.results import Drop, Results

TITLE = "mmretrieve: how well queries are answered"


class EvalFormat(StrEnum):
    """How results are written; ``auto`` is a table on a terminal, else JSON."""

    AUTO = "auto"
    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


def show(results: Results, chosen: EvalFormat) -> None:
    """The results on standard output."""
    if chosen is EvalFormat.AUTO:
        chosen = EvalFormat.TABLE if stdout_is_terminal() else EvalFormat.JSON
    if chosen is EvalFormat.JSON:
        emit(to_json(record(results), indent=2))
        return
    from mmretrieve.evaluation.report import markdown, sections

    found = sections(results)
    if chosen is EvalFormat.MARKDOWN:
        emit("\n".join(clean(line) for line in markdown(found).splitlines()))
        return
    for section in found:
        _print_table(section)


def write_report(results: Results, path: Path | None) -> None:
    """The results as a file, in Markdown or as one HTML page; nothing for None."""
    if path is None:
        return
    from mmretrieve.evaluation.html import page
    from mmretrieve.evaluation.report import markdown, sections

    text = markdown(sections(results))
    if path.suffix.lower() != ".md":
        text = page(results, TITLE)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    say(f"report: {shown_path(str(path))}")


def record(results: Results) -> Record:
    """The one object of ``eval --format json``."""
    return {
        "schema": SCHEMA,
        **_comparison(results.comparison),
        "modalities": {tag: _modality(r) for tag, r in results.modalities.items()},
        "moments": _comparison(results.moments) if results.moments is not None else None,
        "importance": _importance(results.importance) if results.importance is not None else None,
        "probes": [_drop(drop) for drop in results.drops],
        "notes": list(results.notes),
    }


def _comparison(found: Comparison) -> Record:
    names = found.measures

    def named(values: Sequence[Any]) -> Record:
        return {name: _spread(value) for name, value in zip(names, values, strict=True)}

    return {
        "measures": list(names),
        "runs": [
            {
                "run": row.tag,
                "queries": row.group,
                "n_queries": row.n_queries,
                "measures": named(row.intervals),
            }
            for row in found.rows
        ],
        "differences": [
            {"run": c.tag, "against": c.against, "measures": named(c.differences)}
            for c in found.contrasts
        ],
    }


def _spread(value: Any) -> Record:
    kept = ("mean", "low", "high", "p")
    return numbers({k: v for k, v in asdict(value).items() if k in kept})


def _importance(found: Importance) -> Record:
    return {
        "measure": found.measure,
        "n_queries": found.n_queries,
        "modalities": {
            m.value: {
                "importance": _spread(one.importance),
                "alone": _spread(one.alone),
                "enough": number(one.enough),
            }
            for m, one in found.modalities.items()
        },
        "together": _spread(found.together),
        "best_alone": _spread(found.best_alone),
        "n_one_enough": found.n_one_enough,
        "n_several": found.n_several,
        "n_unanswered": found.n_unanswered,
        "one_modality": number(found.one_modality),
    }


def _drop(found: Drop) -> Record:
    return {
        "probe": found.probe.value,
        "run": found.name,
        "measure": found.measure,
        "n_changed": found.n_changed,
        "clean": number(found.clean),
        "changed": number(found.changed),
        "difference": _spread(found.difference),
    }


def _modality(report: ModalityReport) -> Record:
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
