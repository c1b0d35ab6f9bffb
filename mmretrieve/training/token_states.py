"""Tokens of texts before their projection, made once and kept: what a projection is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmretrieve.encoders.lite import LiteEncoder
from mmretrieve.encoders.text import TextEncoder, normalise

HIDDEN = 384
_ROWS_AT_ONCE = 50_000

Floats = NDArray[np.float32]


class HiddenText(TextEncoder):
    """The text encoder without its projection: tokens are hidden states, ``(n, 384)``."""

    dim = HIDDEN

    def project(self, hidden: Floats) -> Floats:
        """The states themselves."""
        return hidden


def hidden_encoder() -> LiteEncoder:
    """The lite encoder, contexts and punctuation as ever, whose text tokens are hidden states."""
    return LiteEncoder(text=HiddenText())


@dataclass(frozen=True, slots=True)
class States:
    """Hidden states of many texts end to end: ``vectors (n, 384)`` float16; text i has the rows
    ``[starts[i], starts[i + 1])``."""

    vectors: NDArray[np.float16]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """``(n_texts,)``: tokens of each."""
        return np.diff(self.starts)

    def of(self, text: int) -> NDArray[np.float16]:
        """``(n_tokens, 384)``: the states of one text."""
        return self.vectors[self.starts[text] : self.starts[text + 1]]

    def projected(self, projection: Floats) -> Floats:
        """``(n, dim)`` unit tokens under a ``(384, dim)`` projection."""
        steps = range(0, len(self.vectors), _ROWS_AT_ONCE)
        parts = [
            normalise(self.vectors[i : i + _ROWS_AT_ONCE].astype(np.float32) @ projection)
            for i in steps
        ]
        return np.concatenate([np.empty((0, projection.shape[1]), np.float32), *parts])


def kept(file: Path, make: Callable[[], Iterable[Floats]]) -> States:
    """The states in ``file``, which is made first where there is none. Delete it when texts change."""
    if not file.is_file():
        rows = [np.asarray(r, np.float16).reshape(-1, HIDDEN) for r in make()]
        starts = np.cumsum([0, *map(len, rows)]).astype(np.int64)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, vectors=np.concatenate(rows), starts=starts)
    with np.load(file) as stored:
        return States(stored["vectors"], stored["starts"])
