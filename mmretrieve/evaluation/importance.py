"""How much each modality matters to a set of queries, and how much of it one alone can answer.

After the modality importance score of Park et al., 2024 (arXiv 2408.12763): ``v(S)`` is how well a
query is answered by the modalities ``S`` alone; the importance of a modality is the mean of ``v`` over
the subsets with it minus the mean over those without it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mmretrieve.datatypes import Modality
from mmretrieve.evaluation.intervals import Interval, bootstrap

Subset = frozenset[Modality]
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class ModalityImportance:
    """``importance`` in -1..1; ``alone``: mean of ``v`` with this modality alone; ``enough``: share of
    queries that it alone answers as well as all of them together do, and at all."""

    importance: Interval
    alone: Interval
    enough: float


@dataclass(frozen=True, slots=True)
class Importance:
    """``together``: mean of ``v`` with all modalities; ``best_alone``: of the best single modality of
    each query, which no system can know. ``n_one_enough`` queries are answered as well by one modality
    alone, ``n_several`` better by several together, ``n_unanswered`` not at all. ``one_modality``: the
    share of answered queries that one alone answers: 1 is a set that needs no fusion."""

    measure: str
    n_queries: int
    modalities: Mapping[Modality, ModalityImportance]
    together: Interval
    best_alone: Interval
    n_one_enough: int
    n_several: int
    n_unanswered: int

    @property
    def one_modality(self) -> float:
        answered = self.n_one_enough + self.n_several
        return self.n_one_enough / answered if answered else math.nan


def subsets(modalities: Sequence[Modality]) -> Iterator[tuple[Modality, ...]]:
    """All subsets but the empty one, small ones first."""
    for size in range(1, len(modalities) + 1):
        yield from itertools.combinations(modalities, size)


def importance(
    measure: str, modalities: Sequence[Modality], values: Mapping[Subset, Sequence[float]]
) -> Importance:
    """Scores from ``v(S)`` in 0..1 of every non-empty subset, one value a query.

    The empty subset answers nothing: its ``v`` is 0.

    Raises:
        ValueError: a subset is missing, or has another number of queries.
    """
    wanted = {frozenset(s) for s in subsets(modalities)}
    if wanted != set(values) or len({len(v) for v in values.values()}) > 1:
        raise ValueError(f"expected the same queries for each of {len(wanted)} subsets")
    every = values[frozenset(modalities)]
    alone = {m: values[frozenset([m])] for m in modalities}
    best = [max(column) for column in zip(*alone.values(), strict=True)]
    enough = {m: [_enough(v, t) for v, t in zip(alone[m], every, strict=True)] for m in modalities}
    one = [any(column) for column in zip(*enough.values(), strict=True)]
    n_dead = sum(max(column) <= 0 for column in zip(*values.values(), strict=True))
    n_one = sum(one)
    found = {
        m: ModalityImportance(
            bootstrap(_gains(m, values)), bootstrap(alone[m]), sum(enough[m]) / max(len(every), 1)
        )
        for m in modalities
    }
    return Importance(
        measure, len(every), found, bootstrap(every), bootstrap(best), n_one,
        len(every) - n_one - n_dead, n_dead,
    )  # fmt: skip


def _enough(alone: float, together: float) -> bool:
    return alone > 0 and alone >= together - ROUNDING


def _gains(modality: Modality, values: Mapping[Subset, Sequence[float]]) -> list[float]:
    n = len(next(iter(values.values())))
    inside = [v for s, v in values.items() if modality in s]
    outside = [v for s, v in values.items() if modality not in s]
    outside.append([0.0] * n)
    return [_mean(inside, query) - _mean(outside, query) for query in range(n)]


def _mean(columns: Sequence[Sequence[float]], query: int) -> float:
    return sum(column[query] for column in columns) / len(columns)
