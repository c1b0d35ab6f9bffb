"""An encoder whose tokens are drawn from the words themselves: quick, the same everywhere, and the rest of
the program cannot tell."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, Keyframe, Modality, QueryTokens, Segment
from mmretrieve.datatypes import TokenEmbeddings as Tokens

DIM = 32
_SPACE = "text"


class WordEncoder:
    """One token a word, one a picture; :class:`mmretrieve.encoders.base.Encoder`."""

    dim = DIM
    dims: Mapping[str, int] = {_SPACE: DIM}
    spaces: Mapping[Modality, str] = dict.fromkeys(MODALITIES, _SPACE)

    def fingerprints(self) -> Mapping[str, str]:
        return {"words": "0" * 64}

    def query(self, text: str) -> QueryTokens:
        words = text.lower().split()
        places = np.arange(len(words), dtype=np.int32)
        return QueryTokens(text, {_SPACE: _vectors(words)}, tuple(words), places)

    def texts(self, parts: Mapping[Modality, Sequence[Segment]]) -> dict[Modality, Tokens]:
        return {modality: _tokens(segments) for modality, segments in parts.items() if segments}

    def frames(self, keyframes: Sequence[Keyframe]) -> tuple[tuple[Segment, ...], Tokens]:
        names = [hashlib.sha256(k.image.tobytes()).hexdigest() for k in keyframes]
        regions = tuple(Segment("", k.start_s, k.end_s) for k in keyframes)
        index = np.arange(len(names), dtype=np.int32)
        none = np.zeros(len(names), np.int32)
        return regions, Tokens(_vectors(names), index, none, none)


def _tokens(segments: Sequence[Segment]) -> Tokens:
    words, owner, start, end = [], [], [], []
    for number, segment in enumerate(segments):
        at = 0
        for word in segment.text.split():
            at = segment.text.index(word, at)
            words.append(word.lower())
            owner.append(number)
            start.append(at)
            at += len(word)
            end.append(at)
    places = (np.array(values, np.int32) for values in (owner, start, end))
    return Tokens(_vectors(words), *places)


def _vectors(words: Sequence[str]) -> NDArray[np.float32]:
    out = np.zeros((len(words), DIM), np.float32)
    for row, word in zip(out, words, strict=True):
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        row[:] = np.random.default_rng(seed).normal(size=DIM)
        row /= np.linalg.norm(row)
    return out
