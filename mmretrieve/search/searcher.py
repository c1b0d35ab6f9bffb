"""One query on one snapshot: filter, rank, group into hits, explain."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import (
    MODALITIES,
    ConfidenceLabel,
    Evidence,
    Filter,
    GroupBy,
    Hit,
    Modality,
    QueryTokens,
    SearchResult,
    VideoRef,
)
from mmretrieve.errors import UsageError
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.scoring.nulls import Nulls, estimate, null_queries
from mmretrieve.search.evidence import Win, content_words, describe, unmatched_words, wins
from mmretrieve.search.filters import keep_cells
from mmretrieve.search.moments import best_passage, group_passages, moment
from mmretrieve.search.ranking import Ranker, Ranking
from mmretrieve.search.token_index import ExactTokenIndex
from mmretrieve.storage.reader import Snapshot

MAX_K = 10_000
_LABELS = list(ConfidenceLabel)


@dataclass(frozen=True, slots=True)
class Request:
    """A search as asked for."""

    k: int = 10
    scoring: Scoring = field(default_factory=Scoring)
    filter: Filter = field(default_factory=Filter)
    group_by: GroupBy = GroupBy.MOMENT
    min_confidence: ConfidenceLabel | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    """A hit before it is described: the document that scored, and the passages in which its moment
    is looked for, the best first."""

    scored: int
    moments: tuple[int, ...]


class Searcher:
    """Searches one snapshot; holds no state that a search changes but a cache of null scores."""

    def __init__(
        self,
        snapshot: Snapshot,
        encode: Callable[[str], QueryTokens],
        nulls: Mapping[str, Nulls] | None = None,
    ) -> None:
        """``nulls``: null scores measured before on this snapshot, as :meth:`nulls` gives them."""
        self._snapshot = snapshot
        self._encode = encode
        self._spaces = [snapshot.manifest.spaces[m] for m in MODALITIES]
        index = ExactTokenIndex(snapshot.cells, snapshot.vectors, self._spaces)
        self._ranker = Ranker(snapshot.cells, index)
        self._nulls = dict(nulls or {})

    def search(self, text: str, request: Request) -> SearchResult:
        """Rank and explain.

        Raises:
            UsageError: ``k`` out of range, or a filter or query that cannot be used.
        """
        start = time.perf_counter()
        if not 1 <= request.k <= MAX_K:
            raise UsageError(f"k={request.k}: expected 1 to {MAX_K}")
        query = self._encode(text)
        keep = keep_cells(self._snapshot, request.filter)
        scan = self._ranker.scan(query, keep)
        passages = self._ranker.passages(scan, request.scoring)
        if request.group_by is GroupBy.VIDEO:
            ranking = self._ranker.videos(scan, request.scoring)
            answers = self._video_answers(ranking, passages, request.k)
        else:
            ranking = passages
            answers = [
                _Answer(g.documents[0], g.documents) for g in group_passages(ranking, request.k)
            ]
        nulls = self._null_scores(request)
        hits = self._hits(answers, ranking, passages, nulls)
        kept = [h for h in hits if _sure_enough(h, request.min_confidence)]
        surest = max((_LABELS.index(h.confidence.label) for h in hits), default=0)
        return SearchResult(
            query=text,
            aggregation=request.scoring.aggregation,
            hits=tuple(kept),
            no_good_match=surest < _LABELS.index(ConfidenceLabel.LOW),
            n_videos_searched=len(np.unique(self._snapshot.cells.video[keep])),
            n_tokens_searched=int(np.diff(self._snapshot.cells.offsets)[keep].sum()),
            took_s=time.perf_counter() - start,
            notes=_notes(query),
        )

    def explain(self, text: str, video: int, at_s: float | None, scoring: Scoring) -> Hit | None:
        """The best moment (or the one at ``at_s``) of one video, whatever its rank."""
        query = self._encode(text)
        everything = np.ones(len(self._snapshot.cells), bool)
        ranking = self._ranker.passages(self._ranker.scan(query, everything), scoring)
        document = best_passage(ranking, video) if at_s is None else self._at(ranking, video, at_s)
        if document is None:
            return None
        nulls = self._null_scores(Request(scoring=scoring))
        hit = self._hits([_Answer(document, (document,))], ranking, ranking, nulls)[0]
        rank = int(np.count_nonzero(ranking.scores > ranking.scores[document])) + 1
        return replace(hit, rank=rank)

    def nulls(self) -> dict[str, Nulls]:
        """Null scores of the usual kinds of search: default scoring, by moment and by video."""
        for unit in GroupBy:
            self._null_scores(Request(group_by=unit))
        return dict(self._nulls)

    def _video_answers(self, ranking: Ranking, passages: Ranking, k: int) -> list[_Answer]:
        answers = []
        for document in ranking.order[:k]:
            inside = best_passage(passages, int(ranking.documents.video[document]))
            answers.append(_Answer(int(document), () if inside is None else (inside,)))
        return answers

    def _hits(
        self, answers: Sequence[_Answer], ranking: Ranking, passages: Ranking, nulls: Nulls
    ) -> list[Hit]:
        inside = [[self._wins(passages, d) for d in answer.moments] for answer in answers]
        scored = [] if ranking is passages else [self._wins(ranking, a.scored) for a in answers]
        every = [*scored, *(one for found in inside for one in found)]
        details = self._snapshot.details(sorted({win.cell for found in every for win in found}))
        nearby = [[describe(found, passages, details) for found in one] for one in inside]
        own = [describe(w, ranking, details) for w in scored] or [around[0] for around in nearby]
        words = content_words(ranking.query)
        return [
            self._hit(rank, answer.scored, ranking, evidence, around, nulls, words)
            for rank, (answer, evidence, around) in enumerate(
                zip(answers, own, nearby, strict=True), 1
            )
        ]

    def _hit(
        self,
        rank: int,
        document: int,
        ranking: Ranking,
        evidence: tuple[Evidence, ...],
        nearby: Sequence[Sequence[Evidence]],
        nulls: Nulls,
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
            confidence=nulls.confidence(score, len(ranking.query.texts)),
            modalities=_mean_similarities(ranking, document),
            evidence=evidence,
            unmatched=unmatched_words(ranking, document, words),
        )

    def _wins(self, ranking: Ranking, document: int) -> list[Win]:
        return wins(ranking, document, self._snapshot, self._spaces)

    def _at(self, ranking: Ranking, video: int, at_s: float) -> int | None:
        cells, documents = self._snapshot.cells, ranking.documents
        there = (cells.video == video) & (cells.start_s <= at_s) & (cells.end_s >= at_s)
        numbers = np.unique(cells.passage[there])
        mine = np.flatnonzero((documents.video == video) & np.isin(documents.passage, numbers))
        return int(mine[np.argmax(ranking.scores[mine])]) if len(mine) else None

    def _null_scores(self, request: Request) -> Nulls:
        """Null scores of the same kind of search, in the whole index, whatever the filter keeps of
        videos: a filter must not make chance look like an answer."""
        scoring, modalities = request.scoring, request.filter.modalities
        key = f"{scoring.key} {','.join(sorted(modalities))} {request.group_by}"
        if key not in self._nulls:
            keep = keep_cells(self._snapshot, Filter(modalities=modalities))
            self._nulls[key] = estimate(
                null_queries(), lambda text: self._best(text, scoring, keep, request.group_by)
            )
        return self._nulls[key]

    def _best(
        self, text: str, scoring: Scoring, keep: NDArray[np.bool_], unit: GroupBy
    ) -> tuple[int, float]:
        scan = self._ranker.scan(self._encode(text), keep)
        rank = self._ranker.videos if unit is GroupBy.VIDEO else self._ranker.passages
        ranking = rank(scan, scoring)
        best = float(ranking.scores[ranking.order[0]]) if len(ranking.order) else 0.0
        return len(scan.query.texts), best


def _notes(query: QueryTokens) -> tuple[str, ...]:
    if not query.n_dropped:
        return ()
    return (f"the query is long: its last {query.n_dropped} tokens were left out",)


def _mean_similarities(ranking: Ranking, document: int) -> dict[Modality, float]:
    means = ranking.similarity[document].mean(axis=1)
    return {m: float(v) for m, v in zip(MODALITIES, means, strict=True) if np.isfinite(v)}


def _sure_enough(hit: Hit, least: ConfidenceLabel | None) -> bool:
    return least is None or _LABELS.index(hit.confidence.label) >= _LABELS.index(least)
