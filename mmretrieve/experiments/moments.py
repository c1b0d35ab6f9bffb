"""Moments as a search gives them against the right ones."""

from __future__ import annotations

from collections.abc import Sequence

from mmretrieve.datatypes import GroupBy
from mmretrieve.engine import Engine
from mmretrieve.evaluation.experiment import Comparison, compare_values
from mmretrieve.evaluation.moments import DEPTHS, NAMES, Span, moment_values
from mmretrieve.experiments.compare import Asked, Contestant


def measure_moments(
    engine: Engine, asked: Asked, contestants: Sequence[Contestant]
) -> Comparison | None:
    """Overlap of found and right moments, for the queries that have right ones and the contestants
    that are late interaction; None without either. The right video has to be found, too."""
    timed = [q for q in asked.queries if q.moments and q.query_id in asked.qrels.relevance]
    able = [c for c in contestants if c.scoring is not None]
    if not timed or not able:
        return None
    truth = {
        q.query_id: [
            Span(next(iter(asked.qrels.relevance[q.query_id])), start_s, end_s)
            for start_s, end_s in q.moments
        ]
        for q in timed
    }
    found = {}
    for one in able:
        answers = {}
        for query in timed:
            result = engine.search(
                query.text, k=max(DEPTHS), scoring=one.scoring, group_by=GroupBy.MOMENT
            )
            answers[query.query_id] = [
                Span(h.video.video_id, h.moment.start_s, h.moment.end_s or h.moment.start_s)
                for h in result.hits
                if h.moment.start_s is not None
            ]
        found[one.name] = moment_values(answers, truth)
    return compare_values(NAMES, found, {q.query_id: q.query_type for q in timed})
