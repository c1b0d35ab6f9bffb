"""The default encoders: everything by pip, everything on the CPU, no torch.

The text modalities of a passage share one context where they fit into it (on-screen text, then
speech), so that what is said is understood beside what is shown, and each line is read on its own, too;
tokens stay tagged by modality. Against each modality in a context of its own nDCG@10 over both rises by
0.059 (95 % interval 0.033 to 0.086) on slides with transcripts and by 0.015 (0.008 to 0.022) on captions with
recognised speech (``python -m benchmarks text``).
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from mmretrieve.datatypes import COMMON, Keyframe, Modality, QueryTokens, Segment, TokenEmbeddings
from mmretrieve.encoders.base import empty_tokens
from mmretrieve.encoders.frames import FrameEncoder
from mmretrieve.encoders.text import MAX_PIECES, RECIPE, EncodedText, TextEncoder, recipe
from mmretrieve.encoders.weights import SHA256
from mmretrieve.errors import UsageError

MAX_QUERY_TOKENS = 64
MAX_QUERY_CHARS = 100_000
CONTEXT_ORDER = (Modality.METADATA, Modality.OCR, Modality.SPEECH)


class LiteEncoder:
    """bge-small tokens for text, EfficientNet-Lite2 with a trained head for frames; one space."""

    dim = TextEncoder.dim

    def __init__(
        self, threads: int = 1, text: TextEncoder | None = None, frames: FrameEncoder | None = None
    ) -> None:
        """``threads``: threads of one run of a model; ``text``, ``frames``: other encoders of these."""
        self._text = text or TextEncoder(threads)
        self._frames = frames or FrameEncoder(threads=threads)

    @property
    def dims(self) -> Mapping[str, int]:
        """One space."""
        return {"text": self.dim}

    @property
    def spaces(self) -> Mapping[Modality, str]:
        """All modalities share the space of text tokens."""
        return dict.fromkeys(COMMON, "text")

    def fingerprints(self) -> Mapping[str, str]:
        """Name -> sha256 of the shipped weights, as published (``doctor`` compares the files), and of
        the rule by which texts are read."""
        return {**SHA256, RECIPE: recipe()}

    def query(self, text: str) -> QueryTokens:
        """Tokens of a query without punctuation, at most :data:`MAX_QUERY_TOKENS`.

        Raises:
            UsageError: blank, or nothing but symbols that the text model does not know.
        """
        if not text.strip():
            raise UsageError("the query is empty: give at least one word")
        encoding = self._text.tokenize(text[:MAX_QUERY_CHARS])
        known = [i for i, t in enumerate(encoding.tokens) if t != "[UNK]" and not is_mark(t)]
        usable = [i for i in known if i < MAX_PIECES - 2][:MAX_QUERY_TOKENS]
        if not usable:
            raise UsageError(
                f"no word in the query {text[:40]!r} is known to the text encoder: use letters"
            )
        last = usable[-1] + 1
        vectors = self._text.project(self._text.hidden(encoding.ids[:last]))[usable]
        words = np.array([encoding.word_ids[i] for i in usable], np.int32)
        texts = tuple(encoding.tokens[i] for i in usable)
        return QueryTokens(text, {"text": vectors}, texts, words, len(known) - len(usable))

    def texts(self, parts: Mapping[Modality, Sequence[Segment]]) -> dict[Modality, TokenEmbeddings]:
        """Tokens of a passage's text modalities, each in its line and beside all of them."""
        present = [m for m in CONTEXT_ORDER if any(s.text.strip() for s in parts.get(m, ()))]
        joined = ["\n".join(s.text for s in parts[m]) for m in present]
        encoded = self._text.in_contexts(joined)
        return {
            modality: _tokens(found, text, parts[modality])
            for modality, text, found in zip(present, joined, encoded, strict=True)
        }

    def frames(self, keyframes: Sequence[Keyframe]) -> tuple[tuple[Segment, ...], TokenEmbeddings]:
        """The tokens of each keyframe; a segment is labelled with a clear ImageNet class."""
        if not keyframes:
            return (), empty_tokens(self.dim)
        segments, vectors = [], []
        encoded = self._frames.encode([k.image for k in keyframes])
        for keyframe, tokens in zip(keyframes, encoded, strict=True):
            vectors.append(tokens.vectors)
            for box, label in zip(tokens.boxes, tokens.labels, strict=True):
                x0, y0, x1, y1 = (float(v) for v in box)
                segments.append(
                    Segment(label or "", keyframe.start_s, keyframe.end_s, box=(x0, y0, x1, y1))
                )
        none = np.zeros(len(segments), np.int32)
        index = np.arange(len(segments), dtype=np.int32)
        return tuple(segments), TokenEmbeddings(np.concatenate(vectors), index, none, none)


def _tokens(encoded: EncodedText, text: str, segments: Sequence[Segment]) -> TokenEmbeddings:
    """The tokens of ``segments``, which stand joined as ``text``."""
    begins = np.cumsum([0, *(len(s.text) + 1 for s in segments[:-1])])
    offsets = encoded.offsets
    mine = np.array([not is_mark(text[a:b]) for a, b in offsets], bool)
    segment = np.searchsorted(begins, offsets[mine, 0], side="right") - 1
    spans = offsets[mine] - begins[segment][:, None]
    return TokenEmbeddings(
        encoded.vectors[mine],
        segment.astype(np.int32),
        spans[:, 0].astype(np.int32),
        spans[:, 1].astype(np.int32),
    )


def is_mark(token: str) -> bool:
    """Whether a token is one punctuation mark, of ASCII or beyond it (dashes, curly quotes)."""
    if len(token) != 1:
        return False
    return token in string.punctuation or unicodedata.category(token).startswith("P")
