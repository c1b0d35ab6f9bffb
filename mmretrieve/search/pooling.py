"""One vector a document and modality: what single-vector retrieval would keep of an index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES
from mmretrieve.search.documents import Documents
from mmretrieve.storage.library import Cells

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pooled:
    """``vectors`` ``(n_documents, n_modalities, dim)`` float32: the mean of the document's tokens in
    each modality, scaled to unit length; 0 where ``present`` ``(n_documents, n_modalities)`` is false."""

    vectors: Array
    present: NDArray[np.bool_]


def pool(documents: Documents, cells: Cells, vectors: Array) -> Pooled:
    """Pool the tokens ``(n_tokens, dim)`` of all documents."""
    n, dim = len(documents.video), vectors.shape[1]
    totals = np.zeros((n, len(MODALITIES), dim), np.float64)
    counts = np.zeros((n, len(MODALITIES)), np.int64)
    sizes = np.diff(cells.offsets)
    sums = np.zeros((len(cells), dim), np.float32)
    filled = np.flatnonzero(sizes > 0)
    if len(filled):
        sums[filled] = np.add.reduceat(vectors, cells.offsets[filled], axis=0)
    place = (documents.document, cells.modality[documents.cell].astype(np.int64))
    np.add.at(totals, place, sums[documents.cell])
    np.add.at(counts, place, sizes[documents.cell])
    length = np.linalg.norm(totals, axis=2, keepdims=True)
    unit = np.where(length > 0, totals / np.maximum(length, 1e-12), 0)
    return Pooled(unit.astype(np.float32), (counts > 0) & (length[:, :, 0] > 0))
