"""What a killed or failed writer leaves, and the run after it: found by ``python -m benchmarks faults``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contents import compare, content
from benchmarks.faults.library import QUERIES, documents
from mmretrieve import Engine
from mmretrieve.errors import CodesError, IndexWriteError, UsageError
from mmretrieve.health.verify import verify
from mmretrieve.storage import writer as writers
from mmretrieve.storage.codes import update as updates
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.lock import left_behind
from mmretrieve.storage.writer import IndexWriter

pytestmark = pytest.mark.usefixtures("words_alone")


class Killed(BaseException):
    """Stands for the end of a process."""


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    with Engine.create(folder) as engine:
        engine.index(documents(0, 4))
    return folder


def kill_at(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, at: int = 1) -> None:
    """End at the ``at``-th call of a function, before it does anything."""
    real, count = getattr(where, name), [0]

    def call(*given: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == at:
            raise Killed
        return real(*given, **named)

    monkeypatch.setattr(where, name, call)


def test_an_interrupted_removal_does_not_hide_a_file(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The video was gone and its file still noted as indexed, so no run indexed it again."""
    with monkeypatch.context() as patched, Engine.open(index) as engine:
        kill_at(patched, IndexWriter, "_delete_from", 2)  # videos went, notes about files did not
        with pytest.raises(Killed):
            engine.remove(["doc-001"])
    assert left_behind(index)
    assert verify(index).is_clean
    assert any("notes that 1 files" in f.what for f in verify(index).findings)
    with Engine.open(index) as engine:
        engine.index(documents(1, 2))
        assert {v.video_id for v in engine.videos()} == {f"doc-{n:03}" for n in range(4)}
    assert verify(index, deep=True).findings == ()


def test_a_run_with_nothing_to_do_seals_what_a_killed_one_left(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Videos were committed, codes were not, and as nothing was new no later run made them."""
    with Engine.open(index) as engine:
        with monkeypatch.context() as patched:
            kill_at(patched, updates, "write_catalogue")
            with pytest.raises(Killed):
                engine.index(documents(4, 6))
        engine.refresh()
        assert len(engine.search("bread", k=20).hits) > 0
        engine.index(documents(4, 6))
        assert engine.info().search_path.count("(") == 1
    assert verify(index, deep=True).findings == ()


def test_a_removal_that_was_done_is_tidied_up_by_the_one_that_finds_nothing(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine.open(index) as engine:
        with monkeypatch.context() as patched:
            kill_at(patched, updates, "write_catalogue")
            with pytest.raises(Killed):
                engine.remove(["doc-001"])
        with pytest.raises(UsageError, match="no video"):
            engine.remove(["doc-001"])
    assert verify(index, deep=True).findings == ()


def test_a_kill_while_chance_is_kept_leaves_nothing(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its half-written file stayed for ever: it was written after the lock was released."""
    with Engine.open(index) as engine:
        with monkeypatch.context() as patched:
            kill_at(patched, Path, "replace", 4)  # catalogue, ledger, ..., nulls.json
            with pytest.raises(Killed):
                for number in range(4, 8):
                    engine.index(documents(number, number + 1))
        engine.index(documents(4, 5))
    assert verify(index, deep=True).findings == ()


def test_codes_that_a_full_disk_refused_are_made_by_the_next_run(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends well with a warning, so nothing but the codes tells that they are behind."""

    def full(*_: Any, **__: Any) -> None:
        raise CodesError("No space left on device")

    with Engine.open(index) as engine:
        with monkeypatch.context() as patched:
            patched.setattr(updates, "_update", full)
            report = engine.index(documents(4, 6))
            assert report.warnings == ("No space left on device",)
        assert not left_behind(index)
        assert any("without codes" in f.what for f in verify(index).findings)
        engine.index(documents(4, 6))
    assert verify(index, deep=True).findings == ()


def test_errors_of_lance_get_a_name(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk came out as a RuntimeError, and as an internal error on the command line."""
    told = (
        "lance error: LanceError(IO): No space left on device (os error 28), /root/.cargo/x.rs:1:2"
    )
    held = content(index, QUERIES)
    with IndexWriter(index, read_manifest(index)) as writer:
        table = writer._tables["videos"]

        def full(*_: Any) -> None:
            raise RuntimeError(told)

        monkeypatch.setattr(type(table), "delete", full)
        with pytest.raises(IndexWriteError, match="No space left on device") as caught:
            writer.remove_videos(["doc-001"])
    assert ".cargo" not in str(caught.value)
    assert "run the same command again" in str(caught.value)
    assert not [w for w, n in compare(held, content(index, QUERIES)) if n]


def test_what_was_done_is_in_the_log(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine.open(index) as engine:
        with monkeypatch.context() as patched:
            kill_at(patched, updates, "write_catalogue")
            with pytest.raises(Killed):
                engine.index(documents(4, 6))
        assert engine.info().health is not None
        assert engine.info().health.unsettled  # type: ignore[union-attr]
        engine.index(documents(4, 7))
        engine.remove(["doc-006"])
        engine.verify()
        health = engine.info().health
    assert health is not None
    assert (health.unsettled, health.n_unsealed, health.writer) == (False, 0, None)
    assert health.last_run is not None
    assert health.last_run["counts"] == {"indexed": 1, "unchanged": 2}
    assert health.last_verify is not None
    assert health.last_verify["clean"] is True
    assert health.last_trouble is not None
    assert health.last_trouble["event"] == "recovered"
    events = [json.loads(line) for line in (index / "log.jsonl").read_text().splitlines()]
    names = [e["event"] for e in events if e["event"] != "file"]
    assert names == [
        "run started", "run finished", "run started", "run failed", "recovered", "run started",
        "run finished", "removed", "verified",
    ]  # fmt: skip
    files = [e for e in events if e["event"] == "file"]
    assert files[0]["path"] == "document:doc-000"
    assert set(files[0]["stage_s"]) == {"text", "frames"}
    assert sum(files[0]["n_tokens"].values()) == 30


def test_the_log_can_be_switched_off(tmp_path: Path) -> None:
    from mmretrieve.config import Settings

    with Engine.create(tmp_path / "ix", Settings(log_file="off")) as engine:
        engine.index(documents(0, 1))
        engine.verify()
    assert not list((tmp_path / "ix").glob("*.jsonl"))
    assert Settings().content_key == Settings(log_file="off").content_key


def test_a_deletion_that_lance_did_not_write_is_taken_back(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that failed once: Lance committed a version with an empty deletion file, and nothing could
    read the table any more."""
    held = content(index, QUERIES)
    with Engine.open(index) as engine:
        engine.index([*documents(4, 6), *documents(0, 1, edition=1)])
        engine.index(documents(0, 1))
        engine.remove(["doc-004", "doc-005"])
    assert not [w for w, n in compare(held, content(index, QUERIES)) if n]

    def half_written(*_: Any, **__: Any) -> dict[str, str]:
        return {"_deletions/0-1-2.arrow": "cannot be read (it is empty)"}

    with Engine.open(index) as engine:
        with monkeypatch.context() as patched:
            patched.setattr(writers, "unreadable_deletions", half_written)
            with pytest.raises(IndexWriteError, match="it is empty"):
                engine.remove(["doc-001"])
        assert len(engine.videos()) == 4
        engine.remove(["doc-001"])
        assert len(engine.videos()) == 3
    assert verify(index, deep=True).findings == ()


def test_an_empty_deletion_file_is_found(index: Path) -> None:
    with Engine.open(index) as engine:
        engine.index(documents(0, 1, edition=1))
    (path,) = [p for p in index.glob("lance/passages.lance/_deletions/*")][-1:]
    path.write_bytes(b"")
    (index / "checksums.json").unlink()  # as if it was written just now
    found = [f for f in verify(index).findings if f.where.endswith(path.name)]
    assert [f.severity.value for f in found] == ["error"]
    assert not verify(index).is_clean
