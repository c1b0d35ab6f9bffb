"""Qrels, runs and queries: reading what others wrote, saying where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmretrieve.errors import UsageError
from mmretrieve.evaluation.queries import judge, read_queries
from mmretrieve.evaluation.trec import Qrels, Run, read_qrels, read_run, write_qrels, write_run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.txt"


@pytest.mark.parametrize(
    "text",
    [
        "q1 0 d1 2\nq1 0 d2 0\nq2 0 d1 1\n",
        "q1\t0\td1\t2\r\nq1\tQ0\td2\t0\r\n\r\nq2\t0\td1\t1",
        "\ufeffquery-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t1\n",
        "query-id corpus-id score\nq1 d1 2\nq1 d2 0\nq2 d1 1\n",
    ],
)
def test_judgements_in_every_form(file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    assert read_qrels(file) == Qrels({"q1": {"d1": 2, "d2": 0}, "q2": {"d1": 1}})


def test_ids_with_spaces_between_tabs(file: Path) -> None:
    file.write_text("query-id\tcorpus-id\tscore\nq 1\tmy clip.mp4\t1\n", "utf-8")
    assert read_qrels(file).relevance == {"q 1": {"my clip.mp4": 1}}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("q1 0 d1 1\nq1 0 d1 0\n", 2, "judged twice"),
        ("q1 0 d1 1\n\nq1 d2 1\n", 3, "3 columns, expected the 4"),
        ("q1 d1 1\n", 1, "BEIR"),
        ("query-id\tcorpus-id\tscore\nq1\t\t1\n", 2, "expected the 3"),
        ("q1 0 d1 1\nq1 0 d2 0.5\n", 2, "whole number"),
        ("q1 0 d1 1\nq1 0 d2 nan\n", 2, "whole number"),
    ],
)
def test_faulty_judgements_are_placed(file: Path, text: str, line: int, said: str) -> None:
    file.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=said) as raised:
        read_qrels(file)
    assert str(raised.value).startswith(f"{file}:{line}: ")


@pytest.mark.parametrize("text", ["", "\n \n", "query-id\tcorpus-id\tscore\n"])
def test_no_judgement_at_all(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")
    with pytest.raises(UsageError, match="no judgement"):
        read_qrels(file)


def test_a_run_is_its_scores(file: Path) -> None:
    file.write_text("q1 Q0 b 7 0.5 ours\nq1\tQ0\ta\t9\t1e-3\tours\n", "utf-8")
    assert read_run(file) == Run("ours", {"q1": {"b": 0.5, "a": 0.001}})


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("q1 Q0 a 1 nan t\n", 1, "finite number"),
        ("q1 Q0 a 1 1 t\nq1 Q0 b 2 -inf t\n", 2, "finite number"),
        ("q1 Q0 a 1 high t\n", 1, "finite number"),
        ("q1 Q0 a 1 1 t\nq1 Q0 a 2 0 t\n", 2, "ranked twice"),
        ("q1 Q0 a 1 1\n", 1, "5 columns, expected the 6"),
    ],
)
def test_faulty_runs_are_placed(file: Path, text: str, line: int, said: str) -> None:
    file.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=said) as raised:
        read_run(file)
    assert str(raised.value).startswith(f"{file}:{line}: ")


def test_an_empty_run_and_an_unreadable_one(file: Path, tmp_path: Path) -> None:
    file.write_text("", "utf-8")
    with pytest.raises(UsageError, match="run is empty"):
        read_run(file)
    with pytest.raises(UsageError, match="No such file"):
        read_run(tmp_path / "none.txt")
    file.write_bytes(b"q1 Q0 a 1 1 t\nq1 Q0 \xff 1 1 t\n")
    with pytest.raises(UsageError, match=r":2: not UTF-8"):
        read_run(file)


def test_what_is_written_reads_back(file: Path) -> None:
    run = Run("ours", {"q1": {"a": 1 / 3, "b": 0.5, "c": 0.5}, "q2": {"a": -1e-30}})
    write_run(file, run)
    assert read_run(file) == run
    assert file.read_text("utf-8").splitlines()[:3] == [
        "q1 Q0 c 1 0.5 ours",
        "q1 Q0 b 2 0.5 ours",
        f"q1 Q0 a 3 {1 / 3!r} ours",
    ]
    qrels = Qrels({"q1": {"a": 1, "b": 0}})
    write_qrels(file, qrels)
    assert read_qrels(file) == qrels


def test_ids_that_would_break_the_columns_are_refused(file: Path) -> None:
    with pytest.raises(UsageError, match="white space"):
        write_run(file, Run("ours", {"q1": {"my clip.mp4": 1.0}}))
    with pytest.raises(UsageError, match="white space"):
        write_qrels(file, Qrels({"": {"a": 1}}))
    assert not file.exists()


def _queries(folder: Path, *records: object) -> Path:
    file = folder / "queries.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in records), "utf-8")
    return file


def _record(**changed: object) -> dict[str, object]:
    return {
        "query_id": "1",
        "query": "a dog",
        "query_type": "ocr",
        "relevant": ["a.mp4"],
        **changed,
    }


def test_queries_of_a_folder(tmp_path: Path) -> None:
    _queries(tmp_path, _record(), _record(query_id=2, query_type=None))
    first, second = read_queries(tmp_path)
    assert (first.query_id, first.text, first.query_type) == ("1", "a dog", "ocr")
    assert (second.query_id, second.query_type) == ("2", "")
    assert first.relevant == ("a.mp4",)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (_record(), "was used at"),
        (_record(query_id="2", query=" "), '"query": expected text'),
        (_record(query_id=None), '"query_id": expected text, found null'),
        (_record(query_id=True), '"query_id": expected text, found true'),
        (_record(query_id="2", relevant=[]), "at least one video"),
        (_record(query_id="2", relevant="a.mp4"), "expected a list"),
        (_record(query_id="2", relevant=[3]), '"relevant": expected text, found 3'),
        (_record(query_id="2", query_type=3), '"query_type": expected text'),
        ({"query": "a dog", "relevant": ["a"]}, "found nothing"),
        ([1], "JSON object"),
    ],
)
def test_faulty_queries_are_placed(tmp_path: Path, record: object, said: str) -> None:
    file = _queries(tmp_path, _record(), record)
    with pytest.raises(UsageError, match=said) as raised:
        read_queries(file)
    assert str(raised.value).startswith(f"{file}:2: ")


def test_halves_of_characters_do_not_reach_the_encoder(tmp_path: Path) -> None:
    file = _queries(tmp_path, _record(query="a \ud800 dog", relevant=["\udcff.mp4"]))
    (query,) = read_queries(file)
    assert query.text == "a ? dog"
    assert query.relevant == ("\udcff.mp4",)


def test_no_json_and_no_query(tmp_path: Path) -> None:
    file = _queries(tmp_path)
    with pytest.raises(UsageError, match="no query"):
        read_queries(file)
    file.write_text("{not json}\n", "utf-8")
    with pytest.raises(UsageError, match=r":1: not JSON"):
        read_queries(file)


PATHS = {"id1": "/films/a.mp4", "id2": "/films/old/a.mp4", "id3": "/elsewhere/b c.mp4"}


@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("id3", "id3"),
        ("b c.mp4", "id3"),
        ("/films/old/a.mp4", "id2"),
        ("old/a.mp4", "id2"),
        ("./old/../a.mp4", "id1"),
        ("a.mp4", "id1"),  # beside queries.jsonl, so the other of that name is not meant
    ],
)
def test_names_resolve_to_videos(tmp_path: Path, name: str, video: str) -> None:
    queries = read_queries(_queries(tmp_path, _record(relevant=[name])))
    assert judge(queries, PATHS, Path("/films")) == Qrels({"1": {video: 1}})


def test_two_names_of_one_video_count_once(tmp_path: Path) -> None:
    queries = read_queries(_queries(tmp_path, _record(relevant=["id3", "b c.mp4"])))
    assert judge(queries, PATHS, tmp_path).relevance == {"1": {"id3": 1}}


@pytest.mark.parametrize(("name", "said"), [("c.mp4", "no video"), ("a.mp4", "fits 2 videos")])
def test_names_that_fit_none_or_several_are_placed(tmp_path: Path, name: str, said: str) -> None:
    file = _queries(tmp_path, _record(relevant=["id3"]), _record(query_id="2", relevant=[name]))
    with pytest.raises(UsageError, match=said) as raised:
        judge(read_queries(file), PATHS, tmp_path)
    assert str(raised.value).startswith(f"{file}:2: ")
