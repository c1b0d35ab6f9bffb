"""What lies in LanceDB of single cells: vectors as stored, what their tokens stand for, and text."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmretrieve.datatypes import Modality, Passage
from mmretrieve.storage.codes.cells import fetch_vectors
from mmretrieve.storage.schema import passage_record

CACHE_TOKENS = 250_000
"""Tokens of cells seen last whose vectors and details stay in memory: a search that asks again for what
an earlier one had saves a random read, which takes a third of a search in a large index."""
_DETAILS = [
    "passage",
    "modality",
    "start_s",
    "end_s",
    "source",
    "segments",
    "token_segment",
    "char_start",
    "char_end",
]
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class CellDetail:
    """What a cell's tokens stand for: the passage with its segments, and for each token its segment
    and its span in the segment's text; all arrays ``(n_tokens,)`` int32."""

    passage: Passage
    token_segment: NDArray[np.int32]
    char_start: NDArray[np.int32]
    char_end: NDArray[np.int32]


class CellStore:
    """Random reads by row id of table ``passages`` at one version."""

    def __init__(self, passages: Any, widths: Sequence[int]) -> None:
        """``widths``: of a token, one for each modality in the order of ``MODALITIES``."""
        self._passages = passages
        self._widths = widths
        self._vectors: _Kept[NDArray[np.float16]] = _Kept(CACHE_TOKENS, len)
        self._details: _Kept[CellDetail] = _Kept(CACHE_TOKENS, lambda d: len(d.token_segment))

    def vectors(
        self, rows: NDArray[np.uint64], modality: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float16], ...]:
        """For each row ``(n_tokens, width)`` float16; ``modality`` ``(n_rows,)`` tells the width. Tokens
        that are not finite are zeros.

        Raises:
            IndexFormatError: a row is not there, or its tokens are not so wide.
        """
        width = dict(zip(rows.tolist(), (self._widths[m] for m in modality.tolist()), strict=True))

        def read(missing: list[int]) -> list[NDArray[np.float16]]:
            rows = np.array(missing, np.uint64)
            return fetch_vectors(self._passages, rows, [width[row] for row in missing])

        return tuple(self._vectors.get(rows.tolist(), read))

    def details(self, rows: NDArray[np.uint64]) -> tuple[CellDetail, ...]:
        """What the tokens of each row stand for."""

        def read(missing: list[int]) -> list[CellDetail]:
            return [_detail(row) for row in self._take(missing, _DETAILS).to_pylist()]

        return tuple(self._details.get(rows.tolist(), read))

    def texts(self, rows: NDArray[np.uint64]) -> list[str]:
        """The text of each row."""
        wanted = rows.tolist()
        found: list[str] = self._take(wanted, ["text"])["text"].to_pylist() if wanted else []
        return found

    def texts_with(
        self, word: str, modalities: Sequence[Modality]
    ) -> Iterator[tuple[list[int], list[str]]]:
        """Row ids and texts of cells of some modalities whose text has ``word`` anywhere, whatever its
        case, in batches."""
        import pyarrow.compute as pc

        wanted = pc.field("modality").isin([m.value for m in modalities])
        scanner = self._passages.scanner(columns=["text"], filter=wanted, with_row_id=True)
        for batch in scanner.to_batches():
            mask = pc.match_substring(batch["text"], word, ignore_case=True)
            found = batch.filter(mask)
            yield found["_rowid"].to_pylist(), found["text"].to_pylist()

    def table_keys(self) -> list[dict[str, Any]]:
        """``revision``, ``modality``, ``passage``, times and ``_rowid`` of every cell in the table."""
        if self._passages is None:
            return []
        columns = ["revision", "modality", "passage", "start_s", "end_s"]
        rows: list[dict[str, Any]] = self._passages.to_table(columns, with_row_id=True).to_pylist()
        return rows

    def _take(self, rows: list[int], columns: list[str]) -> pa.Table:
        return self._passages._take_rows(rows, columns=columns)


class _Kept(Generic[_V]):
    """Values by row, the latest of them, up to a number of tokens."""

    def __init__(self, budget: int, size: Callable[[_V], int]) -> None:
        self._budget = budget
        self._size = size
        self._total = 0
        self._values: OrderedDict[int, _V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, rows: list[int], read: Callable[[list[int]], list[_V]]) -> list[_V]:
        """The value of each row; those that are not kept are read together."""
        with self._lock:
            found = {row: self._values[row] for row in rows if row in self._values}
        missing = sorted(set(rows) - found.keys())
        if missing:
            read_now = dict(zip(missing, read(missing), strict=True))
            found |= read_now
            self._keep(read_now)
        return [found[row] for row in rows]

    def _keep(self, values: Mapping[int, _V]) -> None:
        with self._lock:
            for row, value in values.items():
                if row not in self._values:
                    self._values[row] = value
                    self._total += self._size(value)
            while self._total > self._budget and self._values:
                _, value = self._values.popitem(last=False)
                self._total -= self._size(value)


def _detail(row: Mapping[str, Any]) -> CellDetail:
    return CellDetail(
        passage_record(row),
        np.array(row["token_segment"], np.int32),
        np.array(row["char_start"], np.int32),
        np.array(row["char_end"], np.int32),
    )
