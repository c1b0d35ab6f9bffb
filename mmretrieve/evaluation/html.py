"""A report as one HTML file: charts as inline SVG, tables, nothing that has to be fetched."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mmretrieve.datatypes import MODALITIES
from mmretrieve.evaluation import svg
from mmretrieve.evaluation.experiment import ALL, Comparison
from mmretrieve.evaluation.modality import ModalityReport
from mmretrieve.evaluation.report import Section, sections
from mmretrieve.evaluation.results import Drop, Results

_PREFERRED = "nDCG@10"
_MOST_SERIES = 8
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:.5rem 0 2rem;font-size:13px;display:block;overflow-x:auto}"
    "th,td{padding:.2rem .6rem;border-bottom:1px solid #e3e3e3;text-align:left;white-space:nowrap}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}h2{font-size:17px;margin:1.5rem 0 .3rem}"
    "svg{width:100%;height:auto;margin:.5rem 0 1.5rem}"
)


def page(results: Results, title: str, about: Sequence[str] = ()) -> str:
    """The whole report. Every word in it is escaped: names of files and queries are not ours."""
    parts = [f"<h1>{escape(title)}</h1>"]
    parts += [f"<p>{escape(line)}</p>" for line in (*about, *results.notes)]
    for name, chart in charts(results):
        parts.append(f"<h2>{escape(name)}</h2>{chart}")
    parts += [_table(section) for section in sections(results)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
        "'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def charts(results: Results) -> list[tuple[str, str]]:
    """Titles and SVG: the rankings compared, by type of query, who wins, and what probes cost."""
    comparison = results.comparison
    if not comparison.rows:
        return []
    names = comparison.measures
    column = names.index(_PREFERRED) if _PREFERRED in names else 0
    found = [_ranked(comparison, column)]
    if len({row.group for row in comparison.rows}) > 1:
        found.append(_by_type(comparison, column))
    found += [_confusion(tag, report) for tag, report in results.modalities.items()]
    found += _dropped(results.drops)
    return found


def _ranked(comparison: Comparison, column: int) -> tuple[str, str]:
    rows = [row for row in comparison.rows if row.group == ALL]
    values = [(row.tag, row.intervals[column]) for row in rows]
    title = f"{comparison.measures[column]} of each run, all queries, with 95 % intervals"
    return title, svg.bars(title, [svg.Bar(t, v.mean, v.low, v.high) for t, v in values])


def _by_type(comparison: Comparison, column: int) -> tuple[str, str]:
    kinds = list(dict.fromkeys(row.group for row in comparison.rows))
    tags = list(dict.fromkeys(row.tag for row in comparison.rows))
    alone = [tag for tag in tags if tag in list(MODALITIES)]
    shown = [*tags[:1], *(t for t in alone if t != tags[0])] if alone else tags[:_MOST_SERIES]
    means = {(row.tag, row.group): row.intervals[column].mean for row in comparison.rows}
    series = {tag: [means[tag, kind] for kind in kinds] for tag in shown}
    title = f"{comparison.measures[column]} by type of query"
    return title, svg.groups(title, kinds, series)


def _confusion(tag: str, report: ModalityReport) -> tuple[str, str]:
    rows = [m for m in report.shown if any(report.confusion[m].values())]
    cells = [[report.confusion[row][column] for column in report.shown] for row in rows]
    title = f"Queries by wanted (row) and winning (column) modality: {tag}"
    return title, svg.matrix(title, rows, report.shown, cells)


def _dropped(drops: Sequence[Drop]) -> list[tuple[str, str]]:
    first = [drop for drop in drops if drop.name == drops[0].name]
    if not first:
        return []
    title = f"{first[0].measure} with a probe minus without: {first[0].name}"
    rows = [
        svg.Bar(d.probe.value, d.difference.mean, d.difference.low, d.difference.high)
        for d in first
    ]
    return [(title, svg.bars(title, rows))]


def _table(section: Section) -> str:
    kinds = ["" if i < section.n_names else ' class="n"' for i in range(len(section.header))]
    head = "".join(
        f"<th{kind}>{escape(n)}</th>" for kind, n in zip(kinds, section.header, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{escape(c)}</td>" for kind, c in zip(kinds, row, strict=True))
        + "</tr>"
        for row in section.rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<h2>{escape(section.title)}</h2>{table}"
