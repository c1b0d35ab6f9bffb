"""Token embeddings of texts by the shipped encoder, made once and kept."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.text_data import Document
from mmretrieve.datatypes import MODALITIES, Modality, Segment
from mmretrieve.encoders.lite import LiteEncoder
from mmretrieve.encoders.text import TextEncoder

Array = NDArray[np.float32]
Tokens = dict[Modality, Array]
DIM = LiteEncoder.dim

T = TypeVar("T")
R = TypeVar("R")
_QUERY = "query"


class Reading(StrEnum):
    """How the texts of a document are read: each modality on its own, all in one context, or as the
    indexer does, in one context and line by line."""

    APART = "apart"
    TOGETHER = "one context"
    SHIPPED = "one context and lines"


class TokenCache:
    """Encodes with ``processes`` niced processes and keeps the outcome in ``folder``."""

    def __init__(self, folder: Path, processes: int = 2) -> None:
        self._folder = folder
        self._processes = processes
        folder.mkdir(parents=True, exist_ok=True)

    def documents(self, name: str, documents: Sequence[Document], how: Reading) -> list[Tokens]:
        """Tokens by modality of each document. Rounded to float16 as in an index."""
        path = self._path(f"{name}-{how.name.lower()}", documents)
        if not path.exists():
            made = self._run(partial(_encode, how), documents)
            columns = {m: [one.get(m, _nothing()) for one in made] for m in MODALITIES}
            _write(path, {m.value: rows for m, rows in columns.items()})
        stored = {m: _read(path, m.value) for m in MODALITIES}
        return [{m: stored[m][i] for m in MODALITIES} for i in range(len(documents))]

    def queries(self, name: str, texts: Sequence[str]) -> list[Array]:
        """Tokens of each query."""
        path = self._path(f"{name}-queries", texts)
        if not path.exists():
            _write(path, {_QUERY: self._run(_encode_query, texts)})
        return _read(path, _QUERY)

    def _path(self, name: str, content: Sequence[Document] | Sequence[str]) -> Path:
        state = json.dumps([dict(LiteEncoder().fingerprints()), list(content)], sort_keys=True)
        return self._folder / f"{name}-{hashlib.sha256(state.encode()).hexdigest()[:12]}.npz"

    def _run(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self._processes, context, initializer=_start) as pool:
            return list(pool.map(work, items, chunksize=8))


def _start() -> None:
    os.nice(10)


@cache
def _lite(how: Reading) -> LiteEncoder:
    return LiteEncoder(text=TextEncoder(1) if how is Reading.SHIPPED else TextEncoder(1, wide=1.0))


def _encode(how: Reading, document: Document) -> Tokens:
    parts = {m: [Segment(text)] for m, text in document.items() if text.strip()}
    if how is Reading.APART:
        return {m: v for m, one in parts.items() for m, v in _tokens(how, {m: one}).items()}
    return _tokens(how, parts)


def _tokens(how: Reading, parts: Mapping[Modality, Sequence[Segment]]) -> Tokens:
    return {m: tokens.vectors for m, tokens in _lite(how).texts(parts).items()}


def _encode_query(text: str) -> Array:
    return _lite(Reading.SHIPPED).query(text).vectors["text"]


def _write(path: Path, columns: Mapping[str, Sequence[Array]]) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    for name, rows in columns.items():
        arrays[name] = np.concatenate([_nothing(), *rows])
        if name != _QUERY:
            arrays[name] = arrays[name].astype(np.float16)
        arrays[f"{name}_lengths"] = np.array([len(r) for r in rows], np.int64)
    temporary = path.with_suffix(f".{os.getpid()}.npz")
    np.savez(temporary, allow_pickle=False, **arrays)
    temporary.replace(path)


def _read(path: Path, name: str) -> list[Array]:
    with np.load(path) as stored:
        vectors = stored[name].astype(np.float32)
        ends = np.cumsum(stored[f"{name}_lengths"])
    return [np.asarray(part, np.float32) for part in np.split(vectors, ends[:-1])]


def _nothing() -> Array:
    return np.empty((0, DIM), np.float32)
