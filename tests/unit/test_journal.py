"""The log: one whole record a line, whatever is in it, and never more than a few files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mmretrieve.storage import journal as journals
from mmretrieve.storage.journal import KEPT, LOG_FILE, LOG_NAMES, Journal

EVIL = 'a\n{"event": "forged"}\r\x1b[2J\u2028\u202ereversed\udcff é🎈"\\'


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_hostile_text_stays_in_its_line(tmp_path: Path) -> None:
    journal = Journal.of(tmp_path)
    journal.note("file", path=EVIL, error=EVIL, stage_s={EVIL: 1.23456789})
    (line,) = lines(tmp_path / LOG_FILE)
    assert all(32 <= byte < 127 for byte in line)
    record = json.loads(line)
    assert (record["event"], record["path"], record["stage_s"]) == ("file", EVIL, {EVIL: 1.234568})
    assert record["pid"] == os.getpid()
    assert record["at"].endswith("+00:00")


def test_values_that_json_lacks_and_endless_ones_are_cut(tmp_path: Path) -> None:
    journal = Journal.of(tmp_path)
    journal.note("x", nan=float("nan"), text="y" * 10_000, many=range(5), lots=["z"] * 10_000,
                 path=Path("/a"))  # fmt: skip
    record = journal.last("x")
    assert record is not None
    assert record["nan"] is None
    assert len(record["text"]) == 2_003
    assert len(record["lots"]) == 100
    assert (record["many"], record["path"]) == ("range(0, 5)", "/a")


def test_files_are_cut_and_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "LARGEST_BYTES", 2_000)
    journal = Journal.of(tmp_path)
    for number in range(500):
        journal.note("n", number=number)
    assert {p.name for p in tmp_path.iterdir()} == set(LOG_NAMES)
    sizes = [p.stat().st_size for p in tmp_path.iterdir()]
    assert sum(sizes) < (KEPT + 1) * 2_200
    numbers = [event["number"] for event in journal.events()]
    assert numbers == list(range(499, 499 - len(numbers), -1))
    assert len(numbers) > 60


def test_half_a_line_of_a_killed_process_spoils_no_other(tmp_path: Path) -> None:
    journal = Journal.of(tmp_path)
    journal.note("first")
    with (tmp_path / LOG_FILE).open("ab") as file:
        file.write(b'{"at": "2026-')
    journal.note("second")
    assert [event["event"] for event in journal.events()] == ["second", "first"]


def test_off_and_elsewhere(tmp_path: Path) -> None:
    Journal.of(tmp_path, "off").note("x")
    assert list(tmp_path.iterdir()) == []
    assert list(Journal.of(tmp_path, "off").events()) == []
    elsewhere = tmp_path / "my.log"
    Journal.of(tmp_path / "index", str(elsewhere)).note("x")
    assert len(lines(elsewhere)) == 1


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).mkdir()
    journal = Journal.of(tmp_path)
    journal.note("x")
    Journal.of(tmp_path / "absent").note("x")
    assert list(journal.events()) == []
