"""The ``clip`` preset: frames by any open_clip model, text by a text encoder; two spaces in one index.

A picture has one token for the whole and, where the tower's own tokens can be projected as its
summary is, one for each cell of a grid. A query is one point in the space of pictures: CLIP's text
tower is trained on whole sentences, so every token of a query is that sentence there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmretrieve.config import EncoderSettings
from mmretrieve.datatypes import COMMON, Keyframe, Modality, QueryTokens, Segment, TokenEmbeddings
from mmretrieve.encoders.base import empty_tokens
from mmretrieve.encoders.open_clip import OpenClip
from mmretrieve.encoders.text import RECIPE

PICTURES, TEXT = "clip", "text"


class TextTokens(Protocol):
    """What the text side of this preset must offer; its space is ``text``."""

    @property
    def dim(self) -> int: ...

    def fingerprints(self) -> Mapping[str, str]: ...

    def query(self, text: str) -> QueryTokens: ...

    def texts(
        self, parts: Mapping[Modality, Sequence[Segment]]
    ) -> dict[Modality, TokenEmbeddings]: ...


class ClipEncoder:
    """An :class:`~mmretrieve.encoders.base.Encoder`. Weights are read at the first use."""

    def __init__(self, settings: EncoderSettings, threads: int = 1) -> None:
        """``settings``: ``model`` an open_clip name, ``weights`` its weights, ``text`` the folder of a
        ColBERT-type encoder; ``threads``: of one run of the default text encoder."""
        self._pictures = OpenClip(settings)
        self._text = _text_side(settings, threads)

    @property
    def dim(self) -> int:
        """Width of the widest token."""
        return max(self.dims.values())

    @property
    def dims(self) -> Mapping[str, int]:
        """Pictures, and text."""
        return {PICTURES: self._pictures.dim, TEXT: self._text.dim}

    @property
    def spaces(self) -> Mapping[Modality, str]:
        """Frames live in the space of pictures, all else in that of text."""
        return {m: PICTURES if m is Modality.FRAMES else TEXT for m in COMMON}

    def fingerprints(self) -> Mapping[str, str]:
        """sha256 of the weights of both sides."""
        return {**self._pictures.fingerprints(), **self._text.fingerprints()}

    def query(self, text: str) -> QueryTokens:
        """Tokens of the text side; in the space of pictures each of them is the whole query."""
        made = self._text.query(text)
        whole = self._pictures.text(text)
        rows = np.repeat(whole[None], len(made.texts), axis=0)
        vectors = {TEXT: made.vectors[TEXT], PICTURES: rows}
        return QueryTokens(text, vectors, made.texts, made.word, made.n_dropped)

    def texts(self, parts: Mapping[Modality, Sequence[Segment]]) -> dict[Modality, TokenEmbeddings]:
        """By the text side."""
        return self._text.texts(parts)

    def frames(self, keyframes: Sequence[Keyframe]) -> tuple[tuple[Segment, ...], TokenEmbeddings]:
        """For each keyframe the whole, then the cells of a grid."""
        if not keyframes:
            return (), empty_tokens(self._pictures.dim)
        segments: list[Segment] = []
        vectors: list[NDArray[np.float32]] = []
        encoded = self._pictures.images([k.image for k in keyframes])
        for keyframe, tokens in zip(keyframes, encoded, strict=True):
            vectors.append(tokens.vectors)
            segments += [
                Segment("", keyframe.start_s, keyframe.end_s, box=box) for box in tokens.boxes
            ]
        none = np.zeros(len(segments), np.int32)
        index = np.arange(len(segments), dtype=np.int32)
        return tuple(segments), TokenEmbeddings(np.concatenate(vectors), index, none, none)


def _text_side(settings: EncoderSettings, threads: int) -> TextTokens:
    if settings.text is not None:
        from mmretrieve.encoders.colbert import ColbertEncoder

        return ColbertEncoder(settings.text, settings.device)
    from mmretrieve.encoders.lite import LiteEncoder

    return _LiteText(LiteEncoder(threads))


class _LiteText:
    """The text side of the default preset; its frames, and their weights, take no part."""

    def __init__(self, lite: TextTokens) -> None:
        self._lite = lite
        self.query, self.texts = lite.query, lite.texts

    @property
    def dim(self) -> int:
        return self._lite.dim

    def fingerprints(self) -> Mapping[str, str]:
        return {n: v for n, v in self._lite.fingerprints().items() if n in _LITE_TEXT}


_LITE_TEXT = frozenset(
    {"bge_small_en_v1.5_int8.onnx", "bge_tokenizer.json", "text_projection.safetensors", RECIPE}
)
