"""How good a model is on rows that it does not learn from, by the measures of the evaluation package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmretrieve.datatypes import Aggregation, Modality
from mmretrieve.evaluation.experiment import Comparison, measure_runs
from mmretrieve.evaluation.measures import parse_measures
from mmretrieve.evaluation.modality import TARGETS, ModalityReport, modality_report
from mmretrieve.evaluation.trec import Qrels, Run
from mmretrieve.models.protocol import MODALITIES, LateInteractionModel, TokenBatch
from mmretrieve.training.clamr.aggregation import Similarities, aggregate, similarities
from mmretrieve.training.clamr.gather import gather_objects, rank, world_size
from mmretrieve.training.clamr.rows import Example, joint_document

MEASURES = parse_measures("R@1,R@5,R@10,nDCG@10")


@dataclass(frozen=True, slots=True)
class Validation:
    """``measures``: over all queries and by type of query; ``modality``: does the right modality win."""

    measures: Comparison
    modality: ModalityReport

    def value(self, measure: str, group: str = "all") -> float:
        """The mean of one measure."""
        place = self.measures.measures.index(measure)
        row = next(row for row in self.measures.rows if row.group == group)
        return row.intervals[place].mean

    def record(self) -> dict[str, Any]:
        """Numbers for the log."""
        names = self.measures.measures
        groups = {
            row.group: dict(zip(names, (round(i.mean, 6) for i in row.intervals), strict=True))
            for row in self.measures.rows
        }
        return {
            "measures": groups,
            "modality_accuracy": self.modality.accuracy,
            "any_accuracy": self.modality.any_accuracy,
            "modality_f1": self.modality.f1,
            "winning": {m.value: share for m, share in self.modality.distribution.items()},
        }


def validate(
    model: Any, examples: Sequence[Example], how: Aggregation, batch_size: int
) -> Validation:
    """Rank all videos of the rows for every query. Where several processes train, each of them
    encodes a part of the videos, and all of them get the whole result."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            scores, winners = _rank(model, examples, how, batch_size)
    finally:
        model.train(was_training)
    qrels = Qrels({e.query_id: {e.video_id: 1} for e in examples})
    types = {e.query_id: e.query_type for e in examples}
    targets = [TARGETS[e.query_type] for e in examples]
    found = measure_runs(qrels, [Run("model", scores)], MEASURES, types)
    return Validation(found, modality_report(targets, [winners[e.query_id] for e in examples]))


Scores = dict[str, dict[str, float]]
Winners = dict[str, tuple[Modality, ...]]


def _rank(
    model: LateInteractionModel, examples: Sequence[Example], how: Aggregation, batch_size: int
) -> tuple[Scores, Winners]:
    """Query id -> video id -> score, and -> the modality that won each token in the right video."""
    videos = {example.video_id: example for example in examples}
    mine = list(videos.values())[rank() :: world_size()]
    queries = [(part, model.encode_queries([e.query for e in part]))
               for part in _parts(examples, batch_size)]  # fmt: skip
    scores: Scores = {e.query_id: {} for e in examples}
    winners: Winners = {e.query_id: () for e in examples}
    for batch in _parts(mine, batch_size):
        documents = model.encode_documents([joint_document(e) for e in batch])
        for asked, tokens in queries:
            _score(asked, batch, tokens, documents, how, scores, winners)
    for other_scores, other_winners in gather_objects((scores, winners)):
        for query_id, found in other_scores.items():
            scores[query_id] |= found
            winners[query_id] = winners[query_id] or other_winners[query_id]
    return scores, winners


def _score(
    asked: Sequence[Example],
    batch: Sequence[Example],
    queries: TokenBatch,
    documents: TokenBatch,
    how: Aggregation,
    scores: Scores,
    winners: Winners,
) -> None:
    found = similarities(queries, documents)
    table = aggregate(found, how).float().cpu().numpy()
    places = {example.video_id: place for place, example in enumerate(batch)}
    for row, example in enumerate(asked):
        for video_id, place in places.items():
            if np.isfinite(table[row, place]):
                scores[example.query_id][video_id] = float(table[row, place])
        if example.video_id in places:
            winners[example.query_id] = winning(found, row, places[example.video_id], how)


def winning(
    found: Similarities, query: int, document: int, how: Aggregation
) -> tuple[Modality, ...]:
    """The modality that won each real token of a query in one document; under ``modality_max`` it is
    the same for all. Empty for a document without any."""
    values: Tensor = found.values[query, document][:, found.query_mask[query]]
    if not bool(torch.isfinite(values).any()):
        return ()
    if how is Aggregation.MODALITY_MAX:
        values = values.mean(dim=1, keepdim=True).expand_as(values)
    return tuple(MODALITIES[m] for m in values.argmax(dim=0).tolist())


def _parts(items: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
