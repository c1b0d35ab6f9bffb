"""What sealed segments hold: the tokens of the tables, all of them and nothing else."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmretrieve.datatypes import METADATA_PASSAGE, MODALITIES, Modality
from mmretrieve.errors import IndexFormatError
from mmretrieve.storage.codes.build import tail_segment
from mmretrieve.storage.codes.cells import count_tokens, fetch_vectors
from mmretrieve.storage.codes.check import check_segment
from mmretrieve.storage.codes.files import MemorySink
from mmretrieve.storage.codes.lists import write_lists
from mmretrieve.storage.codes.policy import Limits
from mmretrieve.storage.codes.segment import SegmentKind, of_modality
from mmretrieve.storage.folder import Manifest
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import VideoEntry
from mmretrieve.storage.tables import open_table
from tests import codes_index as ci

EIGHT_BIT = 1 / 254 + 1e-6
"""Of numbers up to 1: half a step."""


@pytest.fixture(params=[ci.ONE_WIDTH, ci.TWO_WIDTHS], ids=["one width", "two widths"])
def manifest(request: pytest.FixtureRequest) -> Manifest:
    found: Manifest = request.param
    return found


def test_an_exact_segment_holds_every_token(tmp_path: Path, manifest: Manifest) -> None:
    entries = ci.library(tmp_path, 12, manifest)
    report = ci.upkeep(tmp_path, ci.EXACT, manifest)
    codes = ci.opened(tmp_path, manifest)
    (segment,) = codes.segments
    assert (report.n_sealed, report.built, codes.notes) == (12, (segment.name,), ())
    assert segment.kind is SegmentKind.EXACT
    assert not codes.uncovered
    ci.assert_same(ci.contents(codes, manifest), ci.expected(entries), EIGHT_BIT)
    sizes = [(m.value in ("frames",) and manifest.width(m)) or 32 for m in MODALITIES]
    assert [t.values.shape[1] for t in segment.tokens if t is not None] == sizes


def test_a_coded_segment_holds_every_token_nearly(tmp_path: Path, manifest: Manifest) -> None:
    entries = ci.library(tmp_path, 30, manifest)
    ci.upkeep(tmp_path, ci.CODED, manifest)
    codes = ci.opened(tmp_path, manifest)
    (segment,) = codes.segments
    assert segment.kind is SegmentKind.CODED
    found, wanted = ci.contents(codes, manifest), ci.expected(entries)
    assert found.keys() == wanted.keys()
    near = [np.sum(found[k] * wanted[k], axis=1) / np.linalg.norm(found[k], axis=1) for k in wanted]
    joined = np.concatenate(near)
    # Independent directions are the hardest there is; real tokens come to 0.99.
    assert len(joined) == sum(segment.n_tokens)
    assert joined.mean() > 0.9, (joined.mean(), joined.min())
    assert joined.min() > 0.6, (joined.mean(), joined.min())


def test_the_order_and_times_of_passages(tmp_path: Path) -> None:
    ci.library(tmp_path, 5)
    ci.upkeep(tmp_path, ci.EXACT)
    (segment,) = ci.opened(tmp_path).segments
    layout = segment.layout
    for v in range(layout.n_videos):
        mine = slice(layout.videos[v], layout.videos[v + 1])
        assert segment.number[mine].tolist() == [-1, 0, 1, 2, 3]
        assert layout.timeless[mine].tolist() == [1, 0, 0, 0, 0]
        np.testing.assert_array_equal(segment.start_s[mine], [np.nan, 0, 10, 20, 30])
        np.testing.assert_array_equal(segment.end_s[mine], [np.nan, 9, 19, 29, 39])


def test_rows_name_the_cells_of_the_table_also_after_a_compaction(tmp_path: Path) -> None:
    entries = ci.library(tmp_path, 8)
    ci.upkeep(tmp_path, ci.CODED)
    rng = np.random.default_rng(9)
    ci.commit(tmp_path, [ci.entry("new", rng), ci.entry(entries[2].video.video_id, rng)])
    (segment,) = ci.opened(tmp_path).segments
    wanted = ci.expected(e for i, e in enumerate(entries) if i != 2)
    chosen = [(key, cell) for key, cell in ci.cells(segment) if key in wanted]
    order = np.random.default_rng(1).permutation(len(chosen))
    chosen = [chosen[i] for i in order] + chosen[:3]
    rows = segment.row[[cell for _, cell in chosen]]
    found = fetch_vectors(open_table(tmp_path, "passages"), rows, [32] * len(rows))
    for (key, _), tokens in zip(chosen, found, strict=True):
        assert tokens.dtype == np.float16
        np.testing.assert_array_equal(tokens, wanted[key].astype(np.float16))


def test_a_row_that_is_gone_is_an_error(tmp_path: Path) -> None:
    ci.library(tmp_path, 3)
    ci.upkeep(tmp_path, ci.EXACT)
    (segment,) = ci.opened(tmp_path).segments
    table = open_table(tmp_path, "passages")
    with pytest.raises(IndexFormatError, match="1 rows of table 'passages'"):
        fetch_vectors(table, np.array([segment.row[0], 10**6], np.uint64), [32, 32])
    with pytest.raises(IndexFormatError, match="width 32 where the manifest says 16"):
        fetch_vectors(table, segment.row[:1], [16])


def test_the_tail_is_what_an_exact_segment_would_be(tmp_path: Path, manifest: Manifest) -> None:
    entries = ci.library(tmp_path, 9, manifest)
    chosen = entries[1::3]
    table = open_table(tmp_path, "passages")
    revisions = [e.video.revision for e in chosen] + ["of no video"]
    tail = tail_segment(table, revisions, manifest, ci.KERNELS)
    check_segment(tail, manifest)
    found = {k: ci.tokens_of(tail, c, manifest.width(k[2])) for k, c in ci.cells(tail)}
    ci.assert_same(found, ci.expected(chosen), EIGHT_BIT)
    assert tail.without_rows.tolist() == [b"of no video"]
    assert tail.n_tokens == tuple(count_tokens(table, revisions).tolist())
    nothing = tail_segment(table, [], manifest, ci.KERNELS)
    check_segment(nothing, manifest)
    assert (nothing.layout.n_videos, nothing.n_tokens) == (0, (0,) * len(MODALITIES))


def test_many_revisions_are_found_without_a_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = ci.library(tmp_path, 9)
    monkeypatch.setattr("mmretrieve.storage.codes.cells._FILTERED_REVISIONS", 2)
    table = open_table(tmp_path, "passages")
    revisions = [e.video.revision for e in entries[::2]]
    tail = tail_segment(table, revisions, ci.ONE_WIDTH, ci.KERNELS)
    assert {key for key, _ in ci.cells(tail)} == ci.expected(entries[::2]).keys()


def test_two_rows_of_one_cell_are_an_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [ci.part(0, Modality.OCR, ci.unit_rows(rng, 2, 32)) for _ in range(2)]
    made = ci.of_parts("twice", parts)
    ci.library(tmp_path, 1)
    ci.commit(tmp_path, [made])
    with pytest.raises(IndexFormatError, match=made.video.revision):
        tail_segment(
            open_table(tmp_path, "passages"), [made.video.revision], ci.ONE_WIDTH, ci.KERNELS
        )


@pytest.mark.parametrize("limits", [ci.EXACT, ci.CODED], ids=["exact", "coded"])
def test_tokens_that_are_not_finite_are_near_nothing(tmp_path: Path, limits: Limits) -> None:
    rng = np.random.default_rng(0)
    good = ci.unit_rows(rng, 400, 32)
    bad = np.concatenate([good[:5], np.zeros((1, 32), np.float32)])
    bad[1, 3], bad[2, 0], bad[3] = np.nan, np.inf, -np.inf
    ci.library(tmp_path, 0)
    made = ci.of_parts("a", [ci.part(0, Modality.OCR, good), ci.part(1, Modality.OCR, bad)])
    ci.commit(tmp_path, [made])
    assert ci.upkeep(tmp_path, limits).n_unusable == 3
    codes = ci.opened(tmp_path)
    found = ci.contents(codes)[made.video.revision, 1, Modality.OCR]
    assert np.isfinite(found).all()
    similarity = found @ good.T
    assert np.abs(similarity[[1, 2, 3, 5]]).max() < 0.5
    assert (similarity[[0, 4], [0, 4]] > 0.7).all()
    if limits is ci.EXACT:
        assert not found[[1, 2, 3, 5]].any()
    rows = codes.segments[0].row[1:2]
    (stored,) = fetch_vectors(open_table(tmp_path, "passages"), rows, [32])
    np.testing.assert_array_equal(stored[[1, 2, 3, 5]], 0)
    np.testing.assert_array_equal(stored[[0, 4]], good[[0, 4]].astype(np.float16))


def test_lists_name_the_passages_of_every_centroid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ci.library(tmp_path, 40)
    ci.upkeep(tmp_path, replace(ci.CODED, lists_from=1))
    codes = ci.opened(tmp_path)
    (segment,) = codes.segments
    layout = segment.layout
    passage = np.repeat(np.arange(layout.n_passages), np.diff(layout.passages))
    for m in range(len(MODALITIES)):
        mine, lists, book = segment.codes[m], segment.lists[m], segment.books[m]
        assert mine is not None and lists is not None and book is not None
        wanted: list[set[int]] = [set() for _ in range(len(book.centroids))]
        for c in np.flatnonzero(layout.modality == m).tolist():
            for t in range(layout.begin[c], layout.begin[c] + layout.count[c]):
                wanted[mine.centroid[t]].add(int(passage[c]))
        assert sum(map(len, wanted)) == len(lists.passages)
        for c, named in enumerate(wanted):
            got = lists.passages[lists.starts[c] : lists.starts[c + 1]]
            assert got.tolist() == sorted(named)
    monkeypatch.setattr("mmretrieve.storage.codes.lists._BLOCK_TOKENS", 16)
    sink = MemorySink()
    write_lists(segment, sink, range_tokens=20)
    arrays = sink.arrays()
    for m, lists in enumerate(segment.lists):
        assert lists is not None
        np.testing.assert_array_equal(arrays[of_modality("listed", MODALITIES[m])], lists.passages)
        np.testing.assert_array_equal(arrays[of_modality("starts", MODALITIES[m])], lists.starts)


def test_small_segments_have_no_lists(tmp_path: Path) -> None:
    ci.library(tmp_path, 5)
    ci.upkeep(tmp_path, ci.CODED)
    assert ci.opened(tmp_path).segments[0].lists == (None,) * len(MODALITIES)


def test_snapshots_pad_narrow_spaces(tmp_path: Path) -> None:
    entries = ci.library(tmp_path, 3, ci.TWO_WIDTHS)
    seen = Snapshot(tmp_path, ci.TWO_WIDTHS)
    stored, wanted = seen.library, ci.expected(entries)
    assert stored.vectors.shape == (sum(map(len, wanted.values())), 48)
    for i in range(len(stored.cells)):
        modality = MODALITIES[stored.cells.modality[i]]
        video = seen.videos[stored.cells.video[i]]
        tokens = wanted[video.revision, int(stored.cells.passage[i]), modality]
        got = stored.vectors[stored.cells.offsets[i] : stored.cells.offsets[i + 1]]
        np.testing.assert_array_equal(got[:, : tokens.shape[1]], tokens.astype(np.float32))
        assert not got[:, tokens.shape[1] :].any()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times the tokens and as many centroids: what is held at once stays."""
    monkeypatch.setattr("mmretrieve.storage.codes.codebook.MOST", 256)
    peaks = []
    for n_videos in (20, 80):
        folder = tmp_path / str(n_videos)
        rng = np.random.default_rng(0)
        ci.library(folder, 0)
        rows = ci.unit_rows(rng, 10_000, 32)
        for batch in np.split(np.arange(n_videos), 4):
            ci.commit(folder, [_long_video(f"{v:03}", np.roll(rows, v, axis=1)) for v in batch])
        tracemalloc.start()
        assert ci.upkeep(folder, ci.CODED).built
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def _long_video(video_id: str, rows: np.ndarray) -> VideoEntry:
    parts = np.split(rows, 20)
    return ci.of_parts(video_id, [ci.part(p, Modality.OCR, r) for p, r in enumerate(parts)])


def test_a_video_with_nothing_and_one_token_videos(tmp_path: Path) -> None:
    ci.library(tmp_path, 0)
    rng = np.random.default_rng(0)
    one = [
        ci.of_parts(f"{n:02}", [ci.part(0, Modality.SPEECH, ci.unit_rows(rng, 1, 32))])
        for n in range(15)
    ]
    empty = ci.of_parts(
        "empty cell", [ci.part(METADATA_PASSAGE, Modality.METADATA, np.empty((0, 32)))]
    )
    ci.commit(tmp_path, [*one, ci.of_parts("nothing", []), empty])
    for limits in (ci.EXACT, ci.CODED):
        assert ci.upkeep(tmp_path, limits).built
        codes = ci.opened(tmp_path)
        assert (codes.uncovered, codes.notes) == (frozenset(), ())
        ci.assert_same(ci.contents(codes), ci.expected([*one, empty]), 0.05)
        assert codes.segments[0].n_tokens == (0, 15, 0, 0, 0)
        assert not ci.upkeep(tmp_path, limits).built
