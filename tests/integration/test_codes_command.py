"""What searching scans, seen from outside: shown, checked, mended, and told in every answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmretrieve import Engine
from mmretrieve.cli.app import app
from mmretrieve.datatypes import GroupBy
from mmretrieve.demo import QUERIES
from mmretrieve.errors import UsageError
from mmretrieve.kernels.choose import kernels


@pytest.fixture
def index(demo_index: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "index"
    shutil.copytree(demo_index, copy)
    return copy


def answers(index: Path) -> list[list[tuple[str, float]]]:
    with Engine.open(index) as engine:
        return [
            [(h.video.video_id, h.score) for h in engine.search(q.text, group_by=unit).hits]
            for q in QUERIES
            for unit in GroupBy
        ]


def test_an_index_run_seals_what_it_wrote(index: Path) -> None:
    with Engine.open(index) as engine:
        assert engine.info().search_path.startswith("1 exact (")
        assert engine.verify_codes() == ()
        assert engine.verify().findings == ()
        result = engine.search(QUERIES[0].text)
    assert result.plan == f"exact scan ({kernels().name})"
    assert result.notes == ()


@pytest.mark.parametrize("damage", ["gone", "cut", "garbage"])
def test_damaged_codes_change_no_answer_and_are_mended(index: Path, damage: str) -> None:
    before = answers(index)
    codes = index / "codes"
    if damage == "gone":
        shutil.rmtree(codes)
    elif damage == "garbage":
        (codes / "catalogue.json").write_text("{", encoding="utf-8")
    else:
        largest = max(codes.rglob("*.bin"), key=lambda f: f.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:-4])
    assert answers(index) == before
    with Engine.open(index) as engine:
        notes = engine.search(QUERIES[0].text).notes
        assert bool(notes) == (damage != "gone")
        assert all("mmretrieve codes --rebuild" in note for note in notes)

    run = CliRunner().invoke(app, ["codes", "--rebuild", "--verify", "--index", str(index)])
    assert run.exit_code == 0, run.output
    assert "exact (" in run.stdout
    assert answers(index) == before
    with Engine.open(index) as engine:
        assert engine.search(QUERIES[0].text).notes == ()


def test_verify_finds_one_wrong_byte(index: Path) -> None:
    largest = max((index / "codes").rglob("*.bin"), key=lambda f: f.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))
    run = CliRunner().invoke(app, ["codes", "--verify", "--index", str(index)])
    assert run.exit_code == 4
    assert "mmretrieve codes --rebuild" in run.stderr


def test_what_was_removed_is_never_found_again(index: Path) -> None:
    with Engine.open(index) as reader, Engine.open(index) as writer:
        name = reader.search(QUERIES[0].text).hits[0].video.video_id
        writer.remove([name])
        for engine in (reader, writer):
            for query in QUERIES:
                assert name not in [h.video.video_id for h in engine.search(query.text, k=100).hits]


@pytest.mark.torch
def test_a_device_that_does_not_exist_is_told(index: Path) -> None:
    pytest.importorskip("torch")
    with Engine.open(index, device="abacus") as engine, pytest.raises(UsageError, match="abacus"):
        engine.search("anything")


def test_an_unknown_kernel_is_told(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMRETRIEVE_KERNELS", "abacus")
    with Engine.open(index) as engine, pytest.raises(UsageError, match="expected one of"):
        engine.search("anything")


def test_every_level_gives_the_same_answers(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = answers(index)
    monkeypatch.setenv("MMRETRIEVE_KERNELS", "numpy")
    for found, mine in zip(answers(index), wanted, strict=True):
        assert [v for v, _ in found] == [v for v, _ in mine]
        assert [s for _, s in found] == pytest.approx([s for _, s in mine], rel=1e-4, abs=1e-6)
