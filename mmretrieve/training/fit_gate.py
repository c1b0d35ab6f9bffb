"""Fit the gate from query tokens to modalities, on queries whose modality is known.

``python -m mmretrieve.training.fit_gate DATA`` reads below the folder ``DATA``: MultiVENT 2.0++ validation
queries (typed), MultiVENT 2.0 queries (typed by their ids), MultiVENT 1 (metadata), captions of MSR-VTT and
of the training pictures of Flickr8k (frames). Queries of the clips, ActivityNet and slides are left for
measuring. Softmax regression with a ridge penalty, by full-batch Adam (Kingma & Ba, 2015); modalities count
alike, and so do the sources of one modality.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mmretrieve.datatypes import COMMON, Modality
from mmretrieve.encoders.lite import LiteEncoder
from mmretrieve.scoring.gate import FILE, Gate

Array = NDArray[np.float64]

RIDGE = 1e-2
N_CAPTIONS = 800
_STEPS, _RATE = 300, 0.05
_TYPES = {
    "video": Modality.FRAMES,
    "speech": Modality.SPEECH,
    "asr": Modality.SPEECH,
    "ocr": Modality.OCR,
    "description": Modality.METADATA,
}


@dataclass(frozen=True, slots=True)
class Typed:
    """A query, the modality that answers it, and where it is from."""

    text: str
    modality: Modality
    source: str


def typed_queries(data: Path) -> Iterator[Typed]:
    """All training queries."""
    layouts = data / "layouts"
    path = layouts / "multivent2pp" / "multivent_synthetic_validation_queries.json"
    for row in json.loads(path.read_text(encoding="utf-8")).values():
        yield Typed(row["query"], _TYPES[row["query_type"]], "multivent2pp")
    for row in _table(layouts / "multivent" / "multivent_2_q.csv", ","):
        kind = row["Query_id"].split("_")[-2]
        if kind in _TYPES:
            yield Typed(row["query"], _TYPES[kind], "multivent2")
    for row in _lines(data / "multivent1" / "queries.jsonl"):
        yield Typed(row["text"], Modality.METADATA, "multivent1")
    for row in _table(layouts / "msrvtt" / "MSRVTT_JSFUSION_test.csv", ";"):
        yield Typed(row["sentence"], Modality.FRAMES, "msrvtt")
    pictures = [r for r in _lines(data / "flickr8k" / "captions.jsonl") if r["split"] == "train"]
    captions = [caption for row in pictures for caption in row["captions"]]
    for caption in random.Random(0).sample(captions, N_CAPTIONS):
        yield Typed(caption, Modality.FRAMES, "flickr8k")


def fit(means: Array, queries: Sequence[Typed], ridge: float = RIDGE) -> Gate:
    """The gate for ``means`` ``(n_queries, dim)`` of query tokens."""
    target = np.array([[m is q.modality for m in COMMON] for q in queries], np.float64)
    design = np.c_[means, np.ones(len(means))]
    counts = balance(queries)
    found = np.zeros((design.shape[1], len(COMMON)))
    first, second = np.zeros_like(found), np.zeros_like(found)
    for step in range(1, _STEPS + 1):
        logits = design @ found
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        slope = design.T @ ((shares - target) * counts[:, None])
        slope[:-1] += ridge * found[:-1]
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope * slope
        found -= _RATE * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
    return Gate(found[:-1].astype(np.float32), found[-1].astype(np.float32))


def balance(queries: Sequence[Typed]) -> Array:
    """``(n_queries,)``: how much each counts; together 1, modalities alike, and their sources alike."""
    sizes = Counter((q.modality, q.source) for q in queries)
    sources = Counter(modality for modality, _ in sizes)
    counts = [1 / (sizes[q.modality, q.source] * sources[q.modality]) for q in queries]
    return np.array(counts) / len(sources)


def main() -> None:
    """Encode, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    queries = list(typed_queries(given.data))
    encoder = LiteEncoder(threads=1)
    space = encoder.spaces[Modality.FRAMES]
    means = np.array([encoder.query(q.text).vectors[space].mean(axis=0) for q in queries])
    gate = fit(means.astype(np.float64), queries)
    recipe = {"fitted_on": ", ".join(sorted({q.source for q in queries})), "ridge": str(RIDGE)}
    save_file({"weights": gate.weights, "bias": gate.bias}, given.out, metadata=recipe)
    logits = means @ gate.weights + gate.bias
    right = [COMMON[i] is q.modality for i, q in zip(logits.argmax(1), queries, strict=True)]
    sys.stdout.write(f"{given.out.name}: {len(queries)} queries, {np.mean(right):.3f} told right\n")


def _table(path: Path, delimiter: str) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter=delimiter)


def _lines(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


if __name__ == "__main__":
    main()
