"""Several ways of searching, the same queries: run them, measure them, compare them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.errors import UsageError
from mmretrieve.evaluation.intervals import (
    Difference,
    Interval,
    bootstrap_columns,
    compare_columns,
)
from mmretrieve.evaluation.measures import Measure, per_query
from mmretrieve.evaluation.queries import Query
from mmretrieve.evaluation.trec import Qrels, Run

ALL = "all"
"""The group of all queries."""

Search = Callable[[str], Mapping[str, float]]
"""Query text -> document id -> score."""

Values = Mapping[str, tuple[float, ...]]
"""Query id -> one value a measure."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run on one group of queries; ``intervals`` in the order of the measures."""

    tag: str
    group: str
    n_queries: int
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Contrast:
    """One run minus another, over all queries; ``differences`` in the order of the measures."""

    tag: str
    against: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs by group: all queries first, then each query type by name. Every run but the first is
    contrasted with the first."""

    measures: tuple[str, ...]
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How qrels and run fit: judged queries, those of them that the run lacks, which score 0, and
    queries of the run that nobody judged, which are ignored."""

    n_judged: int
    n_unanswered: int
    n_unjudged: int


def run_queries(tag: str, queries: Sequence[Query], search: Search) -> Run:
    """Ask everything; a query without an answer is in the run with none.

    Raises:
        UsageError: a query that cannot be searched for, with file and line.
    """
    scores = {}
    for query in queries:
        try:
            scores[query.query_id] = dict(search(query.text))
        except UsageError as error:
            raise UsageError(f"{query.where}: {error}") from error
    return Run(tag, scores)


def coverage(qrels: Qrels, run: Run) -> Coverage:
    """Which queries qrels and run share.

    Raises:
        UsageError: none at all.
    """
    judged, answered = set(qrels.relevance), set(run.scores)
    if not judged & answered:
        raise UsageError(
            f"run {run.tag!r} and the judgements share no query: ids like {min(answered, default='')!r} "
            f"and {min(judged, default='')!r}"
        )
    return Coverage(len(judged), len(judged - answered), len(answered - judged))


def measure_runs(
    qrels: Qrels,
    runs: Sequence[Run],
    measures: Sequence[Measure],
    query_types: Mapping[str, str] | None = None,
) -> Comparison:
    """Means with bootstrap intervals, by query type and overall, and paired differences.

    ``query_types``: query id -> type; queries without a type count in the overall group only.
    """
    found = {run.tag: per_query(qrels, run, measures) for run in runs}
    return compare_values(tuple(str(m) for m in measures), found, query_types)


def compare_values(
    measures: tuple[str, ...],
    found: Mapping[str, Values],
    query_types: Mapping[str, str] | None = None,
) -> Comparison:
    """The same from values: run -> query id -> one value a measure. All runs have the same queries."""
    tags, width = list(found), len(measures)
    groups = _groups(list(found[tags[0]]) if tags else [], query_types or {})
    rows = []
    for group, members in groups.items():
        # One table for all runs, so that all are resampled at once.
        spread = bootstrap_columns(_table(found, members, width))
        for place, tag in enumerate(tags):
            mine = tuple(spread[place * width : (place + 1) * width])
            rows.append(Row(tag, group, len(members), mine))
    contrasts = []
    if len(tags) > 1:
        every = _table(found, groups[ALL], width)
        first = np.tile(every[:, :width], len(tags) - 1)
        differences = compare_columns(every[:, width:] - first)
        for place, tag in enumerate(tags[1:]):
            paired = tuple(differences[place * width : (place + 1) * width])
            contrasts.append(Contrast(tag, tags[0], paired))
    return Comparison(measures, tuple(rows), tuple(contrasts))


def _groups(query_ids: Sequence[str], types: Mapping[str, str]) -> dict[str, list[str]]:
    """All queries first; the types only where there is more than one."""
    groups = {ALL: list(query_ids)}
    names = sorted({types[q] for q in query_ids if types.get(q)} - {ALL})
    if len(names) > 1 or (names and any(not types.get(q) for q in query_ids)):
        groups |= {name: [q for q in query_ids if types.get(q) == name] for name in names}
    return groups


def _table(found: Mapping[str, Values], members: Sequence[str], width: int) -> NDArray[np.float64]:
    """``(n_members, n_runs * n_measures)``, the measures of a run beside each other."""
    rows = [[value for values in found.values() for value in values[q]] for q in members]
    return np.array(rows, np.float64).reshape(len(members), len(found) * width)
