"""Fit the projection of text token embeddings: the top eigenvectors of their second-moment matrix.

``python -m mmretrieve.training.fit_projection OUT.safetensors TEXTS.jsonl...`` reads one JSON object
a line and takes every string in it as a text. Uncentred, so that dot products are what is kept:
the best rank-``dim`` approximation of all token similarities in the sense of Eckart and Young (1936).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mmretrieve.encoders.text import MAX_PIECES, TextEncoder, normalise

_HIDDEN = 384


def second_moment(texts: Iterable[str], encoder: TextEncoder) -> NDArray[np.float64]:
    """``(384, 384)``: mean outer product of the texts' unit-length hidden token states."""
    total, count = np.zeros((_HIDDEN, _HIDDEN)), 0
    for text in texts:
        ids = encoder.tokenize(text).ids[: MAX_PIECES - 2]
        if ids:
            hidden = normalise(encoder.hidden(ids)).astype(np.float64)
            total += hidden.T @ hidden
            count += len(hidden)
    return total / max(count, 1)


def strings(value: object) -> Iterator[str]:
    """All strings inside a JSON value that are long enough to be text."""
    if isinstance(value, str) and " " in value:
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def main() -> None:
    """Fit on a seeded sample of each file and write the matrix with its recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--sample", type=int, default=1000, help="texts taken from each file")
    args = parser.parse_args()
    encoder, rng = TextEncoder(threads=2), random.Random(0)
    moments = []
    for path in args.texts:
        lines = path.read_text(encoding="utf-8").splitlines()
        texts = [text for line in lines for text in strings(json.loads(line))]
        moments.append(second_moment(rng.sample(texts, min(args.sample, len(texts))), encoder))
    values, vectors = np.linalg.eigh(np.mean(moments, axis=0))
    projection = np.ascontiguousarray(vectors[:, ::-1][:, : args.dim], dtype=np.float32)
    kept = float(values[::-1][: args.dim].sum() / values.sum())
    recipe = {
        "fitted_on": ", ".join(p.parent.name for p in args.texts),
        "energy_kept": f"{kept:.4f}",
    }
    save_file({"projection": projection}, args.out, metadata=recipe)
    sys.stdout.write(f"{args.out}: {projection.shape}, energy kept {kept:.4f}\n")


if __name__ == "__main__":
    main()
