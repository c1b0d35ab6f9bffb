"""Text token embeddings: bge-small-en-v1.5 (int8 ONNX), projected to a shared token space.

Conventions of the space, for queries and documents alike: no prefix, at most 512 word pieces in one
context, the special tokens [CLS] and [SEP] take part in the context but are not kept as tokens, a
token is ``normalise(hidden @ projection)``. One text a run: the graph quantises activations with one
scale for the whole batch, so a batch would make an embedding depend on its neighbours.

Texts that belong together are read twice (:meth:`TextEncoder.in_contexts`): line by line, as short as a
query, where a word means what its line says; and all of them at once, where it means what they
are about. The hidden state of a token is a mean of both, which finds more than either
(``python -m benchmarks text``).
"""

from __future__ import annotations

import hashlib
import itertools
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.encoders.weights import weight_path

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

MAX_PIECES = 512
WIDE = 0.7
"""Share of the wide context in a token of a document, the rest is that of its line."""

MIN_LINE_PIECES = 10
"""A line with fewer word pieces is read with the next."""

RECIPE = "text contexts"
"""Name of :func:`recipe` among fingerprints."""

_HIDDEN = 384
_SPECIAL = 2
_FITTING = MAX_PIECES - _SPECIAL
_LINE_ENDS = re.compile(r"\n|(?<=[.!?])\s")


@dataclass(frozen=True, slots=True)
class EncodedText:
    """``vectors``: ``(n_tokens, dim)`` float32, rows of unit length; ``offsets``: ``(n_tokens, 2)``
    int32, start and end of each token in the text, in characters."""

    vectors: NDArray[np.float32]
    offsets: NDArray[np.int32]


class TextEncoder:
    """Token embeddings of English text. Thread-safe; weights are read at the first use."""

    dim = 128

    def __init__(self, threads: int = 1, wide: float = WIDE) -> None:
        """``threads``: threads of one run; ``wide``: share of the wide context, 0 to 1."""
        self._threads = threads
        self._wide = wide
        self._lock = threading.Lock()
        self._session: Any = None
        self._tokenizer: Tokenizer | None = None
        self._projection: NDArray[np.float32] | None = None

    def encode(self, text: str) -> EncodedText:
        """Embed one text of any length in one context; what exceeds it goes to further contexts.

        The result for a text never depends on anything but the text.
        """
        encoding = self.tokenize(text)
        return EncodedText(self.project(self._states(encoding.ids)), _offsets(encoding))

    def in_contexts(self, texts: Sequence[str]) -> list[EncodedText]:
        """Embed texts that belong together, each token in its line and in all the texts, or in its
        own text where all of them are too long for one context.

        The result never depends on anything but the texts and their order.
        """
        encodings = [self.tokenize(text) for text in texts]
        lengths = [len(encoding.ids) for encoding in encodings]
        shared = len(texts) > 1 and sum(lengths) <= _FITTING
        if not shared:
            wide = [self._states(encoding.ids) for encoding in encodings]
        else:
            every = self._states([i for encoding in encodings for i in encoding.ids])
            ends = np.cumsum([0, *lengths])
            wide = [every[a:b] for a, b in itertools.pairwise(ends)]
        out = []
        for text, encoding, states in zip(texts, encodings, wide, strict=True):
            offsets = _offsets(encoding)
            lines = list(_lines(text, offsets))
            if shared or len(lines) > 1:  # else a line is all that there is to read
                near = np.concatenate([self._states(encoding.ids[line]) for line in lines])
                states = (self._wide * states + (1 - self._wide) * near).astype(np.float32)
            out.append(EncodedText(self.project(states), offsets))
        return out

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

    def _states(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """``(n_pieces, 384)`` for any number of pieces."""
        windows = [ids[i : i + _FITTING] for i in range(0, len(ids), _FITTING)]
        nothing = np.empty((0, _HIDDEN), np.float32)
        return np.concatenate([nothing, *(self.hidden(window) for window in windows)])

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


def recipe() -> str:
    """sha256 of what decides a token of a document besides weights."""
    rule = f"{WIDE} {MIN_LINE_PIECES} {_LINE_ENDS.pattern}"
    return hashlib.sha256(rule.encode()).hexdigest()


def _offsets(encoding: Encoding) -> NDArray[np.int32]:
    return np.asarray(encoding.offsets, np.int32).reshape(-1, 2)


def _lines(text: str, offsets: NDArray[np.int32]) -> Iterator[slice]:
    """Lines and sentences of a text as ranges of its word pieces, without gaps; one for a text without
    any piece. A short one goes with the next, the last one stands as it is."""
    ends = np.searchsorted(offsets[:, 0], [match.end() for match in _LINE_ENDS.finditer(text)])
    start = 0
    for end in ends.tolist():
        if end - start >= MIN_LINE_PIECES and end < len(offsets):
            yield slice(start, end)
            start = end
    yield slice(start, len(offsets))


def normalise(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to unit length; a zero row stays zero."""
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (rows / np.maximum(norm, 1e-12)).astype(np.float32)
    return unit
