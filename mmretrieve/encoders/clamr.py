"""The ``clamr`` preset: all modalities of a passage in one turn of one model."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mmretrieve.config import EncoderSettings
from mmretrieve.datatypes import (
    COMMON,
    Keyframe,
    Modality,
    QueryTokens,
    Segment,
    Sound,
    TokenEmbeddings,
)
from mmretrieve.encoders.base import JointContent, JointTokens, empty_tokens
from mmretrieve.encoders.spans import asked_text, joined, of_segments, query_words
from mmretrieve.errors import WeightsError
from mmretrieve.models.batching import TokenRows, in_batches
from mmretrieve.models.extras import device_of, precision_of, require
from mmretrieve.models.folders import fingerprints
from mmretrieve.models.loading import Files, dim_of, find, hears_s, load
from mmretrieve.models.pictures import shrunk
from mmretrieve.models.protocol import MODALITIES, Document
from mmretrieve.models.sound import RATE_HZ, TOKENS_A_SECOND

if TYPE_CHECKING:
    from mmretrieve.models.clamr import Clamr
    from mmretrieve.models.turns import Turn

HUB_ID = "meetdavidwan/clamr"
SPACE = "clamr"
_PREFIX = "Query:"
_AUGMENTATION = "[more]"
_TEXTS = (Modality.OCR, Modality.SPEECH, Modality.METADATA)


class ClamrEncoder:
    """A :class:`~mmretrieve.encoders.base.JointEncoder`. Weights are read at the first use; runs of
    the model wait for each other."""

    def __init__(self, settings: EncoderSettings) -> None:
        """``settings``: ``weights`` a folder or a hub id, ``model`` another backbone."""
        self._settings = settings
        self._lock = threading.Lock()
        self._loaded: Clamr | None = None

    @property
    def dim(self) -> int:
        """Width of a token."""
        return dim_of(self._files)

    @property
    def dims(self) -> Mapping[str, int]:
        """One space."""
        return {SPACE: self.dim}

    @property
    def spaces(self) -> Mapping[Modality, str]:
        """All modalities share it."""
        return dict.fromkeys(MODALITIES if self.hears_s else COMMON, SPACE)

    @cached_property
    def hears_s(self) -> float:
        """Seconds of a passage's sound that are looked at; 0 where the backbone does not hear."""
        return hears_s(self._files)

    def fingerprints(self) -> Mapping[str, str]:
        """sha256 of the adapter, the projection, the backbone, and the tokenizer."""
        return self._fingerprints

    def query(self, text: str) -> QueryTokens:
        """Tokens of a query with its prefix and its augmentation tokens, as the model was trained.

        Raises:
            UsageError: nothing but blanks.
        """
        asked = asked_text(text)
        turns = self._model.turns
        turn = turns.query(asked)
        (rows,) = self._run([turn])
        pieces, words = query_words(asked, turn.spans)
        n, n_more = len(turn), turns.limits.n_augmentation
        n_lead = next((i for i, w in enumerate(words.tolist()) if w >= 0), n - n_more)
        lead = [_PREFIX, *["##"] * (n_lead - 1)] if n_lead else []
        more = [_AUGMENTATION, *["##"] * (n_more - 1)] if n_more else []
        words[n - n_more :] = words.max(initial=0) + 1
        texts = (*lead, *pieces[n_lead : n - n_more], *more)
        n_cut = turns.n_query_tokens(asked) - n
        return QueryTokens(text, {SPACE: rows.vectors}, texts, words, max(n_cut, 0))

    def texts(self, parts: Mapping[Modality, Sequence[Segment]]) -> dict[Modality, TokenEmbeddings]:
        """Text modalities without pictures, in one turn."""
        return dict(self.joint([JointContent(texts=parts)])[0].tokens)

    def frames(self, keyframes: Sequence[Keyframe]) -> tuple[tuple[Segment, ...], TokenEmbeddings]:
        """Keyframes without text, in one turn."""
        made = self.joint([JointContent(tuple(keyframes))])[0]
        none = empty_tokens(self.dim)
        return made.regions.get(Modality.FRAMES, ()), made.tokens.get(Modality.FRAMES, none)

    def shrink(self, keyframe: Keyframe) -> Keyframe:
        """At the size that the model looks at."""
        turns = self._model.turns
        small = shrunk(keyframe.image, turns.shape, turns.limits.max_pixels)
        return replace(keyframe, image=small)

    def joint(self, contents: Sequence[JointContent]) -> list[JointTokens]:
        """One turn for each passage; a passage with nothing in it has no tokens."""
        turns = [self._model.turns.document(_document(content)) for content in contents]
        full = [i for i, turn in enumerate(turns) if (turn.modality >= 0).any()]
        out = [JointTokens({}) for _ in contents]
        for i, rows in zip(full, self._run([turns[i] for i in full]), strict=True):
            out[i] = self._tokens(contents[i], turns[i], rows)
        return out

    def _tokens(self, content: JointContent, turn: Turn, rows: TokenRows) -> JointTokens:
        tokens: dict[Modality, TokenEmbeddings] = {}
        regions: dict[Modality, tuple[Segment, ...]] = {}
        for number, modality in enumerate(MODALITIES):
            mine = turn.modality == number
            if not mine.any():
                continue
            vectors = rows.vectors[mine]
            if modality in _TEXTS:
                tokens[modality] = of_segments(vectors, turn.spans[mine], content.texts[modality])
            elif modality is Modality.AUDIO:
                assert content.sound is not None
                regions[modality] = _seconds(content.sound, self.hears_s)
                tokens[modality] = _in_seconds(vectors)
            else:
                regions[modality] = self._regions(content, turn)
                tokens[modality] = _one_each(vectors)
        return JointTokens(tokens, regions)

    def _regions(self, content: JointContent, turn: Turn) -> tuple[Segment, ...]:
        """What each frame token stands for: a cell of a grid, in the frames of a patch."""
        assert turn.patches is not None
        shape = self._model.turns.shape
        t, h, w = turn.patches.grid
        rows, columns = h // shape.merge, w // shape.merge
        shown = [content.keyframes[i] for i in turn.kept_frames]
        out: list[Segment] = []
        for number in range(t):
            together = shown[number * shape.temporal : (number + 1) * shape.temporal]
            start_s, end_s = together[0].start_s, together[-1].end_s
            for y in range(rows):
                for x in range(columns):
                    box = (x / columns, y / rows, (x + 1) / columns, (y + 1) / rows)
                    out.append(Segment("", start_s, end_s, box=box))
        return tuple(out)

    def _run(self, turns: Sequence[Turn]) -> list[TokenRows]:
        model = self._model
        with self._lock:
            return in_batches(model, turns)

    @cached_property
    def _files(self) -> Files:
        require("transformers", "clamr")
        if self._settings.weights is None:
            try:
                return find(HUB_ID, self._settings.model)
            except WeightsError as error:
                raise WeightsError(
                    f"preset 'clamr' has no weights here: hf download {HUB_ID}, or name a folder with "
                    "--weights"
                ) from error
        return find(self._settings.weights, self._settings.model)

    @cached_property
    def _fingerprints(self) -> Mapping[str, str]:
        files = self._files
        made = dict(fingerprints(files.top, "clamr"))
        if not files.backbone.is_relative_to(files.top):
            made |= dict(fingerprints(files.backbone, "backbone"))
        return made

    @property
    def _model(self) -> Clamr:
        with self._lock:
            if self._loaded is None:
                settings, files = self._settings, self._files
                self._loaded = load(
                    str(files.top),
                    backbone=str(files.backbone),
                    precision=precision_of(settings.precision),
                    device=device_of(settings.device),
                )
            return self._loaded


def _document(content: JointContent) -> Document:
    text = {m: joined(content.texts.get(m, ())) for m in _TEXTS}
    return Document(
        frames=[keyframe.image for keyframe in content.keyframes],
        speech=text[Modality.SPEECH],
        ocr=text[Modality.OCR],
        metadata=text[Modality.METADATA],
        audio=None if content.sound is None else content.sound.samples,
    )


def _seconds(sound: Sound, most_s: float) -> tuple[Segment, ...]:
    """What audio tokens stand for: a second each 25, since one alone (40 ms) says little to anyone."""
    length_s = min(len(sound.samples) / RATE_HZ, most_s)
    begin_s, end_s = sound.start_s, sound.start_s + length_s
    return tuple(
        Segment("", begin_s + i, min(begin_s + i + 1, end_s)) for i in range(math.ceil(length_s))
    )


def _in_seconds(vectors: np.ndarray) -> TokenEmbeddings:
    none = np.zeros(len(vectors), np.int32)
    return TokenEmbeddings(
        vectors, np.arange(len(vectors), dtype=np.int32) // TOKENS_A_SECOND, none, none
    )


def _one_each(vectors: np.ndarray) -> TokenEmbeddings:
    none = np.zeros(len(vectors), np.int32)
    return TokenEmbeddings(vectors, np.arange(len(vectors), dtype=np.int32), none, none)
