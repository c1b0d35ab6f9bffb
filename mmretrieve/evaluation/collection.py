"""A test collection: documents, where their content is given, queries and judgements."""

from __future__ import annotations

from dataclasses import dataclass

from mmretrieve.documents import Document
from mmretrieve.evaluation.queries import Query
from mmretrieve.evaluation.trec import Qrels


@dataclass(frozen=True, slots=True)
class Collection:
    """``documents`` may be empty: then the videos themselves have to be indexed. ``relevant`` of a
    query names document ids. ``qrels`` holds what was judged, grades and all."""

    name: str
    documents: tuple[Document, ...]
    queries: tuple[Query, ...]
    qrels: Qrels
