"""A learned gate: from the tokens of a query to weights of modalities.

Softmax regression on the mean query token says from which modality an answer may come; the weight of
a modality is that probability against an even one, to the power :data:`STRENGTH`: a product of experts
(Hinton, 2002) with an even prior divided out, so that a query that says nothing about its modality is weighed
by 1 everywhere. Trained by ``python -m mmretrieve.training.fit_gate``. Off by default: see
``benchmarks/results/parts.md`` for what it gains, and why it cannot gain much.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import COMMON
from mmretrieve.errors import UsageError, WeightsError
from mmretrieve.scoring.aggregation import Scoring

Array = NDArray[np.float32]

FILE = Path(__file__).parent / "gate.safetensors"
STRENGTH = 0.5


@dataclass(frozen=True, slots=True)
class Gate:
    """``weights`` ``(dim, n_modalities)`` and ``bias`` ``(n_modalities,)`` float32, in the order of
    :data:`~mmretrieve.datatypes.COMMON`: no query to learn from asks for sound itself."""

    weights: Array
    bias: Array

    def probabilities(self, tokens: Array) -> Array:
        """``(n_modalities,)``: where the answer to a query of ``tokens`` ``(nq, dim)`` may be found.

        Raises:
            UsageError: tokens of another width than the gate was trained on.
        """
        if tokens.shape[1] != len(self.weights):
            raise UsageError(
                f"the gate was trained on query tokens of width {len(self.weights)}, those of this "
                f"index have {tokens.shape[1]}: search without --gate on"
            )
        logits = tokens.mean(axis=0) @ self.weights + self.bias
        shares = np.exp(logits - logits.max())
        return np.asarray(shares / shares.sum(), np.float32)

    def modality_weights(self, tokens: Array, strength: float = STRENGTH) -> Array:
        """``(n_modalities,)``: 1 where the query says nothing about the modality."""
        even = self.probabilities(tokens) * len(self.bias)
        return np.asarray(even**strength, np.float32)


@cache
def shipped() -> Gate:
    """The gate that comes with the package.

    Raises:
        WeightsError: its file is not there or cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        stored = load_file(FILE)
        return Gate(stored["weights"], stored["bias"])
    except (OSError, KeyError, SafetensorError) as error:
        raise WeightsError(
            f"the gate's weights cannot be read ({FILE}: {error}): reinstall with "
            "`pip install --force-reinstall --no-deps mmretrieve`"
        ) from error


def gated(scoring: Scoring, tokens: Array) -> Scoring:
    """The same scoring with the gate's weights for a query of ``tokens`` ``(nq, dim)`` multiplied into
    its own; unchanged where it has no gate. What has weight 0 keeps it, and so does what the gate does
    not know."""
    if not scoring.gate:
        return scoring
    found = shipped().modality_weights(tokens).tolist()
    known = {m: scoring.weights.get(m, 1.0) * w for m, w in zip(COMMON, found, strict=True)}
    return replace(scoring, weights={**scoring.weights, **known}, gate=False)
