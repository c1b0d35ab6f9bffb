"""Queries made from an index itself: a line that was said, shown or is known, whose video is to be
found without that line. Anyone can measure so, without judgements.

The line's own tokens do not take part while its query is scored. Their neighbours were encoded in
one context with them, so the numbers are a little kinder than with the line cut out beforehand.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.engine import Engine
from mmretrieve.errors import UsageError
from mmretrieve.evaluation.queries import Query
from mmretrieve.evaluation.trec import Qrels
from mmretrieve.search.lines import Line, words_of
from mmretrieve.words import FUNCTION_WORDS

LEAST_WORDS = 3
MOST_WORDS = 25
"""Words of a line that means something: less says too little, more is no question."""


@dataclass(frozen=True, slots=True)
class KnownItems:
    """Queries, their types the modality that the line came from, and their one answer each."""

    queries: tuple[Query, ...]
    qrels: Qrels

    @property
    def hidden(self) -> dict[str, str]:
        """Query id -> the line that is not looked at: the query itself."""
        return {query.query_id: query.text for query in self.queries}


def known_items(engine: Engine, n: int, seed: int = 0) -> KnownItems:
    """``n`` queries (or as many as there are), as evenly from the modalities as their lines allow.
    The same index and seed give the same ones.

    Raises:
        UsageError: no line of the index can be a query.
    """
    usable = _usable(engine.everything().lines())
    if not usable:
        raise UsageError(
            "no line in the index can be a query: expected text of 3 to 25 words that is in one "
            "video alone, and more in that video"
        )
    chosen = _spread(usable, n, random.Random(seed))
    queries = tuple(
        Query(f"known-{i}", " ".join(line.text.split()), line.modality.value, (line.video_id,),
              f"known item {i}")
        for i, line in enumerate(chosen, 1)
    )  # fmt: skip
    return KnownItems(queries, Qrels({q.query_id: {q.relevant[0]: 1} for q in queries}))


def _usable(lines: Sequence[Line]) -> list[Line]:
    """Lines of a good length in one video alone, once each, of videos that have other lines."""
    owners: dict[tuple[str, ...], set[str]] = {}
    for line in lines:
        owners.setdefault(words_of(line.text), set()).add(line.video_id)
    distinct = {(line.video_id, words_of(line.text)) for line in lines}
    per_video = Counter(video_id for video_id, _ in distinct)
    found: dict[tuple[str, ...], Line] = {}
    for line in lines:
        words = words_of(line.text)
        content = [w for w in words if w not in FUNCTION_WORDS]
        if (
            len(content) >= LEAST_WORDS
            and len(words) <= MOST_WORDS
            and len(owners[words]) == 1
            and per_video[line.video_id] > 1
        ):
            found.setdefault(words, line)
    return list(found.values())


def _spread(lines: Sequence[Line], n: int, rng: random.Random) -> list[Line]:
    """At most ``n``, taking turns between modalities, each in an order of its own by lot."""
    piles: dict[Modality, list[Line]] = {m: [] for m in MODALITIES}
    for line in sorted(lines, key=lambda li: (li.video_id, li.modality, li.text)):
        piles[line.modality].append(line)
    for pile in piles.values():
        rng.shuffle(pile)
    chosen: list[Line] = []
    while len(chosen) < n and any(piles.values()):
        for pile in piles.values():
            if pile and len(chosen) < n:
                chosen.append(pile.pop())
    return chosen
