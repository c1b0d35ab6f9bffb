"""All documents of one snapshot, for what has to look at every one of them: baselines, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mmretrieve.datatypes import (
    ConfidenceLabel,
    Filter,
    GroupBy,
    Modality,
    QueryTokens,
    SearchResult,
    Way,
)
from mmretrieve.scoring.nulls import null_queries
from mmretrieve.search.lines import TEXTS, Line, hidden_tokens, lines
from mmretrieve.search.plain_hits import PlainSearch
from mmretrieve.search.similarities import Mask, Similarities, SimilarityScan, Units
from mmretrieve.search.ways import Ways
from mmretrieve.search.whole import keep_cells
from mmretrieve.storage.reader import Snapshot


class Everything:
    """Similarities, rankings and lines of one snapshot. Made when first needed, then kept."""

    def __init__(self, snapshot: Snapshot, encode: Callable[[str], QueryTokens]) -> None:
        self._snapshot = snapshot
        self._encode = encode
        self._scan = SimilarityScan(snapshot)
        self.ways = Ways(snapshot, self._scan)
        self._plain = PlainSearch(snapshot, self._scan, self.ways)
        self._nulls: list[QueryTokens] = []
        self._hidden: dict[tuple[str, str], dict[int, Mask]] = {}

    def units(self, unit: GroupBy = GroupBy.VIDEO) -> Units:
        """What the documents are."""
        return self._scan.units(unit)

    def similarities(
        self, queries: Sequence[QueryTokens], unit: GroupBy, wanted: Filter
    ) -> Iterator[Similarities]:
        """See :meth:`mmretrieve.engine.Engine.all_similarities`."""
        return self._scan.of(queries, unit, keep_cells(self._snapshot, wanted))

    def search(
        self,
        way: Way,
        query: QueryTokens,
        k: int,
        wanted: Filter,
        unit: GroupBy,
        least: ConfidenceLabel | None,
    ) -> SearchResult:
        """Hits of a way that is no late interaction."""
        self._nulls = self._nulls or [self._encode(text) for text in null_queries()]
        return self._plain.search(way, query, k, wanted, unit, self._nulls, least)

    def lines(self, modalities: Sequence[Modality] = TEXTS) -> list[Line]:
        """Every line that was said, written or is known, or of other modalities."""
        return lines(self._snapshot, modalities)

    def hiding(self, found: Similarities, video_id: str, text: str) -> Similarities:
        """Similarities to whole videos, one of them without the lines that say ``text``."""
        key = (video_id, text)
        if key not in self._hidden:
            self._hidden[key] = hidden_tokens(self._snapshot, video_id, text)
        return self._scan.hiding(found, video_id, self._hidden[key])
