"""Similarities to all documents, pooled vectors, full text and lines, against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

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
    Way,
)
from mmretrieve.errors import UsageError
from mmretrieve.scoring import reference
from mmretrieve.scoring.pooled import gramian_volume, pooled_cosine, pooled_query
from mmretrieve.search import similarities as module
from mmretrieve.search.everything import Everything
from mmretrieve.search.fulltext import FullText
from mmretrieve.search.lines import hidden_tokens, words_of
from mmretrieve.search.pooling import pool
from mmretrieve.search.similarities import SimilarityScan
from mmretrieve.search.whole import keep_cells
from mmretrieve.storage.folder import Manifest, write_manifest
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import VideoEntry, VideoRecord
from mmretrieve.storage.writer import IndexWriter

DIM = 16
MANIFEST = Manifest("lite", DIM, {}, {m.value: "text" for m in Modality}, "")
RNG = np.random.default_rng(2)
M = len(MODALITIES)
FR, SP, OC, ME, AU = range(M)


def unit(n: int) -> NDArray[np.float32]:
    rows = RNG.normal(size=(n, DIM))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def query(name: str, n: int) -> QueryTokens:
    return QueryTokens(name, {"text": unit(n)}, tuple("t" * n), np.arange(n, dtype=np.int32))


def part(
    number: int, modality: Modality, segments: list[str], at_s: float | None
) -> tuple[Passage, TokenEmbeddings]:
    words = [(i, w) for i, s in enumerate(segments) for w in s.split()]
    starts = [s.index(w) for (i, w) in words for s in [segments[i]]]
    ends = [start + len(w) for start, (_, w) in zip(starts, words, strict=True)]
    tokens = TokenEmbeddings(
        unit(len(words)), *(np.array(v, np.int32) for v in ([i for i, _ in words], starts, ends))
    )
    lines = tuple(Segment(s, at_s, None if at_s is None else at_s + 5) for s in segments)
    return Passage(number, modality, at_s, None if at_s is None else at_s + 5, lines, "t"), tokens


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("similar") / "index"
    write_manifest(folder, MANIFEST)
    rows = {
        "a": [
            part(0, Modality.SPEECH, ["the red boat", "leaves at noon"], 0),
            part(1, Modality.SPEECH, ["Then the red, boat returns"], 10),
            part(0, Modality.OCR, ["harbour"], 0),
            part(METADATA_PASSAGE, Modality.METADATA, ["sea films"], None),
        ],
        "b": [part(0, Modality.OCR, ["rye bread", "two loaves"], 3)],
        "c": [part(METADATA_PASSAGE, Modality.METADATA, ["nothing but a name"], None)],
    }
    entries = [
        VideoEntry(
            VideoRecord(n, f"r-{n}", f"/v/{n}.mp4", n, 20.0, Probe(20.0, "mp4", 1)), tuple(p), ()
        )
        for n, p in rows.items()
    ]
    with IndexWriter(folder, MANIFEST) as writer:
        writer.commit(entries, [])
    return Snapshot(folder, MANIFEST)


def expected(
    snapshot: Snapshot, tokens: NDArray[np.float32], unit: GroupBy
) -> dict[tuple[int, int], NDArray[np.float32]]:
    """(video, passage) -> modality -> maxima, by plain loops; passages see their metadata."""
    cells = snapshot.library.cells
    found: dict[tuple[int, int], NDArray[np.float32]] = {}
    owners = {(int(v), int(p)) for v, p in zip(cells.video, cells.passage, strict=True)}
    for video, passage in owners:
        rows: list[list[NDArray[np.float32]]] = [[] for _ in MODALITIES]
        for cell in range(len(cells)):
            own = cells.passage[cell] in (passage, METADATA_PASSAGE) or unit is GroupBy.VIDEO
            if cells.video[cell] == video and own:
                low, high = cells.offsets[cell], cells.offsets[cell + 1]
                rows[cells.modality[cell]].append(snapshot.library.vectors[low:high])
        joined = [np.concatenate(r) if r else np.empty((0, DIM), np.float32) for r in rows]
        key = (video, -1 if unit is GroupBy.VIDEO else passage)
        found[key] = reference.maxima(tokens, joined)
    timed = {v for v, p in owners if p != METADATA_PASSAGE}
    if unit is GroupBy.MOMENT:
        found = {k: v for k, v in found.items() if k[1] != METADATA_PASSAGE or k[0] not in timed}
    return dict(sorted(found.items()))


@pytest.mark.parametrize("unit", list(GroupBy))
def test_maxima_are_those_of_the_reference(snapshot: Snapshot, unit: GroupBy) -> None:
    asked = query("q", 5)
    found = next(SimilarityScan(snapshot).of([asked], unit))
    right = expected(snapshot, asked.vectors["text"], unit)
    names = [snapshot.videos[v].video_id for v, _ in right]
    assert list(found.units.video_ids) == names
    assert found.units.passage.tolist() == [p for _, p in right]
    assert np.allclose(found.values, np.stack(list(right.values())), atol=1e-6)
    sample = found.values[found.units.sample]
    np.testing.assert_allclose(found.reference, sample, atol=5e-3)


def test_times_of_passages(snapshot: Snapshot) -> None:
    units = SimilarityScan(snapshot).units(GroupBy.MOMENT)
    assert list(units.video_ids) == ["a", "a", "b", "c"]
    assert units.start_s.tolist()[:3] == [0, 10, 3]
    assert units.end_s.tolist()[:3] == [5, 15, 8]
    assert np.isnan(units.start_s[3])
    assert np.isnan(SimilarityScan(snapshot).units(GroupBy.VIDEO).start_s).all()


def test_a_query_is_scored_the_same_in_any_company(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [query(str(n), n % 7 + 1) for n in range(40)]
    scan = SimilarityScan(snapshot)
    together = list(scan.of(queries, GroupBy.VIDEO))
    monkeypatch.setattr(module, "_MOST_TOKENS", 9)
    monkeypatch.setattr(module, "_BLOCK_TOKENS", 3)
    apart = list(scan.of(queries, GroupBy.VIDEO))
    for one, other, asked in zip(together, apart, queries, strict=True):
        assert one.query is asked
        assert np.allclose(one.values, other.values, atol=1e-6)
        assert one.values.shape == (3, M, len(asked.texts))


def test_a_filter_leaves_documents_out_but_not_out_of_chance(snapshot: Snapshot) -> None:
    asked, scan = query("q", 3), SimilarityScan(snapshot)
    keep = keep_cells(snapshot, Filter(modalities=(Modality.OCR,), video_glob="b"))
    found = next(scan.of([asked], GroupBy.VIDEO, keep))
    everything = next(scan.of([asked], GroupBy.VIDEO))
    assert np.isfinite(found.values).sum() == 3
    assert np.allclose(found.values[1, OC], everything.values[1, OC])
    assert np.array_equal(found.reference, everything.reference)


def test_a_query_of_another_space_is_refused(snapshot: Snapshot) -> None:
    strange = QueryTokens("q", {"pictures": unit(2)}, ("a", "b"), np.arange(2, dtype=np.int32))
    with pytest.raises(UsageError, match="no vectors for space 'text'"):
        next(SimilarityScan(snapshot).of([strange], GroupBy.VIDEO))


def test_hidden_tokens_take_no_part(snapshot: Snapshot) -> None:
    hidden = hidden_tokens(snapshot, "a", "The RED boat!")
    cells = snapshot.library.cells
    shown = {
        (MODALITIES[cells.modality[c]], int(cells.passage[c])): m.tolist()
        for c, m in hidden.items()
    }
    assert shown == {
        (Modality.SPEECH, 0): [True] * 3 + [False] * 3,
        (Modality.SPEECH, 1): [False, True, True, True, False],
    }
    assert hidden_tokens(snapshot, "a", "red boats") == {}
    everything = Everything(snapshot, lambda text: query(text, 4))
    found = next(everything.similarities([query("q", 4)], GroupBy.VIDEO, Filter()))
    without = everything.hiding(found, "a", "the red boat")
    rows = [
        snapshot.library.vectors[cells.offsets[c] : cells.offsets[c + 1]][~m]
        for c, m in hidden.items()
    ]
    right = reference.maxima(found.query.vectors["text"], [np.concatenate(rows)])[0]
    assert np.allclose(without.values[0, SP], right, atol=1e-6)
    assert np.allclose(without.values[0, [OC, ME]], found.values[0, [OC, ME]], atol=1e-6)
    assert np.array_equal(without.values[1:], found.values[1:])
    assert (without.values <= found.values + 1e-6).all()
    gone = everything.hiding(found, "c", "nothing but a name")
    assert np.isneginf(gone.values[2]).all()


def test_words() -> None:
    assert words_of("  The RED, boat—again! ") == ("the", "red", "boat", "again")


def test_pooled_vectors_are_means_of_all_tokens(snapshot: Snapshot) -> None:
    scan = SimilarityScan(snapshot)
    pooled = pool(scan.documents(GroupBy.VIDEO), snapshot.library.cells, snapshot.library.vectors)
    assert pooled.present.tolist() == [
        [False, True, True, True, False], [False, False, True, False, False],
        [False, False, False, True, False],
    ]  # fmt: skip
    cells = snapshot.library.cells
    mine = [i for i in range(len(cells)) if (cells.video[i], cells.modality[i]) == (0, SP)]
    tokens = np.concatenate(
        [snapshot.library.vectors[cells.offsets[i] : cells.offsets[i + 1]] for i in mine]
    )
    mean = tokens.mean(axis=0)
    assert len(tokens) == 11
    assert np.allclose(pooled.vectors[0, SP], mean / np.linalg.norm(mean), atol=1e-6)
    assert not pooled.vectors[0, FR].any()


def test_pooled_cosine_by_hand() -> None:
    x, y = np.eye(3, dtype=np.float32)[:2]
    vectors = np.zeros((3, 4, 3), np.float32)
    vectors[0, SP], vectors[0, OC], vectors[1, SP] = x, y, x
    present = np.zeros((3, 4), bool)
    present[0, [SP, OC]] = present[1, SP] = True
    found = pooled_cosine(x, vectors, present)
    assert found.tolist() == pytest.approx([1 / np.sqrt(2), 1.0, -np.inf])
    assert pooled_query(np.stack([x, y])) == pytest.approx([2**-0.5, 2**-0.5, 0])


def test_gramian_volume_is_that_of_the_paper_for_the_same_modalities() -> None:
    asked, vectors = unit(1)[0], unit(4 * 6).reshape(6, 4, DIM)
    present = np.ones((6, 4), bool)
    found = gramian_volume(asked, vectors, present)
    for document in range(6):
        rows = np.concatenate([[asked], vectors[document]]).astype(np.float64)
        volume = np.sqrt(np.linalg.det(rows @ rows.T))
        assert found[document] == pytest.approx(-(volume ** (1 / 4)), rel=1e-4)


def test_gramian_volume_of_few_modalities() -> None:
    x, y, z = np.eye(3, dtype=np.float32)
    near = ((x + y) / np.sqrt(2)).astype(np.float32)
    vectors = np.zeros((4, 4, 3), np.float32)
    present = np.zeros((4, 4), bool)
    vectors[0, SP], present[0, SP] = near, True  # one modality at 45 degrees: sin 45
    vectors[1, OC], present[1, OC] = x, True  # the query itself: no volume
    vectors[2, SP], vectors[2, OC], present[2, [SP, OC]] = y, z, True  # all at right angles: 1
    found = gramian_volume(x, vectors, present)
    assert found.tolist() == pytest.approx([-np.sin(np.pi / 4), 0.0, -1.0, -np.inf], abs=1e-6)


def test_full_text(snapshot: Snapshot) -> None:
    words = FullText(["red boats in the harbour", "", "rye bread", "a boat, a boat, a red boat"])
    found = words.scores('red "boat" (AND')
    assert np.isneginf(found[[1, 2]]).all()
    assert found[3] > found[0] > 0
    assert np.isneginf(FullText(["", " "]).scores("boat")).all()
    ways = Everything(snapshot, lambda text: query(text, 2)).ways
    asked = QueryTokens("bread", query("q", 1).vectors, ("bread",), np.zeros(1, np.int32))
    similar = next(SimilarityScan(snapshot).of([asked], GroupBy.VIDEO))
    scores = ways.rank(Way.BM25, GroupBy.VIDEO)(similar)
    assert np.isfinite(scores).tolist() == [False, True, False]
    spoken = ways.rank(Way.BM25, GroupBy.VIDEO, (Modality.SPEECH,))(similar)
    assert np.isneginf(spoken).all()


def test_an_empty_index(tmp_path: Path) -> None:
    write_manifest(tmp_path / "index", MANIFEST)
    scan = SimilarityScan(Snapshot(tmp_path / "index", MANIFEST))
    found = next(scan.of([query("q", 2)], GroupBy.VIDEO))
    assert found.values.shape == (0, M, 2)
    assert len(found.units) == 0
