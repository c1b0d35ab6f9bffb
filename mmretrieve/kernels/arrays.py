"""The arrays that kernels work on. Everything is C-contiguous and may be memory-mapped.

Cells come in the order of (video, passage, modality); the tokens of each modality lie in arrays of their
own, in the order of its cells, so that modalities may differ in width and a modality that is not
asked for is not read. ``n_modalities`` is ``len(MODALITIES)``; ``nq`` the number of query tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.scoring.aggregation import Calibration, Scoring

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Vectors = NDArray[np.float16] | Floats
"""``(n, dim)``, as stored or as encoded."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the cells of a segment belong to.

    ``modality`` ``(n_cells,)`` uint8; cell ``i`` owns tokens ``begin[i] : begin[i] + count[i]`` of its
    modality (int64, int32); passage ``p`` owns cells ``passages[p] : passages[p + 1]`` (int64), video
    ``v`` owns passages ``videos[v] : videos[v + 1]`` (int64), at least one. ``timeless`` ``(n_passages,)``
    uint8 is 1 for the passage with a video's metadata, which is its first one. A passage has at most one
    cell of a modality.
    """

    modality: Bytes
    begin: NDArray[np.int64]
    count: NDArray[np.int32]
    passages: NDArray[np.int64]
    videos: NDArray[np.int64]
    timeless: Bytes

    @property
    def n_passages(self) -> int:
        return len(self.timeless)

    @property
    def n_videos(self) -> int:
        return len(self.videos) - 1


@dataclass(frozen=True, slots=True)
class Tokens8:
    """Vectors in eight bits: row ``i`` is ``scales[i] * values[i, :dim]``. ``values`` ``(n, width)`` int8,
    width being the dimension rounded up to a multiple of 4 with zeros; ``scales`` ``(n,)`` float32."""

    values: NDArray[np.int8]
    scales: Floats

    def __len__(self) -> int:
        return len(self.scales)


@dataclass(frozen=True, slots=True)
class Codebook:
    """Of one modality. A token is ``centroids[c] + spread * levels[code]`` with one of four levels for
    every dimension. ``spread`` ``(width,)`` and ``levels`` ``(4,)`` float32, ascending."""

    centroids: Tokens8
    spread: Floats
    levels: Floats


@dataclass(frozen=True, slots=True)
class Codes:
    """Coded tokens of one modality: ``centroid`` ``(n,)`` uint16; ``residual`` ``(n, width / 4)`` uint8,
    bits ``2j`` and ``2j + 1`` of byte ``i`` being the level of dimension ``4i + j``."""

    centroid: NDArray[np.uint16]
    residual: Bytes

    def __len__(self) -> int:
        return len(self.centroid)


@dataclass(frozen=True, slots=True)
class Lists:
    """Of one modality: the passages that hold a token of centroid ``c``, ascending and each once, are
    ``passages[starts[c] : starts[c + 1]]`` (uint32; ``starts`` ``(n_centroids + 1,)`` int64)."""

    passages: NDArray[np.uint32]
    starts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rule:
    """How similarities become scores: a way of scoring with chance levels of one query. Documents are
    videos, or passages each with its video's metadata."""

    scoring: Scoring
    calibration: Calibration
    by_video: bool


@dataclass(frozen=True, slots=True)
class ByteTables:
    """``values[m]`` ``(n_centroids, padded nq)`` uint8: a token of centroid ``c`` is worth
    ``floor[m, q] + step * values[m][c, q]`` to query token ``q``, the modality's weight included; None
    for a modality without tokens. ``floor`` ``(n_modalities, nq)``, the same in all modalities for
    token-wise scores, which compare their bytes."""

    values: tuple[Bytes | None, ...]
    floor: Floats
    step: float


def padded(n_query_tokens: int) -> int:
    """Columns of a table for so many query tokens: a multiple of 16."""
    return -(-n_query_tokens // 16) * 16
