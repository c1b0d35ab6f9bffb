"""Documents and queries to token ids with modality, position and text span: all that happens before
the network. NumPy alone.

A document is one chat turn: frames, sound (where the backbone hears), then on-screen text, speech
and metadata, each text after a space and its prefix. Texts are tokenized on their own, so that which
tokens are whose is known by construction; marks inside a text are text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmretrieve.errors import WeightsError
from mmretrieve.models.dialects import Dialect
from mmretrieve.models.pictures import Patches, PatchShape, patches, read_picture, spread
from mmretrieve.models.protocol import MODALITIES, NO_MODALITY, Document
from mmretrieve.models.sound import RATE_HZ, mel_frames, n_audio_tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ints = NDArray[np.int64]

FRAMES, SPEECH, OCR, METADATA, AUDIO = range(len(MODALITIES))
PREFIXES: dict[int, str] = {OCR: " OCR: ", SPEECH: " ASR: ", METADATA: " Description: "}
"""In the order of the turn."""
QUERY_PREFIX = "Query: "


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_tokens``: of a turn, scaffolding included; the texts that come last are cut first.
    ``max_text_tokens``: of one text modality with its prefix; ``max_query_tokens``: of a query with
    its prefix and its ``n_augmentation`` tokens."""

    max_frames: int = 10
    max_pixels: int = 224 * 224
    max_text_tokens: int = 512
    max_tokens: int = 2048
    max_query_tokens: int = 64
    n_augmentation: int = 10
    max_audio_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One sequence, ready for the network.

    ``ids``: ``(t,)`` int64; ``modality``: ``(t,)`` int64, index into ``MODALITIES`` or -1;
    ``positions``: ``(3, t)`` int64, of time, height and width; ``spans``: ``(t, 2)`` int64, the
    characters of the modality's text that a token stands for (both 0 for a prefix and for all that
    is no text); ``kept_frames``: which frames of the document were taken; ``mel``:
    ``(n_mels, n_frames)`` float32.
    """

    ids: Ints
    modality: Ints
    positions: Ints
    spans: Ints
    kept_frames: tuple[int, ...] = ()
    patches: Patches | None = None
    mel: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True)
class _Draft:
    """A turn in the making; positions go on from the largest one so far."""

    ids: list[int] = field(default_factory=list)
    modality: list[int] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    positions: list[Ints] = field(default_factory=list)
    next_position: int = 0

    def add(
        self,
        ids: Sequence[int],
        modality: int = NO_MODALITY,
        spans: Sequence[tuple[int, int]] | None = None,
        positions: Ints | None = None,
    ) -> None:
        """``positions``: ``(3, n)`` from zero; a row of consecutive ones unless given."""
        if not ids:
            return
        if positions is None:
            positions = np.broadcast_to(np.arange(len(ids), dtype=np.int64), (3, len(ids)))
        self.ids += ids
        self.modality += [modality] * len(ids)
        self.spans += spans if spans is not None else [(0, 0)] * len(ids)
        self.positions.append(positions + self.next_position)
        self.next_position += int(positions.max()) + 1

    def turn(
        self,
        kept_frames: tuple[int, ...] = (),
        patches: Patches | None = None,
        mel: NDArray[np.float32] | None = None,
    ) -> Turn:
        return Turn(
            np.array(self.ids, np.int64),
            np.array(self.modality, np.int64),
            np.concatenate(self.positions, axis=1),
            np.array(self.spans, np.int64).reshape(-1, 2),
            kept_frames,
            patches,
            mel,
        )


class TurnBuilder:
    """Makes turns for one backbone. Thread-safe."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        dialect: Dialect,
        shape: PatchShape,
        positions_per_s: float,
        limits: Limits | None = None,
        n_mels: int = 128,
    ) -> None:
        """``tokenizer`` is this builder's own: special tokens inside a text are switched off in it.
        ``positions_per_s``: how far the position in time goes in a second.

        Raises:
            WeightsError: the tokenizer lacks a mark of the dialect.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.dialect = dialect
        self.shape = shape
        self.limits = limits or Limits()
        self._pace = positions_per_s * dialect.seconds_per_patch
        self._n_mels = n_mels
        self._head = self._turn("system", dialect.system)
        self._open = [self.mark(dialect.turn_open), *self._ids("user\n")]
        self._close = [self.mark(dialect.turn_close), *self._ids("\n")]

    @property
    def hears(self) -> bool:
        """Whether there is an audio tower."""
        return bool(self.dialect.audio_pad)

    def mark(self, name: str) -> int:
        """The id of a special token.

        Raises:
            WeightsError: the tokenizer has none of this name.
        """
        found = self._tokenizer.token_to_id(name)
        if found is None:
            raise WeightsError(
                f"the tokenizer has no token {name!r}: expected the tokenizer.json that belongs to "
                "the backbone"
            )
        return int(found)

    def query(self, text: str) -> Turn:
        """``Query: ``, the text, then augmentation tokens; a long text is cut, these are not."""
        limits, draft = self.limits, _Draft()
        room = limits.max_query_tokens - limits.n_augmentation
        ids, spans = self._text(QUERY_PREFIX, text, room)
        draft.add(ids, spans=spans)
        draft.add([self.mark(self.dialect.augmentation)] * limits.n_augmentation)
        return draft.turn()

    def n_query_tokens(self, text: str) -> int:
        """Tokens that a query would have if it were not cut."""
        return len(self._ids(QUERY_PREFIX + text)) + self.limits.n_augmentation

    def document(self, document: Document) -> Turn:
        """The chat turn of a document.

        Raises:
            MediaError: a frame cannot be read.
            UsageError: a frame or the sound has another shape or type than expected.
        """
        draft = _Draft()
        draft.add([*self._head, *self._open])
        kept = tuple(spread(len(document.frames), self.limits.max_frames))
        seen = self._add_frames(draft, document, kept) if kept else None
        heard = self._add_audio(draft, document) if self.hears else None
        texts = {SPEECH: document.speech, OCR: document.ocr, METADATA: document.metadata}
        for modality, prefix in PREFIXES.items():
            used = len(draft.ids) + len(self._close)
            room = min(self.limits.max_text_tokens, self.limits.max_tokens - used)
            if texts[modality].strip():
                ids, spans = self._text(prefix, texts[modality], room)
                draft.add(ids, modality, spans)
        draft.add(self._close)
        return draft.turn(kept, seen, heard)

    def _add_frames(self, draft: _Draft, document: Document, kept: Sequence[int]) -> Patches:
        images = [read_picture(document.frames[i]) for i in kept]
        made = patches(images, self.shape, self.limits.max_pixels)
        t, h, w = made.grid
        rows, columns = h // self.shape.merge, w // self.shape.merge
        time = np.floor(np.arange(t) * self._pace).astype(np.int64)
        grid = np.meshgrid(time, np.arange(rows), np.arange(columns), indexing="ij")
        positions = np.stack(grid).reshape(3, -1).astype(np.int64)
        pad = self.mark(self.dialect.frames_pad)
        draft.add([*self._ids(self.dialect.frames_lead), self.mark(self.dialect.frames_open)])
        draft.add([pad] * (t * rows * columns), FRAMES, positions=positions)
        draft.add([self.mark(self.dialect.frames_close)])
        return made

    def _add_audio(self, draft: _Draft, document: Document) -> NDArray[np.float32] | None:
        if document.audio is None:
            return None
        n_samples = int(self.limits.max_audio_s * RATE_HZ)
        mel = mel_frames(document.audio[:n_samples], self._n_mels)
        if mel is None:
            return None
        pad = self.mark(self.dialect.audio_pad)
        draft.add([*self._ids(self.dialect.audio_lead), self.mark(self.dialect.audio_open)])
        draft.add([pad] * n_audio_tokens(mel.shape[1]), AUDIO)
        draft.add([self.mark(self.dialect.audio_close)])
        return mel

    def _text(self, prefix: str, text: str, room: int) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of ``prefix + text`` and their characters of ``text``, at most ``room``."""
        encoding = self._tokenizer.encode(prefix + _sound(text), add_special_tokens=False)
        start = len(prefix)
        spans = [(max(a - start, 0), max(b - start, 0)) for a, b in encoding.offsets]
        return encoding.ids[: max(room, 0)], spans[: max(room, 0)]

    def _turn(self, role: str, text: str) -> list[int]:
        d = self.dialect
        ids = self._ids(f"{role}\n{text}")
        return [self.mark(d.turn_open), *ids, self.mark(d.turn_close), *self._ids("\n")]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(_sound(text), add_special_tokens=False).ids
        return ids

    def save_tokenizer(self, path: Path) -> None:
        """Write the tokenizer as it was read."""
        self._tokenizer.save(str(path))


def _sound(text: str) -> str:
    """A lone surrogate is no text: it becomes a question mark, and offsets stay as they are."""
    return text.encode("utf-8", "replace").decode("utf-8")
