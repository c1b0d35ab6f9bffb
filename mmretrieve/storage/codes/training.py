"""Codebooks for the modalities of an index, trained on tokens of rows chosen at random."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES
from mmretrieve.kernels.base import Numbers
from mmretrieve.storage.codes.build import Source
from mmretrieve.storage.codes.cells import Keys, read_keys, read_rows, tokens_of, usable
from mmretrieve.storage.codes.codebook import (
    HELD_OUT,
    SAMPLED_PER_CENTROID,
    Trained,
    book_size,
    train,
)

_SEED = 0


def train_books(
    source: Source,
    revisions: Collection[str],
    modalities: Collection[int],
    n_tokens: Numbers,
    gpu: bool,
) -> dict[int, Trained]:
    """A codebook for each of the modalities, of which the videos have about ``n_tokens`` tokens
    ``(n_modalities,)``. Only a sample of the rows is read.

    Raises:
        IndexFormatError: the table does not hold what it should.
    """
    if not modalities:
        return {}
    keys, found = read_keys(source.dataset, revisions), {}
    for m in sorted(modalities):
        rng = np.random.default_rng((_SEED, m))
        size = book_size(int(n_tokens[m]))
        sample = _sample(source, keys, m, SAMPLED_PER_CENTROID * size + HELD_OUT, rng)
        found[m] = train(sample, size, source.kernels, _SEED, gpu)
    return found


def _sample(
    source: Source, keys: Keys, m: int, n_wanted: int, rng: np.random.Generator
) -> NDArray[np.float16]:
    """At least so many tokens of one modality if there are: those of rows in random order."""
    rows = rng.permutation(keys.row[keys.modality == m])
    width = source.manifest.width(MODALITIES[m])
    blocks, n = [np.empty((0, width), np.float16)], 0
    for block, found in read_rows(source.dataset, rows):
        cells = range(block.stop - block.start)
        blocks.append(usable(tokens_of([found.row(i) for i in cells], width))[0])
        n += len(blocks[-1])
        if n >= n_wanted:
            break
    return np.concatenate(blocks)
