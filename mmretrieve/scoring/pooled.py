"""Scores of pooled vectors: one vector a document and modality, as single-vector retrieval has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_LEAST_DETERMINANT = 1e-12
"""Of vectors that lie in one another's span rounding alone leaves less."""


def pooled_query(tokens: Array) -> Array:
    """``(dim,)``: the mean of ``(n_tokens, dim)`` query tokens, scaled to unit length."""
    mean = tokens.mean(axis=0, dtype=np.float64)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


def pooled_cosine(query: Array, vectors: Array, present: NDArray[np.bool_]) -> Array:
    """``(n_docs,)``: cosine of the query ``(dim,)`` with the one vector of each document, the mean
    of its modalities' unit vectors ``(n_docs, n_modalities, dim)``; ``-inf`` without any."""
    mean = np.where(present[:, :, None], vectors, 0).sum(axis=1, dtype=np.float64)
    length = np.linalg.norm(mean, axis=1)
    cosine = (mean @ query) / np.maximum(length, 1e-12)
    return np.where(present.any(axis=1), cosine, -np.inf).astype(np.float32)


def gramian_volume(query: Array, vectors: Array, present: NDArray[np.bool_]) -> Array:
    """``(n_docs,)``: minus the volume that the query and the modalities of a document span, after
    GRAM (Cicchetti, Grassucci, Sigillo & Comminiello, 2025, arXiv 2412.11959).

    With ``A`` the unit vectors of the query and of the ``k`` modalities that the document has,
    ``volume = sqrt(det(A A^T))``, small where all point the same way. Here its ``k``-th root counts:
    every further vector makes a volume smaller, so that without the root a document with a missing
    modality would sink for that alone. Among documents of the same modalities the order is GRAM's.
    """
    n, n_modalities, _ = vectors.shape
    size = n_modalities + 1
    stack = np.concatenate(
        [np.broadcast_to(query, (n, 1, len(query))), np.where(present[:, :, None], vectors, 0)],
        axis=1,
    ).astype(np.float64)
    gram = stack @ stack.transpose(0, 2, 1)
    # A missing modality becomes a direction of its own, which leaves the determinant as it is.
    there = np.concatenate([np.ones((n, 1), bool), present], axis=1)
    gram[:, np.arange(size), np.arange(size)] = 1.0
    gram *= np.where(there[:, :, None] & there[:, None, :], 1.0, np.eye(size))
    determinant = np.linalg.det(gram)
    volume = np.sqrt(np.where(determinant > _LEAST_DETERMINANT, determinant, 0))
    count = present.sum(axis=1)
    rooted = volume ** (1 / np.maximum(count, 1))
    return np.where(count > 0, -rooted, -np.inf).astype(np.float32)
