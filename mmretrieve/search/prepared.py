"""One query made ready for the kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mmretrieve.datatypes import MODALITIES, QueryTokens
from mmretrieve.errors import UsageError
from mmretrieve.kernels.arrays import ByteTables, Codebook, Floats, Rule, Tokens8
from mmretrieve.kernels.base import Kernels
from mmretrieve.kernels.tables import byte_tables


@dataclass(frozen=True, slots=True)
class Space:
    """The vector space of a modality's tokens, and its width."""

    name: str
    dim: int


@dataclass(frozen=True, slots=True)
class PreparedQuery:
    """A query's vectors by modality, ``vectors[m]`` ``(nq, dim)`` float32 and ``tokens[m]`` in eight bits
    (shared by modalities of one space)."""

    query: QueryTokens
    vectors: tuple[Floats, ...]
    tokens: tuple[Tokens8, ...]

    @property
    def n_tokens(self) -> int:
        return len(self.query.texts)


def prepare(query: QueryTokens, spaces: Sequence[Space], kernels: Kernels) -> PreparedQuery:
    """``spaces``: one for each modality in the order of ``MODALITIES``.

    Raises:
        UsageError: the query has no vectors for a space of the index, or of another width.
    """
    vectors = {space: _vectors(query, space) for space in set(spaces)}
    eight = {space: kernels.quantize(rows) for space, rows in vectors.items()}
    return PreparedQuery(
        query,
        tuple(vectors[space] for space in spaces),
        tuple(eight[space] for space in spaces),
    )


def _vectors(query: QueryTokens, space: Space) -> Floats:
    rows = query.vectors.get(space.name)
    if rows is None or rows.shape[1] != space.dim:
        got = "none" if rows is None else f"width {rows.shape[1]}"
        raise UsageError(
            f"query vectors for space {space.name!r}: expected width {space.dim}, got {got}"
        )
    if not np.isfinite(rows).all():
        raise UsageError("the query has vectors that are not finite: the encoder is at fault")
    return np.ascontiguousarray(rows, np.float32)


@dataclass(frozen=True, slots=True)
class QueryTables:
    """What one query is worth against the centroids of a set of codebooks.

    ``sims[m]`` ``(n_centroids, nq)``; ``stretched[m]``: the query times the spread of the residuals.
    """

    books: tuple[Codebook | None, ...]
    sims: tuple[Floats | None, ...]
    stretched: tuple[Tokens8 | None, ...]
    bytes: ByteTables


def query_tables(
    kernels: Kernels, query: PreparedQuery, books: tuple[Codebook | None, ...], rule: Rule
) -> QueryTables:
    """Tables of the modalities that have a codebook and a positive weight."""
    weights = rule.scoring.weight_vector
    used = [None if weights[m] <= 0 else books[m] for m in range(len(MODALITIES))]
    sims = tuple(
        None if book is None else kernels.dots(book.centroids, query.tokens[m])
        for m, book in enumerate(used)
    )
    stretched = tuple(
        None
        if book is None
        else kernels.quantize(query.vectors[m] * book.spread[: query.vectors[m].shape[1]])
        for m, book in enumerate(used)
    )
    return QueryTables(books, sims, stretched, byte_tables(kernels, sims, rule))


@dataclass(slots=True)
class TableCache:
    """Tables made once for one query and rule, however many segments share a codebook."""

    make: Callable[[tuple[Codebook | None, ...]], QueryTables]
    made: dict[tuple[int, ...], QueryTables] = field(default_factory=dict)

    def of(self, books: tuple[Codebook | None, ...]) -> QueryTables:
        key = tuple(map(id, books))
        if key not in self.made:
            self.made[key] = self.make(books)
        return self.made[key]
