"""Queries of distinctive phrases, and text that is made harmless."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mmretrieve.datatypes import Modality
from mmretrieve.experiments.synthesis.keyphrases import MOST_CHARACTERS, Keyphrases
from mmretrieve.experiments.synthesis.material import Content, clean, spread
from mmretrieve.experiments.synthesis.output import Made, one_a_video

SP, OC, ME, FR = Modality.SPEECH, Modality.OCR, Modality.METADATA, Modality.FRAMES


def library(*rows: tuple[str, Modality, Sequence[str]]) -> tuple[Content, ...]:
    return tuple(Content(video, modality, tuple(texts)) for video, modality, texts in rows)


BAKERY = library(
    ("bread", SP, ["we knead the sourdough slowly", "and the bakery opens at dawn"]),
    ("bread", OC, ["Sourdough flour", "bakery"]),
    ("train", SP, ["the night train leaves Lisbon", "we leave at dawn"]),
    ("cake", SP, ["the bakery sells cake", "cake with cream"]),
)


def queries(contents: Sequence[Content]) -> dict[tuple[str, Modality], str | None]:
    phrases = Keyphrases(contents)
    return {(c.video_id, c.modality): phrases.query(c) for c in contents}


def test_phrases_are_the_distinctive_ones_of_this_modality() -> None:
    found = queries(BAKERY)
    # "knead sourdough slowly" has a function word in it, "sourdough" is written too and weighs half.
    assert found["bread", SP] == "sourdough slowly bakery opens"
    assert found["train", SP] == "night train leaves Lisbon leave"
    assert found["bread", OC] == "Sourdough flour"
    assert found["cake", SP] == "bakery sells cake cream"


def test_no_other_video_has_all_of_the_words() -> None:
    rows = library(
        ("a", SP, ["green apples", "ripe pears"]),
        ("b", SP, ["ripe pears", "green apples", "old plums"]),
        ("c", SP, ["nothing here"]),
        ("d", SP, ["something else"]),
    )
    found = queries(rows)
    assert found["a", SP] is None  # b says it all
    query = found["b", SP]
    assert query is not None
    assert "plums" in query


def test_the_same_library_gives_the_same_queries_in_any_order() -> None:
    assert queries(BAKERY) == queries(BAKERY[::-1])


@pytest.mark.parametrize(
    "texts",
    [["GX010115"], ["2201 0044"], ["and the of"], ["", "  ", "!!!"], ["ab"], []],
)
def test_what_means_nothing_gives_no_query(texts: list[str]) -> None:
    rows = library(("a", ME, texts), ("b", SP, ["other words"]))
    assert queries(rows)["a", ME] is None


def test_words_of_most_videos_are_not_enough() -> None:
    rows = library(*((v, SP, ["welcome back", f"{word} story"]) for v, word in
                     [("a", "whale"), ("b", "tiger"), ("c", "heron"), ("d", "camel")]))  # fmt: skip
    assert list(queries(rows).values()) == ["whale", "tiger", "heron", "camel"]


def test_repeated_phrases_weigh_more() -> None:
    once = "quartz kiln marble"
    rows = library(
        ("a", SP, ["zinc oxide. potter's wheel. glass furnace", "glass furnace", "glass furnace"]),
        ("b", SP, [once]),
    )
    query = queries(rows)["a", SP]
    assert query is not None
    assert "glass furnace" in query


def test_long_words_are_cut_to_the_bound() -> None:
    rows = library(("a", SP, ["x" * 400 + " " + "y" * 90]), ("b", SP, ["other words"]))
    query = queries(rows)["a", SP]
    assert query is not None
    assert len(query) <= MOST_CHARACTERS


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("a\x1b[31mred\x00\n\tb", 50, "a [31mred b"),
        ("left\u202eright\ufeff\u200b.", 50, "left right ."),
        ("one two three", 9, "one two"),
        ("unbroken", 4, "unbr"),
        ("half \ud83d character", 50, "half character"),
        ("naïve café 東京", 50, "naïve café 東京"),
    ],
)
def test_text_is_made_harmless(text: str, most: int, expected: str) -> None:
    assert clean(text, most) == expected


def test_spread_is_even() -> None:
    assert spread([1.0, 2.0], 3) == (1.0, 2.0)
    assert spread([float(i) for i in range(100)], 4) == (12.0, 37.0, 62.0, 87.0)


def test_one_query_a_video_takes_turns_between_modalities() -> None:
    made = [Made(v, m, f"{v} {m}", "x", "y") for v in "abcd" for m in (SP, OC)]
    made += [Made("e", FR, "e frames", "x", "y"), Made("f", SP, None, "x", "y")]
    chosen = one_a_video(made)
    assert [(m.video_id, m.modality) for m in chosen] == [
        ("a", SP), ("b", OC), ("c", SP), ("d", OC), ("e", FR),
    ]  # fmt: skip
