"""Which lines of an index become queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from mmretrieve.datatypes import Modality
from mmretrieve.engine import Engine
from mmretrieve.errors import UsageError
from mmretrieve.experiments.known_items import known_items
from mmretrieve.search.lines import Line


@dataclass
class Stub:
    """An engine that knows lines and nothing else."""

    found: list[Line]

    def everything(self) -> Stub:
        return self

    def lines(self) -> list[Line]:
        return self.found


def engine(*rows: tuple[str, Modality, str]) -> Engine:
    return cast(Engine, Stub([Line(v, m, t, None, None, None) for v, m, t in rows]))


SP, OC = Modality.SPEECH, Modality.OCR
GOOD = [
    ("a", SP, "bread rises overnight slowly"),
    ("a", OC, "Rye flour and water"),
    ("a", SP, "Bread rises overnight, slowly!"),  # the same words: one query
    ("b", SP, "the train leaves Lisbon tonight"),
    ("b", OC, "Platform nine departures board"),
]


def test_lines_that_can_be_found() -> None:
    made = known_items(engine(*GOOD), 100)
    assert {(q.text, q.query_type, q.relevant) for q in made.queries} == {
        ("bread rises overnight slowly", "speech", ("a",)),
        ("Rye flour and water", "ocr", ("a",)),
        ("the train leaves Lisbon tonight", "speech", ("b",)),
        ("Platform nine departures board", "ocr", ("b",)),
    }
    assert made.hidden == {q.query_id: q.text for q in made.queries}
    assert made.qrels.relevance == {q.query_id: {q.relevant[0]: 1} for q in made.queries}


@pytest.mark.parametrize(
    "rows",
    [
        [("a", SP, "thank you all"), ("a", OC, "x")],  # says too little
        [("a", SP, "word " * 26), ("a", OC, "x")],  # no question
        [("a", SP, "bread rises overnight slowly")],  # nothing else to find the video by
        [(v, SP, "bread rises overnight slowly") for v in "ab"] + [(v, OC, v) for v in "ab"],  # two
    ],
)
def test_lines_that_cannot(rows: list[tuple[str, Modality, str]]) -> None:
    with pytest.raises(UsageError, match="no line in the index can be a query"):
        known_items(engine(*rows), 5)


def test_the_seed_draws_and_modalities_take_turns() -> None:
    rows = [(f"v{i}", m, f"{m} line number n{i} here") for i in range(40) for m in (SP, OC)]
    some = known_items(engine(*rows), 10)
    assert [q.query_type for q in some.queries] == ["speech", "ocr"] * 5
    assert known_items(engine(*rows[::-1]), 10) == some
    assert known_items(engine(*rows), 10, seed=1) != some
    assert len(known_items(engine(*rows), 1000).queries) == 80
