"""A corpus on disk, read block by block or mapped into memory. Needs NumPy alone: engines that are
compared run in environments of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Halves = NDArray[np.float16]

N_METADATA = 8
"""Tokens that are known about each video besides those of its passages."""
METADATA = 3
"""The number of this modality (``MODALITIES`` cannot be asked here; a test compares the two)."""
BLOCK_VIDEOS = 64


@dataclass(frozen=True, slots=True)
class Files:
    """Where a corpus lies."""

    tokens: Path
    metadata: Path
    layout: Path


def corpus_files(folder: Path) -> Files:
    """The files of a corpus in ``folder``."""
    return Files(folder / "tokens.f16", folder / "metadata.f16", folder / "layout.npz")


@dataclass(frozen=True, slots=True)
class Block:
    """Videos ``first_video : first_video + n_videos``, whole.

    ``vectors`` ``(n, dim)`` float16, in the order of (video, passage, modality); cell ``i`` owns rows
    ``cells[i] : cells[i + 1]``, is of ``modality[i]``, and belongs to ``passage[i]`` and ``video[i]``
    (numbers in the whole corpus). ``metadata`` ``(n_videos, N_METADATA, dim)`` float16 is the
    cell of the passage without time of each video; of no rows where the corpus is ``merged``.
    """

    first_video: int
    vectors: Halves
    cells: Numbers
    modality: NDArray[np.uint8]
    passage: Numbers
    video: Numbers
    metadata: Halves


class Corpus:
    """A corpus in ``folder``: its passages in numbers, its tokens mapped into memory.

    Cell ``i`` owns tokens ``cells[i] : cells[i + 1]`` and is of ``modality[i]``; passage ``p`` owns
    cells ``passages[p] : passages[p + 1]``, video ``v`` passages ``videos[v] : videos[v + 1]``.
    ``pieces`` are word-piece ids of the tokens of one copy, after which they begin again. ``merged``: each
    passage is one cell, and there is no metadata: the task of engines that know of neither.
    """

    def __init__(self, folder: Path, merged: bool = False) -> None:
        files = corpus_files(folder)
        with np.load(files.layout) as layout:
            parts: dict[str, NDArray[Any]] = {name: layout[name] for name in layout}
        self.folder = folder
        self.merged = merged
        self.dim = int(parts["dim"])
        self.cells: Numbers = parts["cells"].astype(np.int64)
        self.passages: Numbers = parts["passages"].astype(np.int64)
        self.videos: Numbers = parts["videos"].astype(np.int64)
        self.modality: NDArray[np.uint8] = parts["modality"].astype(np.uint8)
        self._pieces: Numbers = parts["pieces"].astype(np.int64)
        if merged:
            self.cells = self.cells[self.passages]
            self.passages = np.arange(len(self.passages), dtype=np.int64)
            self.modality = np.full(len(self.cells) - 1, 2, np.uint8)
        shape = (self.n_tokens, self.dim)
        self.vectors: Halves = np.memmap(files.tokens, np.float16, "r", shape=shape)
        named = (self.n_videos, N_METADATA, self.dim)
        everything: Halves = np.memmap(files.metadata, np.float16, "r", shape=named)
        self.metadata = everything[:, :0] if merged else everything

    @property
    def n_tokens(self) -> int:
        """Tokens of passages; metadata not counted."""
        return int(self.cells[-1])

    @property
    def n_passages(self) -> int:
        return len(self.passages) - 1

    @property
    def n_videos(self) -> int:
        return len(self.videos) - 1

    @property
    def offsets(self) -> Numbers:
        """``(n_passages + 1,)``: passage ``p`` owns tokens ``offsets[p] : offsets[p + 1]``."""
        return self.cells[self.passages]

    @property
    def video_of_passage(self) -> Numbers:
        """``(n_passages,)`` number of the video."""
        return np.repeat(np.arange(self.n_videos), np.diff(self.videos))

    @property
    def pieces(self) -> Numbers:
        """``(n_tokens,)`` ids of word pieces."""
        return np.resize(self._pieces, self.n_tokens)

    def block(self, first: int, last: int) -> Block:
        """Videos ``first : last``."""
        passages = self.videos[[first, last]]
        cells = self.passages[passages]
        tokens = self.cells[cells]
        passage = np.repeat(
            np.arange(passages[0], passages[1]),
            np.diff(self.passages[passages[0] : passages[1] + 1]),
        )
        return Block(
            first,
            np.asarray(self.vectors[tokens[0] : tokens[1]]),
            self.cells[cells[0] : cells[1] + 1] - tokens[0],
            self.modality[cells[0] : cells[1]],
            passage,
            np.searchsorted(self.videos, passage, side="right") - 1,
            np.asarray(self.metadata[first:last]),
        )

    def blocks(self, n_videos: int = BLOCK_VIDEOS) -> Iterator[Block]:
        """All videos in order, ``n_videos`` at a time."""
        for first in range(0, self.n_videos, n_videos):
            yield self.block(first, min(first + n_videos, self.n_videos))

    def kept(self, share: float, seed: int = 0) -> NDArray[np.bool_]:
        """``(n_videos,)``: a random choice of ``share`` of the videos, at least two."""
        keep = np.zeros(self.n_videos, bool)
        n = min(self.n_videos, max(2, round(share * self.n_videos)))
        keep[np.random.default_rng(seed).permutation(self.n_videos)[:n]] = True
        return keep
