from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from benchmarks import result as results
from benchmarks.program import copies
from benchmarks.quality import Measured
from benchmarks.quality_page import BEGIN, END, replaced, table
from benchmarks.result import Result, Table, command_line
from mmretrieve.evaluation.experiment import measure_runs
from mmretrieve.evaluation.measures import parse_measures
from mmretrieve.evaluation.results import Results
from mmretrieve.evaluation.trec import Qrels, Run


def test_table_as_markdown() -> None:
    table = Table("Speed", ("what", "s"), (("a | b", 0.12345), ("none", None), ("n", 12345.6)))
    assert table.markdown().splitlines() == [
        "### Speed",
        "",
        "| what  | s        |",
        "| ----- | -------- |",
        "| a / b | 0.123    |",
        "| none  | -        |",
        "| n     | 12,345.6 |",
    ]


def test_a_result_names_no_folder_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["videos", "--data", str(tmp_path / "data"), f"--index={tmp_path}/kept"]
    monkeypatch.setattr("sys.argv", ["x", *arguments])
    assert command_line() == "python -m benchmarks videos --data data --index=kept"
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    found = Result("videos")
    found.add("Speed", ("what", "s"), [("index", 1.5)])
    found.note("small")
    written = found.save().read_text(encoding="utf-8")
    assert str(tmp_path) not in written
    data = json.loads(written)
    assert data["tables"] == [
        {"title": "Speed", "columns": ["what", "s"], "rows": [["index", 1.5]]}
    ]
    assert data["machine"]["cores"] > 0
    assert "| index | 1.500 |" in capsys.readouterr().out


def test_a_result_is_kept_by_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    newest = Result("quality", commit="abc1234").save_by_commit()
    kept = tmp_path / "quality" / "abc1234.json"
    assert newest == tmp_path / "quality.json"
    assert json.loads(kept.read_text())["commit"] == json.loads(newest.read_text())["commit"]


def test_the_table_of_the_readme() -> None:
    qrels = Qrels({"1": {"a": 1}, "2": {"b": 1}})
    runs = [
        Run("token_max", {"1": {"a": 1.0}, "2": {"b": 1.0}}),
        Run("bm25", {"1": {"a": 1.0}, "2": {"a": 1.0}}),
        Run("ocr", {"1": {"a": 1.0}, "2": {}}),
        Run("speech", {"1": {}, "2": {}}),
    ]
    found = Results(measure_runs(qrels, runs, parse_measures("R@1,nDCG@10")))
    lines = table([Measured("films", "x", 2, found, "bm25", ())]).splitlines()
    assert lines[0] == "| nDCG@10 | films (2) |"
    assert lines[2] == "| **all modalities, `token_max`** | **1.000 ±0.000** |"
    assert "| BM25 | 0.500 ±0.500 |" in lines
    assert lines[-1] == "| best modality alone | 0.500 ±0.500 (ocr) |"


def test_only_what_is_between_the_markers_is_replaced() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter \\1\n"
    assert replaced(text, "| a \\1 |") == f"before\n{BEGIN}\n\n| a \\1 |\n\n{END}\nafter \\1\n"
    with pytest.raises(ValueError, match="once"):
        replaced("no markers", "x")


def test_copies_of_a_clip_differ_by_a_free_box(tmp_path: Path) -> None:
    folder = copies(tmp_path / "clips", 3)
    contents = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert len(set(contents)) == 3
    assert [c[:-16] == contents[0][:-16] for c in contents] == [True] * 3
    assert struct.unpack(">I4sQ", contents[2][-16:]) == (16, b"free", 2)
