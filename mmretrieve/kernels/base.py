"""What a set of kernels can do. :mod:`mmretrieve.kernels.plain` says in NumPy what each result is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmretrieve.kernels.arrays import (
    Bytes,
    ByteTables,
    Codebook,
    Codes,
    Floats,
    Layout,
    Lists,
    Rule,
    Tokens8,
    Vectors,
)

Numbers = NDArray[np.int64]


class Kernels(Protocol):
    """All methods take per-modality arguments in the order of ``MODALITIES`` with None for what has no
    tokens. ``keep`` ``(n_cells,)`` uint8 says which cells take part (None: all), ``only`` which documents
    are scored (ascending numbers; None: all). A document without a cell that takes part in a modality of
    positive weight scores ``-inf``. A timed passage is a document when a cell of its own takes part, the
    timeless one when none of its video's timed passages is. Queries that documents are scored with
    have at most 64 tokens, vectors a width of at most 1024.
    """

    @property
    def name(self) -> str:
        """What runs, for people: ``avx512``, ``numpy``, ..."""
        ...

    def quantize(self, vectors: Vectors) -> Tokens8:
        """``(n, dim)`` float16 or float32 to eight bits: ``rint(v * (127 / max|v|))`` for each row.

        Raises:
            ValueError: a value that is not finite.
        """
        ...

    def encode(
        self,
        vectors: Vectors,
        centroid: NDArray[np.uint16],
        book: Codebook,
    ) -> Bytes:
        """``(n, width / 4)``: for each dimension of ``(n, dim)`` vectors the level nearest to what is
        left of it without its centroid, in units of the spread (ties: the lower level; no spread: the
        level nearest to 0); packed as :class:`Codes` says."""
        ...

    def dots(self, tokens: Tokens8, query: Tokens8) -> Floats:
        """``(n, nq)`` similarities; the integer products are exact."""
        ...

    def maxima(
        self, tokens: Tokens8, begin: Numbers, count: NDArray[np.int32], query: Tokens8
    ) -> Floats:
        """``(n_cells, nq)``: maxima over tokens ``begin[i] : begin[i] + count[i]``; -inf for none."""
        ...

    def exact_maxima(
        self, vectors: Vectors, begin: Numbers, count: NDArray[np.int32], query: Floats
    ) -> Floats:
        """``(n_cells, nq)``: maxima of the products of ``vectors`` with ``query`` ``(nq, dim)`` in
        float32. What is asked for beside a cell does not change a bit of its maxima."""
        ...

    def coded_maxima(
        self,
        codes: Codes,
        book: Codebook,
        sims: Floats,
        query: Tokens8,
        begin: Numbers,
        count: NDArray[np.int32],
    ) -> Floats:
        """``(n_cells, nq)``: maxima over coded tokens; ``sims`` and ``query`` as in
        :meth:`score_residuals`."""
        ...

    def bounds(self, sims: Floats) -> Floats:
        """``(2, nq)``: mean and maximum of each column of ``(n, nq)``, ``n`` being at least 1."""
        ...

    def table(self, sims: Floats, rule: Rule, modality: int, floor: Floats, step: float) -> Bytes:
        """``(n, padded nq)`` uint8: values of similarities ``(n, nq)``, ``(value - floor) / step``
        rounded and clipped to 0..255; padding is 0."""
        ...

    def score_tokens(
        self,
        layout: Layout,
        tokens: Sequence[Tokens8 | None],
        queries: Sequence[Tokens8 | None],
        rule: Rule,
        keep: Bytes | None = None,
        only: Numbers | None = None,
    ) -> Floats:
        """Scores of documents from eight-bit tokens, ``(n_documents,)`` or ``(len(only),)``."""
        ...

    def score_codes(
        self,
        layout: Layout,
        codes: Sequence[Codes | None],
        tables: ByteTables,
        rule: Rule,
        keep: Bytes | None = None,
        only: Numbers | None = None,
    ) -> Floats:
        """Scores of documents from centroids alone."""
        ...

    def score_residuals(
        self,
        layout: Layout,
        codes: Sequence[Codes | None],
        books: Sequence[Codebook | None],
        sims: Sequence[Floats | None],
        queries: Sequence[Tokens8 | None],
        rule: Rule,
        keep: Bytes | None = None,
        only: Numbers | None = None,
    ) -> Floats:
        """Scores of documents from centroids and residuals. ``sims[m]`` ``(n_centroids, nq)`` are the
        centroids' similarities; ``queries[m]`` the query times the codebook's spread."""
        ...

    def score_lists(
        self,
        layout: Layout,
        lists: Sequence[Lists | None],
        active: Sequence[Numbers],
        tables: ByteTables,
        by_video: bool,
        keep: Bytes | None = None,
    ) -> Floats:
        """``(n_documents,)``: ``sum_q max`` of table bytes over the ``active`` centroids' lists alone, for
        each document, its video's timeless passage included: token-wise scores in which other tokens
        are worth the floor. ``keep`` ``(n_passages,)`` uint8. 0 for what no list names or is not kept."""
        ...

    def select(self, scores: Floats, n: int) -> Numbers:
        """Numbers of the ``n`` best scores above ``-inf``, ties to lower numbers, ascending."""
        ...

    def assign(self, tokens: Tokens8, centroids: Tokens8) -> tuple[NDArray[np.uint16], Floats]:
        """For each token the centroid of the largest dot product (ties: the lowest number), and that
        product."""
        ...
