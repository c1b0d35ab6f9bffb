"""Token codes against the tables they were made from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES
from mmretrieve.errors import CodesError, IndexFormatError
from mmretrieve.health.findings import Finding, Part, note, warning
from mmretrieve.health.tables import Rows
from mmretrieve.kernels.plain import PlainKernels, unpack
from mmretrieve.storage.codes.catalogue import CODES, digest, read_catalogue
from mmretrieve.storage.codes.cells import fetch_vectors
from mmretrieve.storage.codes.policy import Limits
from mmretrieve.storage.codes.reading import Opened, open_all
from mmretrieve.storage.codes.segment import Segment
from mmretrieve.storage.folder import Manifest

REBUILD = "mmretrieve repair, or mmretrieve codes --rebuild"
EVERYTHING = 1 << 62
SAMPLE_CELLS = 256
_NEAR_CELL, _NEAR_ALL = 0.5, 0.8
"""Cosine of a coded cell's tokens to what they stand for, at least; and the mean over all cells."""
_BLOCK_CELLS = 64


def check_codes(
    folder: Path, manifest: Manifest, dataset: Any, rows: Rows, deep: bool
) -> Iterator[Finding | int]:
    """Findings about the codes, and after each block of cells the number of tokens compared. The codes
    are derived from the tables, so nothing found here means a loss."""
    codes = folder / CODES
    if not codes.is_dir():
        if rows.videos:
            yield note(Part.CODES, "there are none yet: searches read the tables", CODES,
                       "the next `mmretrieve index` makes them")  # fmt: skip
        return
    opened = open_all(codes, manifest, EVERYTHING)
    for fault in opened.faults:
        yield warning(Part.CODES, fault, CODES, REBUILD)
    yield from _folders(codes, opened)
    if dataset is None:
        return
    try:
        yield from _segments(dataset, manifest, opened, rows, deep)
    except (IndexFormatError, CodesError) as failure:
        yield warning(Part.CODES, str(failure), CODES, REBUILD)


def _folders(codes: Path, opened: Opened) -> Iterator[Finding]:
    try:
        catalogue = read_catalogue(codes)
    except CodesError:
        return  # told as a fault
    if catalogue != opened.catalogue:
        return  # a writer is at work: what is there is being changed
    now_s, grace_s = time.time(), Limits().grace_s
    waiting = {n for n, at in catalogue.retired.items() if now_s - at < grace_s}
    others = {p.name for p in codes.iterdir() if p.is_dir()} - catalogue.folders() - waiting
    for name in sorted(others):
        yield note(Part.CODES, "no part of the codes any more", f"{CODES}/{name}")


def _segments(
    dataset: Any, manifest: Manifest, opened: Opened, rows: Rows, deep: bool
) -> Iterator[Finding | int]:
    keys = {
        row["_rowid"]: (row["revision"], row["modality"], row["passage"])
        for row in dataset.to_table(
            ["revision", "modality", "passage"], with_row_id=True
        ).to_pylist()
    }
    covered: set[str] = set()
    for _, segment in opened.segments:
        names = [r.decode() for r in segment.revision.tolist()]
        alive = np.array([n in rows.videos and n not in covered for n in names], bool)
        covered |= {n for n, lives in zip(names, alive, strict=True) if lives}
        covered |= {r.decode() for r in segment.without_rows.tolist()} & rows.videos.keys()
        cells = _cells(segment, alive)
        told = _mismatch(segment, cells, keys, rows)
        if told:
            yield warning(Part.CODES, told, f"{CODES}/{segment.name}", REBUILD)
            continue
        yield from _tokens(dataset, manifest, segment, cells, deep)
    left = len(rows.videos.keys() - covered)
    if left:
        yield note(Part.CODES, f"{left} videos are searched without codes so far", CODES,
                   "the next `mmretrieve index` that changes something seals them")  # fmt: skip
    elif opened.samples is not None and opened.catalogue.sampled != digest(rows.videos):
        yield note(Part.CHANCE, "the samples for chance are of an earlier state", CODES,
                   "the next `mmretrieve index` that changes something draws them anew")  # fmt: skip


def _cells(segment: Segment, alive: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Numbers of the cells of living videos, in order."""
    layout = segment.layout
    mine = np.repeat(alive, np.diff(layout.passages[layout.videos]))
    return np.flatnonzero(mine).astype(np.int64)


def _mismatch(
    segment: Segment, cells: NDArray[np.int64], keys: dict[int, tuple[str, str, int]], rows: Rows
) -> str:
    """What of the layout is not so in the table."""
    layout = segment.layout
    passage = np.searchsorted(layout.passages, cells, side="right") - 1
    video = np.searchsorted(layout.videos, passage, side="right") - 1
    tokens: dict[tuple[str, str], int] = {}
    for c, p, v in zip(cells.tolist(), passage.tolist(), video.tolist(), strict=True):
        revision = segment.revision[v].decode()
        modality = MODALITIES[layout.modality[c]].value
        expected = (revision, modality, int(segment.number[p]))
        if keys.get(int(segment.row[c])) != expected:
            return f"cell {c} names a row that is not there, or another one ({expected})"
        tokens[revision, modality] = tokens.get((revision, modality), 0) + int(layout.count[c])
    for key, count in tokens.items():
        if rows.found[key] != count:
            return f"has {count} tokens of {key[1]} of a video that has {rows.found[key]}"
    return ""


def _tokens(
    dataset: Any, manifest: Manifest, segment: Segment, cells: NDArray[np.int64], deep: bool
) -> Iterator[Finding | int]:
    """Whether codes stand for the vectors of the table."""
    chosen = cells
    if not deep and len(cells) > SAMPLE_CELLS:
        chosen = cells[np.linspace(0, len(cells) - 1, SAMPLE_CELLS).astype(np.int64)]
    near: list[float] = []
    for start in range(0, len(chosen), _BLOCK_CELLS):
        block = chosen[start : start + _BLOCK_CELLS]
        widths = [manifest.width(MODALITIES[segment.layout.modality[c]]) for c in block]
        stored = fetch_vectors(dataset, segment.row[block], widths)
        for c, vectors, width in zip(block.tolist(), stored, widths, strict=True):
            if len(vectors) != segment.layout.count[c]:
                told = f"cell {c} has {segment.layout.count[c]} tokens, its row {len(vectors)}"
                yield warning(Part.CODES, told, f"{CODES}/{segment.name}", REBUILD)
                return
            similarity = _nearness(segment, c, vectors.astype(np.float32), width)
            near += [similarity] if similarity is not None else []
        yield sum(len(v) for v in stored)
    if near and (min(near) < _NEAR_CELL or float(np.mean(near)) < _NEAR_ALL):
        told = f"codes are not near to their vectors (cosine {min(near):.2f} to {max(near):.2f})"
        yield warning(Part.CODES, told, f"{CODES}/{segment.name}", REBUILD)


def _nearness(
    segment: Segment, cell: int, vectors: NDArray[np.float32], width: int
) -> float | None:
    """Mean cosine of a cell's tokens to what their codes stand for; None without tokens. Eight-bit
    values that are not just those of the vectors count as not near."""
    m = int(segment.layout.modality[cell])
    begin = int(segment.layout.begin[cell])
    mine = slice(begin, begin + len(vectors))
    if not len(vectors):
        return None
    tokens, codes, book = segment.tokens[m], segment.codes[m], segment.books[m]
    if tokens is not None:
        made = PlainKernels().quantize(vectors)
        off = np.abs(made.values.astype(np.int16) - tokens.values[mine]).max()
        return 1.0 if off <= 1 else 0.0
    if codes is None or book is None:
        return 0.0
    decoded = book.centroids.values[codes.centroid[mine]].astype(np.float32)
    decoded *= book.centroids.scales[codes.centroid[mine], None]
    decoded += book.levels[unpack(codes.residual[mine])] * book.spread
    return _cosine(vectors, decoded[:, :width])


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    usable = lengths > 0
    if not usable.any():
        return 1.0
    return float(((a * b).sum(axis=1)[usable] / lengths[usable]).mean())
