"""From token batches to scores, with gradients: the one way in which all losses score.

The formulas are those of :mod:`mmretrieve.scoring.reference` without calibration. With query token
``q``, document ``d`` and modality ``m``, ``s(q, m, d)`` is the largest dot product of ``q`` with a token
of ``d`` in ``m``, and ``-inf`` where there is none: a pad is no token, a token without modality (chat
scaffolding) takes no part, and a missing modality neither helps nor hurts. No score depends on which
other documents are in the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mmretrieve.datatypes import Aggregation
from mmretrieve.errors import UsageError
from mmretrieve.models.protocol import MODALITIES, TokenBatch

N_MODALITIES = len(MODALITIES)


@dataclass(frozen=True, slots=True)
class Similarities:
    """``values``: ``(n_queries, n_documents, n_modalities, n_query_tokens)`` float, ``s(q, m, d)``;
    what stands at a pad of a query has no meaning. ``query_mask``: ``(n_queries, n_query_tokens)``
    bool."""

    values: Tensor
    query_mask: Tensor

    @property
    def present(self) -> Tensor:
        """``(n_documents, n_modalities)`` bool: which modalities a document has."""
        return self.values[0, :, :, 0] != -math.inf


def similarities(queries: TokenBatch, documents: TokenBatch) -> Similarities:
    """Every query against every document, by modality.

    Only the columns in which some document has a token of the modality are multiplied, so that the
    work is about that of one product over all tokens.
    """
    columns = []
    for modality in range(N_MODALITIES):
        own = documents.mask & (documents.modality == modality)
        used = own.any(dim=0)
        products = torch.einsum("qad,nbd->qnab", queries.vectors, documents.vectors[:, used])
        products = products.masked_fill(~own[:, used][None, :, None, :], -math.inf)
        if products.shape[3] == 0:  # nobody has it: a column of nothing, so that gradients stay 0
            products = torch.nn.functional.pad(products, (0, 1), value=-math.inf)
        columns.append(products.amax(dim=3))
    return Similarities(torch.stack(columns, dim=2), queries.mask)


def aggregate(found: Similarities, how: Aggregation, allowed: Tensor | None = None) -> Tensor:
    """``(n_queries, n_documents)`` scores; ``-inf`` for a document with none of the modalities.

    - ``token_max``: ``1/|Q| sum_q max_m s(q, m, d)``
    - ``modality_max``: ``max_m 1/|Q| sum_q s(q, m, d)``

    ``allowed``: ``(n_queries, n_modalities)`` bool, the modalities that a query is scored with; all of
    them without it. ``|Q|`` counts the real tokens of the query.

    Raises:
        UsageError: ``weighted``, which has no weights here.
    """
    values = found.values
    if allowed is not None:
        values = values.masked_fill(~allowed[:, None, :, None], -math.inf)
    if how is Aggregation.TOKEN_MAX:
        return _mean_over_tokens(values.amax(dim=2), found.query_mask[:, None, :])
    if how is Aggregation.MODALITY_MAX:
        mask = found.query_mask[:, None, None, :]
        return _mean_over_tokens(values, mask).amax(dim=2)
    raise UsageError(f"aggregation {how.value!r} cannot be trained: use token_max or modality_max")


def only(found: Similarities, modality: int) -> Tensor:
    """``(n_queries, n_modalities)`` bool for :func:`aggregate`: one modality for every query."""
    allowed = torch.zeros(len(found.values), N_MODALITIES, dtype=torch.bool)
    allowed[:, modality] = True
    return allowed.to(found.values.device)


def _mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the real tokens in the last place; ``-inf`` where any of them is."""
    n_tokens = mask.sum(dim=-1).clamp(min=1)
    return values.masked_fill(~mask, 0.0).sum(dim=-1) / n_tokens
