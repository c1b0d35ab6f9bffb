from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mmretrieve.datatypes import (
    METADATA_PASSAGE,
    MODALITIES,
    Filter,
    GroupBy,
    Modality,
    Passage,
    Probe,
    QueryTokens,
    Segment,
    TokenEmbeddings,
)
from mmretrieve.errors import UsageError
from mmretrieve.kernels.plain import PlainKernels
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.search.filters import holds, matches, parse_condition
from mmretrieve.search.searcher import Request, Searcher
from mmretrieve.search.selection import select
from mmretrieve.storage.folder import Manifest, write_manifest
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import VideoEntry, VideoRecord
from mmretrieve.storage.writer import IndexWriter

DIM = 16
MANIFEST = Manifest("lite", DIM, {"text": "0" * 64}, {m.value: "text" for m in Modality}, "")
WORDS = {
    word: number
    for number, word in enumerate(("red", "boat", "harbour", "bread", "dough", "baker"))
}
RAW = Scoring(centre=False, power=1.0)


def vector(word: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Known words are axes; any other word is a direction that no document has."""
    row = np.zeros(DIM, np.float32)
    row[WORDS.get(word, DIM - 1)] = 1
    return row


def encode(text: str) -> QueryTokens:
    words = text.split()
    vectors = np.stack([vector(w) for w in words])
    return QueryTokens(text, {"text": vectors}, tuple(words), np.arange(len(words), dtype=np.int32))


def part(
    number: int, modality: Modality, text: str, at_s: float | None
) -> tuple[Passage, TokenEmbeddings]:
    words = text.split()
    starts = np.cumsum([0, *(len(w) + 1 for w in words[:-1])]).astype(np.int32)
    ends = starts + np.array([len(w) for w in words], np.int32)
    end_s = None if at_s is None else at_s + 10
    tokens = TokenEmbeddings(
        np.stack([vector(w) for w in words]), np.zeros(len(words), np.int32), starts, ends
    )
    return Passage(number, modality, at_s, end_s, (Segment(text, at_s, end_s),), "test"), tokens


def video(name: str, spoken: Sequence[str], about: str = "") -> VideoEntry:
    parts = [part(i, Modality.SPEECH, said, 10.0 * i) for i, said in enumerate(spoken)]
    if about:
        parts.append(part(METADATA_PASSAGE, Modality.METADATA, about, None))
    record = VideoRecord(
        name, f"r-{name}", f"/v/{name}.mp4", about, 10.0 * len(spoken), Probe(1.0, "mp4", 1),
        facts={"tags": ("Sea", "food"), "views": 7, "live": True, "channel": "NASA"},
    )  # fmt: skip
    return VideoEntry(record, tuple(parts), ())


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("search") / "index"
    write_manifest(folder, MANIFEST)
    entries = [
        video("a", ["red boat", "harbour", "bread dough"], "baker"),
        video("b", ["boat", "bread", "boat harbour"]),
        video("c", [], "red baker"),
    ]
    with IndexWriter(folder, MANIFEST) as writer:
        writer.commit(entries, [])
    return Snapshot(folder, MANIFEST)


@pytest.fixture
def searcher(snapshot: Snapshot) -> Searcher:
    return Searcher(snapshot, encode, PlainKernels())


def ids(searcher: Searcher, query: str, **kwargs: object) -> list[tuple[str, float]]:
    found = searcher.search(query, Request(scoring=RAW, **kwargs))  # type: ignore[arg-type]
    return [(h.video.video_id, round(h.score, 5)) for h in found.hits]


def test_scores_are_those_of_the_formula(searcher: Searcher) -> None:
    assert ids(searcher, "red boat harbour", group_by=GroupBy.VIDEO) == [
        ("a", 1.0), ("b", round(2 / 3, 5)), ("c", round(1 / 3, 5)),
    ]  # fmt: skip
    # In one passage: red boat together, and harbour alone in the next one.
    assert ids(searcher, "red boat harbour")[0] == ("a", round(2 / 3, 5))
    # What is known about a video helps each of its passages.
    assert ids(searcher, "bread dough baker")[0] == ("a", 1.0)


def test_equal_scores_are_in_the_order_of_ids(searcher: Searcher) -> None:
    assert [i for i, _ in ids(searcher, "unheard", group_by=GroupBy.VIDEO)] == ["a", "b", "c"]


def test_evidence_names_the_word_the_passage_and_the_time(searcher: Searcher) -> None:
    hit = searcher.search("dough baker", Request(scoring=RAW)).hits[0]
    told = {e.query_token: e for e in hit.evidence}
    assert told["dough"].text[slice(*told["dough"].span)] == "dough"
    assert (told["dough"].passage, told["dough"].start_s) == (2, 20.0)
    assert (told["baker"].modality, told["baker"].start_s) == (Modality.METADATA, None)
    assert hit.moment.start_s == 20.0


def passages(snapshot: Snapshot, wanted: Filter) -> set[str]:
    """Video id and number of every passage that takes part."""
    found = set()
    selections = select(snapshot, wanted)
    for live, selection in zip(snapshot.searchable.segments, selections, strict=True):
        layout = live.segment.layout
        owner = np.repeat(live.video, np.diff(layout.videos))
        kept = range(layout.n_passages) if selection.passages is None else selection.passages
        found |= {f"{snapshot.videos[owner[p]].video_id}{live.segment.number[p]}" for p in kept}
    return found


@pytest.mark.parametrize(
    ("from_s", "to_s", "kept"),
    [
        (None, None, {"a0", "a1", "a2", "a-1", "b0", "b1", "b2", "c-1"}),
        (12.0, 18.0, {"a1", "a-1", "b1", "c-1"}),
        (None, 5.0, {"a0", "a-1", "b0", "c-1"}),
        (31.0, None, {"c-1"}),
    ],
)
def test_a_time_range_keeps_passages_and_what_is_known_about_them(
    snapshot: Snapshot, from_s: float | None, to_s: float | None, kept: set[str]
) -> None:
    assert passages(snapshot, Filter(from_s=from_s, to_s=to_s)) == kept


def test_filters_that_cannot_be_used(snapshot: Snapshot) -> None:
    for wanted in (
        Filter(from_s=2.0, to_s=1.0),
        Filter(to_s=float("nan")),
        Filter(phrase=" "),
        Filter(modalities=()),
        Filter(where=(("channel=>", "x"),)),
    ):
        with pytest.raises(UsageError):
            select(snapshot, wanted)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("channel=nasa", True), ("channel!=NASA", False), ("channel~as", True), ("channel", True),
        ("tags=sea", True), ("tags=land", False), ("tags!=sea", False), ("views>=7", True),
        ("views<7", False), ("views=seven", False), ("views!=seven", True), ("live=true", True),
        ("live=no", False), ("missing=1", False), ("missing!=1", True), ("name=a.mp4", True),
        ("duration_s<=30.0", True), ("path~/v/", True), ("video_id=a", True), ("width>1", False),
    ],
)  # fmt: skip
def test_conditions(snapshot: Snapshot, condition: str, expected: bool) -> None:
    if condition == "channel":  # what a Python caller writes: ("channel", "NASA")
        assert holds(snapshot.videos[0], "/v/a.mp4", "channel", "NASA") is expected
    else:
        assert holds(snapshot.videos[0], "/v/a.mp4", *parse_condition(condition)) is expected


def test_names_fit_ids_paths_file_names_and_globs() -> None:
    for glob in ("id", "/v/a [1].mp4", "a [1].mp4", "a*", "*.mp4", "/v/*"):
        assert matches("id", "/v/a [1].mp4", glob), glob
    for glob in ("i", "a", "A*", "v/*", ""):
        assert not matches("id", "/v/a [1].mp4", glob), glob


def test_phrases_are_words_and_no_patterns(snapshot: Snapshot) -> None:
    def kept(phrase: str) -> set[str]:
        return {name[0] for name in passages(snapshot, Filter(phrase=phrase))}

    assert kept("RED  boat") == {"a"}
    assert kept("boat harbour") == {"b"}
    for phrase in ("ed boat", "red boa", "boat red", "r.d boat", "red|boat", "(", "[a-z]+", "\\w+"):
        assert kept(phrase) == set(), phrase


def test_a_query_of_another_width_is_told(snapshot: Snapshot) -> None:
    def narrow(text: str) -> QueryTokens:
        return QueryTokens(
            text, {"text": np.ones((1, 3), np.float32)}, ("x",), np.zeros(1, np.int32)
        )

    with pytest.raises(UsageError, match="expected width 16, got width 3"):
        Searcher(snapshot, narrow, PlainKernels()).search("x", Request())


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_missing_modality_neither_helps_nor_hurts(searcher: Searcher, modality: Modality) -> None:
    result = searcher.search("red boat", Request(filter=Filter(modalities=(modality,))))
    having = {Modality.SPEECH: {"a", "b"}, Modality.METADATA: {"a", "c"}}.get(modality, set())
    assert {h.video.video_id for h in result.hits} == having
    assert Path(result.hits[0].video.path).name.endswith(".mp4") if result.hits else True
