"""How similar a query is to *all* documents: what baselines, probes and evaluation start from.

A search does not need this; it looks at few documents. Several queries share one matrix product,
since no similarity depends on another token of a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import METADATA_PASSAGE, MODALITIES, GroupBy, QueryTokens
from mmretrieve.errors import UsageError
from mmretrieve.search import whole
from mmretrieve.search.chance import Chance
from mmretrieve.search.documents import Documents, similarities
from mmretrieve.search.prepared import PreparedQuery, Space, prepare
from mmretrieve.storage.codes.sample import PASSAGES, VIDEOS, evenly
from mmretrieve.storage.reader import Snapshot

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

_MOST_TOKENS = 1024
_MOST_CELLS = 1 << 25
_BLOCK_TOKENS = 4096
"""Bounds of one matrix product: query tokens, numbers kept, document tokens at a time."""


@dataclass(frozen=True, slots=True)
class Units:
    """The documents of an index, videos or passages: ``video_ids`` ``(n,)``, ``passage`` ``(n,)``
    int32 (-1: a whole video, or one of metadata alone), ``start_s``/``end_s`` ``(n,)``, NaN where
    without times. ``sample`` are the numbers of those that chance is measured on."""

    video_ids: tuple[str, ...]
    passage: NDArray[np.int32]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    sample: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.video_ids)


@dataclass(frozen=True, slots=True)
class Similarities:
    """One query and all documents. ``values`` ``(n_documents, n_modalities, n_query_tokens)`` float32:
    the largest dot product of each query token with the document's tokens of each modality, ``-inf``
    where it has none or a filter leaves it out. ``reference``: the same for ``units.sample`` in eight
    bits, as a search measures chance; no filter touches it."""

    query: QueryTokens
    units: Units
    values: Array
    reference: Array


class SimilarityScan:
    """Similarities over one snapshot, all of which is read at once: many queries may take longer than its
    files last."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._library = snapshot.library
        self._spaces = [snapshot.manifest.space(m) for m in MODALITIES]
        searchable, kernels = snapshot.searchable, snapshot.kernels
        self._chance = {
            GroupBy.VIDEO: Chance(searchable.sample_videos, kernels),
            GroupBy.MOMENT: Chance(searchable.sample_passages, kernels),
        }
        self._documents: dict[GroupBy, Documents] = {}
        self._units: dict[GroupBy, Units] = {}

    def documents(self, unit: GroupBy) -> Documents:
        """The cells of each document."""
        if unit not in self._documents:
            make = whole.videos if unit is GroupBy.VIDEO else whole.passages
            self._documents[unit] = make(self._library.cells)
        return self._documents[unit]

    def units(self, unit: GroupBy) -> Units:
        """What the documents are."""
        if unit not in self._units:
            self._units[unit] = self._describe(unit)
        return self._units[unit]

    def of(
        self, queries: Iterable[QueryTokens], unit: GroupBy, keep: Mask | None = None
    ) -> Iterator[Similarities]:
        """One result a query, in their order; ``keep`` ``(n_cells,)``: cells that take part."""
        documents, units = self.documents(unit), self.units(unit)
        cells = self._library.cells
        for batch in _batches(queries, len(cells)):
            maxima = self._maxima(batch)
            every = similarities(documents, cells.modality, maxima)
            shown = every
            if keep is not None and not keep.all():
                kept = np.where(keep[:, None], maxima, np.float32(-np.inf))
                shown = similarities(documents, cells.modality, kept)
            start = 0
            for query in batch:
                mine = slice(start, start + len(query.texts))
                start = mine.stop
                values = np.ascontiguousarray(shown[:, :, mine])
                reference = self._chance[unit].similarities(self._prepared(query))
                yield Similarities(query, units, values, reference)

    def hiding(
        self, found: Similarities, video_id: str, hidden: Mapping[int, Mask]
    ) -> Similarities:
        """The same with some tokens of one video left out: cell -> which of its tokens. Only for
        similarities to whole videos."""
        cells, vectors = self._library.cells, self._library.vectors
        document = found.units.video_ids.index(video_id)
        documents = self.documents(GroupBy.VIDEO)
        row = np.full(found.values.shape[1:], -np.inf, np.float32)
        for cell in documents.cell[documents.document == document].tolist():
            tokens = vectors[cells.offsets[cell] : cells.offsets[cell + 1]]
            if cell in hidden:
                tokens = tokens[~hidden[cell]]
            if len(tokens):
                modality = int(cells.modality[cell])
                query = found.query.vectors[self._spaces[modality]]
                row[modality] = np.maximum(row[modality], (tokens @ query.T).max(axis=0))
        values = found.values.copy()
        values[document] = row
        return Similarities(found.query, found.units, values, found.reference)

    def _prepared(self, query: QueryTokens) -> PreparedQuery:
        manifest = self._snapshot.manifest
        spaces = [Space(manifest.space(m), manifest.width(m)) for m in MODALITIES]
        return prepare(query, spaces, self._snapshot.kernels)

    def _describe(self, unit: GroupBy) -> Units:
        documents, cells = self.documents(unit), self._library.cells
        sizes = np.bincount(
            documents.document, np.diff(cells.offsets)[documents.cell], len(documents.video)
        )
        n = len(documents.video)
        start_s, end_s = np.full(n, np.nan), np.full(n, np.nan)
        if unit is GroupBy.MOMENT:
            timed = cells.passage[documents.cell] != METADATA_PASSAGE
            own, of = documents.cell[timed], documents.document[timed]
            start_s[of], end_s[of] = cells.start_s[own], cells.end_s[own]
        ids = self._snapshot.videos
        return Units(
            tuple(ids[v].video_id for v in documents.video.tolist()),
            documents.passage,
            start_s,
            end_s,
            evenly(
                n,
                lambda some: int(sizes[some].sum()),
                VIDEOS if unit is GroupBy.VIDEO else PASSAGES,
            ),
        )

    def _maxima(self, batch: list[QueryTokens]) -> Array:
        """``(n_cells, n_tokens of all queries)``."""
        cells, vectors = self._library.cells, self._library.vectors
        queries = {space: _side_by_side(batch, space) for space in sorted(set(self._spaces))}
        width = sum(len(query.texts) for query in batch)
        out = np.full((len(cells), width), -np.inf, np.float32)
        for low, high in _blocks(cells.offsets, cells.modality):
            query = queries[self._spaces[int(cells.modality[low])]]
            first = cells.offsets[low]
            products = vectors[first : cells.offsets[high]] @ query
            bounds = (cells.offsets[low : high + 1] - first).tolist()
            for cell, (begin, end) in enumerate(pairwise(bounds), low):
                if end > begin:
                    # Ten times as fast as one np.maximum.reduceat over the block.
                    np.maximum.reduce(products[begin:end], axis=0, out=out[cell])
        return out


def _side_by_side(batch: list[QueryTokens], space: str) -> Array:
    """``(dim, n_tokens of all queries)``.

    Raises:
        UsageError: a query without vectors for a space of the index.
    """
    missing = [query.text for query in batch if space not in query.vectors]
    if missing:
        raise UsageError(f"query {missing[0]!r} has no vectors for space {space!r} of the index")
    tokens = np.concatenate([query.vectors[space] for query in batch])
    return np.ascontiguousarray(tokens.T)


def _batches(queries: Iterable[QueryTokens], n_cells: int) -> Iterator[list[QueryTokens]]:
    most = max(1, min(_MOST_TOKENS, _MOST_CELLS // max(n_cells, 1)))
    batch: list[QueryTokens] = []
    width = 0
    for query in queries:
        if batch and width + len(query.texts) > most:
            yield batch
            batch, width = [], 0
        batch.append(query)
        width += len(query.texts)
    if batch:
        yield batch


def _blocks(offsets: NDArray[np.int64], modality: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Runs of cells of one modality with a bounded number of tokens (at least one cell)."""
    low = 0
    n = len(modality)
    while low < n:
        high = int(np.searchsorted(offsets, offsets[low] + _BLOCK_TOKENS, side="right")) - 1
        high = min(max(high, low + 1), n)
        same = modality[low:high] == modality[low]
        high = high if same.all() else low + int(np.argmin(same))
        yield low, high
        low = high
