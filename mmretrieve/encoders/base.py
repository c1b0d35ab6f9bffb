"""What an encoder must offer. The engine knows nothing else about models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Keyframe, Modality, QueryTokens, Segment, TokenEmbeddings


class Encoder(Protocol):
    """Turns content and queries into token embeddings of one or more spaces."""

    @property
    def dim(self) -> int:
        """Width of a token embedding."""
        ...

    @property
    def dims(self) -> Mapping[str, int]:
        """Space -> width of its tokens; the widest is ``dim``."""
        ...

    @property
    def spaces(self) -> Mapping[Modality, str]:
        """The space that each modality's tokens live in."""
        ...

    def fingerprints(self) -> Mapping[str, str]:
        """Name -> sha256 of every weight file that decides what a token is."""
        ...

    def query(self, text: str) -> QueryTokens:
        """Tokens of a query.

        Raises:
            UsageError: nothing in the text can be searched for.
        """
        ...

    def texts(self, parts: Mapping[Modality, Sequence[Segment]]) -> dict[Modality, TokenEmbeddings]:
        """Tokens of the text modalities of one passage, which may share one context."""
        ...

    def frames(self, keyframes: Sequence[Keyframe]) -> tuple[tuple[Segment, ...], TokenEmbeddings]:
        """Tokens of keyframes, and for every token the region it stands for."""
        ...


def empty_tokens(dim: int) -> TokenEmbeddings:
    """No tokens."""
    none: NDArray[np.int32] = np.empty(0, np.int32)
    return TokenEmbeddings(np.empty((0, dim), np.float32), none, none, none)
