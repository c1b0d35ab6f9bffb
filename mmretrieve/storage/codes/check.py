"""Whether the arrays of a segment fit together, so that no kernel reads beyond one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from mmretrieve.datatypes import METADATA_PASSAGE, MODALITIES
from mmretrieve.errors import CodesError
from mmretrieve.kernels.arrays import Codebook, Codes, Lists, Tokens8
from mmretrieve.storage.codes.segment import Array, Segment
from mmretrieve.storage.folder import Manifest

_BLOCK = 1 << 22


def check_segment(segment: Segment, manifest: Manifest) -> None:
    """Everything that kernels rely on.

    Raises:
        CodesError: something does not hold.
    """
    # One after the other: later checks rely on what earlier ones found to hold.
    for holds, what in chain(_layout(segment), _modalities(segment, manifest)):
        if not holds:
            raise CodesError(f"{segment.name}: {what}")


def check_book(name: str, book: Codebook, width: int) -> None:
    """A codebook for tokens of this width.

    Raises:
        CodesError: something does not hold.
    """
    holds = (
        _is_eight_bit(book.centroids, width)
        and 0 < len(book.centroids) <= 1 << 16
        and book.spread.shape == (book.centroids.values.shape[1],)
        and book.levels.shape == (4,)
    )
    if not holds:
        raise CodesError(f"{name}: a codebook has arrays of other shapes than tokens need")


def _layout(segment: Segment) -> Iterator[tuple[bool, str]]:
    layout, n_passages = segment.layout, len(segment.number)
    arrays = (layout.modality, layout.begin, layout.count, segment.row)
    yield all(a.shape == (len(segment.row),) for a in arrays), "arrays of cells differ in length"
    about = (layout.timeless, segment.start_s, segment.end_s, segment.number)
    yield all(a.shape == (n_passages,) for a in about), "arrays of passages differ in length"
    n_videos = len(segment.revision)
    yield _is_partition(layout.passages, n_passages, len(segment.row)), "cells of passages overlap"
    yield _is_partition(layout.videos, n_videos, n_passages), "passages of videos overlap"
    yield bool((layout.modality < len(MODALITIES)).all()), "a modality is unknown"
    metadata = segment.number == METADATA_PASSAGE
    yield np.array_equal(layout.timeless, metadata), "a passage is wrongly marked as metadata"
    first = np.zeros(n_passages, bool)
    first[layout.videos[:-1]] = True
    yield bool(first[metadata].all()), "metadata is not the first passage of its video"
    step = layout.modality[1:] > layout.modality[:-1]
    step[layout.passages[1:-1] - 1] = True
    yield bool(step.all()), "cells of a passage are out of order"
    owned = np.bincount(layout.modality, layout.count, len(MODALITIES))
    yield (
        owned.astype(int).tolist() == list(segment.n_tokens),
        "cells own other tokens than there are",
    )
    yield bool((layout.count >= 0).all()), "a cell owns less than no tokens"
    for m in range(len(MODALITIES)):
        mine = layout.modality == m
        ends = np.cumsum(layout.count[mine], dtype=np.int64)
        yield np.array_equal(layout.begin[mine], ends - layout.count[mine]), "cells overlap"


def _modalities(segment: Segment, manifest: Manifest) -> Iterator[tuple[bool, str]]:
    parts = zip(segment.tokens, segment.codes, segment.books, segment.lists, strict=True)
    for modality, (tokens, codes, book, lists) in zip(MODALITIES, parts, strict=True):
        width = manifest.width(modality)
        name = modality.value
        yield tokens is None or codes is None, f"{name} tokens are there twice"
        if tokens is not None:
            yield _is_eight_bit(tokens, width), f"{name} tokens are of another width"
        if codes is not None:
            yield book is not None, f"{name} tokens have no codebook"
            yield book is None or _fits(codes, book), f"{name} codes do not fit their codebook"
        if lists is not None:
            yield book is not None, f"{name} lists have no codebook"
            n_passages = segment.layout.n_passages
            yield book is None or _lists_fit(lists, book, n_passages), f"{name} lists are wrong"


def _is_partition(bounds: Array, n_parts: int, total: int) -> bool:
    """``n_parts`` parts of at least one, one after the other."""
    if bounds.shape != (n_parts + 1,) or bounds[0] != 0 or bounds[-1] != total:
        return False
    return bool((np.diff(bounds) > 0).all())


def _is_eight_bit(tokens: Tokens8, width: int) -> bool:
    shape = (len(tokens.scales), -(-width // 4) * 4)
    return tokens.values.shape == shape and tokens.scales.ndim == 1


def _fits(codes: Codes, book: Codebook) -> bool:
    shape = (len(codes.centroid), book.centroids.values.shape[1] // 4)
    if codes.residual.shape != shape or codes.centroid.ndim != 1:
        return False
    return _below(codes.centroid, len(book.centroids))


def _lists_fit(lists: Lists, book: Codebook, n_passages: int) -> bool:
    starts = lists.starts
    if starts.shape != (len(book.centroids) + 1,) or starts[0] != 0:
        return False
    if lists.passages.ndim != 1 or starts[-1] != len(lists.passages):
        return False
    return bool((np.diff(starts) >= 0).all()) and _below(lists.passages, n_passages)


def _below(numbers: Array, limit: int) -> bool:
    """Whether all are, looked at in blocks: comparing would copy."""
    blocks = range(0, len(numbers), _BLOCK)
    return all(int(numbers[start : start + _BLOCK].max()) < limit for start in blocks)
