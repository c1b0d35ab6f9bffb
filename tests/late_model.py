"""A joint encoder small enough to train in a moment: a table of words and a projection.

A token is a word. Words are the same vector in every modality, until training moves the projection;
frames are pictures of one colour, whose mean colour goes through a fixed random layer."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmretrieve.models.protocol import MODALITIES, NO_MODALITY, Document, TokenBatch

WIDTH = 24
DIM = 16
_N_WORDS = 512


class WordModel(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """``custom_text_proj`` is what is trained in the mode ``head``."""

    def __init__(self, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.words = nn.Embedding(_N_WORDS, WIDTH)
        self.kinds = nn.Embedding(len(MODALITIES) + 1, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.custom_text_proj = nn.Linear(WIDTH, DIM)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def encode_queries(self, texts: Sequence[str]) -> TokenBatch:
        return self._tokens([[(NO_MODALITY, w) for w in _words(text)] for text in texts])

    def encode_documents(self, documents: Sequence[Document]) -> TokenBatch:
        return self._tokens([_content(document) for document in documents])

    def _tokens(self, rows: list[list[tuple[int, int]]]) -> TokenBatch:
        length = max(1, *map(len, rows))
        words = torch.zeros(len(rows), length, dtype=torch.int64)
        kinds = torch.full((len(rows), length), NO_MODALITY, dtype=torch.int64)
        mask = torch.zeros(len(rows), length, dtype=torch.bool)
        for i, row in enumerate(rows):
            for j, (kind, word) in enumerate(row, length - len(row)):
                words[i, j], kinds[i, j], mask[i, j] = word, kind, True
        hidden: Tensor = self.words(words) + 0.5 * self.kinds(kinds + 1)
        vectors = self.custom_text_proj(self.dropout(hidden))
        vectors = nn.functional.normalize(vectors, dim=-1).masked_fill(~mask[..., None], 0)
        return TokenBatch(vectors, mask, kinds)


def _words(text: str) -> list[int]:
    return [zlib.crc32(word.encode()) % _N_WORDS for word in re.findall(r"\w+", text.lower())]


def _content(document: Document) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for place, name in enumerate(MODALITIES):
        value: Any = getattr(document, name)
        if name == "frames":
            colours = [np.asarray(p).reshape(-1, 3).mean(axis=0).astype(int) for p in value]
            found += [(place, zlib.crc32(str(c.tolist()).encode()) % _N_WORDS) for c in colours]
        elif isinstance(value, str):
            found += [(place, word) for word in _words(value)]
    return found
