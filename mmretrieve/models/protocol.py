"""What a joint encoder takes and gives. Importing this module imports no torch.

Any ``torch.nn.Module`` with the two methods of :class:`LateInteractionModel` can be trained by
:mod:`mmretrieve.training` and used by the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mmretrieve import datatypes

if TYPE_CHECKING:
    from torch import Tensor

    from mmretrieve.datatypes import Modality

MODALITIES: tuple[Modality, ...] = datatypes.MODALITIES
"""The modality ids of :attr:`TokenBatch.modality`, by index. Only models with an audio tower give the
last one."""

NO_MODALITY = -1
"""Modality id of pads, chat scaffolding and query tokens."""

Picture = NDArray[np.uint8] | Path | str
"""``(height, width, 3)`` uint8 RGB, or the path of a picture file."""


@dataclass(frozen=True, slots=True)
class Document:
    """One video as a joint encoder reads it. What is empty is missing, and leaves no token.

    ``frames``: pictures in the order of time; ``speech``, ``ocr``, ``metadata``: text as is, without
    prefix; ``audio``: mono float32 at 16 kHz, within -1..1.
    """

    frames: Sequence[Picture] = ()
    speech: str = ""
    ocr: str = ""
    metadata: str = ""
    audio: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Multi-vectors of some queries or documents.

    ``vectors``: ``(n, t, d)`` float, of unit length, zero where masked; ``mask``: ``(n, t)`` bool,
    true for a real token; ``modality``: ``(n, t)`` int64, index into :data:`MODALITIES`, or
    :data:`NO_MODALITY` for pads, scaffolding and queries.
    """

    vectors: Tensor
    mask: Tensor
    modality: Tensor


class LateInteractionModel(Protocol):
    """A ``torch.nn.Module`` that gives multi-vectors; gradients flow unless the caller forbids."""

    def encode_queries(self, texts: Sequence[str]) -> TokenBatch:
        """``(n_texts, t, d)`` tokens of queries; no token carries a modality."""
        ...

    def encode_documents(self, documents: Sequence[Document]) -> TokenBatch:
        """``(n_documents, t, d)`` tokens of documents, each with its modality."""
        ...
