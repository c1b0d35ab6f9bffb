"""Indexes of every format there was: they are searched as they are, and brought up to date by a writer, which
may be interrupted."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.contents import Content, content
from benchmarks.faults.library import QUERIES, documents
from mmretrieve import Engine
from mmretrieve.cli.app import app
from mmretrieve.errors import IndexFormatError, IndexWriteError
from mmretrieve.health.verify import verify
from mmretrieve.storage import migrations
from mmretrieve.storage.folder import FORMAT_VERSION, read_manifest
from mmretrieve.storage.ledger import LEDGER, read_ledger
from mmretrieve.storage.migrations import STEPS
from mmretrieve.storage.schema import TABLES

pytestmark = pytest.mark.usefixtures("words_alone")

DATA = Path(__file__).parents[1] / "data"
FORMATS = range(1, FORMAT_VERSION + 1)


def frozen(version: int, folder: Path) -> tuple[Path, Content]:
    """An index as a program of that format wrote it, and what it held."""
    with tarfile.open(DATA / f"index_format_{version}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    told = json.loads((folder / "content.json").read_text(encoding="utf-8"))
    return folder / "index", Content(told["tokens"], told["answers"], told["leftovers"])


def _scores(held: Content, query: str) -> dict[tuple[object, ...], float]:
    """Score of each moment, without how sure the answer is, which programs judge differently."""
    return {hit[:3]: float(str(hit[3])) for hit in map(tuple, held.answers[query])}


def assert_holds(index: Path, held: Content) -> None:
    """The same tokens, and the same answers: scores to a rounding, which is another on another processor."""
    found = content(index, QUERIES)
    assert (found.tokens, found.leftovers) == (held.tokens, held.leftovers)
    for query in held.answers:
        expected = pytest.approx(_scores(held, query), rel=1e-5, abs=1e-6)
        assert _scores(found, query) == expected


@pytest.mark.parametrize("version", FORMATS)
def test_an_old_index_is_searched_as_it_is(tmp_path: Path, version: int) -> None:
    index, held = frozen(version, tmp_path)
    before = {p: p.read_bytes() for p in index.rglob("*") if p.is_file()}
    assert read_manifest(index).format_version == version
    assert_holds(index, held)
    assert verify(index, deep=True).is_clean
    assert {p: p.read_bytes() for p in index.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("version", FORMATS)
def test_the_next_run_brings_it_up_to_date(tmp_path: Path, version: int) -> None:
    index, held = frozen(version, tmp_path)
    with Engine.open(index) as engine:
        engine.index(documents(1, 4))  # nothing is new
        assert engine.info().format_version == FORMAT_VERSION
        engine.index(documents(1, 4))
    assert read_manifest(index).format_version == FORMAT_VERSION
    assert_holds(index, held)
    assert verify(index, deep=True).is_clean
    with Engine.open(index) as engine:
        engine.index(documents(5, 6))
        engine.remove(["doc-005"])
    assert_holds(index, held)
    assert verify(index, deep=True).is_clean


@pytest.mark.parametrize("version", FORMATS[:-1])
def test_a_migration_that_fails_leaves_the_old_index(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, held = frozen(version, tmp_path)

    def fail(folder: Path, manifest: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(migrations, "replace_manifest", fail)
        with Engine.open(index) as engine, pytest.raises(IndexWriteError, match="No space left"):
            engine.index(documents(5, 6))
    assert read_manifest(index).format_version == version
    assert_holds(index, held)
    with Engine.open(index) as engine:
        engine.index(documents(5, 6))
        engine.remove(["doc-005"])
    assert_holds(index, held)
    assert verify(index, deep=True).is_clean


def test_every_format_but_this_one_has_a_step_and_every_one_an_example() -> None:
    assert set(STEPS) == set(FORMATS[:-1])
    for version in FORMATS:
        assert (DATA / f"index_format_{version}.tar.xz").stat().st_size < 100_000


def test_format_2_knows_every_file(tmp_path: Path) -> None:
    index, _ = frozen(1, tmp_path)
    assert read_ledger(index) is None
    with Engine.open(index) as engine:
        engine.remove(["doc-001"])
    ledger = read_ledger(index)
    assert ledger is not None
    assert set(ledger.versions) == set(TABLES)
    assert ledger.manifest == (index / "manifest.json").read_text(encoding="utf-8")
    assert (index / LEDGER).is_file()


def test_a_newer_index_is_refused_by_name(tmp_path: Path) -> None:
    index, _ = frozen(1, tmp_path)
    path = index / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, "format_version": FORMAT_VERSION + 1}), encoding="utf-8")
    with pytest.raises(IndexFormatError, match="pip install -U mmretrieve"):
        Engine.open(index)
    run = CliRunner().invoke(app, ["query", "x", "--index", str(index)])
    assert run.exit_code == 4
