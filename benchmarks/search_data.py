"""Corpora of any size for ``search``: real tokens, then slightly disturbed copies of them.

Copy 0 is the real thing. In every further copy the tokens of a passage and modality share one piece of
noise and each has one of its own (lengths as in :mod:`benchmarks.grown`). Videos are made one at a
time, each from nothing but its number and the seed, and read back from a file block by block: no more than a
block is ever in memory.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.grown import OF_TOKEN, OF_VIDEO
from benchmarks.search_base import Array, Base, Numbers
from benchmarks.search_corpus import N_METADATA, Corpus, corpus_files

Halves = NDArray[np.float16]

_POOL_ROWS = 1 << 17
_SHARED_ROWS = 1 << 12
_VERSION = 4


@dataclass(frozen=True, slots=True)
class Made:
    """One video: ``vectors`` ``(n, dim)`` float16 in the order of its passages and cells;
    ``metadata`` ``(N_METADATA, dim)`` float16."""

    vectors: Halves
    metadata: Halves


class Grown:
    """The endless sequence of videos; the same for the same base and seed."""

    def __init__(self, base: Base, seed: int = 0) -> None:
        self._base = base
        self._seed = seed
        rng = np.random.default_rng(seed)
        dim = base.vectors.shape[1]
        # Rows are drawn once: drawing anew for every token would take longer than all the rest.
        self._own = rng.normal(0, OF_TOKEN / dim**0.5, (_POOL_ROWS, dim)).astype(np.float32)
        self._shared = rng.normal(0, OF_VIDEO / dim**0.5, (_SHARED_ROWS, dim)).astype(np.float32)
        self._starts = base.cells[base.passages[base.videos]]
        self._room = np.empty((int(base.video_tokens.max()), dim), np.float32)
        state = hashlib.sha256(base.vectors.tobytes())
        for part in (base.cells, base.passages, base.videos, base.pieces):
            state.update(part.tobytes())
        state.update(f"{seed} {OF_TOKEN} {OF_VIDEO} {_VERSION}".encode())
        self.key = state.hexdigest()[:12]
        """The same text for the same videos."""

    def video(self, number: int) -> Made:
        """Video ``number`` of the sequence, which needs none of the videos before it."""
        copy, source = divmod(number, self._base.n_videos)
        first, last = self._starts[source], self._starts[source + 1]
        vectors = self._base.vectors[first:last]
        rng = np.random.default_rng((self._seed, number))
        metadata = self._disturbed(vectors[:N_METADATA], np.array([0, N_METADATA]), rng)
        if not copy:
            return Made(vectors.astype(np.float16), metadata)
        return Made(self._disturbed(vectors, self._cells(source), rng), metadata)

    def _cells(self, source: int) -> Numbers:
        base = self._base
        cells = base.passages[base.videos[[source, source + 1]]]
        own: Numbers = base.cells[cells[0] : cells[1] + 1] - self._starts[source]
        return own

    def _disturbed(self, vectors: Array, cells: Numbers, rng: np.random.Generator) -> Halves:
        """``vectors`` with noise, of unit length again, as float16. A video takes a stretch of the
        pool that begins anywhere, so that copies of a token have nothing in common but by chance."""
        start = int(rng.integers(_POOL_ROWS - len(vectors)))
        shared = self._shared[rng.integers(_SHARED_ROWS, size=len(cells) - 1)]
        made = np.empty(vectors.shape, np.float16)
        for noise, first, last in zip(shared, cells[:-1].tolist(), cells[1:].tolist(), strict=True):
            rows = self._room[: last - first]
            np.add(self._own[start + first : start + last], noise, out=rows)
            rows += vectors[first:last]
            rows *= 1 / np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
            to_halves(rows, made[first:last])
        return made


def to_halves(rows: Array, out: Halves) -> None:
    """Round ``rows``, of values between -2 and 2, to the nearest float16 (halves away from zero), twice
    as fast as NumPy does where it was built for any processor. ``rows`` is used up."""
    rows *= np.float32(2.0**-112)  # the exponent of a float16, where a float32 has its own
    bits = rows.view(np.uint32)
    sign = (bits >> 16).astype(np.uint16)
    sign &= 0x8000
    bits += 0x1000
    bits >>= 13
    magnitude = bits.astype(np.uint16)
    magnitude &= 0x7FFF
    np.bitwise_or(sign, magnitude, out=out.view(np.uint16))


def write_corpus(grown: Grown, base: Base, n_tokens: int, folder: Path, first: int = 0) -> Corpus:
    """Videos from number ``first`` on with at least ``n_tokens`` tokens (by less than one video more),
    metadata not counted, as files in ``folder``; kept as they are if they were written before."""
    wanted = {"key": grown.key, "n_tokens": n_tokens, "first": first}
    mark = folder / "written.json"
    if mark.exists() and json.loads(mark.read_text(encoding="ascii")) == wanted:
        return Corpus(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.unlink(missing_ok=True)
    last = first + count_videos(base, n_tokens, first)
    files = corpus_files(folder)
    with files.tokens.open("wb") as tokens, files.metadata.open("wb") as metadata:
        for number in range(first, last):
            made = grown.video(number)
            made.vectors.tofile(tokens)
            made.metadata.tofile(metadata)
    np.savez(files.layout, allow_pickle=False, **_layout(base, first, last))
    mark.write_text(json.dumps(wanted), encoding="ascii")
    return Corpus(folder)


def count_videos(base: Base, n_tokens: int, first: int = 0) -> int:
    """How many videos, from number ``first`` on, it takes to have at least ``n_tokens`` tokens."""
    ends = np.cumsum(np.roll(base.video_tokens, -first))
    copies, rest = divmod(n_tokens, int(ends[-1]))
    return copies * base.n_videos + (int(np.searchsorted(ends, rest)) + 1 if rest else 0)


def _layout(base: Base, first: int, last: int) -> dict[str, NDArray[Any]]:
    """What belongs to what, for videos ``first : last`` (see :class:`Corpus`)."""
    lead = first % base.n_videos
    copies = -(-(lead + last - first) // base.n_videos)
    videos = np.array([lead, lead + last - first])
    ends = {"videos": videos}
    ends["passages"] = _boundaries(base.videos, copies)[videos]
    ends["cells"] = _boundaries(base.passages, copies)[ends["passages"]]
    layout: dict[str, NDArray[Any]] = {}
    for name, boundaries in (
        ("videos", base.videos),
        ("passages", base.passages),
        ("cells", base.cells),
    ):
        begin, end = ends[name]
        mine = _boundaries(boundaries, copies)[begin : end + 1]
        layout[name] = mine - mine[0]
    begin, end = ends["cells"]
    layout["modality"] = np.tile(base.modality, copies)[begin:end]
    layout["dim"] = np.array(base.vectors.shape[1])
    layout["pieces"] = np.roll(base.pieces, -_boundaries(base.cells, copies)[begin])
    return layout


def _boundaries(boundaries: Numbers, copies: int) -> Numbers:
    """``boundaries`` of one copy continued over several."""
    return np.concatenate([[0], np.cumsum(np.tile(np.diff(boundaries), copies))])
