"""What queries without an answer score: the basis of confidence and of "no good match".

A fixed set of unlikely questions is asked of the index itself; the best score that each reaches is
what chance reaches in this library, with its size, its modalities and its kind of text.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Confidence, ConfidenceLabel

_N_SCENES = 21
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
_QUESTIONS = ("how does soil acidity influence the yield of barley grown after potatoes",
              "what is known about the sleep of migrating songbirds and how was it recorded",
              "effects of zinc coating on the corrosion of buried iron pipes in clay",
              "methods to estimate the age of parchment from its collagen",
              "is there evidence that early piano lessons change the hearing of adults",
              "criteria for choosing between ceramic and steel hip joints in older patients",
              "comparison of sampling schemes for counting herring in coastal waters",
              "how can the drying of oak boards be modelled so that they do not crack",
              "what determines the price elasticity of demand for urban bus tickets",
              "numerical treatment of heat loss through the walls of blast furnaces",
              "which enzymes take part in the ripening of hard cheese, and at what temperature",
              "a proof that every planar map can be coloured with four colours",
              "the influence of tariffs on the silk trade between Lyon and Milan",
              "statistical tests for seasonal changes in hospital admissions with asthma",
              "algorithms that assign school places to pupils and their stability",
              "reading difficulties of bilingual children in the second year of school")  # fmt: skip
_SPOKEN = ("so the first thing I always tell my patients is to drink more water",
           "we are now boarding passengers at gate twenty three for the flight to Oslo",
           "and then my grandfather sold the farm and moved to the coast",
           "the jury finds the defendant not guilty on all counts",
           "put the dough back into the bowl and let it rest until it has doubled",
           "good evening and welcome to tonight's debate on pension reform",
           "you have to water them every morning or else the leaves turn yellow",
           "our quarterly dividend will be paid to shareholders in November",
           "he crosses from the left and the keeper tips it over the bar",
           "let us pray for all those who are travelling by sea",
           "this interest rate applies only in the first eighteen months",
           "she never forgave her sister for what happened at the wedding")  # fmt: skip
_EVENTS = ("Lisbon tram derailment", "2014 mayoral election in Toronto",
           "eruption of Mount Pelee in 1902", "strike of dock workers in Rotterdam",
           "Nobel prize in chemistry announced", "Tour de France stage to Alpe d'Huez",
           "opening of the Panama canal", "outbreak of foot and mouth disease",
           "collapse of a savings bank", "inauguration of the archbishop",
           "flooding of the Danube in Passau", "wildfire near Athens")  # fmt: skip
_MIXED = ("saddle invoice glacier violin", "apricot verdict lantern",
          "harvest dentist octave molecule tax rope", "gravel ballad", "thimble senate walrus ink",
          "pension comet stirrup jam mortar", "tulip anchor quarrel", "velvet plumbing sermon",
          "qorvex blimtu", "zzkrt pwouh nadlivek", "hjgfd", "trelmo vask ubinor delp")  # fmt: skip


def null_queries() -> list[str]:
    """Questions of one to twenty words, always the same ones: things, topics, scenes, research questions,
    sentences as they are spoken, events, and words without sense."""
    scenes = [" ".join(words) for words in itertools.product(_WHO, _DOES, _WHERE)]
    some = random.Random(7).sample(scenes, _N_SCENES)
    return [*_THINGS, *_TOPICS, *some, *_QUESTIONS, *_SPOKEN, *_EVENTS, *_MIXED]


@dataclass(frozen=True, slots=True)
class Nulls:
    """``n_tokens`` and ``best`` ``(n_queries,)``: length of each null query and its best score."""

    n_tokens: NDArray[np.int32]
    best: NDArray[np.float32]

    def share(self, score: float, n_tokens: int) -> float:
        """The share of null queries that score less, among those whose length is nearest to ``n_tokens``;
        above 0 and below 1."""
        near = np.argsort(np.abs(self.n_tokens - n_tokens), kind="stable")[:NEAREST]
        return float((np.count_nonzero(self.best[near] < score) + 0.5) / (len(near) + 1))

    def confidence(self, score: float, n_tokens: int) -> Confidence:
        """How a score compares with those of the null queries."""
        p = self.share(score, n_tokens)
        label = next((label for least, label in _LABELS if p >= least), ConfidenceLabel.NONE)
        return Confidence(label, round(p, 3))
