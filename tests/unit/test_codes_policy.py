"""When segments are sealed, merged, rebuilt and coded anew, and which documents are sampled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmretrieve.datatypes import METADATA_PASSAGE, MODALITIES, Modality
from mmretrieve.storage.codes.build import Source, tail_segment
from mmretrieve.storage.codes.catalogue import BookState, read_catalogue
from mmretrieve.storage.codes.policy import Held, Limits, plan
from mmretrieve.storage.codes.reading import open_codes, verify
from mmretrieve.storage.codes.sample import Part, SampleSize, draw, pick_passages, pick_videos
from mmretrieve.storage.codes.segment import Segment, SegmentKind
from mmretrieve.storage.codes.update import rebuild
from mmretrieve.storage.records import VideoEntry
from mmretrieve.storage.tables import open_table
from mmretrieve.storage.writer import IndexWriter
from tests import codes_index as ci

OCR = MODALITIES.index(Modality.OCR)
PLAIN = Limits(exact_below=1000)


def held(name: str | None, live: int, dead: int = 0, kind: SegmentKind = SegmentKind.EXACT) -> Held:
    n_live, n_all = np.zeros((2, len(MODALITIES)), np.int64)
    n_live[OCR], n_all[OCR] = live, live + dead
    return Held(name, frozenset({f"video of {name}"}), n_live, n_all, kind)


def coded(name: str, live: int) -> Held:
    return held(name, live, kind=SegmentKind.CODED)


def videos(*names: str | None) -> frozenset[str]:
    return frozenset(f"video of {name}" for name in names)


def test_new_videos_become_a_segment_of_their_own() -> None:
    made = plan([held("a", 100)], held(None, 10), {}, PLAIN)
    assert (made.keep, made.build, made.kind) == (("a",), (videos(None),), SegmentKind.EXACT)


def test_what_is_covered_and_alive_stays() -> None:
    made = plan([held("a", 100, dead=25), held("b", 5)], None, {}, PLAIN)
    assert (sorted(made.keep), made.build) == (["a", "b"], ())


def test_a_segment_with_many_dead_is_rebuilt_alone() -> None:
    made = plan([held("a", 100, dead=26), held("b", 5)], None, {}, PLAIN)
    assert (made.keep, made.build) == (("b",), (videos("a"),))
    gone = replace(held("c", 0, dead=9), revisions=frozenset())
    assert plan([gone, held("b", 5)], None, {}, PLAIN).keep == ("b",)


def test_tokens_are_coded_from_a_number_on_and_stay_so_down_to_half_of_it() -> None:
    state = {Modality.OCR.value: BookState(1000, 0.9)}
    assert plan([held("a", 999)], None, {}, PLAIN).kind is SegmentKind.EXACT
    up = plan([held("a", 990)], held(None, 10), {}, PLAIN)
    assert (up.kind, up.build) == (SegmentKind.CODED, (videos("a", None),))
    assert up.train == {OCR}
    stay = plan([coded("a", 500)], None, state, PLAIN)
    assert (stay.kind, stay.keep, stay.train) == (SegmentKind.CODED, ("a",), frozenset())
    down = plan([coded("a", 499)], None, state, PLAIN)
    assert (down.kind, down.build, down.train) == (SegmentKind.EXACT, (videos("a"),), frozenset())


@pytest.mark.parametrize(
    ("state", "trained"),
    [
        (BookState(2501, 0.9), False),
        (BookState(2500, 0.9), True),
        (BookState(10_000, 0.9, n_since=500, sum_since=0.86 * 500), False),
        (BookState(10_000, 0.9, n_since=500, sum_since=0.84 * 500), True),
        (BookState(10_000, 0.9, n_since=499, sum_since=0.5 * 499), False),
    ],
)
def test_growth_and_drift_call_for_a_new_codebook(state: BookState, trained: bool) -> None:
    made = plan([coded("a", 9000), coded("b", 1000)], None, {"ocr": state}, PLAIN)
    assert made.train == ({OCR} if trained else set())
    assert made.build == ((videos("a", "b"),) if trained else ())


def test_only_segments_with_the_modality_are_coded_anew() -> None:
    spoken = 900 * np.eye(len(MODALITIES), dtype=np.int64)[MODALITIES.index(Modality.SPEECH)]
    speech = replace(coded("b", 0), n_live=spoken, n_all=spoken)
    made = plan([coded("a", 900), speech], None, {"ocr": BookState(900, 0.9)}, PLAIN)
    assert (made.keep, made.build) == (("a",), (videos("b"),))
    assert made.train == {1}


def test_the_smallest_segments_are_merged_when_there_are_too_many() -> None:
    sizes = {"a": 900_000, "b": 90_000, "c": 300, "d": 200, "e": 40, "f": 30}
    parts = [held(name, size) for name, size in sizes.items()]
    limits = Limits()
    assert len(plan(parts, None, {}, limits).keep) == 6
    made = plan(parts, held(None, 5), {}, limits)
    # 5 + 30 must go together; 40, then 200 and 300 are of no more than twice what is there.
    assert sorted(made.keep) == ["a", "b", "c", "d"]
    assert made.build == (videos("e", "f", None),)


def test_segments_stay_few_and_tokens_are_moved_seldom() -> None:
    parts: list[Held] = []
    moved = 0
    for number in range(1000):
        made = plan(parts, held(f"{number}", 1), {}, Limits(exact_below=10**9))
        kept = [part for part in parts if part.name in made.keep]
        built = [
            replace(held(f"{number}.{i}", len(names)), revisions=names)
            for i, names in enumerate(made.build)
        ]
        moved += sum(part.live for part in built)
        parts = [*kept, *built]
        assert len(parts) <= 6
        assert sum(part.live for part in parts) == number + 1
    assert moved < 20 * 1000


def sealed(folder: Path) -> dict[str, set[str]]:
    """Segment -> ids of its living videos; every video is in one."""
    ids, found, codes = ci.live(folder), {}, ci.opened(folder)
    assert (codes.uncovered, codes.notes) == (frozenset(), ())
    for segment, alive in zip(codes.segments, codes.alive, strict=True):
        found[segment.name] = {ids[r.decode()] for r in segment.revision[alive].tolist()}
    assert sorted(i for some in found.values() for i in some) == sorted(ids.values())
    assert verify(folder, ci.ONE_WIDTH) == ()
    return found


@pytest.mark.parametrize("limits", [ci.EXACT, ci.CODED], ids=["exact", "coded"])
def test_the_life_of_an_index(tmp_path: Path, limits: Limits) -> None:
    rng = np.random.default_rng(5)
    entries = {e.video.video_id: e for e in ci.library(tmp_path, 20)}

    def changed(made: Collection[VideoEntry] = (), removed: Collection[str] = ()) -> None:
        with IndexWriter(tmp_path, ci.ONE_WIDTH) as writer:
            writer.commit(list(made), [])
            writer.remove_videos(removed)
            writer.optimize()
        entries.update({e.video.video_id: e for e in made})
        for name in removed:
            del entries[name]
        assert ci.opened(tmp_path).uncovered == {e.video.revision for e in made}

    assert ci.opened(tmp_path).uncovered == ci.live(tmp_path).keys()
    report = ci.upkeep(tmp_path, limits)
    (first,) = sealed(tmp_path)
    assert (report.n_sealed, report.built, report.dropped) == (20, (first,), ())
    again = replace(ci.upkeep(tmp_path, limits), took_s=0)
    assert again == type(again)()

    changed([ci.entry("new", rng), ci.entry("0003", rng)])
    report = ci.upkeep(tmp_path, limits)
    assert (report.n_sealed, report.dropped) == (2, ())
    assert sealed(tmp_path) == {
        first: entries.keys() - {"new", "0003"}, report.built[0]: {"new", "0003"}
    }  # fmt: skip

    changed(removed=[f"{n:04}" for n in range(8)])
    report = ci.upkeep(tmp_path, limits)
    assert len(report.dropped) == 2
    assert set(map(frozenset, sealed(tmp_path).values())) == {
        frozenset(entries.keys() - {"new"}), frozenset({"new"})
    }  # fmt: skip
    if limits is ci.EXACT:
        ci.assert_same(ci.contents(ci.opened(tmp_path)), ci.expected(entries.values()), 0.004)

    changed(removed=list(entries))
    report = ci.upkeep(tmp_path, limits)
    assert (sealed(tmp_path), report.built) == ({}, ())
    ci.upkeep(tmp_path, limits)
    assert [p.name for p in (tmp_path / "codes").iterdir()] == ["catalogue.json"]


def test_an_index_that_grows_is_coded_and_one_that_shrinks_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    limits = Limits(exact_below=400, grace_s=0)
    small = ci.library(tmp_path, 3)
    ci.upkeep(tmp_path, limits)
    assert ci.opened(tmp_path).segments[0].kind is SegmentKind.EXACT
    large = [ci.entry(f"large {n}", rng) for n in range(12)]
    ci.commit(tmp_path, large)
    report = ci.upkeep(tmp_path, limits)
    assert report.trained == MODALITIES
    assert [s.kind for s in ci.opened(tmp_path).segments] == [SegmentKind.CODED]
    with IndexWriter(tmp_path, ci.ONE_WIDTH) as writer:
        writer.remove_videos([e.video.video_id for e in large])
    ci.upkeep(tmp_path, limits)
    assert [s.kind for s in ci.opened(tmp_path).segments] == [SegmentKind.EXACT]
    ci.assert_same(ci.contents(ci.opened(tmp_path)), ci.expected(small), 0.004)
    ci.upkeep(tmp_path, limits)
    left = {p.name.split("-")[0] for p in (tmp_path / "codes").iterdir()}
    assert left == {"catalogue.json", "segment", "sample"}


def test_a_modality_that_comes_later_gets_a_codebook(tmp_path: Path) -> None:
    ci.library(tmp_path, 10, modalities=[Modality.OCR])
    ci.upkeep(tmp_path, ci.CODED)
    (before,) = ci.opened(tmp_path).segments
    rng = np.random.default_rng(5)
    ci.commit(tmp_path, [ci.entry("talk", rng, modalities=[Modality.SPEECH])])
    report = ci.upkeep(tmp_path, ci.CODED)
    assert (report.trained, report.dropped) == ((Modality.SPEECH,), ())
    assert set(sealed(tmp_path)) == {before.name, *report.built}


def test_tokens_of_another_kind_are_noticed(tmp_path: Path) -> None:
    """Drift: later videos lie where no centroid is, though there are not more of them."""
    rng = np.random.default_rng(0)
    near, far = (ci.unit_rows(rng, 4, 32) for _ in range(2))

    def video(name: str, centres: np.ndarray) -> VideoEntry:
        rows = np.repeat(centres, 25, axis=0) + rng.normal(0, 0.02, (100, 32))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return ci.of_parts(name, [ci.part(0, Modality.OCR, rows)])

    ci.library(tmp_path, 0)
    ci.commit(tmp_path, [video(f"a{n}", near) for n in range(5)])
    ci.upkeep(tmp_path, ci.CODED)
    ci.commit(tmp_path, [video("b", near)])
    assert ci.upkeep(tmp_path, ci.CODED).trained == ()
    ci.commit(tmp_path, [video("c", far)])
    assert ci.upkeep(tmp_path, ci.CODED).trained == (Modality.OCR,)
    (segment,) = ci.opened(tmp_path).segments
    assert segment.layout.n_videos == 7
    state = read_catalogue(tmp_path / "codes").books["ocr"]
    assert (state.n_tokens, state.n_since) == (700, 0)
    assert state.similarity > 0.98
    assert ci.upkeep(tmp_path, ci.CODED).built == ()


def documents(segment: Segment, ids: dict[str, str]) -> list[tuple[str, tuple[int, ...]]]:
    """(video id, passages) of the documents of a sample."""
    bounds = segment.layout.videos.tolist()
    return [
        (ids[r.decode()], tuple(segment.number[bounds[i] : bounds[i + 1]].tolist()))
        for i, r in enumerate(segment.revision.tolist())
    ]


@pytest.mark.parametrize("limits", [ci.EXACT, ci.CODED], ids=["exact", "coded"])
def test_samples_are_the_evenly_spread_documents(tmp_path: Path, limits: Limits) -> None:
    rng = np.random.default_rng(5)
    entries = ci.library(tmp_path, 300)
    ci.upkeep(tmp_path, limits)
    bare = ci.entry("0007", rng, n_passages=0, modalities=[Modality.METADATA])
    mute = ci.entry("0299", rng, modalities=[Modality.OCR])
    made = [bare, mute, *(ci.entry(f"more {n}", rng) for n in range(30))]
    ci.commit(tmp_path, made)
    ci.upkeep(tmp_path, limits)
    alive = {e.video.video_id: e for e in [*entries, *made]}
    keys = []
    for name in sorted(alive):
        timed = {p.number for p, _ in alive[name].passages} - {METADATA_PASSAGE}
        keys += [(name, number) for number in sorted(timed or {METADATA_PASSAGE})]
    wanted = [keys[i] for i in np.linspace(0, len(keys) - 1, 1024).astype(int)]
    codes, ids = ci.opened(tmp_path), ci.live(tmp_path)
    assert len(codes.segments) == 2
    assert codes.samples is not None
    found = documents(codes.samples.passages, ids)
    assert [(name, passages[-1]) for name, passages in found] == wanted
    assert {p[:-1] for name, p in found if name not in ("0007", "0299")} == {(METADATA_PASSAGE,)}
    assert [p for name, p in found if name == "0007"] == [(METADATA_PASSAGE,)]
    names = sorted(alive)
    whole = documents(codes.samples.videos, ids)
    assert [v for v, _ in whole] == [
        names[i] for i in np.linspace(0, len(names) - 1, 256).astype(int)
    ]
    truth = ci.expected(alive.values())
    for sample in (codes.samples.passages, codes.samples.videos):
        cells = [(key, ci.tokens_of(sample, cell, 32)) for key, cell in ci.cells(sample)]
        assert sum(len(tokens) for _, tokens in cells) == sum(sample.n_tokens)
        for key, tokens in cells:
            np.testing.assert_allclose(tokens, truth[key].astype(np.float32), atol=0.004)
    rebuild(tmp_path, ci.ONE_WIDTH, ci.KERNELS, limits)
    anew = ci.opened(tmp_path)
    assert len(anew.segments) == 1
    assert anew.samples is not None
    for a, b in zip(
        (codes.samples.passages, codes.samples.videos),
        (anew.samples.passages, anew.samples.videos),
        strict=True,
    ):
        np.testing.assert_array_equal(a.row, b.row)


def test_samples_are_of_the_living_alone_and_can_be_drawn_in_memory(tmp_path: Path) -> None:
    entries = ci.library(tmp_path, 12)
    ci.upkeep(tmp_path, ci.CODED)
    with IndexWriter(tmp_path, ci.ONE_WIDTH) as writer:
        writer.remove_videos(["0003"])
        writer.commit([ci.entry("0099", np.random.default_rng(3))], [])
    codes, ids = ci.opened(tmp_path), ci.live(tmp_path)
    assert codes.samples is None
    table = open_table(tmp_path, "passages")
    tail = tail_segment(table, codes.uncovered, ci.ONE_WIDTH, ci.KERNELS)
    parts = [Part(s, a) for s, a in zip(codes.segments, codes.alive, strict=True)]
    parts.append(Part(tail, np.ones(1, bool)))
    drawn = draw(Source(table, ci.ONE_WIDTH, ci.KERNELS), parts, ids)
    assert [v for v, _ in documents(drawn.videos, ids)] == sorted(ids.values())
    assert len(ids) == len(entries)
    ci.upkeep(tmp_path, ci.CODED)
    stored = ci.opened(tmp_path).samples
    assert stored is not None
    np.testing.assert_array_equal(stored.passages.row, drawn.passages.row)
    np.testing.assert_array_equal(stored.videos.row, drawn.videos.row)
    nothing = draw(Source(table, ci.ONE_WIDTH, ci.KERNELS), [], {})
    assert nothing.passages.layout.n_videos == 0


def test_samples_are_halved_while_they_have_too_many_tokens(tmp_path: Path) -> None:
    ci.library(tmp_path, 40)
    ci.upkeep(tmp_path, ci.EXACT)
    codes, ids = ci.opened(tmp_path), ci.live(tmp_path)
    parts = [Part(codes.segments[0], codes.alive[0])]
    n_tokens = sum(codes.segments[0].n_tokens)
    for share, n in ((1.0, 32), (0.5, 16), (0.1, 4), (0.01, 4)):
        size = SampleSize(32, 4, int(n_tokens * share))
        assert len(pick_videos(parts, ids, size).cells) == n
    assert len(pick_passages(parts, ids, SampleSize(64, 16, 10)).cells) == 16
    assert len(pick_passages(parts, ids, SampleSize(64, 16, n_tokens * 10)).cells) == 64


def test_codes_of_another_index_cover_nothing(tmp_path: Path) -> None:
    ci.library(tmp_path, 3)
    ci.upkeep(tmp_path, ci.EXACT)
    codes = open_codes(tmp_path, ci.ONE_WIDTH, {"r1", "r2"})
    assert not codes.alive[0].any()
    assert codes.uncovered == {"r1", "r2"}
    assert codes.samples is None
