"""Text token embeddings: bge-small-en-v1.5 (int8 ONNX), projected to a shared token space.

Conventions of the space, for queries and documents alike: no prefix, at most 512 word pieces in one
context, the special tokens [CLS] and [SEP] take part in the context but are not kept as tokens, a
token is ``normalise(hidden @ projection)``. One text a run: the graph quantises activations with one
scale for the whole batch, so a batch would make an embedding depend on its neighbours.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.encoders.weights import weight_path

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

MAX_PIECES = 512
_SPECIAL = 2


@dataclass(frozen=True, slots=True)
class EncodedText:
    """``vectors``: ``(n_tokens, dim)`` float32, rows of unit length; ``offsets``: ``(n_tokens, 2)``
    int32, start and end of each token in the text, in characters."""

    vectors: NDArray[np.float32]
    offsets: NDArray[np.int32]


class TextEncoder:
    """Token embeddings of English text. Thread-safe; weights are read at the first use."""

    dim = 128

    def __init__(self, threads: int = 1) -> None:
        """``threads``: threads of one run."""
        self._threads = threads
        self._lock = threading.Lock()
        self._session: Any = None
        self._tokenizer: Tokenizer | None = None
        self._projection: NDArray[np.float32] | None = None

    def encode(self, text: str) -> EncodedText:
        """Embed one text of any length; what exceeds one context goes to further contexts.

        The result for a text never depends on anything but the text.
        """
        encoding = self.tokenize(text)
        step = MAX_PIECES - _SPECIAL
        windows = [encoding.ids[i : i + step] for i in range(0, len(encoding.ids), step)]
        parts = [self.project(self.hidden(ids)) for ids in windows]
        vectors = np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)
        offsets = np.asarray(encoding.offsets, np.int32).reshape(-1, 2)
        return EncodedText(vectors, offsets)

    def hidden(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """``(n_pieces, 384)`` float32: hidden states of word pieces (without special tokens)."""
        self._load()
        assert self._tokenizer is not None
        cls, sep = self._tokenizer.token_to_id("[CLS]"), self._tokenizer.token_to_id("[SEP]")
        row = np.array([[cls, *ids, sep]], np.int64)
        feeds = {
            "input_ids": row,
            "attention_mask": np.ones_like(row),
            "token_type_ids": np.zeros_like(row),
        }
        return np.asarray(self._session.run(None, feeds)[0][0, 1:-1], np.float32)

    def tokenize(self, text: str) -> Encoding:
        """Word pieces of a text with their character offsets, without special tokens."""
        self._load()
        assert self._tokenizer is not None
        # A lone surrogate is no text: it becomes a question mark, and offsets stay as they are.
        sound = text.encode("utf-8", "replace").decode("utf-8")
        return self._tokenizer.encode(sound, add_special_tokens=False)

    def project(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(n_pieces, 384)`` hidden states to ``(n_pieces, dim)`` tokens of unit length."""
        if self._projection is None:
            from safetensors.numpy import load_file

            self._projection = load_file(weight_path("text_projection.safetensors"))["projection"]
        return normalise(hidden @ self._projection)

    def _load(self) -> None:
        with self._lock:
            if self._session is not None:
                return
            from tokenizers import Tokenizer

            from mmretrieve.encoders.onnx import open_session

            self._tokenizer = Tokenizer.from_file(str(weight_path("bge_tokenizer.json")))
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            self._session = open_session(weight_path("bge_small_en_v1.5_int8.onnx"), self._threads)


def normalise(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to unit length; a zero row stays zero."""
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (rows / np.maximum(norm, 1e-12)).astype(np.float32)
    return unit
