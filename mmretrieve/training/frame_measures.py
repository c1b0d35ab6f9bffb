"""How well frame tokens answer captions: text to picture on pictures that training did not see."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmretrieve.encoders.frames import N_PLAIN, FrameHead, tokens_of
from mmretrieve.training.frame_data import Flickr, Floats, read_classifier

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


def evaluate_flickr(flickr: Flickr, head: FrameHead, n_pictures: int) -> dict[str, float]:
    """Text to picture among the first ``n_pictures`` of dev, all their captions."""
    pictures = flickr.dev[:n_pictures]
    weight, bias = read_classifier()
    features = flickr.features[0][pictures].astype(np.float32)
    logits = features[:, :N_PLAIN] @ weight.T + bias
    tokens = np.stack([tokens_of(*row, head).vectors for row in zip(features, logits, strict=True)])
    pairs = [
        (c, k) for k, p in enumerate(pictures) for c in range(flickr.first[p], flickr.first[p + 1])
    ]
    found = []
    for start in range(0, len(pairs), 200):
        part = pairs[start : start + 200]
        scores = maxsim(flickr.captions.padded(np.array([c for c, _ in part])), tokens)
        found.append(ranks(scores, [[k] for _, k in part]))
    return report(f"Flickr8k, {len(pictures)} dev pictures", np.concatenate(found))
