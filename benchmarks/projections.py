"""``projections``: a trained projection of text tokens against the training-free one, on collections of
texts: the videos that training left out, and collections that it never saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from benchmarks.result import Result
from benchmarks.text import PLAIN, Matches
from benchmarks.text_data import Collection, Document, abstracts, activitynet, slides
from benchmarks.text_tokens import Reading, TokenCache, Tokens
from mmretrieve.datatypes import MODALITIES, Modality, Segment
from mmretrieve.encoders.text import recipe
from mmretrieve.encoders.weights import weight_path
from mmretrieve.evaluation.intervals import compare
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.training.projection_data import split
from mmretrieve.training.token_states import HIDDEN, States, hidden_encoder, kept

Array = NDArray[np.float32]
TRAIN_SHARE = 0.6
"""As in :mod:`mmretrieve.training.train_projection`."""


class ProjectedCache(TokenCache):
    """Tokens under any projection, from hidden states that are made once and kept."""

    def __init__(self, folder: Path, projection: Array) -> None:
        super().__init__(folder, processes=1)
        self._states_folder = folder
        self._projection = projection

    def documents(self, name: str, documents: Sequence[Document], how: Reading) -> list[Tokens]:
        """Tokens by modality of each document, read as the indexer does."""
        if how is not Reading.SHIPPED:
            raise ValueError(f"projections are compared on documents {Reading.SHIPPED}")
        files = {
            m: self._states_folder / f"hidden-{name}-{m.value}-{recipe()[:8]}.npz"
            for m in MODALITIES
        }
        if not all(file.is_file() for file in files.values()):
            _encode(documents, files)
        parts = {m: self._split(kept(file, list)) for m, file in files.items()}
        return [{m: parts[m][i] for m in MODALITIES} for i in range(len(documents))]

    def queries(self, name: str, texts: Sequence[str]) -> list[Array]:
        """Tokens of each query."""
        encoder, file = (
            hidden_encoder(),
            self._states_folder / f"hidden-{name}-queries-{recipe()[:8]}.npz",
        )
        return self._split(kept(file, lambda: [encoder.query(t).vectors["text"] for t in texts]))

    def _split(self, states: States) -> list[Array]:
        return np.split(states.projected(self._projection), states.starts[1:-1])


def run(data: Path, cache: Path, projection: Path, only: Sequence[str]) -> None:
    """Print the table and write the result."""
    result = Result("projections")
    ours = load_file(projection)["projection"]
    shipped = load_file(weight_path("text_projection.safetensors"))["projection"]
    rows: list[tuple[str | float, ...]] = []
    for name, read in COLLECTIONS.items():
        if only and name not in only:
            continue
        collection = read(data)
        matches = [
            Matches(collection, ProjectedCache(cache, p), Reading.SHIPPED) for p in (shipped, ours)
        ]
        for title, scoring in (("shipped", Scoring()), ("raw MaxSim", PLAIN)):
            free, trained = ([s[-1] for s in m.scores(scoring)] for m in matches)
            gain = compare(trained, free)
            means = (float(np.mean(free)), float(np.mean(trained)))
            label = f"{collection.name} ({len(free)} queries)"
            rows.append((label, title, *means, gain.mean, gain.low, gain.high, gain.p))
            print(rows[-1], flush=True)
    columns = ("collection", "score", "training-free", "trained", "difference", "from", "to", "p")
    result.add("Projection of text tokens, nDCG@10", columns, rows)
    result.note(f"Data: {data.name}. Trained: {projection.name}, see the model card.")
    result.save()


def held_out(collection: Collection) -> Collection:
    """The videos that training left out, with their queries."""
    _, test = split(len(collection.ids), TRAIN_SHARE)
    ids = {collection.ids[i] for i in test}
    asked = [i for i, right in enumerate(collection.relevant) if right <= ids]
    return replace(
        collection,
        name=f"{collection.name}-held-out",
        ids=tuple(collection.ids[i] for i in test),
        documents=tuple(collection.documents[i] for i in test),
        queries=tuple(collection.queries[i] for i in asked),
        relevant=tuple(collection.relevant[i] for i in asked),
    )


def _encode(documents: Sequence[Document], files: Mapping[Modality, Path]) -> None:
    encoder, made = hidden_encoder(), []
    for document in documents:
        parts = {m: [Segment(text)] for m, text in document.items() if text.strip()}
        made.append({m: tokens.vectors for m, tokens in encoder.texts(parts).items()})
    nothing = np.empty((0, HIDDEN), np.float32)
    for modality, file in files.items():
        column = [one.get(modality, nothing) for one in made]
        file.unlink(missing_ok=True)
        kept(file, lambda column=column: column)  # type: ignore[misc]


COLLECTIONS: Mapping[str, Callable[[Path], Collection]] = {
    "activitynet_asr": lambda data: held_out(activitynet(data)),
    "slides": slides,
    "cranfield": lambda data: abstracts(data, "cranfield"),
    "cisi": lambda data: abstracts(data, "cisi"),
}
