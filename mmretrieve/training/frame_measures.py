"""How well frame tokens answer captions: text to picture on pictures that training did not see."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmretrieve.encoders.text import normalise
from mmretrieve.training.frame_data import Classes, Flickr, Floats, Recipe

_LOG = logging.getLogger("mmretrieve.training.frame_measures")


def ranks(scores: Floats, relevant: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Rank of the best relevant column in each row, from 1."""
    best = np.array([row[list(of)].max() for row, of in zip(scores, relevant, strict=True)])
    return np.asarray((scores > best[:, None]).sum(axis=1) + 1)


def report(name: str, found: NDArray[np.int64]) -> dict[str, float]:
    """Log and return R@1, R@5, R@10 and the mean reciprocal rank."""
    measures = {f"R@{k}": float((found <= k).mean()) for k in (1, 5, 10)}
    measures["RR"] = float((1.0 / found).mean())
    _LOG.info(
        "%s (%d queries): %s", name, len(found), {k: round(v, 3) for k, v in measures.items()}
    )
    return measures


def maxsim(texts: tuple[Floats, Floats], tokens: Floats) -> Floats:
    """Mean over query tokens of the best of each document: ``(n_texts, n_docs)`` for ``(n, k, 128)``."""
    words, mask = texts
    n, length, dim = words.shape
    best = np.full((n * length, len(tokens)), -np.inf, np.float32)
    for region in range(tokens.shape[1]):
        np.maximum(best, words.reshape(-1, dim) @ tokens[:, region].T, out=best)
    summed = (best.reshape(n, length, -1) * mask[:, :, None]).sum(axis=1)
    return np.asarray(summed / mask.sum(axis=1)[:, None])


def evaluate_flickr(
    flickr: Flickr, linear: tuple[Floats, Floats], classes: Classes, recipe: Recipe, n_pictures: int
) -> dict[str, float]:
    """Text to picture among the first ``n_pictures`` of dev, all their captions."""
    pictures = flickr.dev[:n_pictures]
    features = flickr.features[0][pictures].astype(np.float32)
    seen = normalise((features @ linear[0] + linear[1]).reshape(-1, 128))
    named = np.repeat(classes.named(features, recipe), recipe.n_tokens, axis=0)
    tokens = normalise((1 - recipe.blend) * seen + recipe.blend * named)
    tokens = tokens.reshape(len(pictures), -1, 128)
    pairs = [
        (c, k) for k, p in enumerate(pictures) for c in range(flickr.first[p], flickr.first[p + 1])
    ]
    found = []
    for start in range(0, len(pairs), 200):
        part = pairs[start : start + 200]
        scores = maxsim(flickr.captions.padded(np.array([c for c, _ in part])), tokens)
        found.append(ranks(scores, [[k] for _, k in part]))
    return report(f"Flickr8k, {len(pictures)} dev pictures", np.concatenate(found))
