"""Vectors and thumbnails: whether they are what they should be, all of them or a sample."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from mmretrieve.datatypes import MODALITIES
from mmretrieve.health.findings import Finding, Part, error
from mmretrieve.health.tables import REINDEX, Rows, row_ids
from mmretrieve.storage.folder import Manifest
from mmretrieve.storage.vectors import flat_vectors

SAMPLE_CELLS = 512
SAMPLE_PICTURES = 64
LENGTH_WITHIN = 0.01
"""How far from 1 the length of a vector may be that is kept in float16."""
_BLOCK_ROWS = 256


def check_vectors(
    dataset: Any, manifest: Manifest, rows: Rows, deep: bool
) -> Iterator[Finding | int]:
    """Findings, and after each block the number of tokens in it."""
    widths = {m.value: manifest.width(m) for m in MODALITIES}
    ids = row_ids(dataset, None if deep else SAMPLE_CELLS)
    columns = ["revision", "passage", "modality", "token_segment", "vectors"]
    for start in range(0, len(ids), _BLOCK_ROWS):
        table = dataset._take_rows(ids[start : start + _BLOCK_ROWS].tolist(), columns=columns)
        flat = flat_vectors(table["vectors"].combine_chunks())
        keys = table.drop_columns(["vectors"]).to_pylist()
        for i, key in enumerate(keys):
            told = _wrong(
                flat.row(i), widths.get(key["modality"], 0), len(key["token_segment"] or ())
            )
            video = rows.videos.get(key["revision"])
            if told and video is not None:
                rows.suspect.add(key["revision"])
                where = f"video {video}, passage {key['passage']} {key['modality']}"
                yield error(Part.VECTORS, told, where, REINDEX)
        yield int(flat.count.sum())


def _wrong(vectors: np.ndarray[Any, Any], width: int, n_tokens: int) -> str:
    if len(vectors) != n_tokens:
        return f"{len(vectors)} vectors of {n_tokens} tokens"
    if not len(vectors):
        return ""
    if vectors.shape[1] != width:
        return f"vectors of width {vectors.shape[1]}, expected {width}"
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    if not np.isfinite(lengths).all():
        return f"{int((~np.isfinite(lengths)).sum())} vectors are not finite"
    off = np.abs(lengths - 1) > LENGTH_WITHIN
    return f"{int(off.sum())} vectors are not of unit length" if off.any() else ""


def check_thumbnails(dataset: Any, rows: Rows, deep: bool) -> Iterator[Finding | int]:
    """Findings, and after each block the number of pictures in it."""
    ids = row_ids(dataset, None if deep else SAMPLE_PICTURES)
    columns = ["revision", "time_s", "thumbnail"]
    for start in range(0, len(ids), _BLOCK_ROWS):
        found = dataset._take_rows(ids[start : start + _BLOCK_ROWS].tolist(), columns=columns)
        for row in found.to_pylist():
            video = rows.videos.get(row["revision"])
            told = _bad_picture(row["thumbnail"])
            if told and video is not None:
                rows.suspect.add(row["revision"])
                where = f"video {video}, keyframe at {row['time_s']:.2f} s"
                yield error(Part.THUMBNAILS, f"its thumbnail {told}", where, REINDEX)
        yield found.num_rows


def _bad_picture(data: bytes | None) -> str:
    from PIL import Image

    if not data:
        return "is empty"
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError) as failure:
        return f"is no whole JPEG picture ({failure})"
    return ""
