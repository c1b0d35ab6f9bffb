"""Search over the demo clips: known answers, and laws that hold for every query."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmretrieve import Engine
from mmretrieve.config import Settings
from mmretrieve.datatypes import (
    MODALITIES,
    Aggregation,
    ConfidenceLabel,
    Filter,
    GroupBy,
    Hit,
    Modality,
    SearchResult,
)
from mmretrieve.demo import QUERIES, UNANSWERABLE, DemoQuery, clips_folder
from mmretrieve.errors import UsageError
from mmretrieve.scoring.aggregation import Scoring

TEXTS = [asked.text for asked in QUERIES]

known = pytest.mark.parametrize("asked", QUERIES, ids=lambda asked: asked.text)


def name(hit: Hit) -> str:
    return str(Path(hit.video.path).relative_to(clips_folder()))


def carried(hit: Hit) -> dict[Modality, float]:
    sums = dict.fromkeys(MODALITIES, 0.0)
    for item in hit.evidence:
        sums[item.modality] += item.contribution
    return sums


def content(result: SearchResult) -> tuple[object, ...]:
    """Everything but the time that it took."""
    return result.hits, result.no_good_match, result.n_videos_searched, result.n_tokens_searched


@known
def test_the_known_answer_comes_first(demo: Engine, asked: DemoQuery) -> None:
    for group_by in GroupBy:
        result = demo.search(asked.text, group_by=group_by)
        first = result.hits[0]
        assert name(first) == asked.file
        assert not result.no_good_match
        sums = carried(first)
        assert max(sums, key=lambda m: sums[m]) is asked.modality
        assert sums[asked.modality] > 0.5 * first.score
        if asked.window_s is not None:
            start_s, end_s = asked.window_s
            assert first.moment.start_s is not None and first.moment.end_s is not None
            assert first.moment.start_s < end_s and first.moment.end_s > start_s
            assert start_s - 1 <= (first.moment.best_s or 0.0) <= end_s


def test_what_nothing_answers_is_no_good_match(demo: Engine) -> None:
    for group_by in GroupBy:
        result = demo.search(UNANSWERABLE, group_by=group_by)
        assert result.no_good_match
        assert all(h.confidence.label is ConfidenceLabel.NONE for h in result.hits)
    assert demo.search(UNANSWERABLE, min_confidence=ConfidenceLabel.LOW).hits == ()


@pytest.mark.parametrize("aggregation", Aggregation)
@pytest.mark.parametrize("group_by", GroupBy)
def test_the_evidence_adds_up_to_the_score(
    demo: Engine, aggregation: Aggregation, group_by: GroupBy
) -> None:
    scoring = Scoring(aggregation, {Modality.SPEECH: 2.0, Modality.METADATA: 0.5})
    for text in (*TEXTS, UNANSWERABLE):
        result = demo.search(text, k=50, scoring=scoring, group_by=group_by)
        assert result.hits
        for hit in result.hits:
            assert sum(e.contribution for e in hit.evidence) == pytest.approx(hit.score, abs=1e-4)


def test_hits_are_ranked_and_times_are_inside_the_video(demo: Engine) -> None:
    for text in TEXTS:
        hits = demo.search(text, k=50).hits
        assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
        assert all(a.score >= b.score for a, b in itertools.pairwise(hits))
        for hit in hits:
            moment = hit.moment
            if moment.start_s is not None:
                assert moment.end_s is not None and moment.best_s is not None
                assert 0 <= moment.start_s < moment.end_s <= hit.video.duration_s + 0.5
            for item in hit.evidence:
                begin, end = item.span
                assert 0 <= begin <= end <= len(item.text)


def test_moments_of_one_video_do_not_share_evidence_passages(demo: Engine) -> None:
    for text in TEXTS:
        seen = [
            (h.video.video_id, h.moment.start_s, h.moment.end_s) for h in demo.search(text).hits
        ]
        assert len(set(seen)) == len(seen)


@known
def test_a_video_filter_changes_no_score(demo: Engine, asked: DemoQuery) -> None:
    for group_by in GroupBy:
        every = demo.search(asked.text, k=100, group_by=group_by).hits
        for glob in (Path(asked.file).name, "*.webm", "*0*"):
            few = demo.search(
                asked.text, k=100, group_by=group_by, filter=Filter(video_glob=glob)
            ).hits
            kept = {h.video.video_id for h in few}
            expected = [h for h in every if h.video.video_id in kept]
            assert [(h.video, h.moment, h.score) for h in few] == [
                (h.video, h.moment, h.score) for h in expected
            ]
            assert [h.confidence for h in few] == [h.confidence for h in expected]


def test_confidence_is_that_of_the_hit_whatever_was_asked_before(demo: Engine) -> None:
    for text in (*TEXTS, UNANSWERABLE):
        every = demo.search(text, k=100).hits
        sure = {(h.video.video_id, h.moment.start_s): h.confidence for h in every}
        demo.refresh()  # forgets what was judged
        for k, wanted in ((1, Filter()), (3, Filter(video_glob="*0*")), (20, Filter())):
            for hit in demo.search(text, k=k, filter=wanted).hits:
                assert hit.confidence == sure[hit.video.video_id, hit.moment.start_s]


@pytest.mark.parametrize("modality", MODALITIES)
def test_only_the_chosen_modality_takes_part(demo: Engine, modality: Modality) -> None:
    for asked in QUERIES:
        result = demo.search(asked.text, filter=Filter(modalities=(modality,)))
        for hit in result.hits:
            assert set(hit.modalities) == {modality}
            assert {e.modality for e in hit.evidence} <= {modality}
        if modality is asked.modality:
            assert name(result.hits[0]) == asked.file


def test_weights_change_the_order(demo: Engine) -> None:
    text = "snow covered mountains on the train from Lisbon"
    orders = {}
    for modality in (Modality.FRAMES, Modality.METADATA):
        others = {m: 0.1 for m in MODALITIES if m is not modality}
        hits = demo.search(text, scoring=Scoring(weights={**others, modality: 3.0})).hits
        orders[modality] = [name(h) for h in hits]
    assert orders[Modality.FRAMES][0] == "GX010114.mp4"
    assert orders[Modality.METADATA][0] == "clip_0007.mp4"
    off = Scoring(weights={Modality.FRAMES: 0.0})
    for hit in demo.search(text, scoring=off).hits:
        assert Modality.FRAMES not in {e.modality for e in hit.evidence}


def test_a_weight_on_everything_scales_the_score(demo: Engine) -> None:
    twice = Scoring(weights=dict.fromkeys(MODALITIES, 2.0))
    for text in TEXTS:
        one, two = demo.search(text).hits, demo.search(text, scoring=twice).hits
        assert [h.video for h in one] == [h.video for h in two]
        assert [h.score for h in two] == pytest.approx([2 * h.score for h in one], rel=1e-5)
        assert [h.confidence for h in one] == [h.confidence for h in two]


def test_a_phrase_keeps_the_passages_that_hold_it(demo: Engine) -> None:
    for phrase, file in (
        ("permission denied", "screen_0931.mp4"),
        ("PERMISSION  Denied", "screen_0931.mp4"),
        ("3-2-1 backup", "lecture_05.mp4"),
        ("identity added", "screen_0931.mp4"),
    ):
        hits = demo.search("anything at all", filter=Filter(phrase=phrase)).hits
        assert {name(h) for h in hits} == {file}, phrase
    for phrase in ("ermission denied", "permission deni", "denied permission", "p.rmission"):
        assert demo.search("anything", filter=Filter(phrase=phrase)).hits == (), phrase


def test_a_time_range_keeps_what_overlaps_it(demo: Engine) -> None:
    for from_s, to_s in ((0.0, 5.0), (12.0, 14.0), (25.0, None), (None, 3.0)):
        wanted = Filter(from_s=from_s, to_s=to_s)
        for hit in demo.search("a mountain and bread", k=50, filter=wanted).hits:
            for item in hit.evidence:
                if item.passage >= 0:
                    passage = demo.explain("bread", hit.video.video_id, at_s=item.start_s)
                    assert passage.video == hit.video
            assert hit.video.duration_s >= (from_s or 0.0)
    late = Filter(from_s=30.0)
    assert {name(h) for h in demo.search("bees", filter=late, k=1).hits} == {"podcast_012.mp4"}


def test_where_conditions_choose_videos(demo: Engine) -> None:
    every = {v.path: v for v in demo.videos()}
    short = demo.search("x", k=50, filter=Filter(where=(("duration_s<", "12"),)))
    assert {h.video.path for h in short.hits} == {p for p, v in every.items() if v.duration_s < 12}
    webm = demo.search("x", k=50, filter=Filter(where=(("name~", "WEBM"),)))
    assert {name(h) for h in webm.hits} == {"VID_0611.webm"}
    both = Filter(where=(("name~", "webm"), ("duration_s<", "1")))
    assert demo.search("x", filter=both).hits == ()


def test_explain_agrees_with_search(demo: Engine) -> None:
    for asked in QUERIES:
        first = demo.search(asked.text, k=1).hits[0]
        told = demo.explain(asked.text, first.video.video_id)
        assert (told.rank, told.score, told.evidence) == (1, first.score, first.evidence)
        assert told.confidence == first.confidence
        assert told.thumbnail is not None


def test_explain_tells_about_a_video_that_does_not_rank(demo: Engine) -> None:
    text = "what causes the tides"
    told = demo.explain(text, "screen_0931.mp4")
    assert told.rank > 1
    assert told.confidence.label is ConfidenceLabel.NONE
    assert "tides" in told.unmatched
    assert sum(e.contribution for e in told.evidence) == pytest.approx(told.score, abs=1e-4)
    at = demo.explain(text, "podcast_012.mp4", at_s=35.0)
    assert at.score <= demo.explain(text, "podcast_012.mp4").score
    with pytest.raises(UsageError, match="39"):
        demo.explain(text, "podcast_012.mp4", at_s=99.0)


def test_thumbnails_are_jpegs_and_come_on_request(demo: Engine) -> None:
    plain = demo.search(TEXTS[0]).hits
    pictured = demo.search(TEXTS[0], thumbnails=True).hits
    assert all(h.thumbnail is None for h in plain)
    for hit in pictured:
        assert hit.thumbnail is not None and hit.thumbnail[:3] == b"\xff\xd8\xff"
        assert hit.thumbnail[-2:] == b"\xff\xd9"
    assert demo.thumbnail("no such id", 0.0) is None
    video = demo.videos()[0].video_id
    assert demo.thumbnail(video, 0.0) is not None


def test_by_video_every_video_is_there_once(demo: Engine) -> None:
    n_videos = len(demo.videos())
    for text in TEXTS:
        hits = demo.search(text, k=100, group_by=GroupBy.VIDEO).hits
        assert len({h.video.video_id for h in hits}) == len(hits) == n_videos


def test_fewer_hits_are_the_first_of_more(demo: Engine) -> None:
    for text in TEXTS:
        every = demo.search(text, k=100, group_by=GroupBy.VIDEO).hits
        for k in (1, 3):
            assert demo.search(text, k=k, group_by=GroupBy.VIDEO).hits == every[:k]


def test_searches_leave_no_trace(demo_index: Path) -> None:
    texts = [*TEXTS, UNANSWERABLE]
    with Engine.open(demo_index) as engine:
        forward = {t: content(engine.search(t)) for t in texts}
        for text in reversed(texts):
            engine.search(text, scoring=Scoring(Aggregation.MODALITY_MAX), group_by=GroupBy.VIDEO)
            engine.search(text, k=1, filter=Filter(modalities=(Modality.OCR,), phrase="denied"))
            assert content(engine.search(text)) == forward[text]
            assert content(engine.search(text)) == forward[text]
    for text in texts[:3]:
        with Engine.open(demo_index) as alone:
            assert content(alone.search(text)) == forward[text]


def test_searches_side_by_side_equal_searches_in_turn(demo_index: Path) -> None:
    texts = [*TEXTS, UNANSWERABLE] * 3
    with Engine.open(demo_index) as engine:
        # Nothing is loaded yet: all four threads come first.
        with ThreadPoolExecutor(4) as pool:
            together = [content(r) for r in pool.map(engine.search, texts)]
        assert together == [content(engine.search(t)) for t in texts]


def test_an_unrelated_video_hides_no_answer(
    demo_index: Path, tmp_path: Path, make_clip: Callable[..., Path], quiet_settings: Settings
) -> None:
    index = tmp_path / "index"
    shutil.copytree(demo_index, index)
    make_clip(
        tmp_path / "v" / "other.mp4", 5, said="Mortgage rates were raised by the central bank."
    )
    make_clip(tmp_path / "v" / "plain.mp4", 6)
    with Engine.open(index) as engine:
        engine.index([tmp_path / "v"])
        for asked in QUERIES:
            result = engine.search(asked.text)
            assert name(result.hits[0]) == asked.file
            assert not result.no_good_match
        assert engine.search(UNANSWERABLE).no_good_match
        hit = engine.search("central bank raising mortgage rates", k=1).hits[0]
        assert Path(hit.video.path).name == "other.mp4"


def test_case_and_blanks_do_not_matter(demo: Engine) -> None:
    for text in TEXTS:
        odd = f"  {text.upper().replace(' ', '   ')} \n"
        assert [h.score for h in demo.search(odd).hits] == [h.score for h in demo.search(text).hits]
