"""Damage of every kind to every kind of file of a real index: found, and mended or named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import lance
import pytest
from typer.testing import CliRunner

from benchmarks.contents import Content, compare, content
from mmretrieve import Engine
from mmretrieve.cli.app import app
from mmretrieve.config import Settings
from mmretrieve.documents import Document, text_document
from mmretrieve.errors import IndexFormatError, IndexLockedError
from mmretrieve.health.findings import HealthReport, Severity
from mmretrieve.health.repair import RepairReport, repair
from mmretrieve.health.verify import verify
from mmretrieve.kernels.plain import PlainKernels
from mmretrieve.storage.codes.catalogue import read_catalogue
from mmretrieve.storage.folder import acquire_lock
from mmretrieve.storage.ledger import version_of
from mmretrieve.storage.writer import IndexWriter

MakeClip = Callable[..., Path]
ASKED = ("kneading dough", "penguins in a storm", "ferry in a harbour", "rye flour")


@dataclass(frozen=True)
class Made:
    """An index of clips and documents, what it was made from, and what it holds."""

    index: Path
    clips: Path
    whole: Content


def documents() -> list[Document]:
    return [
        text_document("talk-1", title="Bread", speech="We knead the dough.", ocr="Rye flour"),
        text_document("talk-2", title="Harbour", speech="A ferry leaves at dawn.", ocr="Pier 4"),
    ]


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip, quiet_settings: Settings
) -> Made:
    """Three runs, so that tables have several pieces, versions and deletions."""
    folder = tmp_path_factory.mktemp("health")
    for seed, said in enumerate(("Penguins huddle in the storm.", "The baker kneads the dough.")):
        make_clip(folder / "clips" / f"{seed}.mp4", seed, said=said)
    index = folder / "index"
    with Engine.create(index, quiet_settings) as engine:
        engine.index([folder / "clips"])
        engine.index([*documents(), text_document("gone", speech="this one is removed again")])
        engine.remove(["gone"])
    return Made(index, folder / "clips", content(index, ASKED))


@pytest.fixture
def index(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.index, tmp_path / "index"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "removed": Path.unlink,
    "emptied": lambda path: os.truncate(path, 0),
}


def newest(index: Path, table: str) -> Path:
    files = (index / "lance" / f"{table}.lance" / "_versions").glob("*.manifest")
    return max(files, key=lambda path: version_of(f"_versions/{path.name}") or 0)


def pieces(index: Path, table: str) -> list[Path]:
    """Data files of the newest version."""
    folder = index / "lance" / f"{table}.lance"
    fragments = lance.dataset(str(folder)).get_fragments()
    return [folder / "data" / file.path for f in fragments for file in f.data_files()]


def errors(report: HealthReport) -> list[str]:
    bad = [f for f in report.findings if f.severity is not Severity.NOTE]
    assert all(f.what and f.where and f.fix for f in bad)
    return [f.where for f in bad]


def mended(index: Path, **how: bool) -> RepairReport:
    report = repair(index, PlainKernels(), **how)
    assert report.left == tuple(
        f for f in verify(index, deep=True).findings if f.severity is not Severity.NOTE
    )
    return report


def assert_whole_again(made: Made, index: Path, report: RepairReport) -> None:
    """After a repair, and indexing what it names, the index is the one it was."""
    again = {d.path: d for d in documents()}
    # Notes of a state of the past may name what was removed since.
    assert set(report.give_again) <= {*again, "document:gone"}
    with Engine.open(index) as engine:
        if report.index_again:
            engine.index([made.clips])
        lost = again.keys() - {v.path for v in engine.videos()}
        lost |= set(report.give_again) & again.keys()
        if lost:
            engine.index([again[path] for path in sorted(lost)], force=True)
    assert [f for f in verify(index, deep=True).findings if f.severity is not Severity.NOTE] == []
    differences = compare(made.whole, content(index, ASKED))
    assert not [(what, n) for what, n in differences if n]


def test_a_sound_index_has_nothing_to_find(made: Made, index: Path) -> None:
    for deep in (False, True):
        report = verify(index, deep=deep)
        assert report.findings == ()
        assert report.is_clean
        assert report.checked["videos"] == 4
        assert report.checked["vectors"] == report.checked["tokens in codes"] > 20
        assert report.checked["thumbnails"] > 0
    before = {p: p.stat().st_mtime_ns for p in index.rglob("*")}
    verify(index)
    assert {p: p.stat().st_mtime_ns for p in index.rglob("*")} == before
    done = mended(index)
    assert (done.actions, done.index_again, done.give_again, done.quarantine) == ((), (), (), None)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("table", ["videos", "passages", "keyframes", "files"])
def test_damage_of_table_data(made: Made, index: Path, table: str, damage: str) -> None:
    for path in pieces(index, table):
        DAMAGES[damage](path)
        assert f"lance/{table}.lance/data/{path.name}" in errors(verify(index))
    report = mended(index)
    if table != "passages":
        assert report.is_clean, report.left
    else:  # of documents nothing else is left: they stay as they are, and are named
        assert report.give_again == ("document:talk-1", "document:talk-2")
        assert all(f.where.startswith(("video talk-1", "video talk-2")) for f in report.left)
    assert_whole_again(made, index, report)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("table", ["videos", "passages", "keyframes", "files"])
def test_damage_of_the_newest_version(made: Made, index: Path, table: str, damage: str) -> None:
    path = newest(index, table)
    DAMAGES[damage](path)
    found = errors(verify(index))
    assert f"table {table}" in found or f"lance/{table}.lance/_versions/{path.name}" in found
    report = mended(index)
    assert report.is_clean, report.left
    assert_whole_again(made, index, report)


def test_a_table_without_any_version(made: Made, index: Path) -> None:
    shutil.rmtree(index / "lance" / "keyframes.lance")
    assert "table keyframes" in errors(verify(index))
    report = mended(index)
    assert report.is_clean, report.left
    assert_whole_again(made, index, report)


@pytest.mark.parametrize("part", ["_deletions", "_transactions"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
def test_damage_of_other_files_of_tables(made: Made, index: Path, part: str, damage: str) -> None:
    found = sorted((index / "lance").glob(f"*.lance/{part}/*"))
    if not found:
        pytest.skip(f"this version of Lance left no {part}")
    for path in found:
        DAMAGES[damage](path)
        assert path.relative_to(index).as_posix() in errors(verify(index))
    report = mended(index)
    assert report.is_clean, report.left
    assert_whole_again(made, index, report)


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
@pytest.mark.parametrize("name", ["manifest.json", "checksums.json", "nulls.json"])
def test_damage_of_the_small_files(made: Made, index: Path, name: str, damage: str) -> None:
    before = (index / "manifest.json").read_bytes()
    DAMAGES[damage](index / name)
    assert name in errors(verify(index))
    report = mended(index)
    assert report.is_clean, report.left
    assert (index / "manifest.json").read_bytes() == before
    assert_whole_again(made, index, report)


@pytest.mark.parametrize("name", ["manifest.json", "checksums.json"])
def test_small_files_that_are_gone(made: Made, index: Path, name: str) -> None:
    (index / name).unlink()
    assert name in errors(verify(index))
    report = mended(index)
    assert report.is_clean, report.left
    assert_whole_again(made, index, report)


def codes_files(made: Path) -> Iterator[str]:
    named = read_catalogue(made / "codes").folders()
    for path in sorted((made / "codes").rglob("*")):
        if path.is_file() and path.stat().st_size and path.parent.name in {*named, "codes"}:
            yield path.relative_to(made).as_posix()


@pytest.mark.parametrize("damage", ["flipped", "cut", "removed"])
def test_damage_of_codes(made: Made, tmp_path: Path, damage: str) -> None:
    for number, name in enumerate(codes_files(made.index)):
        index = tmp_path / str(number)
        shutil.copytree(made.index, index)
        DAMAGES[damage](index / name)
        if name.endswith("catalogue.json") and damage == "removed":
            continue  # then there are none: searches read the tables
        (where,) = errors(verify(index))
        assert where.startswith("codes")
    report = mended(index)
    assert report.is_clean
    assert_whole_again(made, index, report)


def test_rows_that_do_not_fit(made: Made, index: Path) -> None:
    """Rows deleted, doubled and left over, as no killed run leaves them."""
    passages = lance.dataset(str(index / "lance" / "passages.lance"))
    rows = passages.to_table()
    first = rows.filter(lance_expression("modality", "speech")).slice(0, 1)
    video = first["video_id"][0].as_py()
    lance.write_dataset(first, passages.uri, mode="append")
    files = lance.dataset(str(index / "lance" / "files.lance"))
    files.delete("path like '%1.mp4'")
    other = rows.slice(0, 1).to_pylist()[0] | {"revision": "f" * 32}
    lance.write_dataset(type(rows).from_pylist([other], rows.schema), passages.uri, mode="append")
    report = verify(index)
    wrong = {f.where: f.what for f in report.findings}
    assert any(where.startswith(f"video {video}") for where in wrong)
    assert any("no video names" in what for what in wrong.values())
    assert not report.is_clean
    done = mended(index)
    assert done.is_clean, done.left
    assert_whole_again(made, index, done)


def lance_expression(column: str, value: str) -> object:
    import pyarrow.compute as pc

    return pc.field(column) == value


def test_nothing_is_done_when_it_is_only_to_be_told(index: Path) -> None:
    flip(pieces(index, "passages")[0])
    flip(next(index.glob("codes/segment-*/revision.bin")))
    before = {p: p.read_bytes() for p in index.rglob("*") if p.is_file()}
    report = mended_dry(index)
    assert any("passages" in a.where for a in report.actions)
    assert any("codes" in a.where for a in report.actions)
    assert {p: p.read_bytes() for p in index.rglob("*") if p.is_file()} == before


def mended_dry(index: Path) -> RepairReport:
    return repair(index, PlainKernels(), dry_run=True)


def test_a_repair_waits_for_no_one(index: Path) -> None:
    flip(pieces(index, "passages")[0])
    lock = acquire_lock(index)
    try:
        with pytest.raises(IndexLockedError):
            repair(index, PlainKernels())
    finally:
        lock.release()
    assert not verify(index).is_clean


def test_damaged_files_are_kept(index: Path) -> None:
    path = pieces(index, "passages")[0]
    flip(path)
    damaged = path.read_bytes()
    report = mended(index)
    assert report.quarantine is not None
    kept = Path(report.quarantine) / path.relative_to(index)
    assert kept.read_bytes() == damaged


def test_what_is_lost_for_good_is_taken_out_on_demand(made: Made, index: Path) -> None:
    for path in pieces(index, "passages"):
        path.unlink()
    report = mended(index, drop=True)
    assert report.is_clean, report.left
    assert report.give_again == ("document:talk-1", "document:talk-2")
    with Engine.open(index) as engine:
        assert engine.videos() == ()
    assert_whole_again(made, index, report)


@pytest.mark.parametrize("when", ["put_back", "recover", "commit"])
@pytest.mark.parametrize("table", ["videos", "files"])
def test_an_interrupted_repair_is_taken_up(
    made: Made, index: Path, table: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was taken out of a table and not put back yet was lost; a run in between swept more."""
    for path in pieces(index, table):
        DAMAGES["cut" if table == "videos" else "flipped"](path)

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(IndexWriter, when, fail)
        whole = None
        with suppress(KeyboardInterrupt):
            whole = repair(index, PlainKernels())
    assert whole is None or when == "put_back"  # where no row can be put back
    with Engine.open(index) as engine:
        if whole is None:
            assert "repair.json" in errors(verify(index))
            with pytest.raises(IndexFormatError, match="mmretrieve repair"):
                engine.index([made.clips])
    report = whole or mended(index)
    assert report.is_clean, report.left
    assert_whole_again(made, index, report)


def test_documents_survive_the_loss_of_their_rows(index: Path) -> None:
    """Passages of documents cannot be made again from files, so their videos are made from them."""
    for path in pieces(index, "videos"):
        path.unlink()
    report = mended(index)
    with Engine.open(index) as engine:
        paths = {v.path for v in engine.videos()}
        assert {"document:talk-1", "document:talk-2"} <= paths
        assert engine.search("kneading dough").hits[0].video.path == "document:talk-1"
    assert report.is_clean


def test_the_commands(index: Path) -> None:
    run = CliRunner()
    sound = run.invoke(app, ["verify", "--deep", "--format", "json", "--index", str(index)])
    assert sound.exit_code == 0
    told = json.loads(sound.stdout)
    assert (told["schema"], told["clean"], told["findings"]) == (1, True, [])
    flip(pieces(index, "passages")[0])
    broken = run.invoke(app, ["verify", "--format", "json", "--index", str(index)])
    assert broken.exit_code == 1
    (finding,) = [f for f in json.loads(broken.stdout)["findings"] if f["part"] == "files"]
    assert finding["severity"] == "error"
    assert finding["fix"] == "mmretrieve repair"
    plan = run.invoke(app, ["repair", "--dry-run", "--format", "table", "--index", str(index)])
    assert plan.exit_code == 0
    assert "passages" in plan.stdout
    done = run.invoke(app, ["repair", "--format", "json", "--index", str(index)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["index_again"]
    assert run.invoke(app, ["verify", "--index", str(index)]).exit_code == 0
    (index / "manifest.json").unlink()
    assert run.invoke(app, ["verify", "--index", str(index)]).exit_code == 1
    assert run.invoke(app, ["repair", "--index", str(index)]).exit_code == 0
    assert run.invoke(app, ["verify", "--index", str(index)]).exit_code == 0
    events = [json.loads(line)["event"] for line in (index / "log.jsonl").read_text().splitlines()]
    assert events.count("repaired") == 2
    assert run.invoke(app, ["verify", "--index", str(index.parent / "none")]).exit_code == 4
