"""Against modality competition: ways to keep a strong modality from starving the others.

Adaptive gradient modulation (AGM; Li et al., ICCV 2023, arXiv 2308.07686)
    For modality m let ``L_m`` be the cross entropy of the batch when documents are scored by m alone
    (late interaction gives that response without a further pass) and ``A_m`` its mean over the steps
    before. With M modalities at hand, ``r_m = exp(mean_{j != m} L_j - L_m)`` says how far m is ahead, and
    ``a_m``, the same of ``A``, how far it usually is. Gradients that reach the tokens of m are
    multiplied by ``exp(alpha * min(a_m - r_m, 10))``: a modality that runs ahead of its own past waits.
    The paper multiplies the gradients of a modality's own encoder; a joint encoder has none, so the
    tokens of the modality stand in its place.

Modality dropout (as ModDrop; Neverova et al., arXiv 1501.00102)
    Each modality of a document is left out of a step by chance, never the query's target nor the
    last one. The content itself is left out, so that the other tokens have no context from it.

Competition regulariser (the MIPD term of MCR; Kontras et al., arXiv 2411.07335)
    How much does a modality add to the answer? Let p be the distribution over the documents of the
    batch, and p_m the same after the tokens of m have been exchanged between the documents that have
    m. The loss falls by ``weight`` times the mean over modalities of the Jensen-Shannon divergence of p
    and p_m, in nats: every modality is paid for making a difference. MCR's other terms (a supervised
    contrast, a conditional bottleneck) are not part of this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mmretrieve.datatypes import Aggregation
from mmretrieve.models.protocol import MODALITIES, Document
from mmretrieve.training.clamr.aggregation import N_MODALITIES, Similarities, aggregate, only
from mmretrieve.training.clamr.losses import Targets

_MOST = 10.0
"""Bound of the exponent's difference, as in the authors' code."""
LEAST_DOCUMENTS = 2
"""Documents with a modality that an exchange, or a choice between them, needs."""


class GradientModulation:
    """AGM. ``mean`` and ``count``: for each modality the mean of ``L_m`` so far, and over how many steps."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.mean = [0.0] * N_MODALITIES
        self.count = [0] * N_MODALITIES

    def factors(self, losses: Sequence[float]) -> list[float]:
        """What gradients of each modality are multiplied by, from :func:`losses_alone` of this step,
        which then becomes part of the past."""
        now = _lead(losses)
        known = [mean if n else math.nan for mean, n in zip(self.mean, self.count, strict=True)]
        past = _lead([k if math.isfinite(loss) else math.nan
                      for k, loss in zip(known, losses, strict=True)])  # fmt: skip
        for m, loss in enumerate(losses):
            if math.isfinite(loss):
                self.count[m] += 1
                self.mean[m] += (loss - self.mean[m]) / self.count[m]
        return [
            math.exp(self.alpha * min(usual - lead, _MOST)) if math.isfinite(usual - lead) else 1.0
            for usual, lead in zip(past, now, strict=True)
        ]

    def state(self) -> dict[str, list[float]]:
        """For a checkpoint."""
        return {"mean": list(self.mean), "count": [float(n) for n in self.count]}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Go on from :meth:`state`."""
        self.mean = [float(v) for v in state["mean"]]
        self.count = [int(v) for v in state["count"]]


def losses_alone(
    found: Similarities, targets: Targets, how: Aggregation, temperature: float
) -> Tensor:
    """``(n_modalities, 2)``, without gradient: for each modality the sum of cross entropies of the
    queries whose document has it, scored by it alone, and how many these are. 0 where fewer than two
    documents have it."""
    rows = []
    with torch.no_grad():
        for modality in range(N_MODALITIES):
            scores = aggregate(found, how, only(found, modality))
            scores = scores.masked_fill(targets.also_right, -math.inf) / temperature
            positive = scores.gather(1, targets.label[:, None])[:, 0]
            used = positive != -math.inf
            losses = scores.logsumexp(dim=1) - positive
            enough = found.present[:, modality].sum() >= LEAST_DOCUMENTS
            used = used & enough
            rows.append(torch.stack([losses[used].sum(), used.sum().to(losses.dtype)]))
    return torch.stack(rows)


def modulate(vectors: Tensor, modality: Tensor, factors: Sequence[float]) -> None:
    """Multiply gradients that will reach document tokens ``(n, t, d)`` by the factor of the token's
    modality ``(n, t)``."""
    table = torch.tensor([*factors, 1.0], dtype=vectors.dtype, device=vectors.device)
    scale = table[modality][..., None]  # NO_MODALITY, -1, is the last one
    if vectors.requires_grad:
        vectors.register_hook(lambda gradient: gradient * scale)


def competition(
    found: Similarities, how: Aggregation, temperature: float, generator: np.random.Generator
) -> Tensor:
    """The mean Jensen-Shannon divergence, in nats, between the distribution over documents and the one
    after an exchange of one modality; mean over queries and over the modalities that at least two
    documents have. 0 where there is none."""
    present = found.present
    kept = present.any(dim=1)
    divergences = []
    base = functional.log_softmax(aggregate(found, how)[:, kept] / temperature, dim=1)
    for modality in range(N_MODALITIES):
        owners = present[:, modality].nonzero()[:, 0]
        if len(owners) < LEAST_DOCUMENTS:
            continue
        order = np.arange(len(present))
        places = owners.cpu().numpy()
        shuffled = generator.permutation(places)
        order[shuffled] = np.roll(shuffled, 1)  # one cycle: no document keeps its own
        values = found.values.clone()
        values[:, :, modality] = found.values[:, torch.from_numpy(order), modality]
        scores = aggregate(replace(found, values=values), how)[:, kept]
        other = functional.log_softmax(scores / temperature, dim=1)
        divergences.append(_jensen_shannon(base, other).mean())
    return torch.stack(divergences).mean() if divergences else base.sum() * 0.0


def drop_modalities(
    document: Document, target: int, chance: float, generator: np.random.Generator
) -> Document:
    """The document without some of its modalities. ``target``: place in :data:`MODALITIES`, or
    :data:`NO_MODALITY`."""
    present = [m for m, name in enumerate(MODALITIES) if _has(document, name)]
    # Drawn for all, so that what one document has does not change what another one loses.
    lost = generator.random(N_MODALITIES) < chance
    spared = generator.permutation(N_MODALITIES)
    keep = {m for m in present if not lost[m] or m == target}
    if not keep:
        keep = {next(int(m) for m in spared if m in present)} if present else set()
    gone: dict[str, Any] = {name: _NOTHING[name] for m in present
                            if m not in keep and (name := MODALITIES[m])}  # fmt: skip
    return replace(document, **gone)


_NOTHING: dict[str, object] = {
    "frames": (),
    "speech": "",
    "ocr": "",
    "metadata": "",
    "audio": None,
}


def _has(document: Document, name: str) -> bool:
    value = getattr(document, name)
    return value is not None and len(value) > 0


def _lead(losses: Sequence[float]) -> list[float]:
    """``exp(mean_{j != m} L_j - L_m)`` over the finite ones; NaN for the others, or for a lone one."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < LEAST_DOCUMENTS:
        return [math.nan] * len(losses)
    total, others = sum(finite), len(finite) - 1
    return [
        math.exp(min((total - loss) / others - loss, _MOST)) if math.isfinite(loss) else math.nan
        for loss in losses
    ]


def _jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    """``(n,)`` in 0..ln 2, from ``(n, k)`` log probabilities."""
    middle = torch.logaddexp(a, b) - math.log(2)
    return ((a.exp() * (a - middle)).sum(dim=1) + (b.exp() * (b - middle)).sum(dim=1)) / 2
