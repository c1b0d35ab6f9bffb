"""What ``quality`` found, for people: a page of all tables, and the table of the README."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.result import RESULTS, ROOT
from mmretrieve.datatypes import MODALITIES, Way
from mmretrieve.evaluation.experiment import ALL
from mmretrieve.evaluation.intervals import Interval
from mmretrieve.evaluation.report import markdown, sections

if TYPE_CHECKING:
    from benchmarks.quality import Measured

BEGIN, END = "<!-- quality: begin -->", "<!-- quality: end -->"
NOTES = RESULTS / "quality-notes.md"
MAIN = "nDCG@10"
_NAMES = {
    Way.TOKEN_MAX: "**all modalities, `token_max`**",
    Way.MODALITY_MAX: "`modality_max`",
    Way.WEIGHTED: "`weighted`",
    Way.CLAMR: "CLaMR's plain `token_max`",
    Way.MEAN: "mean of similarities",
    Way.RRF: "reciprocal rank fusion",
    Way.ROUTE: "routing to one modality",
    Way.POOLED: "pooled single vector",
    Way.GRAMIAN: "Gramian volume",
    Way.BM25: "BM25",
}


def write_page(found: Sequence[Measured], commit: str) -> None:
    """``results/quality.md``: all tables, after what was seen by eye (``quality-notes.md``)."""
    parts = [
        "# Quality",
        f"Written by `python -m benchmarks quality` at commit {commit}; the same numbers as JSON lie "
        f"beside this page. Intervals: 95 % bootstrap over queries.",
    ]
    if NOTES.is_file():
        parts.append(NOTES.read_text(encoding="utf-8").strip())
    for measured in found:
        parts.append(f"## {measured.name}")
        parts.append(f"{measured.n_documents} documents: {measured.about}.")
        parts.append(markdown(sections(measured.results)).strip())
        parts.append(_failures(measured))
    path = RESULTS / "quality.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"written: {path.relative_to(ROOT)}")


def write_readme(found: Sequence[Measured]) -> None:
    """Put the table between the markers of the README.

    Raises:
        ValueError: the markers are not there.
    """
    path = ROOT / "README.md"
    path.write_text(replaced(path.read_text(encoding="utf-8"), table(found)), encoding="utf-8")
    print("refreshed: README.md")


def replaced(text: str, table_text: str) -> str:
    """``text`` with the table between its markers.

    Raises:
        ValueError: the markers are not there once each, in order.
    """
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"expected {BEGIN} ... {END} once")
    return pattern.sub(lambda _: f"{BEGIN}\n\n{table_text}\n\n{END}", text)


def table(found: Sequence[Measured]) -> str:
    """nDCG@10 of each way and collection with half the width of its interval; the best in bold."""
    shown = [m for m in found if ":" not in m.name]
    means = [_means(measured) for measured in shown]
    rows = [[_NAMES[way], *(_cell(column, way.value) for column in means)] for way in _NAMES]
    rows.append(["best modality alone", *(_best_alone(column) for column in means)])
    header = [MAIN, *(f"{m.name} ({_n(m)})" for m in shown)]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _means(measured: Measured) -> dict[str, Interval]:
    comparison = measured.results.comparison
    column = comparison.measures.index(MAIN)
    return {row.tag: row.intervals[column] for row in comparison.rows if row.group == ALL}


def _n(measured: Measured) -> str:
    rows = measured.results.comparison.rows
    return f"{next(row.n_queries for row in rows if row.group == ALL):,}"


def _cell(column: dict[str, Interval], tag: str) -> str:
    if tag not in column:
        return ""
    found = column[tag]
    text = f"{found.mean:.3f} ±{(found.high - found.low) / 2:.3f}"
    best = max(v.mean for v in column.values())
    return f"**{text}**" if round(found.mean, 3) == round(best, 3) else text


def _best_alone(column: dict[str, Interval]) -> str:
    alone = [m.value for m in MODALITIES if m.value in column]
    best = max(alone, key=lambda tag: column[tag].mean)
    return f"{_cell(column, best)} ({best})"


def _failures(measured: Measured) -> str:
    if not measured.failures:
        return f"No query is answered better by {measured.rival}."
    lines = [
        f"**Where {measured.rival} does better than token_max most, {MAIN}**",
        "",
        "| query | relevant | token_max | its first | rival | its first |",
        "| --- | --- | --: | --- | --: | --- |",
    ]
    lines += [
        f"| {_plain(f.query)} | {_plain(f.relevant)[:80]} | {f.ours:.3f} | {_plain(f.our_first)} "
        f"| {f.theirs:.3f} | {_plain(f.their_first)} |"
        for f in measured.failures
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())[:160]
