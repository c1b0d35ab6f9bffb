from __future__ import annotations

import json
import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmretrieve.datatypes import Keyframe, Modality, Segment, TokenEmbeddings
from mmretrieve.encoders.lite import MAX_QUERY_TOKENS, LiteEncoder
from mmretrieve.encoders.text import MAX_PIECES, RECIPE, WIDE, TextEncoder, recipe
from mmretrieve.errors import UsageError
from tests import clips

GOLDEN = Path(__file__).parents[1] / "golden" / "lite_text.json"
SPOKEN = (
    Segment("Hello, world: the ferry leaves at dawn!", 0.0, 2.0),
    Segment("", 2.0, 2.5),
    Segment("It's unbelievable — naïve café owners...", 2.5, 4.0),
    Segment("ferry", 4.0, 5.0),
)
SHOWN = (Segment("Departures 06:45", 0.0, 5.0), Segment("Pier 7", 0.0, 5.0))


@pytest.fixture(scope="module")
def encoder() -> LiteEncoder:
    return LiteEncoder()


def speech(encoder: LiteEncoder, *segments: Segment) -> TokenEmbeddings:
    return encoder.texts({Modality.SPEECH: segments})[Modality.SPEECH]


def words(tokens: TokenEmbeddings, segments: tuple[Segment, ...]) -> list[str]:
    return [
        segments[s].text[a:b]
        for s, a, b in zip(tokens.segment, tokens.char_start, tokens.char_end, strict=True)
    ]


def assert_same(a: TokenEmbeddings, b: TokenEmbeddings) -> None:
    for name in ("vectors", "segment", "char_start", "char_end"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def unit(rows: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_golden_numbers(encoder: LiteEncoder) -> None:
    """int8 kernels differ a little between processors, wrong weights or pooling differ a lot."""
    for row in json.loads(GOLDEN.read_text("utf-8")):
        query = encoder.query(row["text"])
        assert list(query.texts) == row["tokens"]
        numbers = np.array(row["numbers"])
        np.testing.assert_allclose(
            query.vectors["text"][:, : numbers.shape[1]], numbers, atol=2e-2, rtol=0
        )


def test_close_in_meaning_is_close_in_space(encoder: LiteEncoder) -> None:
    def score(query: str, text: str) -> float:
        tokens = speech(encoder, Segment(text)).vectors
        return float((encoder.query(query).vectors["text"] @ tokens.T).max(axis=1).mean())

    text = "The ship leaves the port early in the morning."
    assert (
        score("a boat departs the harbour at dawn", text) > score("how to bake bread", text) + 0.1
    )


def test_tokens_have_unit_length_and_belong_to_their_words(encoder: LiteEncoder) -> None:
    tokens = speech(encoder, *SPOKEN)
    unit(tokens.vectors)
    assert tokens.vectors.dtype == np.float32
    assert {a.dtype for a in (tokens.segment, tokens.char_start, tokens.char_end)} == {
        np.dtype(np.int32)
    }
    assert words(tokens, SPOKEN) == [
        *["Hello", "world", "the", "ferry", "leaves", "at", "dawn"],
        *["It", "s", "unbelievable", "naïve", "café", "owners"],
        "ferry",
    ]
    assert set(tokens.segment.tolist()) == {0, 2, 3}


def test_punctuation_has_no_tokens(encoder: LiteEncoder) -> None:
    everything = encoder.texts({Modality.SPEECH: [Segment(string.punctuation)]})
    assert sum(len(t.vectors) for t in everything.values()) == 0
    assert encoder.query("(hello), world?!").texts == ("hello", "world")
    assert encoder.query("“it\u2019s” – hello… ¿world?").texts == ("it", "s", "hello", "world")
    with pytest.raises(UsageError):
        encoder.query(string.punctuation)


def test_nothing_to_say_is_no_tokens(encoder: LiteEncoder) -> None:
    nothing: list[dict[Modality, list[Segment]]] = [
        {},
        {Modality.SPEECH: []},
        {Modality.OCR: [Segment(" ")]},
    ]
    for parts in nothing:
        assert not any(len(t.vectors) for t in encoder.texts(parts).values())
    segments, tokens = encoder.frames([])
    assert (segments, tokens.vectors.shape) == ((), (0, encoder.dim))


def test_embeddings_do_not_depend_on_what_was_embedded_before(encoder: LiteEncoder) -> None:
    first, query = speech(encoder, *SPOKEN), encoder.query("a ferry at dawn")
    for text in ("x", "word " * 900, "!?"):
        speech(encoder, Segment("other " + text))
    assert_same(first, speech(encoder, *SPOKEN))
    again = encoder.query("a ferry at dawn")
    np.testing.assert_array_equal(query.vectors["text"], again.vectors["text"])
    assert_same(first, speech(LiteEncoder(), *SPOKEN))


def test_embeddings_do_not_depend_on_threads(encoder: LiteEncoder) -> None:
    texts = [f"sentence number {i} about " + "ferries and bread " * (i % 5) for i in range(24)]
    alone = [speech(encoder, Segment(t)) for t in texts]
    fresh = LiteEncoder()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda t: speech(fresh, Segment(t)), texts))
    two = LiteEncoder(threads=2)
    for text, a, b in zip(texts, alone, together, strict=True):
        assert_same(a, b)
        assert_same(a, speech(two, Segment(text)))


def test_frames_do_not_depend_on_batch_mates(encoder: LiteEncoder) -> None:
    shots = [Keyframe(i, i, i + 1.0, clips.scene(0, i, 288, 162)) for i in range(3)]
    segments, tokens = encoder.frames(shots)
    unit(tokens.vectors)
    assert len(segments) == len(tokens.vectors)
    rows = []
    for shot in shots:
        alone, own = encoder.frames([shot])
        mine = [i for i, s in enumerate(segments) if s.start_s == shot.start_s]
        assert tuple(segments[i] for i in mine) == alone
        rows.append(own.vectors)
    np.testing.assert_array_equal(np.concatenate(rows), tokens.vectors)


def test_modalities_share_a_context_where_they_fit(encoder: LiteEncoder) -> None:
    both = encoder.texts({Modality.SPEECH: SPOKEN, Modality.OCR: SHOWN})
    assert words(both[Modality.OCR], SHOWN) == [*("Departure", "s", "06", "45", "Pier", "7")]
    alone = speech(encoder, *SPOKEN)
    assert words(both[Modality.SPEECH], SPOKEN) == words(alone, SPOKEN)
    assert not np.array_equal(both[Modality.SPEECH].vectors, alone.vectors)
    similar = (both[Modality.SPEECH].vectors * alone.vectors).sum(axis=1)
    assert similar.min() > 0.5
    turned = encoder.texts({Modality.OCR: SHOWN, Modality.SPEECH: SPOKEN})
    for modality in both:
        assert_same(both[modality], turned[modality])


def test_what_does_not_fit_together_is_embedded_apart(encoder: LiteEncoder) -> None:
    long = tuple(Segment(f"line {i} of the slide") for i in range(120))
    both = encoder.texts({Modality.SPEECH: SPOKEN, Modality.OCR: long})
    assert_same(both[Modality.SPEECH], speech(encoder, *SPOKEN))
    assert_same(both[Modality.OCR], encoder.texts({Modality.OCR: long})[Modality.OCR])


def test_a_token_is_a_mean_of_its_line_and_of_everything(encoder: LiteEncoder) -> None:
    text = TextEncoder()
    first = "The ferry leaves the old harbour every day at dawn.\nPier 7"
    second = "Bread needs flour, water, salt and a lot of time to rise. It is baked in an oven."
    lines = ("The ferry leaves the old harbour every day at dawn.", "Pier 7")
    sentences = (
        "Bread needs flour, water, salt and a lot of time to rise.",
        "It is baked in an oven.",
    )
    every = text.hidden(text.tokenize(f"{first} {second}").ids)
    for found, parts in zip(text.in_contexts([first, second]), (lines, sentences), strict=True):
        near = np.concatenate([text.hidden(text.tokenize(part).ids) for part in parts])
        wide, every = every[: len(near)], every[len(near) :]
        expected = text.project((WIDE * wide + (1 - WIDE) * near).astype(np.float32))
        np.testing.assert_allclose(found.vectors, expected, atol=1e-6)
    assert not len(every)


def test_one_short_text_is_read_once(encoder: LiteEncoder) -> None:
    text = TextEncoder()
    for short in ("ferry", "Pier 7.\nDeparts at dawn!"):
        (found,) = text.in_contexts([short])
        np.testing.assert_array_equal(found.vectors, text.encode(short).vectors)
    assert text.in_contexts([]) == []


def test_the_rule_of_reading_is_a_fingerprint(encoder: LiteEncoder) -> None:
    assert encoder.fingerprints()[RECIPE] == recipe()


def test_long_texts_lose_no_word(encoder: LiteEncoder) -> None:
    segments = tuple(Segment(f"word {i} ferry, harbour.") for i in range(400))
    tokens = speech(encoder, *segments)
    assert len(tokens.vectors) > 2 * MAX_PIECES
    unit(tokens.vectors)
    assert np.bincount(tokens.segment, minlength=400).min() >= 4
    found = words(tokens, segments)
    assert found.count("ferry") == found.count("harbour") == found.count("word") == 400


def test_one_endless_word_is_survived(encoder: LiteEncoder) -> None:
    tokens = speech(encoder, Segment("x" * 50_000), Segment("ferry"))
    assert words(tokens, (Segment("x" * 50_000), Segment("ferry")))[-1] == "ferry"


def test_lone_surrogates_and_nuls_do_not_move_offsets(encoder: LiteEncoder) -> None:
    segments = (Segment("a \ud83d broken \0 boat"), Segment("🎈 whole ferry"))
    found = words(speech(encoder, *segments), segments)
    assert [w for w in found if w.isalpha()] == ["a", "broken", "boat", "whole", "ferry"]


def test_queries_are_cut_to_their_first_tokens(encoder: LiteEncoder) -> None:
    query = encoder.query("ferry harbour " * 5000)
    assert query.texts == ("ferry", "harbour") * (MAX_QUERY_TOKENS // 2)
    assert len(query.word) == len(query.vectors["text"]) == MAX_QUERY_TOKENS
    assert query.word.tolist() == sorted(query.word.tolist())


@pytest.mark.parametrize("n_marks", [1, 100, 500])
def test_symbols_before_a_word_cost_nothing(encoder: LiteEncoder, n_marks: int) -> None:
    assert encoder.query("!" * n_marks + " ferry").texts == ("ferry",)
    with pytest.raises(UsageError):
        encoder.query("!" * 2000)


def test_word_numbers_join_pieces(encoder: LiteEncoder) -> None:
    query = encoder.query("unbelievable ferry")
    assert query.texts[-1] == "ferry"
    assert len(set(query.word[:-1].tolist())) == 1
    assert query.word[-1] != query.word[0]
