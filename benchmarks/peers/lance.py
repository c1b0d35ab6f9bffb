"""LanceDB's own multivector search, without an index and with IVF_PQ and refinement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

from benchmarks.peers.subject import Array, Dial, Numbers
from benchmarks.search_corpus import Corpus


class LanceScan:
    """No index: LanceDB compares with everything. Its only distance for multivectors is cosine, which
    differs from dot products by the rounding of lengths to float16."""

    n_sub_vectors = 0

    def build(self, corpus: Corpus, folder: Path, threads: int) -> None:
        vectors = pa.list_(pa.list_(pa.float16(), corpus.dim))
        schema = pa.schema([("id", pa.int64()), ("vectors", vectors)])
        rows = pa.RecordBatchReader.from_batches(schema, _batches(corpus, schema))
        table = lancedb.connect(folder).create_table("tokens", rows)
        if self.n_sub_vectors:
            # LanceDB advises about the square root of the number of vectors; a power of two.
            n_partitions = 1 << round(np.log2(corpus.n_tokens) / 2)
            table.create_index(
                metric="cosine",
                vector_column_name="vectors",
                index_type="IVF_PQ",
                num_partitions=n_partitions,
                num_sub_vectors=self.n_sub_vectors,
            )

    def open(self, corpus: Corpus, folder: Path, threads: int) -> None:
        self._table = lancedb.connect(folder).open_table("tokens")

    def dials(self) -> Sequence[Dial]:
        return (Dial("exact"),)

    def search(self, query: Array, k: int, dial: Dial, case: str) -> Numbers:
        found = self._query(query).limit(k).select(["id"])
        for name, value in dial.values.items():
            found = getattr(found, name)(value)
        return np.asarray(found.to_arrow()["id"].to_numpy(), np.int64)

    def facts(self) -> Mapping[str, str | int | float]:
        return {"version": lancedb.__version__}

    def _query(self, query: Array) -> Any:
        return self._table.search(query, vector_column_name="vectors").distance_type("cosine")


class LancePq16(LanceScan):
    """IVF_PQ with 16 bytes a token, LanceDB's usual choice for this width or better."""

    n_sub_vectors = 16

    def dials(self) -> Sequence[Dial]:
        pairs = ((4, 2), (8, 5), (16, 5), (32, 5), (32, 20), (64, 20), (128, 50))
        return [
            Dial(f"nprobes {n}, refine {r}", {"nprobes": n, "refine_factor": r}) for n, r in pairs
        ]


class LancePq64(LancePq16):
    """IVF_PQ with 64 bytes a token."""

    n_sub_vectors = 64


def _batches(corpus: Corpus, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for block in corpus.blocks():
        tokens = pa.FixedSizeListArray.from_arrays(pa.array(block.vectors.ravel()), corpus.dim)
        first = np.unique(block.passage, return_index=True)
        starts = np.append(block.cells[first[1]], block.cells[-1])
        lists = pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), tokens)
        yield pa.RecordBatch.from_arrays([pa.array(first[0]), lists], schema=schema)
