"""Indexes of any size with real tokens: the videos of an index, over and over, slightly disturbed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmretrieve.datatypes import Modality, Passage, TokenEmbeddings
from mmretrieve.storage.folder import read_manifest, write_manifest
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import FileRecord, VideoEntry, VideoRecord
from mmretrieve.storage.writer import IndexWriter

OF_VIDEO, OF_TOKEN = 0.15, 0.15
"""Length of the noise that the tokens of a copy share, and of each token's own (tokens have 1)."""
_BATCH = 64

Part = tuple[Passage, TokenEmbeddings]


def grow(source: Path, folder: Path, n_tokens: int, seed: int = 0) -> None:
    """Write an index of at least ``n_tokens`` tokens (by less than one video more) from ``source``.

    Raises:
        ValueError: the source has no tokens.
    """
    manifest = read_manifest(source)
    videos = list(contents(Snapshot(source, manifest)))
    if not videos:
        raise ValueError(f"{source.name} holds no tokens: index some videos into it first")
    write_manifest(folder, manifest)
    rng = np.random.default_rng(seed)
    entries: list[VideoEntry] = []
    total = number = 0
    with IndexWriter(folder, manifest) as writer:
        while total < n_tokens:
            video, parts = videos[number % len(videos)]
            entries.append(copy_of(video, parts, number, rng))
            total += sum(len(tokens.vectors) for _, tokens in parts)
            number += 1
            if len(entries) == _BATCH or total >= n_tokens:
                writer.commit(entries, [file_of(e.video) for e in entries])
                entries = []
        writer.optimize()


def contents(snapshot: Snapshot) -> Iterator[tuple[VideoRecord, list[Part]]]:
    """Every video that has tokens, with all of them."""
    stored = snapshot.library
    cells, vectors = stored.cells, stored.vectors
    for number, video in enumerate(snapshot.videos):
        parts = []
        mine = np.flatnonzero(cells.video == number)
        details = snapshot.cells.details(cells.row[mine])
        for cell, detail in zip(mine.tolist(), details, strict=True):
            own = vectors[cells.offsets[cell] : cells.offsets[cell + 1]]
            tokens = TokenEmbeddings(own, detail.token_segment, detail.char_start, detail.char_end)
            parts.append((detail.passage, tokens))
        if parts:
            yield video, parts


def copy_of(
    video: VideoRecord, parts: list[Part], number: int, rng: np.random.Generator
) -> VideoEntry:
    """The video again under another id, its tokens disturbed."""
    dim = parts[0][1].vectors.shape[1]
    shared = {m: rng.normal(0, OF_VIDEO / dim**0.5, dim) for m in Modality}
    made = []
    for passage, tokens in parts:
        noise = rng.normal(0, OF_TOKEN / dim**0.5, tokens.vectors.shape)
        vectors = tokens.vectors + shared[passage.modality] + noise
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        made.append((passage, replace(tokens, vectors=vectors.astype(np.float32))))
    path = f"/grown/{number:06}.mp4"
    new = replace(video, video_id=f"{number:032x}", revision=uuid.uuid4().hex, path=path)
    return VideoEntry(new, tuple(made), ())


def file_of(video: VideoRecord) -> FileRecord:
    """The note about the file of such a copy."""
    return FileRecord(video.path, 0, 0, "", video.settings_key, video.video_id)
