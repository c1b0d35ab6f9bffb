"""The specification in plain loops. Every fast path is tested against these functions.

Notation: query token ``q``, document ``d`` (a video, or a passage with its video's metadata),
modality ``m``, ``s(q, m, d)`` = max over the tokens of ``d`` in ``m`` of the dot product with ``q``
(MaxSim's inner maximum; Khattab & Zaharia, 2020), ``-inf`` where ``d`` has no such token.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Aggregation

Array = NDArray[np.float32]


def maxima(query: Array, cells: list[Array]) -> Array:
    """``(n_cells, n_query_tokens)``: for each cell (the tokens of one passage and modality) and
    query token the largest dot product; ``-inf`` for a cell without tokens."""
    out = np.full((len(cells), len(query)), -np.inf, np.float32)
    for i, cell in enumerate(cells):
        for j, token in enumerate(query):
            if len(cell):
                out[i, j] = max(float(np.dot(token, row)) for row in cell)
    return out


def chance(similarity: Array, prior: Array, prior_weight: float) -> Array:
    """``(n_modalities, n_query_tokens)``: the similarity that a query token reaches by chance in a
    modality: its mean over the documents that have the modality, nearly all of which do not answer
    the query, drawn towards ``prior`` (n_modalities,) as if by ``prior_weight`` more documents."""
    _, n_modalities, n_tokens = similarity.shape
    out = np.empty((n_modalities, n_tokens), np.float32)
    for m in range(n_modalities):
        for q in range(n_tokens):
            values = [float(v) for v in similarity[:, m, q] if np.isfinite(v)]
            total = sum(values) + prior_weight * float(prior[m])
            out[m, q] = total / (len(values) + prior_weight)
    return out


def evidence(similarity: Array, null: Array, scale: Array, power: float) -> Array:
    """``(n_docs, n_modalities, n_query_tokens)``: ``((s - chance) / scale)^power``, 0 where the
    similarity is not above chance and ``-inf`` where the modality is missing."""
    out = np.full(similarity.shape, -np.inf, np.float32)
    for d, m, q in np.ndindex(*similarity.shape):
        if np.isfinite(similarity[d, m, q]):
            above = max(float(similarity[d, m, q] - null[m, q]), 0.0)
            out[d, m, q] = (above / float(scale[m])) ** power
    return out


def aggregate(values: Array, how: Aggregation, weights: Array) -> Array:
    """``(n_docs,)``: one score a document; ``weights`` ``(n_modalities,)``, 0 masks a modality.

    - ``token_max``: ``1/|Q| sum_q max_m w_m e(q, m)``
    - ``modality_max``: ``max_m w_m 1/|Q| sum_q e(q, m)``
    - ``weighted``: ``sum_m w_m 1/|Q| sum_q e(q, m) / sum_m w_m``, both sums over the modalities
      that the document has

    A document with none of the modalities scores ``-inf``.
    """
    out = np.full(len(values), -np.inf, np.float32)
    for d, doc in enumerate(values):
        have = [m for m in range(len(doc)) if weights[m] > 0 and np.isfinite(doc[m]).all()]
        if not have:
            continue
        per_modality = {m: float(weights[m]) * float(doc[m].mean()) for m in have}
        if how is Aggregation.TOKEN_MAX:
            best = [max(float(weights[m] * doc[m, q]) for m in have) for q in range(doc.shape[1])]
            out[d] = sum(best) / doc.shape[1]
        elif how is Aggregation.MODALITY_MAX:
            out[d] = max(per_modality.values())
        else:
            out[d] = sum(per_modality.values()) / sum(float(weights[m]) for m in have)
    return out
