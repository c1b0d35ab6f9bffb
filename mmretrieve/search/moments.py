"""Answers inside videos: which passages belong together, where a moment begins and ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmretrieve.datatypes import METADATA_PASSAGE, Evidence, Moment
from mmretrieve.search.ranking import Ranking

MERGE_SHARE = 0.6
"""A passage next to a better one joins it when it has at least this share of its score."""
EDGE_SHARE = 0.15
"""Winning tokens with less than this share of the largest contribution do not widen a moment."""
MIN_LENGTH_S = 3.0


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring passages of one video that answer together; ``documents`` in order of score."""

    video: int
    documents: tuple[int, ...]
    passages: tuple[int, ...]
    score: float


def group_passages(ranking: Ranking, limit: int) -> list[Group]:
    """The best ``limit`` groups, best first."""
    groups: list[Group] = []
    for document in ranking.order[: 4 * limit + 16]:
        video = int(ranking.documents.video[document])
        passage = int(ranking.documents.passage[document])
        score = float(ranking.scores[document])
        for i, group in enumerate(groups):
            if group.video == video and _joins(group, passage, score):
                groups[i] = Group(
                    video,
                    (*group.documents, int(document)),
                    (*group.passages, passage),
                    group.score,
                )
                break
        else:
            groups.append(Group(video, (int(document),), (passage,), score))
    return groups[:limit]


def _joins(group: Group, passage: int, score: float) -> bool:
    near = any(abs(passage - other) == 1 for other in group.passages)
    return (
        near
        and METADATA_PASSAGE not in (passage, *group.passages)
        and score >= MERGE_SHARE * group.score
    )


def best_passage(ranking: Ranking, video: int) -> int | None:
    """The document number of a video's best passage, or None where all of them were left out."""
    of_video = np.flatnonzero(ranking.documents.video == video)
    of_video = of_video[np.isfinite(ranking.scores[of_video])]
    if not len(of_video):
        return None
    return int(of_video[np.argmax(ranking.scores[of_video])])


def moment(evidence: Sequence[Evidence], score: float, duration_s: float) -> Moment:
    """The stretch that the winning tokens with a time span; without any, a moment without times."""
    timed = [e for e in evidence if e.start_s is not None and e.contribution > 0]
    if not timed:
        return Moment(None, None, None, score)
    best = max(timed, key=lambda e: e.contribution)
    # A chapter (timed metadata) may lie anywhere in the video: it does not stretch a passage.
    timed = [
        e for e in timed if (e.passage == METADATA_PASSAGE) == (best.passage == METADATA_PASSAGE)
    ]
    spans = list(_strong_spans(timed, EDGE_SHARE * best.contribution))
    start, end = min(s for s, _ in spans), max(e for _, e in spans)
    if end - start < MIN_LENGTH_S:
        start = max(0.0, (start + end - MIN_LENGTH_S) / 2)
        end = max(end, min(start + MIN_LENGTH_S, duration_s))
    return Moment(start, end, best.start_s, score)


def _strong_spans(timed: Sequence[Evidence], least: float) -> Iterator[tuple[float, float]]:
    for item in timed:
        if item.contribution >= least and item.start_s is not None:
            yield item.start_s, item.start_s if item.end_s is None else item.end_s
