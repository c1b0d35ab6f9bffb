"""BM25 over the words of documents, by LanceDB's full-text index: what search without vectors does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.search.documents import Documents
from mmretrieve.storage.reader import Snapshot

Array = NDArray[np.float32]

TEXTS = (Modality.SPEECH, Modality.OCR, Modality.METADATA)


class FullText:
    """The texts of some documents, indexed in memory; never a part of the index on disk."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._n = len(texts)
        self._table = _table(texts) if any(text.strip() for text in texts) else None

    def scores(self, query: str) -> Array:
        """``(n_documents,)``: BM25 (English stems, no stop words); ``-inf`` where no word occurs."""
        out = np.full(self._n, -np.inf, np.float32)
        if self._table is None:
            return out
        from lancedb.query import MatchQuery

        search = self._table.search(MatchQuery(query, "text"), query_type="fts")
        found = search.select(["document", "_score"]).limit(self._n).to_arrow()
        out[found["document"].to_numpy()] = found["_score"].to_numpy()
        return out


def document_texts(
    snapshot: Snapshot, documents: Documents, modalities: Sequence[Modality]
) -> list[str]:
    """All that was said, written and known of each document; labels of pictures are no text."""
    codes = [MODALITIES.index(m) for m in TEXTS if m in modalities]
    wanted = np.isin(snapshot.library.cells.modality[documents.cell], codes)
    cells, owners = documents.cell[wanted], documents.document[wanted]
    distinct, back = np.unique(cells, return_inverse=True)
    found = snapshot.cells.texts(snapshot.library.cells.row[distinct])
    parts: list[list[str]] = [[] for _ in documents.video]
    for owner, which in zip(owners.tolist(), back.tolist(), strict=True):
        parts[owner].append(found[which])
    return ["\n".join(part) for part in parts]


def _table(texts: Sequence[str]) -> Any:
    import lancedb
    from lancedb.index import FTS

    rows = pa.table({"document": pa.array(range(len(texts)), pa.int64()), "text": list(texts)})
    table = lancedb.connect("memory://").create_table("texts", rows)
    table.create_index("text", config=FTS(with_position=False))
    return table
