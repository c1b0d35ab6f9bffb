"""Copies of an index that is in use: made by the program, and by ``cp -r``."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from benchmarks.contents import compare, content
from benchmarks.faults.library import QUERIES, documents
from benchmarks.faults.stages import flip
from mmretrieve import Engine
from mmretrieve.errors import BackupError
from mmretrieve.health.backup import backup
from mmretrieve.health.findings import Severity
from mmretrieve.health.verify import verify
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.schema import TABLES
from mmretrieve.storage.writer import IndexWriter

pytestmark = pytest.mark.usefixtures("words_alone")


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    with Engine.create(folder) as engine:
        engine.index(documents(0, 4))
        engine.index([*documents(4, 6), *documents(0, 1, edition=1)])
    return folder


def errors(folder: Path) -> list[str]:
    found = verify(folder, deep=True).findings
    return [f"{f.where}: {f.what}" for f in found if f.severity is not Severity.NOTE]


@pytest.mark.parametrize("link", [False, True])
def test_a_backup_is_the_same_and_goes_its_own_way(tmp_path: Path, index: Path, link: bool) -> None:
    held = content(index, QUERIES)
    report = backup(index, tmp_path / "to" / "copy", link=link)
    assert report.health.is_clean
    assert (report.n_linked > 0, report.n_copied > 0) == (link, not link)
    copy = Path(report.path)
    assert verify(copy, deep=True).findings == ()
    assert not [w for w, n in compare(held, content(copy, QUERIES)) if n]
    for changed, kept in ((index, copy), (copy, index)):
        before = content(kept, QUERIES)
        with Engine.open(changed) as engine:
            engine.index(documents(8, 9))
            engine.remove(["doc-001"])
            engine.remove(["doc-008"])
            engine.index(documents(1, 2))
        assert not [w for w, n in compare(before, content(kept, QUERIES)) if n]
        assert verify(kept, deep=True).findings == ()
    assert {p.name for p in copy.parent.iterdir()} == {"copy"}


def test_a_backup_holds_no_more_than_the_newest_state(tmp_path: Path, index: Path) -> None:
    report = backup(index, tmp_path / "copy")
    versions = list((tmp_path / "copy").glob("lance/*.lance/_versions/*.manifest"))
    assert len(versions) == len(TABLES)
    there = sum(p.stat().st_size for p in index.rglob("*") if p.is_file())
    assert report.size_bytes < there


def test_backups_that_cannot_be_made(tmp_path: Path, index: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(BackupError, match="is there already"):
        backup(index, tmp_path / "there")
    with pytest.raises(BackupError, match="inside of the index"):
        backup(index, index / "copy")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(BackupError, match="nothing was kept"):
        backup(index, tmp_path / "file" / "copy")
    flip(next(index.glob("lance/passages.lance/data/*.lance")))
    flip(next(index.glob("lance/videos.lance/data/*.lance")))
    for path in index.glob("lance/*.lance/data/*.lance"):
        flip(path)
    with pytest.raises(BackupError):
        backup(index, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not list(tmp_path.glob(".copy*"))


def written_beside(index: Path, copy: Path, how: str) -> None:
    if how == "backup":
        backup(index, copy)
    else:
        shutil.copytree(index, copy, ignore_dangling_symlinks=True)


@pytest.mark.parametrize("how", ["backup", "cp -r"])
def test_copies_taken_while_a_writer_is_at_work(tmp_path: Path, index: Path, how: str) -> None:
    """Every copy can be searched, and a run on it ends where one on the index would."""
    done = threading.Event()

    def write() -> None:
        try:
            for round_ in range(1, 5):
                with Engine.open(index) as engine:
                    engine.index(documents(0, 4, edition=round_))
                    engine.remove(["doc-002"])
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    copies = 0
    while not done.is_set() or not copies:
        copy = tmp_path / f"copy-{copies}"
        try:
            written_beside(index, copy, how)
        except (shutil.Error, FileNotFoundError):
            assert how == "cp -r"  # a file went while it was copied; then one copies again
            shutil.rmtree(copy, ignore_errors=True)
            continue
        copies += 1
        if how == "backup":
            assert errors(copy) == []
        with Engine.open(copy) as engine:
            assert len(engine.search("bread", k=3).hits) == 3
            engine.index(documents(0, 6, edition=9))
        if how == "cp -r" and errors(copy):
            with Engine.open(copy) as engine:
                engine.repair()
                engine.index(documents(0, 6, edition=9), force=True)
        assert errors(copy) == []
        with Engine.open(copy) as engine:
            assert {v.video_id for v in engine.videos()} == {f"doc-{n:03}" for n in range(6)}
    writer.join()
    assert errors(index) == []


def test_an_old_reader_keeps_its_state(index: Path) -> None:
    """While the index is rewritten, compacted and cleaned up."""
    old = Snapshot(index, read_manifest(index))
    ids = [v.video_id for v in old.videos]
    with Engine.open(index) as engine:
        engine.index(documents(0, 3, edition=7))
        engine.remove(["doc-003", "doc-004"])
    with IndexWriter(index, read_manifest(index)) as writer:
        writer.optimize()
    stored = old.library
    assert len({int(v) for v in stored.cells.video}) == len(ids) == 6
    assert len(stored.vectors) == sum(sum(v.n_tokens.values()) for v in old.videos)
    assert not old.is_current()
    assert len(Snapshot(index, read_manifest(index)).videos) == 4
