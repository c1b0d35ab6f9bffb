"""One query on one snapshot: filter, rank, group into hits, explain."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mmretrieve.datatypes import (
    COMMON,
    MODALITIES,
    ConfidenceLabel,
    Filter,
    GroupBy,
    Hit,
    QueryTokens,
    SearchResult,
)
from mmretrieve.errors import IndexFormatError, UsageError
from mmretrieve.kernels.base import Kernels
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.scoring.answered import FITTED_PRESET, N_LOOKED_AT, Background
from mmretrieve.scoring.gate import gated
from mmretrieve.scoring.nulls import null_queries
from mmretrieve.search.hits import Answer, Describer
from mmretrieve.search.judging import Judge, Tried, background, judge, tried
from mmretrieve.search.moments import best_passage, group_passages
from mmretrieve.search.prepared import PreparedQuery, Space, prepare
from mmretrieve.search.ranking import Ranker, Ranking
from mmretrieve.search.selection import Selection, n_videos, select
from mmretrieve.search.stages import Limits, Path, Stages
from mmretrieve.storage.reader import Snapshot

MAX_K = 10_000
_KEPT_SELECTIONS = 8
_KEPT_JUDGES = 64
UNFITTED = (
    f"confidence is a probability with preset {FITTED_PRESET!r} alone: here it is the share of unanswerable "
    "queries that score less"
)
_LABELS = list(ConfidenceLabel)


@dataclass(frozen=True, slots=True)
class Request:
    """A search as asked for."""

    k: int = 10
    scoring: Scoring = field(default_factory=Scoring)
    filter: Filter = field(default_factory=Filter)
    group_by: GroupBy = GroupBy.MOMENT
    min_confidence: ConfidenceLabel | None = None


class Searcher:
    """Searches one snapshot. A search changes nothing but what is kept to save time."""

    def __init__(
        self,
        snapshot: Snapshot,
        encode: Callable[[str], QueryTokens],
        kernels: Kernels,
        nulls: Mapping[str, Background] | None = None,
        limits: Limits | None = None,
    ) -> None:
        """``nulls``: null scores measured before on this snapshot, as :meth:`nulls` gives them."""
        self._snapshot = snapshot
        self._encode = encode
        manifest = snapshot.manifest
        lacking = [m.value for m in COMMON if m not in manifest.spaces]
        if lacking:
            raise IndexFormatError(
                f"the manifest of {snapshot.folder} names no vector space for {', '.join(lacking)}: "
                "restore the file, or index again into a new folder"
            )
        self._spaces = [Space(manifest.space(m), manifest.width(m)) for m in MODALITIES]
        self._kernels = kernels
        self._ranker = Ranker(snapshot, kernels, limits or Limits())
        self._describer = Describer(snapshot, [space.name for space in self._spaces])
        self._selections: OrderedDict[Filter, tuple[Selection, ...]] = OrderedDict()
        self._nulls = dict(nulls or {})
        self._judges: OrderedDict[tuple[str, str, GroupBy], Judge] = OrderedDict()
        self._fitted = manifest.preset == FITTED_PRESET

    def search(self, text: str, request: Request) -> SearchResult:
        """Rank and explain.

        Raises:
            UsageError: ``k`` out of range, or a filter or query that cannot be used.
        """
        start = time.perf_counter()
        if not 1 <= request.k <= MAX_K:
            raise UsageError(f"k={request.k}: expected 1 to {MAX_K}")
        query = self._prepared(text)
        selections = self.selections(request.filter)
        scoring = masked(request.scoring, request.filter)
        ranking = self._rank(query, selections, scoring, request.group_by, request.k)
        if request.group_by is GroupBy.VIDEO:
            passages, answers = self._video_answers(query, ranking, selections, scoring, request.k)
        else:
            passages = ranking
            answers = [
                Answer(g.documents[0], g.documents) for g in group_passages(ranking, request.k)
            ]
        judging = self._judge(query, ranking, scoring, request)
        hits = self._describer.hits(answers, ranking, passages, judging)
        kept = [h for h in hits if _sure_enough(h, request.min_confidence)]
        surest = max((_LABELS.index(h.confidence.label) for h in hits), default=0)
        weights = scoring.weight_vector
        together = list(zip(self._snapshot.searchable.segments, selections, strict=True))
        return SearchResult(
            query=text,
            aggregation=request.scoring.aggregation,
            hits=tuple(kept),
            no_good_match=surest < _LABELS.index(ConfidenceLabel.LOW),
            n_videos_searched=sum(n_videos(live, s, weights) for live, s in together),
            n_tokens_searched=sum(int(s.n_tokens[weights > 0].sum()) for s in selections),
            took_s=time.perf_counter() - start,
            notes=(*_notes(query.query, self._fitted), *self._snapshot.searchable.notes),
            plan=_plan(ranking.paths, self._kernels),
        )

    def explain(self, text: str, video: int, at_s: float | None, scoring: Scoring) -> Hit | None:
        """The best moment (or the one at ``at_s``) of one video, whatever its rank."""
        selections = self.selections(Filter())
        query = self._prepared(text)
        stages = self._stages(query, scoring, by_video=False)
        if at_s is None:
            ranking = self._ranker.best_passages(stages, selections, [video])
        else:
            ranking = self._ranker.passages_at(stages, selections, video, at_s)
        if not len(ranking.order):
            return None
        document = int(ranking.order[0])
        best = self._rank(query, selections, scoring, GroupBy.MOMENT, 1)
        known = self._background(scoring, GroupBy.MOMENT)
        judging = judge(known, best, GroupBy.MOMENT, fitted=self._fitted)
        hit = self._describer.hits([Answer(document, (document,))], ranking, ranking, judging)[0]
        passage = int(ranking.documents.passage[document])
        return replace(hit, rank=self._ranker.rank_of(stages, selections, video, passage))

    def try_out(self, text: str) -> Tried:
        """What confidence in the best moment is fitted on.

        Raises:
            UsageError: a query that cannot be used.
        """
        selections = self.selections(Filter())
        ranking = self._rank(self._prepared(text), selections, Scoring(), GroupBy.MOMENT, 1)
        return tried(self._background(Scoring(), GroupBy.MOMENT), ranking)

    def nulls(self) -> dict[str, Background]:
        """What null queries find in the usual kinds of search: default scoring, by moment and by video."""
        for unit in GroupBy:
            self._background(Scoring(), unit)
        return dict(self._nulls)

    def selections(self, wanted: Filter) -> tuple[Selection, ...]:
        """What takes part, one selection a segment; the latest are kept."""
        key = replace(wanted, modalities=MODALITIES) if wanted.modalities else wanted
        if key not in self._selections:
            self._selections[key] = select(self._snapshot, key)
            while len(self._selections) > _KEPT_SELECTIONS:
                self._selections.popitem(last=False)
        return self._selections[key]

    def _prepared(self, text: str) -> PreparedQuery:
        return prepare(self._encode(text), self._spaces, self._kernels)

    def _judge(
        self, query: PreparedQuery, ranking: Ranking, scoring: Scoring, request: Request
    ) -> Judge:
        """What the whole library holds is what counts: a filter of videos must not change how sure a hit
        is. The latest are kept, so that a query which is filtered after it was asked is ranked once."""
        unit = request.group_by
        key = (query.query.text, scoring.key, unit)
        judging = self._judges.get(key)
        if judging is None:
            if replace(request.filter, modalities=MODALITIES) != Filter():
                ranking = self._rank(query, self.selections(Filter()), scoring, unit, 1)
            known = self._background(scoring, unit)
            judging = judge(known, ranking, unit, fitted=self._fitted)
            self._judges[key] = judging
            while len(self._judges) > _KEPT_JUDGES:
                self._judges.popitem(last=False)
        return judging

    def _stages(self, query: PreparedQuery, scoring: Scoring, by_video: bool) -> Stages:
        return self._ranker.stages(query, gated(scoring, query.vectors[0]), by_video)

    def _rank(
        self,
        query: PreparedQuery,
        selections: Sequence[Selection],
        scoring: Scoring,
        unit: GroupBy,
        k: int,
    ) -> Ranking:
        by_video = unit is GroupBy.VIDEO
        stages = self._stages(query, scoring, by_video)
        n = max(N_LOOKED_AT[unit], k + 6 if by_video else 2 * k + 12)
        return self._ranker.rank(stages, selections, n)

    def _video_answers(
        self,
        query: PreparedQuery,
        ranking: Ranking,
        selections: Sequence[Selection],
        scoring: Scoring,
        k: int,
    ) -> tuple[Ranking, list[Answer]]:
        best = ranking.order[:k]
        videos = [int(v) for v in ranking.documents.video[best]]
        stages = self._stages(query, scoring, by_video=False)
        passages = self._ranker.best_passages(stages, selections, videos)
        answers = []
        for document, video in zip(best.tolist(), videos, strict=True):
            inside = best_passage(passages, video)
            answers.append(Answer(document, () if inside is None else (inside,)))
        return passages, answers

    def _background(self, scoring: Scoring, unit: GroupBy) -> Background:
        """Null queries in the same kind of search, in the whole index, whatever the filter keeps of
        videos: a filter must not make chance look like an answer."""
        key = f"{scoring.key} {unit}"
        if key not in self._nulls:
            selections = self.selections(Filter())
            self._nulls[key] = background(
                null_queries(),
                lambda text: self._rank(self._prepared(text), selections, scoring, unit, 1),
                unit,
            )
        return self._nulls[key]


def masked(scoring: Scoring, wanted: Filter) -> Scoring:
    """The same scoring with no weight on modalities that are not asked for.

    Raises:
        UsageError: nothing is left to search.
    """
    if set(wanted.modalities) >= set(MODALITIES):
        return scoring
    weights = {m: scoring.weights.get(m, 1.0) * (m in wanted.modalities) for m in MODALITIES}
    return replace(scoring, weights=weights)


def _plan(paths: Sequence[Path], kernels: Kernels) -> str:
    return f"{' and '.join(paths) or 'nothing to scan'} ({kernels.name})"


def _notes(query: QueryTokens, fitted: bool) -> tuple[str, ...]:
    notes = []
    if query.n_dropped:
        notes.append(f"the query is long: its last {query.n_dropped} tokens were left out")
    if not fitted:
        notes.append(UNFITTED)
    return tuple(notes)


def _sure_enough(hit: Hit, least: ConfidenceLabel | None) -> bool:
    return least is None or _LABELS.index(hit.confidence.label) >= _LABELS.index(least)
