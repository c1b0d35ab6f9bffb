"""Token vectors as Arrow keeps them: a list of vectors a row, of one width or of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FlatVectors:
    """``values`` ``(n_values,)`` float16: row ``i`` is ``values[begin[i] : begin[i + 1]]``, that many
    for each of its ``count[i]`` tokens (both int64)."""

    values: NDArray[np.float16]
    begin: NDArray[np.int64]
    count: NDArray[np.int64]

    def row(self, i: int) -> NDArray[np.float16]:
        """``(n_tokens, width)``; the width of a row without tokens is 0."""
        mine = self.values[self.begin[i] : self.begin[i + 1]]
        return mine.reshape(self.count[i], -1) if self.count[i] else mine.reshape(0, 0)

    def is_uniform(self, width: int) -> bool:
        """Whether all tokens are so wide."""
        return bool(np.array_equal(np.diff(self.begin), self.count * width))


def flat_vectors(lists: pa.ListArray) -> FlatVectors:
    """The vectors of rows, as they lie in memory."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    vectors = lists.values
    if pa.types.is_fixed_size_list(vectors.type):
        begin, flat = offsets * vectors.type.list_size, vectors.flatten()
    else:
        begin, flat = vectors.offsets.to_numpy().astype(np.int64)[offsets], vectors.values
    return FlatVectors(flat.to_numpy(zero_copy_only=False), begin, np.diff(offsets))


def vector_column(rows: Sequence[NDArray[np.float16]], kind: Any) -> pa.ListArray:
    """Rows of ``(n_tokens, width)`` vectors as a column of this Arrow type."""
    flat = [np.empty(0, np.float16), *(row.ravel() for row in rows)]
    values = pa.array(np.concatenate(flat), pa.float16())
    offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int32)
    if pa.types.is_fixed_size_list(kind.value_type):
        vectors = pa.FixedSizeListArray.from_arrays(values, kind.value_type.list_size)
    else:
        widths = np.repeat([row.shape[1] for row in rows], [len(row) for row in rows])
        ends = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
        vectors = pa.ListArray.from_arrays(pa.array(ends), values)
    return pa.ListArray.from_arrays(pa.array(offsets), vectors)
