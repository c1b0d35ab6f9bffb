"""Hits of the ways that are no late interaction: ranked, measured against chance, without evidence."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import (
    MODALITIES,
    Confidence,
    ConfidenceLabel,
    Filter,
    GroupBy,
    Hit,
    Moment,
    QueryTokens,
    SearchResult,
    VideoRef,
    Way,
)
from mmretrieve.errors import UsageError
from mmretrieve.scoring.nulls import Nulls
from mmretrieve.search.similarities import Similarities, SimilarityScan
from mmretrieve.search.ways import Rank, Ways
from mmretrieve.search.whole import keep_cells
from mmretrieve.storage.reader import Snapshot

Array = NDArray[np.float32]

NOTE = "{} ranks whole documents: there is no evidence by word, and passages are not merged"
_LABELS = list(ConfidenceLabel)
MAX_K = 10_000


class PlainSearch:
    """Searches one snapshot in ways that compare all documents."""

    def __init__(self, snapshot: Snapshot, scan: SimilarityScan, ways: Ways) -> None:
        self._snapshot = snapshot
        self._scan = scan
        self._ways = ways
        self._videos = {video.video_id: video for video in snapshot.videos}
        self._nulls: dict[tuple[Way, GroupBy, Filter], Nulls] = {}

    def search(
        self,
        way: Way,
        query: QueryTokens,
        k: int,
        wanted: Filter,
        unit: GroupBy,
        nulls: Sequence[QueryTokens],
        least: ConfidenceLabel | None = None,
    ) -> SearchResult:
        """The best ``k``; ``nulls`` are queries without an answer, for confidence.

        Raises:
            UsageError: ``k`` out of range, or a filter that cannot be used.
        """
        start = time.perf_counter()
        if not 1 <= k <= MAX_K:
            raise UsageError(f"k={k}: expected 1 to {MAX_K}")
        keep = keep_cells(self._snapshot, wanted)
        rank = self._ways.rank(way, unit, wanted.modalities)
        found = next(self._scan.of([query], unit, keep))
        scores = rank(found)
        chance = self._chance(way, rank, unit, wanted, nulls)
        order = np.argsort(-scores, kind="stable")[:k]
        hits = [
            self._hit(place, number, found, float(scores[number]), chance)
            for place, number in enumerate(order[np.isfinite(scores[order])].tolist(), 1)
        ]
        surest = max((_LABELS.index(h.confidence.label) for h in hits), default=0)
        floor = 0 if least is None else _LABELS.index(least)
        return SearchResult(
            query=query.text,
            aggregation=way,
            hits=tuple(h for h in hits if _LABELS.index(h.confidence.label) >= floor),
            no_good_match=surest < _LABELS.index(ConfidenceLabel.LOW),
            n_videos_searched=len(np.unique(self._snapshot.library.cells.video[keep])),
            n_tokens_searched=int(np.diff(self._snapshot.library.cells.offsets)[keep].sum()),
            took_s=time.perf_counter() - start,
            notes=(NOTE.format(way.value),),
        )

    def _chance(
        self, way: Way, rank: Rank, unit: GroupBy, wanted: Filter, nulls: Sequence[QueryTokens]
    ) -> Nulls:
        """Best scores of the null queries in the whole index, in the same modalities."""
        everywhere = Filter(modalities=wanted.modalities)
        key = (way, unit, everywhere)
        if key not in self._nulls:
            keep = keep_cells(self._snapshot, everywhere)
            best = [
                float(rank(found).max(initial=-np.inf))
                for found in self._scan.of(nulls, unit, keep)
            ]
            sizes = np.array([len(query.texts) for query in nulls], np.int32)
            self._nulls[key] = Nulls(sizes, np.array(best, np.float32))
        return self._nulls[key]

    def _hit(
        self, place: int, number: int, found: Similarities, score: float, chance: Nulls
    ) -> Hit:
        units = found.units
        video = self._videos[units.video_ids[number]]
        start_s, end_s = (_time(times[number]) for times in (units.start_s, units.end_s))
        means = found.values[number].mean(axis=1)
        path = self._snapshot.paths[video.video_id]
        confidence: Confidence = chance.confidence(score, len(found.query.texts))
        return Hit(
            rank=place,
            video=VideoRef(video.video_id, path, video.title, video.duration_s),
            moment=Moment(start_s, end_s, start_s, score),
            score=score,
            confidence=confidence,
            modalities={
                m: float(v) for m, v in zip(MODALITIES, means, strict=True) if np.isfinite(v)
            },
            evidence=(),
            unmatched=(),
        )


def _time(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
