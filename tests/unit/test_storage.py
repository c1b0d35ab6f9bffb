from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest

from mmretrieve.datatypes import (
    METADATA_PASSAGE,
    Modality,
    Passage,
    Probe,
    Segment,
    TokenEmbeddings,
)
from mmretrieve.errors import IndexFormatError, IndexLockedError, IndexNotFoundError
from mmretrieve.scoring.answered import Background
from mmretrieve.scoring.nulls import Nulls
from mmretrieve.storage.folder import (
    FORMAT_VERSION,
    Manifest,
    acquire_lock,
    default_location,
    locate,
    read_manifest,
    write_manifest,
)
from mmretrieve.storage.nulls import read_nulls, write_nulls
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import FileRecord, Thumbnail, VideoEntry, VideoRecord
from mmretrieve.storage.schema import TABLES
from mmretrieve.storage.writer import IndexWriter

DIM = 8
MANIFEST = Manifest("lite", DIM, {"text": "0" * 64}, {m.value: "text" for m in Modality}, "")
EVIL = "x' OR '1'='1'; DROP TABLE videos; -- \"é🎈\n\\"


def entry(
    video_id: str, revision: str, path: str = "/v/a.mp4", n_passages: int = 2, seed: int = 0
) -> VideoEntry:
    """A video whose passages, thumbnails and text all say which revision they belong to."""
    rng = np.random.default_rng(seed)
    parts = []
    for number in (METADATA_PASSAGE, *range(n_passages)):
        rows = rng.normal(size=(3, DIM)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        timed = number != METADATA_PASSAGE
        modality = Modality.SPEECH if timed else Modality.METADATA
        start_s, end_s = (10.0 * number, 10.0 * number + 10) if timed else (None, None)
        segment = Segment(f"said in {revision} {number}", start_s, end_s, field="title")
        index = np.arange(3, dtype=np.int32)
        tokens = TokenEmbeddings(rows, np.zeros(3, np.int32), index, index + 4)
        parts.append((Passage(number, modality, start_s, end_s, (segment,), "test"), tokens))
    video = VideoRecord(
        video_id, revision, path, "A title", 10.0 * n_passages, Probe(20.0, "mp4", 1000),
        facts={"tags": ("a", "b"), "views": 7, "live": True, "rate": 0.5, "channel": EVIL},
        sources={Modality.SPEECH: "sidecar:a.srt"}, n_tokens={Modality.SPEECH: 3 * n_passages},
        settings_key="k", warnings=("first", "second"), indexed_at="2024-01-01T00:00:00+00:00",
    )  # fmt: skip
    pictures = tuple(Thumbnail(float(i), i, f"{revision} {i}".encode()) for i in range(2))
    return VideoEntry(video, tuple(parts), pictures)


def note(path: str, video_id: str | None, error: str | None = None) -> FileRecord:
    return FileRecord(path, 1, 2, "s", "k", video_id, error)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifest(tmp_path / "index", MANIFEST)
    return tmp_path / "index"


def commit(folder: Path, entries: Iterable[VideoEntry], files: Iterable[FileRecord] = ()) -> None:
    with IndexWriter(folder, MANIFEST) as writer:
        writer.commit(list(entries), list(files))


def snapshot(folder: Path) -> Snapshot:
    return Snapshot(folder, MANIFEST)


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        lance.dataset(str(folder / "lance" / f"{table}.lance")).to_table().to_pylist()
    )
    return found


def assert_whole(folder: Path) -> None:
    """Every visible video has all of its own passages, thumbnails and nothing else's."""
    seen = snapshot(folder)
    cells = seen.library.cells
    for i, video in enumerate(seen.videos):
        mine = np.flatnonzero(cells.video == i)
        assert sorted(cells.passage[mine].tolist()) == [-1, 0, 1]
        for detail in seen.cells.details(cells.row[mine]):
            assert detail.passage.segments[0].text.startswith(f"said in {video.revision} ")
        pictures = seen.thumbnails(video)
        assert [p.jpeg for p in pictures] == [f"{video.revision} {n}".encode() for n in range(2)]


def test_what_is_written_is_read_back(folder: Path) -> None:
    written = entry("id", "r1")
    commit(folder, [written], [note("/v/a.mp4", "id")])
    seen = snapshot(folder)
    assert seen.videos == (written.video,)
    assert seen.files == (note("/v/a.mp4", "id"),)
    assert seen.paths == {"id": "/v/a.mp4"}
    stored = seen.library
    assert len(stored.cells) == 3
    for number, detail in enumerate(seen.cells.details(stored.cells.row)):
        part, tokens = next(p for p in written.passages if p[0] == detail.passage)
        assert part.modality in (Modality.SPEECH, Modality.METADATA)
        low, high = stored.cells.offsets[number], stored.cells.offsets[number + 1]
        np.testing.assert_array_equal(
            stored.vectors[low:high], tokens.vectors.astype(np.float16).astype(np.float32)
        )
        np.testing.assert_array_equal(detail.char_end, tokens.char_end)
    assert_whole(folder)


def test_cells_are_in_the_promised_order(folder: Path) -> None:
    commit(folder, [entry("b", "r1"), entry("a", "r2", seed=1)])
    commit(folder, [entry("c", "r3", seed=2)])
    cells = snapshot(folder).library.cells
    keys = [
        *zip(cells.modality.tolist(), cells.video.tolist(), cells.passage.tolist(), strict=True)
    ]
    assert keys == sorted(keys)
    assert np.diff(cells.offsets).tolist() == [3] * 9
    assert np.isnan(cells.start_s[cells.passage == METADATA_PASSAGE]).all()


def test_the_manifest_is_replaced_in_one_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "manifest.json").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_manifest(folder, Manifest("lite", 16, {}, {}, "jobs = 3"))
    assert (folder / "manifest.json").read_bytes() == before
    monkeypatch.undo()
    acquire_lock(folder).release()
    write_manifest(folder, Manifest("lite", 16, {}, {}, "jobs = 3"))
    assert read_manifest(folder).dim == 16
    assert [p.name for p in folder.iterdir() if p.name.startswith("manifest")] == ["manifest.json"]


def test_an_equal_manifest_is_not_written_again(folder: Path) -> None:
    before = (folder / "manifest.json").stat().st_mtime_ns
    lock = acquire_lock(folder)
    write_manifest(folder, MANIFEST)
    with pytest.raises(IndexLockedError):
        write_manifest(folder, Manifest("lite", 16, {}, {}, ""))
    lock.release()
    assert (folder / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format_version": FORMAT_VERSION + 1}, "pip install -U mmretrieve"),
        ({"program": "thesis"}, "not written by mmretrieve"),
        ({"extra": 1}, "extra"),
    ],
)
def test_manifests_that_cannot_be_used(folder: Path, changes: dict[str, Any], told: str) -> None:
    data = {**json.loads(MANIFEST.to_json()), **changes}
    (folder / "manifest.json").write_text(json.dumps(data), "utf-8")
    with pytest.raises(IndexFormatError, match=told):
        read_manifest(folder)


def test_a_manifest_that_lacks_a_field(folder: Path) -> None:
    data = json.loads(MANIFEST.to_json())
    del data["dim"]
    (folder / "manifest.json").write_text(json.dumps(data), "utf-8")
    with pytest.raises(IndexFormatError, match="dim"):
        read_manifest(folder)


def test_the_index_is_found_upward_as_git_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MMRETRIEVE_INDEX", raising=False)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    with pytest.raises(IndexNotFoundError, match="mmretrieve index"):
        locate(start=deep)
    write_manifest(tmp_path / ".mmretrieve", MANIFEST)
    assert locate(start=deep) == tmp_path.resolve() / ".mmretrieve"
    monkeypatch.setenv("MMRETRIEVE_INDEX", str(tmp_path / "other"))
    with pytest.raises(IndexNotFoundError):
        locate(start=deep)
    assert default_location() == tmp_path / "other"
    assert locate(tmp_path / ".mmretrieve") == tmp_path / ".mmretrieve"


def test_revisions_without_a_mark_are_invisible_and_swept(folder: Path) -> None:
    commit(folder, [entry("a", "r1")], [note("/v/a.mp4", "a")])
    with IndexWriter(folder, MANIFEST) as writer:
        lost = entry("lost", "r2", seed=3)
        writer.commit([lost], [])
        writer._tables["videos"].delete("video_id = 'lost'")
    seen = snapshot(folder)
    assert [v.video_id for v in seen.videos] == ["a"]
    assert seen.unmarked_revisions() == {("lost", "r2")}
    assert len(seen.library.cells) == 3
    assert_whole(folder)
    with IndexWriter(folder, MANIFEST) as writer:
        writer.sweep(seen.unmarked_revisions())
    for table in ("passages", "keyframes"):
        assert {r["revision"] for r in rows(folder, table)} == {"r1"}
    assert snapshot(folder).unmarked_revisions() == set()


def test_a_replaced_video_leaves_nothing_behind(folder: Path) -> None:
    for number in range(4):
        commit(folder, [entry("a", f"r{number}", seed=number), entry(f"b{number}", f"q{number}")])
        assert_whole(folder)
    for table in ("passages", "keyframes"):
        found = {(r["video_id"], r["revision"]) for r in rows(folder, table)}
        assert found == {("a", "r3"), *((f"b{n}", f"q{n}") for n in range(4))}
    assert len(snapshot(folder).videos) == 5


def test_a_snapshot_stays_as_it_was(folder: Path) -> None:
    commit(folder, [entry("a", "r1"), entry("b", "r2", seed=1)], [note("/v/a.mp4", "a")])
    old = snapshot(folder)  # its tokens are not read yet
    assert old.is_current()
    with IndexWriter(folder, MANIFEST) as writer:
        writer.commit([entry("a", "r3", seed=2)], [])
        writer.remove_videos(["b"])
        writer.optimize()
    assert not old.is_current()
    assert [v.revision for v in old.videos] == ["r1", "r2"]
    cells = old.library.cells
    assert len(cells) == 6
    texts = {d.passage.segments[0].text for d in old.cells.details(cells.row)}
    assert texts == {f"said in {r} {n}" for r in ("r1", "r2") for n in (-1, 0, 1)}
    assert [v.revision for v in snapshot(folder).videos] == ["r3"]
    assert_whole(folder)


def test_a_note_about_a_file_alone_is_news(folder: Path) -> None:
    commit(folder, [entry("a", "r1")], [note("/v/a.mp4", "a")])
    old = snapshot(folder)
    commit(folder, [], [note("/v/z.mp4", "a")])
    assert not old.is_current()
    with IndexWriter(folder, MANIFEST) as writer:
        writer.forget_files(["/v/a.mp4"])
    assert snapshot(folder).paths == {"a": "/v/z.mp4"}
    assert snapshot(folder).orphans() == set()
    with IndexWriter(folder, MANIFEST) as writer:
        writer.forget_files(["/v/z.mp4"])
    assert snapshot(folder).orphans() == {"a"}


def test_an_index_that_was_never_written_to_is_empty(folder: Path) -> None:
    seen = snapshot(folder)
    stored = seen.library
    assert (seen.videos, seen.files, len(stored.cells)) == ((), (), 0)
    assert stored.vectors.shape == (0, DIM)
    assert seen.is_current()
    assert (seen.unmarked_revisions(), seen.orphans()) == (set(), set())
    assert seen.cells.details(np.empty(0, np.uint64)) == ()
    with IndexWriter(folder, MANIFEST):
        assert sorted(p.name for p in (folder / "lance").iterdir()) == sorted(
            f"{t}.lance" for t in TABLES
        )
    assert not seen.is_current()
    assert snapshot(folder).is_current()


def test_a_damaged_table_is_named(folder: Path) -> None:
    commit(folder, [entry("a", "r1")])
    for path in (folder / "lance" / "passages.lance").rglob("*.manifest"):
        path.unlink()
    with pytest.raises(IndexFormatError, match="passages"):
        snapshot(folder)


def test_names_are_data_and_never_sql(folder: Path) -> None:
    ids = [EVIL, "b'", 'c"', "d\\", "e%", "f_"]
    files = [note(f"/v/{name}.mp4", name) for name in ids]
    commit(folder, [entry(n, f"r{n}", f"/v/{n}.mp4", seed=i) for i, n in enumerate(ids)], files)
    assert {v.video_id for v in snapshot(folder).videos} == set(ids)
    assert_whole(folder)
    for done, name in enumerate(ids, 1):
        with IndexWriter(folder, MANIFEST) as writer:
            writer.forget_files([f"/v/{name}.mp4"])
            writer.remove_videos([name])
        seen = snapshot(folder)
        assert {v.video_id for v in seen.videos} == set(ids[done:])
        assert {f.video_id for f in seen.files} == set(ids[done:])
        assert {r["video_id"] for r in rows(folder, "passages")} == set(ids[done:])
        assert {r["video_id"] for r in rows(folder, "keyframes")} == set(ids[done:])


def test_removing_what_is_not_there_removes_nothing(folder: Path) -> None:
    commit(folder, [entry("a", "r1")], [note("/v/a.mp4", "a")])
    with IndexWriter(folder, MANIFEST) as writer:
        writer.remove_videos(["nobody", "' OR 1=1 --"])
        writer.remove_videos([])
        writer.forget_files([])
        writer.sweep(set())
    assert_whole(folder)
    assert len(snapshot(folder).files) == 1


def test_one_writer_at_a_time(folder: Path) -> None:
    with IndexWriter(folder, MANIFEST), pytest.raises(IndexLockedError, match="searching works"):
        IndexWriter(folder, MANIFEST)
    IndexWriter(folder, MANIFEST).close()


def test_the_lock_is_let_go_when_opening_fails(folder: Path) -> None:
    (folder / "lance").write_text("no folder", "utf-8")
    with pytest.raises(Exception, match=r".") as caught:
        IndexWriter(folder, MANIFEST)
    assert not isinstance(caught.value, IndexLockedError)
    acquire_lock(folder).release()


@pytest.mark.filterwarnings("ignore:optimize.cleanup_older_than=0")
def test_many_small_updates_stay_small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 commits, optimised every 20 as runs of indexing do, against the same rows written once."""
    from datetime import timedelta

    monkeypatch.setattr("mmretrieve.storage.upkeep.KEEP_OLD_VERSIONS", timedelta(0))
    with IndexWriter(folder, MANIFEST) as writer:
        for number in range(200):
            name = f"v{number % 10}"
            writer.commit([entry(name, f"r{number}", seed=number)], [note(f"/v/{name}", name)])
            if number % 20 == 19:
                writer.optimize()
    assert_whole(folder)
    assert len(snapshot(folder).videos) == 10
    once = folder.with_name("once")
    write_manifest(once, MANIFEST)
    kept = range(190, 200)
    commit(
        once,
        [entry(f"v{n % 10}", f"r{n}", seed=n) for n in kept],
        [note(f"/v/v{n % 10}", f"v{n % 10}") for n in kept],
    )

    def size(of: Path) -> int:
        return sum(p.stat().st_size for p in (of / "lance").rglob("*") if p.is_file())

    assert size(folder) < 3 * size(once)


def test_null_scores_belong_to_one_state(folder: Path) -> None:
    scores = Nulls(np.array([1, 2], np.int32), np.array([0.5, 0.25], np.float32))
    reached, typical = np.array([0.6, 0.7], np.float32), np.array([0.2, 0.1], np.float32)
    nulls = {"key": Background(scores, reached, typical)}
    write_nulls(folder, 7, 100, nulls)
    found = read_nulls(folder, 7)
    np.testing.assert_array_equal(found["key"].nulls.best, scores.best)
    np.testing.assert_array_equal(found["key"].nulls.n_tokens, scores.n_tokens)
    np.testing.assert_array_equal(found["key"].reached, reached)
    np.testing.assert_array_equal(found["key"].typical, typical)
    assert read_nulls(folder, 8) == {}
    before_signs = '{"version": 7, "nulls": {"key": {"n_tokens": [1], "best": [0.5]}}}'
    for damage in (
        "", "{", "[]", "null", '{"version": 7}', '{"version": 7, "nulls": [1]}', before_signs,
    ):  # fmt: skip
        (folder / "nulls.json").write_text(damage, "utf-8")
        assert read_nulls(folder, 7) == {}, damage


WRITE_FOREVER = """
import sys
from pathlib import Path
from tests.unit.test_storage import MANIFEST, entry, note
from mmretrieve.storage.writer import IndexWriter

with IndexWriter(Path(sys.argv[1]), MANIFEST) as writer:
    print("ready", flush=True)
    for number in range(10_000):
        names = [f"v{(number + i) % 5}" for i in range(2)]
        made = [entry(n, f"{sys.argv[2]}-{number}-{n}", seed=number) for n in names]
        writer.commit(made, [note(f"/v/{n}", n) for n in names])
        if number % 3 == 2:
            writer.remove_videos([f"v{number % 5}"])
        if number % 7 == 6:
            writer.optimize()
"""


def test_a_writer_killed_at_any_moment_leaves_whole_videos(folder: Path) -> None:
    rng = random.Random(22)
    for attempt in range(5):
        command = [sys.executable, "-c", WRITE_FOREVER, str(folder), str(attempt)]
        root = Path(__file__).parents[2]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.05, 0.6))
            process.kill()
            assert process.wait() == -signal.SIGKILL
        assert_whole(folder)
        with IndexWriter(folder, MANIFEST) as writer:
            writer.sweep(snapshot(folder).unmarked_revisions())
        marks = {(v.video_id, v.revision) for v in snapshot(folder).videos}
        for table in ("passages", "keyframes"):
            assert {(r["video_id"], r["revision"]) for r in rows(folder, table)} == marks


def test_a_row_written_anew_keeps_its_content(folder: Path) -> None:
    """A repair writes the row of a video again whose passages are there."""
    first = entry("a", "r1")
    with IndexWriter(folder, MANIFEST) as writer:
        writer.commit([first], [])
        writer.commit([VideoEntry(first.video, (), ())], [])
    snapshot = Snapshot(folder, MANIFEST)
    assert [v.revision for v in snapshot.videos] == ["r1"]
    assert len(snapshot.library.vectors) == sum(len(t.vectors) for _, t in first.passages)
