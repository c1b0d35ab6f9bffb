"""The texts that the corpora of ``search`` are grown from: token embeddings, and what belongs together.

Cranfield abstracts stand for text on screen; ActivityNet descriptions and recognised speech are a
passage each with two modalities. Passages about the same things are put together as the passages of one
video, so that a filter by video keeps neighbours in the vector space as it does in life.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.text_data import Collection, Document, abstracts, activitynet
from benchmarks.text_tokens import DIM, Reading, TokenCache, Tokens
from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.encoders.lite import is_mark
from mmretrieve.encoders.text import TextEncoder

Array = NDArray[np.float32]
Numbers = NDArray[np.int64]

PASSAGES_A_VIDEO = 8
QUERY_TOKENS = 32
N_QUERIES = 50


@dataclass(frozen=True, slots=True)
class Base:
    """Real tokens in the order of (video, passage, modality).

    ``vectors`` ``(n, dim)`` float32 as rounded to float16, ``pieces`` ``(n,)`` int64 word-piece ids;
    cell ``i`` owns tokens ``cells[i] : cells[i + 1]`` and is of ``modality[i]``; passage ``p`` owns
    cells ``passages[p] : passages[p + 1]``, video ``v`` passages ``videos[v] : videos[v + 1]``.
    """

    vectors: Array
    pieces: Numbers
    cells: Numbers
    modality: NDArray[np.uint8]
    passages: Numbers
    videos: Numbers

    @property
    def n_videos(self) -> int:
        return len(self.videos) - 1

    @property
    def video_tokens(self) -> Numbers:
        """``(n_videos,)`` tokens of each video."""
        return np.diff(self.cells[self.passages[self.videos]])


@dataclass(frozen=True, slots=True)
class _Passage:
    modalities: tuple[Modality, ...]
    tokens: tuple[Array, ...]
    pieces: tuple[Numbers, ...]

    @property
    def mean(self) -> Array:
        return np.asarray(np.concatenate(self.tokens).mean(axis=0), np.float32)


def load_base(data: Path, tokens: TokenCache, seed: int = 0) -> Base:
    """Both collections, videos in a random order."""
    encoder = TextEncoder()
    videos = []
    for collection in (abstracts(data, "cranfield"), activitynet(data)):
        made = tokens.documents(collection.name, collection.documents, Reading.SHIPPED)
        passages = [
            _passage(encoder, document, found)
            for document, found in zip(collection.documents, made, strict=True)
            if any(len(rows) for rows in found.values())
        ]
        order = by_topic(np.stack([p.mean for p in passages]))
        groups = np.split(order, np.arange(PASSAGES_A_VIDEO, len(order), PASSAGES_A_VIDEO))
        videos += [[passages[i] for i in group] for group in groups]
    shuffled = np.random.default_rng(seed).permutation(len(videos))
    return _base([videos[i] for i in shuffled])


def load_queries(data: Path, tokens: TokenCache) -> tuple[list[Array], list[Array]]:
    """``N_QUERIES`` queries of :data:`QUERY_TOKENS` tokens each, and as many as people wrote them.

    The former are whole queries of one collection one after the other, the last one cut: no token is
    made up or repeated, and all engines are asked the same. Half of them come from each collection.
    """
    even: list[Array] = []
    natural: list[Array] = []
    for collection in (abstracts(data, "cranfield"), activitynet(data)):
        asked = _spread(tokens.queries(collection.name, collection.queries), collection)
        natural += asked[: N_QUERIES // 2]
        even += joined(asked[N_QUERIES // 2 :], QUERY_TOKENS, N_QUERIES // 2)
    return even, natural


def joined(queries: Sequence[Array], n_tokens: int, n: int) -> list[Array]:
    """``n`` queries of exactly ``n_tokens`` tokens, each from the next of ``queries`` joined and cut.

    Raises:
        ValueError: too few queries.
    """
    left = iter(queries)
    made: list[Array] = []
    while len(made) < n:
        parts: list[Array] = []
        while sum(map(len, parts)) < n_tokens:
            part = next(left, None)
            if part is None:
                raise ValueError(f"expected tokens for {n} queries, got enough for {len(made)}")
            parts.append(part)
        made.append(np.concatenate(parts)[:n_tokens])
    return made


def by_topic(means: Array) -> Numbers:
    """An order of passages in which neighbours are about the same things: halved again and again
    across the direction in which they differ most."""

    def halve(members: Numbers) -> Iterator[Numbers]:
        if len(members) <= PASSAGES_A_VIDEO:
            yield members
            return
        centred = means[members] - means[members].mean(axis=0)
        _, vectors = np.linalg.eigh(centred.T @ centred)
        order = members[np.argsort(centred @ vectors[:, -1], kind="stable")]
        middle = len(order) // (2 * PASSAGES_A_VIDEO) * PASSAGES_A_VIDEO or PASSAGES_A_VIDEO
        yield from halve(order[:middle])
        yield from halve(order[middle:])

    return np.concatenate(list(halve(np.arange(len(means)))))


def _spread(queries: list[Array], collection: Collection) -> list[Array]:
    """Queries in a fixed random order: neighbours in a file often ask about one document."""
    order = np.random.default_rng(len(collection.queries)).permutation(len(queries))
    return [queries[i] for i in order]


def _passage(encoder: TextEncoder, document: Document, tokens: Tokens) -> _Passage:
    have = tuple(m for m in MODALITIES if len(tokens[m]))
    pieces = tuple(_pieces(encoder, document[m]) for m in have)
    for modality, ids in zip(have, pieces, strict=True):
        if len(ids) != len(tokens[modality]):
            raise AssertionError(f"{len(ids)} word pieces for {len(tokens[modality])} tokens")
    return _Passage(have, tuple(tokens[m] for m in have), pieces)


def _pieces(encoder: TextEncoder, text: str) -> Numbers:
    """Ids of the word pieces that have a vector: all but punctuation."""
    found = encoder.tokenize(text)
    return np.array(
        [i for i, (a, b) in zip(found.ids, found.offsets, strict=True) if not is_mark(text[a:b])],
        np.int64,
    )


def _base(videos: Sequence[Sequence[_Passage]]) -> Base:
    passages = [p for video in videos for p in video]
    cells = [part for p in passages for part in p.tokens]
    return Base(
        np.concatenate(cells).reshape(-1, DIM),
        np.concatenate([ids for p in passages for ids in p.pieces]),
        _ends([len(c) for c in cells]),
        np.array([MODALITIES.index(m) for p in passages for m in p.modalities], np.uint8),
        _ends([len(p.tokens) for p in passages]),
        _ends([len(video) for video in videos]),
    )


def _ends(lengths: Sequence[int]) -> Numbers:
    return np.cumsum([0, *lengths], dtype=np.int64)
