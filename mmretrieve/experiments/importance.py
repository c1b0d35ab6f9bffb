"""The modality importance score of a set of queries on an index."""

from __future__ import annotations

from mmretrieve.datatypes import MODALITIES
from mmretrieve.engine import Engine
from mmretrieve.evaluation.importance import Importance, importance, subsets
from mmretrieve.evaluation.measures import Measure, per_query
from mmretrieve.experiments.compare import Asked, Contestant, run_all
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.search.ways import late_interaction


def measure_importance(engine: Engine, asked: Asked, measure: Measure, depth: int) -> Importance:
    """``v(S)``: the measure with ``token_max`` over the modalities ``S`` of the index alone."""
    n_tokens = engine.info().n_tokens
    present = [m for m in MODALITIES if n_tokens[m]]
    parts = list(subsets(present))
    contestants = [Contestant("+".join(part), late_interaction(Scoring(), part)) for part in parts]
    answers = run_all(engine, asked, contestants, depth)
    values = {
        frozenset(part): [v for (v,) in per_query(asked.qrels, run, [measure]).values()]
        for part, run in zip(parts, answers.runs, strict=True)
    }
    return importance(str(measure), present, values)
