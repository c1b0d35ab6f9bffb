"""Measures of rankings, defined as in ``trec_eval`` and printed as ``nDCG@10``.

Documents are ordered by score; ties, also those of single precision, are broken by document id, the
later one first. A query that the run leaves out scores 0, and so does one without any relevant
document; a query that was not judged is ignored. These are the rules of ``trec_eval -c``.

Every test run compares them with ``pytrec_eval`` and ``ir-measures``. Those are not used here: they
would bring SciPy to every installation, and ``ir-measures`` 0.4 takes ``RR@k`` from a provider that
breaks ties in another way than its ``RR``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from mmretrieve.errors import UsageError
from mmretrieve.evaluation.trec import Qrels, Run


class MeasureName(StrEnum):
    """What a measure is called before its cutoff."""

    NDCG = "nDCG"
    RECALL = "R"
    SUCCESS = "Success"
    PRECISION = "P"
    RR = "RR"
    AP = "AP"


_ALIASES = {"recall": "r", "precision": "p", "mrr": "rr", "map": "ap", "hit": "success"}
_NEEDS_CUTOFF = {MeasureName.RECALL, MeasureName.SUCCESS, MeasureName.PRECISION}
_FORM = re.compile(r"([a-z]+)(?:@([1-9][0-9]{0,8}))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of one ranking, in 0..1; ``cutoff`` is how many documents it looks at."""

    name: MeasureName
    cutoff: int | None = None

    def __str__(self) -> str:
        return self.name.value if self.cutoff is None else f"{self.name.value}@{self.cutoff}"

    @classmethod
    def parse(cls, text: str) -> Measure:
        """``"nDCG@10"``, ``"R@5"``, ``"RR"``, ``"AP@100"``, in any case.

        Raises:
            UsageError: no measure of that name, or one that lacks its cutoff.
        """
        form = _FORM.fullmatch(text.strip())
        key = form[1].lower() if form else ""
        key = _ALIASES.get(key, key)
        name = next((n for n in MeasureName if n.value.lower() == key), None)
        if form is None or name is None:
            known = "nDCG@10, R@5, Success@5, P@5, RR, RR@10, AP"
            raise UsageError(f"no measure {text.strip()!r}: expected one like {known}")
        if form[2] is None and name in _NEEDS_CUTOFF:
            raise UsageError(f"measure {text.strip()!r} needs a cutoff, as {name.value}@10")
        return cls(name, None if form[2] is None else int(form[2]))


DEFAULT = tuple(Measure.parse(text) for text in ("R@1", "R@5", "R@10", "nDCG@10", "RR"))


def parse_measures(text: str | None) -> tuple[Measure, ...]:
    """``"nDCG@10,RR"``, each once; :data:`DEFAULT` for ``None``.

    Raises:
        UsageError: none, or one that cannot be read.
    """
    if text is None:
        return DEFAULT
    found = tuple(dict.fromkeys(Measure.parse(part) for part in text.split(",") if part.strip()))
    if not found:
        raise UsageError(f"no measure in {text!r}: expected some, as nDCG@10,RR")
    return found


def ranking(scores: Mapping[str, float]) -> list[str]:
    """Document ids, best first, ties as ``trec_eval`` breaks them."""
    ids = sorted(scores, reverse=True)
    with np.errstate(over="ignore"):
        values = np.array([scores[i] for i in ids], np.float64).astype(np.float32)
    return [ids[i] for i in np.argsort(-values, kind="stable")]


def value(measure: Measure, ranked: Sequence[str], judged: Mapping[str, int]) -> float:
    """One measure of one ranking (distinct ids, best first); with ``rel`` the relevant documents:

    - ``nDCG@k``: ``DCG / ideal DCG``, ``DCG = sum_i grade_i / log2(i + 1)`` over the first k (Järvelin
      & Kekäläinen, 2002; grades below 0 count as 0)
    - ``R@k``: relevant among the first k / relevant; ``P@k``: relevant among the first k / k
    - ``Success@k``: 1 if any of the first k is relevant. What video retrieval calls R@k: the same as
      ``R@k`` where each query has one relevant video
    - ``RR``: 1 / rank of the first relevant; ``AP``: mean over ``rel`` of the precision at its rank
    """
    grades = [max(judged.get(doc_id, 0), 0) for doc_id in ranked[: measure.cutoff]]
    hits = [i for i, grade in enumerate(grades, 1) if grade > 0]
    if not hits:
        return 0.0
    ideal = sorted((grade for grade in judged.values() if grade > 0), reverse=True)
    match measure.name:
        case MeasureName.NDCG:
            found = _dcg(grades) / _dcg(ideal[: measure.cutoff])
        case MeasureName.RECALL:
            found = len(hits) / len(ideal)
        case MeasureName.SUCCESS:
            found = 1.0
        case MeasureName.PRECISION:
            found = len(hits) / (measure.cutoff or len(ranked))
        case MeasureName.RR:
            found = 1 / hits[0]
        case MeasureName.AP:
            found = sum(n / rank for n, rank in enumerate(hits, 1)) / len(ideal)
    return found


def values(
    measures: Sequence[Measure], ranked: Sequence[str], relevant: Collection[str]
) -> tuple[float, ...]:
    """Several measures of one ranking, where a document is relevant or not."""
    judged = dict.fromkeys(relevant, 1)
    return tuple(value(measure, ranked, judged) for measure in measures)


def per_query(qrels: Qrels, run: Run, measures: Sequence[Measure]) -> dict[str, tuple[float, ...]]:
    """All measures of every judged query, in the order of the judgements."""
    found = {}
    for query_id, judged in qrels.relevance.items():
        ranked = ranking(run.scores.get(query_id, {}))
        found[query_id] = tuple(value(measure, ranked, judged) for measure in measures)
    return found


def _dcg(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(i + 1) for i, grade in enumerate(grades, 1))
