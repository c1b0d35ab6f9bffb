"""Results as tables of text: one description for terminals and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmretrieve.evaluation.experiment import Comparison
from mmretrieve.evaluation.importance import Importance
from mmretrieve.evaluation.intervals import Difference, Interval
from mmretrieve.evaluation.modality import ModalityReport
from mmretrieve.evaluation.results import Drop, Results


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table; every row is as long as ``header``; the first ``n_names`` columns are names,
    the others numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_names: int = 1


def sections(results: Results) -> list[Section]:
    """All tables of an evaluation."""
    found = comparison_sections(results.comparison)
    for tag, report in results.modalities.items():
        found += modality_sections(tag, report)
    if results.moments is not None:
        found += comparison_sections(results.moments, "Moments: ")
    if results.importance is not None:
        found += importance_sections(results.importance)
    if results.drops:
        found.append(drop_section(results.drops))
    return found


def comparison_sections(comparison: Comparison, about: str = "") -> list[Section]:
    """Means with their intervals, and where there are several runs, differences to the first."""
    names = comparison.measures
    means = tuple(
        (row.group, row.tag, str(row.n_queries), *(_interval(i) for i in row.intervals))
        for row in comparison.rows
    )
    title = f"{about}Mean over queries [95 % bootstrap interval]"
    sections = [Section(title, ("queries", "run", "n", *names), means, n_names=2)]
    if comparison.contrasts:
        against = comparison.contrasts[0].against
        rows = tuple(
            (contrast.tag, *(_difference(d) for d in contrast.differences))
            for contrast in comparison.contrasts
        )
        what = f"{about}Difference to {against}, all queries"
        title = f"{what} [95 % interval], p of a paired randomisation test"
        sections.append(Section(title, ("run", *names), rows))
    return sections


def modality_sections(tag: str, report: ModalityReport) -> list[Section]:
    """Winning modalities of one run: the measures, and the confusion matrix with the share of
    tokens below it."""
    values = (
        ("accuracy", report.accuracy),
        ("any accuracy", report.any_accuracy),
        ("macro P", report.precision),
        ("macro R", report.recall),
        ("macro F1", report.f1),
    )
    measures = Section(
        f"Does the right modality win the relevant video? {tag}",
        ("n", "undecided", *(name for name, _ in values)),
        (
            (
                str(report.n_queries),
                str(report.n_undecided),
                *(f"{value:.3f}" for _, value in values),
            ),
        ),
        n_names=0,
    )
    shown = report.shown
    columns = tuple(modality.value for modality in shown)
    rows = [
        (row.value, *(str(report.confusion[row][column]) for column in shown))
        for row in shown
        if any(report.confusion[row].values())
    ]
    rows.append(("share of tokens", *(f"{report.distribution[m]:.3f}" for m in shown)))
    title = f"Queries by wanted (row) and winning (column) modality: {tag}"
    return [measures, Section(title, ("wanted", *columns), tuple(rows))]


def importance_sections(found: Importance) -> list[Section]:
    """How much each modality matters, and how many queries one alone answers."""
    rows = tuple(
        (m.value, _signed(one.importance), _interval(one.alone), f"{one.enough:.3f}")
        for m, one in found.modalities.items()
    )
    title = f"Modality importance by {found.measure}, {found.n_queries} queries"
    parts = Section(title, ("modality", "importance", "alone", "alone is enough"), rows)
    counts = Section(
        "How much of the queries one modality alone can answer",
        ("all together", "best alone of each query", "one is enough", "several are better",
         "unanswered", "share of answered that one answers"),
        ((_interval(found.together), _interval(found.best_alone), str(found.n_one_enough),
          str(found.n_several), str(found.n_unanswered), f"{found.one_modality:.3f}"),),
        n_names=0,
    )  # fmt: skip
    return [parts, counts]


def drop_section(drops: Sequence[Drop]) -> Section:
    """Every probe and ranking: clean, changed, and the paired difference."""
    rows = tuple(
        (d.probe.value, d.name, str(d.n_changed), f"{d.clean:.3f}", f"{d.changed:.3f}",
         _difference(d.difference))
        for d in drops
    )  # fmt: skip
    header = ("probe", "run", "changed", "clean", "with probe", "difference")
    return Section(f"Robustness probes, {drops[0].measure}", header, rows, n_names=2)


def markdown(sections: Sequence[Section]) -> str:
    """The tables as Markdown, numbers to the right."""
    return "\n\n".join(_markdown(section) for section in sections) + "\n"


def _markdown(section: Section) -> str:
    n_numbers = len(section.header) - section.n_names
    rule = ["---"] * section.n_names + ["--:"] * n_numbers
    rows = [section.header, rule, *section.rows]
    table = "\n".join(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows)
    return f"**{_escaped(section.title)}**\n\n{table}"


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _interval(found: Interval) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _signed(found: Interval) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _difference(found: Difference) -> str:
    p = f"p={found.p:.3f}" if found.p >= 0.001 else "p<0.001"
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}] {p}"
