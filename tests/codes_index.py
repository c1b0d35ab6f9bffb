"""Small indexes with known tokens, for tests of the codes made from them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmretrieve.datatypes import (
    METADATA_PASSAGE,
    MODALITIES,
    Modality,
    Passage,
    Probe,
    Segment,
    TokenEmbeddings,
)
from mmretrieve.kernels.plain import PlainKernels, unpack
from mmretrieve.storage.codes import segment as segments
from mmretrieve.storage.codes.build import tail_segment
from mmretrieve.storage.codes.policy import Limits
from mmretrieve.storage.codes.reading import CodeSet, open_codes, verify
from mmretrieve.storage.codes.update import Report, update
from mmretrieve.storage.folder import Manifest, write_manifest
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import VideoEntry, VideoRecord
from mmretrieve.storage.tables import open_table
from mmretrieve.storage.writer import IndexWriter

KERNELS = PlainKernels()
SPACES = {m.value: "picture" if m is Modality.FRAMES else "text" for m in MODALITIES}
ONE_WIDTH = Manifest("lite", 32, {"text": "0" * 64}, SPACES, "")
TWO_WIDTHS = Manifest("lite", 48, {"text": "0" * 64}, SPACES, "", dims={"text": 32})
EXACT = Limits(exact_below=1 << 40, grace_s=0)
CODED = Limits(exact_below=1, lists_from=1 << 40, grace_s=0)

Key = tuple[str, int, Modality]
"""Revision, passage, modality."""


def unit_rows(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    rows = rng.normal(size=(n, width))
    unit: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def entry(
    video_id: str,
    rng: np.random.Generator,
    manifest: Manifest = ONE_WIDTH,
    n_passages: int = 4,
    n_tokens: int = 6,
    modalities: Collection[Modality] = MODALITIES,
) -> VideoEntry:
    """A video; some of its passages lack a modality, some cells have no token or one."""
    parts = []
    for number in (METADATA_PASSAGE, *range(n_passages)):
        timed = number != METADATA_PASSAGE
        for m in modalities:
            if (m is Modality.METADATA) is timed or (timed and number and rng.random() < 0.3):
                continue
            count = int(rng.integers(0, n_tokens + 1)) if number else n_tokens
            parts.append(part(number, m, unit_rows(rng, count, manifest.width(m))))
    return of_parts(video_id, parts)


def part(number: int, modality: Modality, rows: np.ndarray) -> tuple[Passage, TokenEmbeddings]:
    timed = number != METADATA_PASSAGE
    start_s, end_s = (10.0 * number, 10.0 * number + 9) if timed else (None, None)
    passage = Passage(number, modality, start_s, end_s, (Segment("x", start_s, end_s),), "test")
    index = np.zeros(len(rows), np.int32)
    return passage, TokenEmbeddings(rows, index, index, index)


def of_parts(video_id: str, parts: Sequence[tuple[Passage, TokenEmbeddings]]) -> VideoEntry:
    video = VideoRecord(
        video_id, uuid.uuid4().hex, f"/v/{video_id}.mp4", "title", 10.0, Probe(20.0, "mp4", 1)
    )
    return VideoEntry(video, tuple(parts), ())


def library(
    folder: Path, n_videos: int, manifest: Manifest = ONE_WIDTH, seed: int = 0, **how: Any
) -> list[VideoEntry]:
    """A new index in ``folder``, and what was written to it."""
    rng = np.random.default_rng(seed)
    write_manifest(folder, manifest)
    names = [f"{n:04}" for n in rng.permutation(n_videos)]
    entries = [entry(name, rng, manifest, **how) for name in names]
    commit(folder, entries, manifest)
    return entries


def commit(folder: Path, entries: Iterable[VideoEntry], manifest: Manifest = ONE_WIDTH) -> None:
    with IndexWriter(folder, manifest) as writer:
        writer.commit(list(entries), [])
        writer.optimize()


def upkeep(folder: Path, limits: Limits, manifest: Manifest = ONE_WIDTH) -> Report:
    return update(folder, manifest, KERNELS, limits)


def live(folder: Path, manifest: Manifest = ONE_WIDTH) -> dict[str, str]:
    """Revision -> video id."""
    return {v.revision: v.video_id for v in Snapshot(folder, manifest).videos}


def opened(folder: Path, manifest: Manifest = ONE_WIDTH) -> CodeSet:
    return open_codes(folder, manifest, live(folder, manifest))


def expected(entries: Iterable[VideoEntry]) -> dict[Key, np.ndarray]:
    """Every cell of some videos with its tokens as the tables keep them."""
    return {
        (e.video.revision, passage.number, passage.modality): tokens.vectors.astype(np.float16)
        for e in entries
        for passage, tokens in e.passages
    }


def cells(segment: segments.Segment, alive: np.ndarray | None = None) -> Iterator[tuple[Key, int]]:
    """Every cell of the living videos, and its number."""
    layout = segment.layout
    for v in range(layout.n_videos):
        if alive is not None and not alive[v]:
            continue
        for p in range(layout.videos[v], layout.videos[v + 1]):
            for c in range(layout.passages[p], layout.passages[p + 1]):
                modality = MODALITIES[layout.modality[c]]
                yield (segment.revision[v].decode(), int(segment.number[p]), modality), c


def tokens_of(segment: segments.Segment, cell: int, width: int) -> np.ndarray:
    """What the tokens of a cell stand for, ``(n, width)``."""
    m, begin = int(segment.layout.modality[cell]), int(segment.layout.begin[cell])
    mine = slice(begin, begin + int(segment.layout.count[cell]))
    tokens, codes, book = segment.tokens[m], segment.codes[m], segment.books[m]
    if tokens is not None:
        return (tokens.values[mine] * tokens.scales[mine, None])[:, :width]
    if codes is None or book is None or mine.start == mine.stop:
        return np.zeros((0, width), np.float32)
    near = book.centroids.values[codes.centroid[mine]] * np.float32(1)
    near *= book.centroids.scales[codes.centroid[mine], None]
    return (near + book.levels[unpack(codes.residual[mine])] * book.spread)[:, :width]


def contents(codes: CodeSet, manifest: Manifest = ONE_WIDTH) -> dict[Key, np.ndarray]:
    """Every living cell with what its tokens stand for; no cell may be there twice."""
    out: dict[Key, np.ndarray] = {}
    for segment, alive in zip(codes.segments, codes.alive, strict=True):
        for key, cell in cells(segment, alive):
            assert key not in out
            out[key] = tokens_of(segment, cell, manifest.width(key[2]))
    return out


def assert_same(
    found: Mapping[Key, np.ndarray], wanted: Mapping[Key, np.ndarray], within: float
) -> None:
    """Just these cells, and every number of every token to ``within``."""
    assert found.keys() == wanted.keys()
    for key, tokens in wanted.items():
        assert found[key].shape == (len(tokens), found[key].shape[1])
        if len(tokens):
            assert np.abs(found[key] - tokens.astype(np.float32)).max() <= within


def assert_right(folder: Path, entries: list[VideoEntry]) -> CodeSet:
    """All cells of what is covered and of the tail together are those of the live videos; near them."""
    codes = opened(folder)
    table = open_table(folder, "passages")
    tail = tail_segment(table, codes.uncovered, ONE_WIDTH, KERNELS)
    found = contents(codes)
    assert not found.keys() & {key for key, _ in cells(tail)}
    found |= {key: tokens_of(tail, cell, 32) for key, cell in cells(tail)}
    assert_same(found, expected(entries), 0.6)
    near = [
        float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
        for key, tokens in expected(entries).items()
        for a, b in zip(found[key], tokens.astype(np.float32), strict=True)
    ]
    assert np.mean(near) > 0.9
    return codes


def assert_mended(folder: Path, entries: list[VideoEntry], limits: Limits) -> None:
    upkeep(folder, limits)
    codes = assert_right(folder, entries)
    assert (codes.uncovered, codes.notes) == (frozenset(), ())
    assert codes.samples is not None
    assert verify(folder, ONE_WIDTH) == ()
