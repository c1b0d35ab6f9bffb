"""What an encoder must offer. The engine knows nothing else about models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Keyframe, Modality, QueryTokens, Segment, Sound, TokenEmbeddings


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
        """The space that the tokens of each modality live in that there are tokens of."""
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


@dataclass(frozen=True, slots=True)
class JointContent:
    """All modalities of one passage: what is read together. Without times where ``start_s`` is None.
    ``sound`` (16 kHz) is there for encoders that hear."""

    keyframes: tuple[Keyframe, ...] = ()
    texts: Mapping[Modality, Sequence[Segment]] = field(default_factory=dict)
    start_s: float | None = None
    end_s: float | None = None
    sound: Sound | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to make a token of."""
        return not (self.keyframes or any(self.texts.values()) or self.sound is not None)


@dataclass(frozen=True, slots=True)
class JointTokens:
    """Tokens of each modality that a passage has. ``regions``: the segments of what is no text (a
    region of keyframes, a stretch of sound), by modality; text tokens point to the given segments."""

    tokens: Mapping[Modality, TokenEmbeddings]
    regions: Mapping[Modality, tuple[Segment, ...]] = field(default_factory=dict)


class JointEncoder(Encoder, Protocol):
    """An encoder that reads all modalities of a passage in one context. Where an encoder is one, the
    engine uses :meth:`joint` for content, and neither ``texts`` nor ``frames``. One that hears says so
    by a further property ``hears_s``: see :func:`heard_s`."""

    def shrink(self, keyframe: Keyframe) -> Keyframe:
        """The least of a keyframe that :meth:`joint` needs; it is kept until the passage's speech is
        known."""
        ...

    def joint(self, contents: Sequence[JointContent]) -> list[JointTokens]:
        """Tokens of passages, each in a context of its own, in their order."""
        ...


def as_joint(encoder: Encoder) -> JointEncoder | None:
    """The encoder as one that reads modalities together; None where it does not."""
    # By one name: asking for all of them would read weights, where properties do.
    return cast("JointEncoder", encoder) if hasattr(type(encoder), "joint") else None


def heard_s(encoder: Encoder) -> float:
    """Seconds of a passage's sound that :meth:`JointEncoder.joint` takes; 0 for an encoder that does not
    hear, for which no sound is decoded."""
    return float(getattr(encoder, "hears_s", 0.0)) if as_joint(encoder) is not None else 0.0


def empty_tokens(dim: int) -> TokenEmbeddings:
    """No tokens."""
    none: NDArray[np.int32] = np.empty(0, np.int32)
    return TokenEmbeddings(np.empty((0, dim), np.float32), none, none, none)
