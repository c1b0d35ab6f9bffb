"""What queries without an answer score: the basis of confidence and of "no good match".

A fixed set of unlikely questions is asked of the index itself; the best score that each reaches is
what chance reaches in this library, with its size, its modalities and its kind of text.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Confidence, ConfidenceLabel

N_QUERIES = 96
NEAREST = 48
"""How many null queries of about the same length a hit is compared with."""

_LABELS = (
    (0.97, ConfidenceLabel.HIGH),
    (0.85, ConfidenceLabel.MEDIUM),
    (0.60, ConfidenceLabel.LOW),
)

_WHO = ("a beekeeper", "two plumbers", "the emperor", "a dentist", "grandmother", "a flock of geese",
        "the goalkeeper", "an archaeologist", "a tax inspector", "three astronauts")  # fmt: skip
_DOES = ("knitting a scarf", "repairing a violin", "selling oysters", "pruning grapevines",
         "inspecting a sewer", "painting a lighthouse", "baking rye bread", "milking a goat",
         "shearing sheep", "folding origami cranes")  # fmt: skip
_WHERE = ("in a monastery", "on a glacier", "at the stock exchange", "in a submarine",
          "behind the sawmill", "on a camel", "in a greenhouse", "under a viaduct")  # fmt: skip
_TOPICS = ("the bankruptcy of a railway company", "treatment of malaria in cattle",
           "medieval Hungarian coins", "how to tile a bathroom floor", "mortgage interest rates",
           "fermentation of cabbage", "the grammar of Basque verbs", "volcanic soil for vineyards",
           "choosing a saddle for dressage", "nitrogen in aquarium water", "opera premieres in Vienna",
           "the price of copper", "wallpaper restoration", "how bees find nectar",
           "chess endgames with rooks", "replacing a carburettor", "irrigation canals of Mesopotamia",
           "sunburn remedies", "cricket scores from Lahore", "the history of zippers")  # fmt: skip
_THINGS = ("trombone", "hedgehog", "sarcophagus", "lasagna", "guillotine", "kayak", "parsnip",
           "chandelier", "tuberculosis", "badminton", "gondola", "moustache", "quinoa",
           "stethoscope", "avalanche", "cathedral organ", "wedding cake", "pickled herring",
           "tax return", "snow plough", "ostrich farm", "ballet shoes", "crossbow")  # fmt: skip


def null_queries(n: int = N_QUERIES) -> list[str]:
    """``n`` questions of one to about twelve words, always the same ones."""
    rng = random.Random(7)
    scenes = [" ".join(words) for words in itertools.product(_WHO, _DOES, _WHERE)]
    pools: tuple[Sequence[str], ...] = (_THINGS, _TOPICS, rng.sample(scenes, n))
    mixed = [q for group in itertools.zip_longest(*pools) for q in group if q is not None]
    return mixed[:n]


@dataclass(frozen=True, slots=True)
class Nulls:
    """``n_tokens`` and ``best`` ``(n_queries,)``: length of each null query and its best score."""

    n_tokens: NDArray[np.int32]
    best: NDArray[np.float32]

    def confidence(self, score: float, n_tokens: int) -> Confidence:
        """How a score compares with the null queries whose length is nearest to ``n_tokens``."""
        near = np.argsort(np.abs(self.n_tokens - n_tokens), kind="stable")[:NEAREST]
        p = float((np.count_nonzero(self.best[near] < score) + 0.5) / (len(near) + 1))
        label = next((label for least, label in _LABELS if p >= least), ConfidenceLabel.NONE)
        return Confidence(label, round(p, 3))


def estimate(queries: Iterable[str], best_of: Callable[[str], tuple[int, float]]) -> Nulls:
    """Ask every query; ``best_of`` gives its number of tokens and the best score in the index."""
    rows = [best_of(query) for query in queries]
    return Nulls(
        np.array([n for n, _ in rows], np.int32), np.array([s for _, s in rows], np.float32)
    )
