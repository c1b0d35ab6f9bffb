"""Running again, files that change, move, double and vanish, and two engines on one index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lance
import lancedb
import numpy as np
import pytest

from mmretrieve import Engine
from mmretrieve.config import OcrSettings, Settings
from mmretrieve.datatypes import MODALITIES, Filter, Hit, Modality
from mmretrieve.errors import IndexLockedError
from mmretrieve.reports import IndexReport, Outcome, Stage
from mmretrieve.storage.folder import acquire_lock, read_manifest
from mmretrieve.storage.schema import TABLES, schemas
from mmretrieve.storage.writer import IndexWriter

MakeClip = Callable[..., Path]

BREAD = "The baker kneads the dough before sunrise."
PENGUINS = "Penguins huddle together against the storm."


@pytest.fixture
def videos(tmp_path: Path, make_clip: MakeClip) -> Path:
    make_clip(tmp_path / "videos" / "a.mp4", 1, said=BREAD)
    make_clip(tmp_path / "videos" / "sub" / "b.mp4", 2)
    return tmp_path / "videos"


@pytest.fixture
def engine(tmp_path: Path, videos: Path, quiet_settings: Settings) -> Engine:
    engine = Engine.create(tmp_path / "index", quiet_settings)
    assert engine.index([videos]).count(Outcome.INDEXED) == 2
    return engine


def outcomes(report: IndexReport) -> dict[str, Outcome]:
    return {Path(r.path).name: r.outcome for r in report.results}


def names(engine: Engine) -> list[str]:
    return [Path(v.path).name for v in engine.videos()]


def versions(engine: Engine) -> dict[str, int]:
    return {
        name: lance.dataset(str(engine.folder / "lance" / f"{name}.lance")).latest_version
        for name in TABLES
    }


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all but the log."""
    return {
        str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in folder.rglob("*")
        if p.is_file() and p.name != "log.jsonl"
    }


def revisions(engine: Engine) -> dict[str, str]:
    table = lance.dataset(str(engine.folder / "lance" / "videos.lance")).to_table()
    return dict(zip(table["video_id"].to_pylist(), table["revision"].to_pylist(), strict=True))


def seen_tokens(engine: Engine) -> dict[str, bytes]:
    """The stored frame tokens of each video."""
    table = lance.dataset(str(engine.folder / "lance" / "passages.lance")).to_table()
    return {
        r["video_id"]: np.array(r["vectors"], np.float16).tobytes()
        for r in table.to_pylist()
        if r["modality"] == "frames"
    }


def looked_at_pictures(report: IndexReport) -> set[str]:
    return {Path(r.path).name for r in report.results if Stage.VISUAL in r.stage_s}


def best(engine: Engine, query: str) -> Hit:
    return engine.search(query, k=1).hits[0]


def test_an_unchanged_run_writes_nothing(engine: Engine, videos: Path) -> None:
    before, on_disk = versions(engine), files(engine.folder)
    for run in (engine.index([videos]), Engine.create(engine.folder).index([videos], prune=True)):
        assert set(outcomes(run).values()) == {Outcome.UNCHANGED}
        assert run.n_pruned == 0
    assert versions(engine) == before
    assert files(engine.folder) == on_disk


def test_a_dry_run_writes_nothing(engine: Engine, videos: Path, tmp_path: Path) -> None:
    on_disk = files(engine.folder)
    report = engine.index([videos], dry_run=True, force=True, prune=True)
    assert report.count(Outcome.INDEXED) == 2
    assert files(engine.folder) == on_disk
    Engine.create(tmp_path / "new").index([videos], dry_run=True)
    assert not (tmp_path / "new").exists()


def test_a_changed_file_is_done_again_and_its_old_content_is_gone(
    engine: Engine, videos: Path, make_clip: MakeClip
) -> None:
    old = {Path(v.path).name: v.video_id for v in engine.videos()}
    make_clip(videos / "sub" / "b.mp4", 20, seconds=3)
    report = engine.index([videos])
    assert outcomes(report) == {"a.mp4": Outcome.UNCHANGED, "b.mp4": Outcome.INDEXED}
    new = {Path(v.path).name: v.video_id for v in engine.videos()}
    assert names(engine) == ["a.mp4", "b.mp4"]
    assert new["a.mp4"] == old["a.mp4"] and new["b.mp4"] != old["b.mp4"]
    assert engine.info().n_videos == 2
    passages = lance.dataset(str(engine.folder / "lance" / "passages.lance")).to_table()
    assert set(passages["video_id"].to_pylist()) == set(new.values())


def test_a_changed_file_keeps_the_content_that_another_file_still_has(
    engine: Engine, videos: Path, make_clip: MakeClip
) -> None:
    shutil.copy2(videos / "sub" / "b.mp4", videos / "copy.mp4")
    assert outcomes(engine.index([videos]))["copy.mp4"] is Outcome.DUPLICATE
    make_clip(videos / "sub" / "b.mp4", 20)
    engine.index([videos])
    assert names(engine) == ["a.mp4", "copy.mp4", "b.mp4"]


def test_a_file_that_broke_is_told_and_its_old_content_goes_once_it_is_mended(
    engine: Engine, videos: Path, make_clip: MakeClip
) -> None:
    (videos / "sub" / "b.mp4").write_bytes(b"broken" * 100)
    assert outcomes(engine.index([videos]))["b.mp4"] is Outcome.FAILED
    assert [Path(f.path).name for f in engine.info().failures] == ["b.mp4"]
    make_clip(videos / "sub" / "b.mp4", 20)
    assert outcomes(engine.index([videos]))["b.mp4"] is Outcome.INDEXED
    assert names(engine) == ["a.mp4", "b.mp4"]
    assert engine.info().failures == ()


def test_a_touched_file_is_not_embedded_again(engine: Engine, videos: Path) -> None:
    before = revisions(engine)
    os.utime(videos / "a.mp4", ns=(1, 1))
    assert outcomes(engine.index([videos]))["a.mp4"] is Outcome.UNCHANGED
    assert revisions(engine) == before
    assert engine.index([videos]).count(Outcome.UNCHANGED) == 2


def test_a_new_sidecar_becomes_the_speech(
    engine: Engine, videos: Path, make_subtitle: MakeClip
) -> None:
    assert Modality.SPEECH not in engine.videos()[1].sources
    make_subtitle(videos / "sub" / "b.srt", PENGUINS)
    assert outcomes(engine.index([videos])) == {
        "a.mp4": Outcome.UNCHANGED, "b.mp4": Outcome.INDEXED,
    }  # fmt: skip
    assert engine.videos()[1].sources[Modality.SPEECH] == "sidecar:b.srt"
    hit = best(engine, "penguins in a storm")
    assert Path(hit.video.path).name == "b.mp4"
    assert {e.source for e in hit.evidence if e.modality is Modality.SPEECH} == {"sidecar:b.srt"}
    (videos / "sub" / "b.srt").unlink()
    assert outcomes(engine.index([videos]))["b.mp4"] is Outcome.INDEXED
    assert Modality.SPEECH not in engine.videos()[1].sources


@pytest.mark.parametrize("prune", [False, True], ids=["plain", "prune"])
def test_a_moved_file_costs_nothing(engine: Engine, videos: Path, prune: bool) -> None:
    before = seen_tokens(engine)
    (videos / "deep" / "er").mkdir(parents=True)
    target = videos / "deep" / "er" / "renamed.mp4"
    (videos / "sub" / "b.mp4").rename(target)
    reader = Engine.open(engine.folder)
    assert str(target) not in [v.path for v in reader.videos()]
    report = engine.index([videos], prune=prune)
    assert outcomes(report) == {"a.mp4": Outcome.UNCHANGED, "renamed.mp4": Outcome.MOVED}
    assert report.n_pruned == 0
    assert seen_tokens(engine) == before and looked_at_pictures(report) == set()
    for one in (engine, reader, Engine.open(engine.folder)):
        shown = {v.path: v.missing for v in one.videos()}
        assert shown == {str(videos / "a.mp4"): False, str(target): False}
        only = Filter(video_glob="renamed.mp4")
        assert one.search("anything", filter=only).hits[0].video.path == str(target)
    assert engine.index([videos]).count(Outcome.UNCHANGED) == 2


def test_a_moved_folder_costs_nothing(engine: Engine, videos: Path) -> None:
    before = seen_tokens(engine)
    videos.rename(videos.with_name("elsewhere"))
    report = engine.index([videos.with_name("elsewhere")])
    assert set(outcomes(report).values()) == {Outcome.MOVED}
    assert seen_tokens(engine) == before and looked_at_pictures(report) == set()
    assert not any(v.missing for v in engine.videos())


def test_equal_bytes_are_stored_once(engine: Engine, videos: Path) -> None:
    before = seen_tokens(engine)
    shutil.copyfile(videos / "sub" / "b.mp4", videos / "copy.mp4")
    report = engine.index([videos])
    assert outcomes(report)["copy.mp4"] is Outcome.DUPLICATE
    assert seen_tokens(engine) == before and looked_at_pictures(report) == set()
    assert engine.info().n_files == 3
    (videos / "sub" / "b.mp4").unlink()
    report = engine.index([videos], prune=True)
    assert report.n_pruned == 0
    assert names(engine) == ["a.mp4", "copy.mp4"]


def test_equal_bytes_in_the_same_run_are_read_once(
    tmp_path: Path, make_clip: MakeClip, quiet_settings: Settings
) -> None:
    first = make_clip(tmp_path / "v" / "0.mp4", 1)
    for i in range(1, 4):
        shutil.copyfile(first, tmp_path / "v" / f"{i}.mp4")
    engine = Engine.create(tmp_path / "ix", quiet_settings)
    report = engine.index([tmp_path / "v"])
    assert Counter(outcomes(report).values()) == {Outcome.INDEXED: 1, Outcome.DUPLICATE: 3}
    assert engine.info().n_videos == 1
    assert engine.index([tmp_path / "v"]).count(Outcome.UNCHANGED) == 4


def test_equal_broken_files_all_fail(tmp_path: Path, quiet_settings: Settings) -> None:
    (tmp_path / "v").mkdir()
    for i in range(3):
        (tmp_path / "v" / f"{i}.mp4").write_bytes(b"nothing" * 10)
    report = Engine.create(tmp_path / "ix", quiet_settings).index([tmp_path / "v"])
    assert report.count(Outcome.FAILED) == 3


def test_deleted_files_stay_until_pruned(engine: Engine, videos: Path) -> None:
    (videos / "a.mp4").unlink()
    engine.index([videos])
    assert {Path(v.path).name: v.missing for v in engine.videos()} == {
        "a.mp4": True, "b.mp4": False,
    }  # fmt: skip
    dry = engine.index([videos], prune=True, dry_run=True)
    assert (dry.n_pruned, names(engine)) == (1, ["a.mp4", "b.mp4"])
    assert engine.index([videos], prune=True).n_pruned == 1
    assert names(engine) == ["b.mp4"]
    assert engine.search("baker dough", filter=Filter(phrase="baker")).hits == ()


def test_prune_leaves_what_is_outside_the_given_folders(
    engine: Engine, videos: Path, make_clip: MakeClip
) -> None:
    other = videos.with_name("videos2")
    make_clip(other / "c.mp4", 3)
    engine.index([other])
    for path in (videos / "a.mp4", other / "c.mp4"):
        path.unlink()
    assert engine.index([videos / "sub"], prune=True).n_pruned == 0
    assert names(engine) == ["a.mp4", "b.mp4", "c.mp4"]
    assert engine.index([videos], prune=True).n_pruned == 1
    assert names(engine) == ["b.mp4", "c.mp4"]


def test_prune_does_not_take_an_excluded_file_for_deleted(engine: Engine, videos: Path) -> None:
    report = engine.index([videos], prune=True, exclude=["sub"])
    assert (report.n_pruned, names(engine)) == (0, ["a.mp4", "b.mp4"])


def test_a_path_means_the_same_however_it_is_written(
    engine: Engine, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(videos / "sub")
    assert set(outcomes(engine.index([Path("..")])).values()) == {Outcome.UNCHANGED}
    assert [v.path for v in engine.matching(["../a.mp4"])] == [str(videos / "a.mp4")]


def test_changed_settings_do_again_what_they_change(engine: Engine, videos: Path) -> None:
    before = revisions(engine)
    other = replace(engine.settings, jobs=1)
    assert Engine.create(engine.folder, other).index([videos]).count(Outcome.UNCHANGED) == 2
    assert revisions(engine) == before
    other = replace(other, ocr=OcrSettings(enabled=False))
    changed = Engine.create(engine.folder, other)
    assert changed.index([videos]).count(Outcome.INDEXED) == 2
    after = revisions(engine)
    assert set(after) == set(before) and not set(after.values()) & set(before.values())
    assert Engine.open(engine.folder).settings == other
    assert changed.index([videos]).count(Outcome.UNCHANGED) == 2


def test_force_does_everything_again_to_the_same_end(engine: Engine, videos: Path) -> None:
    before, ids = engine.search("baker"), revisions(engine)
    assert engine.index([videos], force=True).count(Outcome.INDEXED) == 2
    assert set(revisions(engine)) == set(ids)
    assert engine.search("baker").hits == before.hits
    shutil.copyfile(videos / "a.mp4", videos / "bare.mp4")
    assert engine.index([videos], force=True).count(Outcome.INDEXED) == 2
    assert {v.sources.get(Modality.SPEECH) for v in engine.videos()} == {"sidecar:a.srt", None}


def test_a_reader_sees_what_a_writer_commits(
    engine: Engine, videos: Path, make_clip: MakeClip
) -> None:
    reader = Engine.open(engine.folder)
    asked = "penguins in a storm"
    assert Path(best(reader, asked).video.path).name != "new.mp4"
    make_clip(videos / "new.mp4", 5, said=PENGUINS)
    engine.index([videos])
    assert Path(best(reader, asked).video.path).name == "new.mp4"
    assert reader.info().n_videos == 3
    engine.remove(["new.mp4"])
    found = reader.search(asked, k=100).hits
    assert "new.mp4" not in {Path(h.video.path).name for h in found}
    assert not [h for h in engine.search(asked, k=100).hits if h.video.path.endswith("new.mp4")]
    assert names(reader) == names(engine) == ["a.mp4", "b.mp4"]


def test_a_second_writer_is_refused_and_readers_are_not(engine: Engine, videos: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from mmretrieve.storage.folder import acquire_lock\n"
        f"lock = acquire_lock(Path({str(engine.folder)!r}))\n"
        "print('held', flush=True); sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        manifest = (engine.folder / "manifest.json").read_bytes()
        second = Engine.create(engine.folder, replace(engine.settings, ocr=OcrSettings(False)))
        with pytest.raises(IndexLockedError, match="another process"):
            second.index([videos])
        with pytest.raises(IndexLockedError):
            engine.remove(["a.mp4"])
        assert (engine.folder / "manifest.json").read_bytes() == manifest
        assert len(Engine.open(engine.folder).search("baker").hits) > 0
        assert engine.index([videos]).count(Outcome.UNCHANGED) == 2
        other.kill()
    assert engine.index([videos], force=True).count(Outcome.INDEXED) == 2


def test_searches_go_on_while_another_thread_writes(
    engine: Engine, videos: Path, make_clip: MakeClip
) -> None:
    reader, wrong, stop = Engine.open(engine.folder), [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                if not reader.search("a baker with dough", k=3).hits:
                    wrong.append("no hits")
                reader.explain("a baker with dough", "a.mp4")
                reader.videos()
                time.sleep(0.02)
            except Exception as error:
                wrong.append(repr(error))
                return

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(2):
            make_clip(videos / "busy.mp4", 30 + round_)
            engine.index([videos])
            engine.index([videos / "a.mp4"], force=True)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert names(reader) == ["a.mp4", "busy.mp4", "b.mp4"]
    assert reader.search("baker").hits == Engine.open(engine.folder).search("baker").hits


def test_removed_videos_come_back_with_the_next_run(engine: Engine, videos: Path) -> None:
    engine.remove(["a.mp4"])
    assert names(engine) == ["b.mp4"]
    assert outcomes(engine.index([videos])) == {
        "a.mp4": Outcome.INDEXED, "b.mp4": Outcome.UNCHANGED,
    }  # fmt: skip


def test_the_tables_are_plain_lancedb(engine: Engine) -> None:
    database = lancedb.connect(engine.folder / "lance")
    tables = {name: database.open_table(name) for name in TABLES}
    for name, schema in schemas(128).items():
        assert tables[name].schema.equals(schema), name
    passages = tables["passages"].to_arrow().to_pylist()
    assert {r["modality"] for r in passages} <= {m.value for m in MODALITIES}
    for row in passages:
        vectors = np.array(row["vectors"], np.float32)
        assert vectors.shape == (len(row["token_segment"]), 128)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
        assert len(row["char_start"]) == len(row["char_end"]) == len(vectors)
        assert max(row["token_segment"]) < len(row["segments"])
        assert (row["passage"] == -1) == (row["modality"] == "metadata") == (row["start_s"] is None)
    assert {r["thumbnail"][:2] for r in tables["keyframes"].to_arrow().to_pylist()} == {b"\xff\xd8"}
    marks = {(r["video_id"], r["revision"]) for r in tables["videos"].to_arrow().to_pylist()}
    for name in ("passages", "keyframes"):
        rows = tables[name].to_arrow().to_pylist()
        assert {(r["video_id"], r["revision"]) for r in rows} == marks


def test_the_lock_is_free_after_every_run(engine: Engine, videos: Path) -> None:
    engine.index([videos], force=True)
    acquire_lock(engine.folder).release()


def test_files_that_swap_names_swap_content(engine: Engine, videos: Path) -> None:
    before = revisions(engine)
    (videos / "a.srt").unlink()
    engine.index([videos])
    a, b, spare = videos / "a.mp4", videos / "sub" / "b.mp4", videos / "spare"
    ids = {v.path: v.video_id for v in engine.videos()}
    a.rename(spare)
    b.rename(a)
    spare.rename(b)
    engine.index([videos], prune=True)
    assert {v.path: v.video_id for v in engine.videos()} == {
        str(a): ids[str(b)],
        str(b): ids[str(a)],
    }
    assert set(revisions(engine)) == set(before)


def test_a_file_replaced_after_its_content_moved_keeps_both(
    engine: Engine, videos: Path, make_clip: MakeClip
) -> None:
    before = seen_tokens(engine)
    (videos / "sub" / "b.mp4").rename(videos / "z.mp4")
    make_clip(videos / "sub" / "b.mp4", 40)
    report = engine.index([videos], prune=True)
    assert outcomes(report)["b.mp4"] is Outcome.INDEXED
    assert outcomes(report)["z.mp4"] in (Outcome.MOVED, Outcome.DUPLICATE)
    assert names(engine) == ["a.mp4", "b.mp4", "z.mp4"]
    assert before.items() <= seen_tokens(engine).items()


@pytest.mark.parametrize("first", ["with", "without"])
def test_a_copy_without_subtitles_takes_none_away(
    tmp_path: Path, make_clip: MakeClip, quiet_settings: Settings, first: str
) -> None:
    """One content, two files: what one of them knows more is not lost to the other."""
    told = make_clip(tmp_path / "with" / "a.mp4", 1, said=BREAD)
    (tmp_path / "without").mkdir()
    shutil.copyfile(told, tmp_path / "without" / "a.mp4")
    engine = Engine.create(tmp_path / "ix", quiet_settings)
    second = "without" if first == "with" else "with"
    for folder in (first, second, first, second):
        engine.index([tmp_path / folder])
    assert [v.sources.get(Modality.SPEECH) for v in engine.videos()] == ["sidecar:a.srt"]
    assert engine.index([tmp_path]).count(Outcome.INDEXED) == 0


def test_a_file_whose_note_was_lost_is_known_by_its_bytes(engine: Engine, videos: Path) -> None:
    """A run can be killed when its videos are visible and its files are not noted yet."""
    before = revisions(engine)
    paths = [video.path for video in engine.videos()]
    with IndexWriter(engine.folder, read_manifest(engine.folder)) as writer:
        writer.forget_files(paths)
    engine.refresh()
    assert set(outcomes(engine.index([videos])).values()) == {Outcome.UNCHANGED}
    assert revisions(engine) == before
    assert set(outcomes(engine.index([videos])).values()) == {Outcome.UNCHANGED}
