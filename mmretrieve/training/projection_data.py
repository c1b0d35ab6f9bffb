"""Videos with captions, speech and queries, and pictures with captions: pairs for a text projection."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Modality, Segment
from mmretrieve.encoders.lite import LiteEncoder
from mmretrieve.encoders.text import recipe
from mmretrieve.training.token_states import HIDDEN, Floats, States, hidden_encoder, kept

_SPLIT_SEED = 7
MODALITIES = (Modality.OCR, Modality.SPEECH)
"""Captions are kept as the text on screen."""


@dataclass(frozen=True, slots=True)
class Narrated:
    """ActivityNet. ``documents``: states of each video by modality, made in one context; ``answer``:
    ``(n_queries,)`` the video of each query; ``train``, ``test``: video numbers, split at random."""

    queries: States
    documents: dict[Modality, States]
    answer: NDArray[np.int64]
    train: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Captions:
    """Flickr8k: captions of training picture ``pictures[i]`` are the texts ``[first[p], first[p + 1])``."""

    states: States
    first: NDArray[np.int64]
    pictures: NDArray[np.int64]


def read_narrated(folder: Path, cache: Path, train_share: float) -> Narrated:
    """Read ``corpus.jsonl``, ``queries.jsonl`` and ``qrels.tsv``; queries without an answer are left out."""
    rows = _lines(folder / "corpus.jsonl")
    number = {row["_id"]: i for i, row in enumerate(rows)}
    judged = (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]
    right = {q: number[d] for q, d, grade in map(str.split, judged) if float(grade) >= 1}
    asked = [row for row in _lines(folder / "queries.jsonl") if row["_id"] in right]
    return Narrated(
        kept(cache / "activitynet-queries.npz", lambda: _queries([row["text"] for row in asked])),
        _documents(rows, cache),
        np.array([right[row["_id"]] for row in asked], np.int64),
        *split(len(rows), train_share),
    )


def split(n: int, train_share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the videos for training and of those for testing, always the same ones."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(n)
    n_train = int(n * train_share)
    return np.sort(order[:n_train]), np.sort(order[n_train:])


def read_captions(folder: Path, cache: Path) -> Captions:
    """Read ``captions.jsonl``."""
    rows = _lines(folder / "captions.jsonl")
    texts = [caption for row in rows for caption in row["captions"]]
    return Captions(
        kept(cache / "flickr8k-captions.npz", lambda: _queries(texts)),
        np.cumsum([0, *(len(row["captions"]) for row in rows)]).astype(np.int64),
        np.flatnonzero([row["split"] == "train" for row in rows]),
    )


def _documents(rows: list[dict[str, Any]], cache: Path) -> dict[Modality, States]:
    files = {m: cache / f"activitynet-{m.value}-{recipe()[:8]}.npz" for m in MODALITIES}
    if not all(file.is_file() for file in files.values()):
        encoder = hidden_encoder()
        made = [_in_one_context(encoder, row) for row in rows]
        for modality, file in files.items():
            column = [one.get(modality, np.empty((0, HIDDEN), np.float32)) for one in made]
            kept(file, lambda column=column: column)  # type: ignore[misc]
    return {m: kept(file, list) for m, file in files.items()}


def _in_one_context(encoder: LiteEncoder, row: dict[str, Any]) -> dict[Modality, Floats]:
    captions = " ".join(v["text"] for v in row["visual"])
    texts = {Modality.OCR: captions, Modality.SPEECH: row["asr"]}
    parts = {m: [Segment(text)] for m, text in texts.items() if text.strip()}
    return {m: tokens.vectors for m, tokens in encoder.texts(parts).items()}


def _queries(texts: list[str]) -> list[Floats]:
    encoder = hidden_encoder()
    return [encoder.query(text).vectors["text"] for text in texts]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
