"""What an engine can do that looks at all documents: baselines, and the material of evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from mmretrieve.datatypes import ConfidenceLabel, Filter, GroupBy, QueryTokens, SearchResult, Way
from mmretrieve.errors import UsageError

if TYPE_CHECKING:
    from mmretrieve.scoring.aggregation import Scoring
    from mmretrieve.search.everything import Everything
    from mmretrieve.search.pooling import Pooled
    from mmretrieve.search.similarities import Similarities
    from mmretrieve.search.ways import Rank

_T = TypeVar("_T")


class WholeIndex(ABC):
    """Similarities and rankings of all documents, for what a search of few cannot give."""

    @abstractmethod
    def everything(self) -> Everything:
        """All documents of the newest state."""

    @abstractmethod
    def _lasting(self, ask: Callable[[], _T]) -> _T:
        """What ``ask`` gives, asked anew where the state that it read is gone."""

    @abstractmethod
    def encode_query(self, query: str) -> QueryTokens:
        """The tokens of a query."""

    @abstractmethod
    def search(
        self,
        query: str,
        *,
        k: int = 10,
        scoring: Scoring | None = None,
        filter: Filter | None = None,
        group_by: GroupBy = GroupBy.MOMENT,
        min_confidence: ConfidenceLabel | None = None,
        thumbnails: bool = False,
    ) -> SearchResult:
        """Late interaction; see :meth:`mmretrieve.engine.Engine.search`."""

    def search_by(
        self,
        way: Way,
        query: str,
        *,
        k: int = 10,
        filter: Filter | None = None,
        group_by: GroupBy = GroupBy.MOMENT,
        min_confidence: ConfidenceLabel | None = None,
    ) -> SearchResult:
        """Search as :meth:`search`, in any :class:`Way`: the aggregations, or one of the baselines
        that papers compare with, which look at all documents and give no evidence.

        Raises:
            UsageError: a query, filter or ``k`` that cannot be used.
        """
        from mmretrieve.search.ways import modality_of, scoring_of

        wanted = filter or Filter()
        scoring, only = scoring_of(way), modality_of(way)
        if scoring is None:
            tokens = self.encode_query(query)
            return self._lasting(
                lambda: self.everything().search(way, tokens, k, wanted, group_by, min_confidence)
            )
        if only is not None and only not in wanted.modalities:
            raise UsageError(f"{way} alone, but the filter leaves {only} out: search in {only}")
        wanted = replace(wanted, modalities=wanted.modalities if only is None else (only,))
        return self.search(
            query, k=k, scoring=scoring, filter=wanted, group_by=group_by,
            min_confidence=min_confidence,
        )  # fmt: skip

    def similarities(
        self, query: str, group_by: GroupBy = GroupBy.VIDEO, filter: Filter | None = None
    ) -> Similarities:
        """How similar a query is to *all* documents in every modality.

        Raises:
            UsageError: a query or filter that cannot be used.
        """
        return next(self.all_similarities([self.encode_query(query)], group_by, filter))

    def all_similarities(
        self,
        queries: Sequence[QueryTokens],
        group_by: GroupBy = GroupBy.VIDEO,
        filter: Filter | None = None,
    ) -> Iterator[Similarities]:
        """:meth:`similarities` of many queries, several at a time.

        Raises:
            UsageError: a filter that cannot be used.
        """
        return self.everything().similarities(queries, group_by, filter or Filter())

    def pooled(self, group_by: GroupBy = GroupBy.VIDEO) -> Pooled:
        """One vector a document and modality, in the order of :meth:`similarities`."""
        return self.everything().ways.pooled(group_by)

    def ranking(self, way: Way, group_by: GroupBy = GroupBy.VIDEO) -> Rank:
        """How a way ranks: a function from :meth:`similarities` to scores of all documents."""
        return self.everything().ways.rank(way, group_by)
