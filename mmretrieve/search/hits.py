"""Ranked documents as hits: moment, confidence, evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, Evidence, Hit, Modality, VideoRef
from mmretrieve.search.evidence import Win, content_words, describe, unmatched_words, wins
from mmretrieve.search.judging import Judge
from mmretrieve.search.moments import moment
from mmretrieve.search.ranking import Ranking
from mmretrieve.storage.cells import CellDetail
from mmretrieve.storage.reader import Snapshot


@dataclass(frozen=True, slots=True)
class Answer:
    """A hit before it is described: the document that scored, and the passages in which its moment is
    looked for, the best first."""

    scored: int
    moments: tuple[int, ...]


class Describer:
    """Describes answers on one snapshot."""

    def __init__(self, snapshot: Snapshot, spaces: Sequence[str]) -> None:
        """``spaces``: names, one for each modality in the order of ``MODALITIES``."""
        self._snapshot = snapshot
        self._spaces = spaces

    def hits(
        self, answers: Sequence[Answer], ranking: Ranking, passages: Ranking, judge: Judge
    ) -> list[Hit]:
        """Hits of ``answers``, whose documents are of ``ranking`` and whose moments are of ``passages``
        (which may be the same)."""
        inside = [[wins(passages, d, self._spaces) for d in answer.moments] for answer in answers]
        details = self._details(passages, [found for one in inside for found in one])
        nearby = [[describe(found, passages, details) for found in one] for one in inside]
        own = [around[0] if around else () for around in nearby]
        if ranking is not passages:
            scored = [wins(ranking, a.scored, self._spaces) for a in answers]
            details = self._details(ranking, scored)
            own = [describe(found, ranking, details) for found in scored]
        words = content_words(ranking.query)
        return [
            self._hit(rank, answer.scored, ranking, evidence, around, judge, words)
            for rank, (answer, evidence, around) in enumerate(
                zip(answers, own, nearby, strict=True), 1
            )
        ]

    def _details(self, ranking: Ranking, found: Sequence[Sequence[Win]]) -> dict[int, CellDetail]:
        cells = sorted({win.cell for one in found for win in one})
        stored = self._snapshot.cells.details(ranking.cells.row[cells])
        return dict(zip(cells, stored, strict=True))

    def _hit(
        self,
        rank: int,
        document: int,
        ranking: Ranking,
        evidence: tuple[Evidence, ...],
        nearby: Sequence[Sequence[Evidence]],
        judge: Judge,
        words: Sequence[tuple[str, NDArray[np.bool_]]],
    ) -> Hit:
        video = self._snapshot.videos[int(ranking.documents.video[document])]
        score = float(ranking.scores[document])
        path = self._snapshot.paths[video.video_id]
        return Hit(
            rank=rank,
            video=VideoRef(video.video_id, path, video.title, video.duration_s),
            moment=moment([e for found in nearby for e in found], score, video.duration_s),
            score=score,
            confidence=judge.confidence(ranking, document),
            modalities=_mean_similarities(ranking, document),
            evidence=evidence,
            unmatched=unmatched_words(ranking, document, words),
        )


def _mean_similarities(ranking: Ranking, document: int) -> dict[Modality, float]:
    means = ranking.similarity[document].mean(axis=1)
    return {m: float(v) for m, v in zip(MODALITIES, means, strict=True) if np.isfinite(v)}
