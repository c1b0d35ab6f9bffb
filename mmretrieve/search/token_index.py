"""Where the maxima come from: the seam between ranking and the search structure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, QueryTokens
from mmretrieve.errors import UsageError
from mmretrieve.storage.reader import Cells

Array = NDArray[np.float32]

_BLOCK_TOKENS = 1 << 16
"""Bounds the memory of a scan; smaller blocks were not faster."""


class TokenIndex(Protocol):
    """Anything that can say how well each query token matches each cell."""

    def maxima(self, query: QueryTokens, keep: NDArray[np.bool_]) -> Array:
        """``(n_cells, n_query_tokens)`` float32: the largest dot product of each query token with
        the tokens of each cell; ``-inf`` for cells that ``keep`` ``(n_cells,)`` leaves out."""
        ...


class ExactTokenIndex:
    """Exact maxima by matrix products over the vectors in memory.

    Equal to :func:`mmretrieve.scoring.reference.maxima` up to float32 rounding.
    """

    def __init__(self, cells: Cells, vectors: Array, spaces: Sequence[str]) -> None:
        """``spaces``: for each modality in the order of :data:`MODALITIES`, the space of its tokens."""
        self._cells = cells
        self._vectors = vectors
        self._spaces = spaces

    def maxima(self, query: QueryTokens, keep: NDArray[np.bool_]) -> Array:
        """See :meth:`TokenIndex.maxima`.

        Raises:
            UsageError: the query has no vectors for a space of the index, or of another width.
        """
        out = np.full((len(self._cells), len(query.texts)), -np.inf, np.float32)
        for code, _ in enumerate(MODALITIES):
            chosen = np.flatnonzero(keep & (self._cells.modality == code))
            if len(chosen):
                tokens = self._query_vectors(query, self._spaces[code])
                for block in self._blocks(chosen):
                    out[block] = self._block_maxima(block, tokens)
        return out

    def _query_vectors(self, query: QueryTokens, space: str) -> Array:
        tokens = query.vectors.get(space)
        if tokens is None or tokens.shape[1] != self._vectors.shape[1]:
            got = "none" if tokens is None else f"width {tokens.shape[1]}"
            raise UsageError(
                f"query vectors for space {space!r}: expected width {self._vectors.shape[1]}, got {got}"
            )
        return tokens

    def _blocks(self, chosen: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Non-empty cells in groups of a bounded number of tokens."""
        offsets = self._cells.offsets
        sizes = offsets[chosen + 1] - offsets[chosen]
        chosen, sizes = chosen[sizes > 0], sizes[sizes > 0]
        group = (np.cumsum(sizes) - 1) // _BLOCK_TOKENS
        yield from np.split(chosen, np.flatnonzero(np.diff(group)) + 1)

    def _block_maxima(self, block: NDArray[np.int64], tokens: Array) -> Array:
        if not len(block):
            return np.empty((0, len(tokens)), np.float32)
        offsets = self._cells.offsets
        starts, sizes = offsets[block], offsets[block + 1] - offsets[block]
        local = np.cumsum(sizes) - sizes
        if block[-1] - block[0] + 1 == len(block):
            rows = self._vectors[starts[0] : starts[0] + sizes.sum()]
        else:
            rows = self._vectors[np.arange(sizes.sum()) + np.repeat(starts - local, sizes)]
        return np.maximum.reduceat(rows @ tokens.T, local, axis=0)
