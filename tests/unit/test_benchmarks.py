from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest

from benchmarks import result as results
from benchmarks.measures import Scores, mean, ndcg, paired_difference, recall, score
from benchmarks.program import copies
from benchmarks.result import Result, Table, command_line

RANKING = ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize(
    ("relevant", "k", "expected"),
    [
        ({"a"}, 1, 1.0),
        ({"b"}, 1, 0.0),
        ({"b"}, 5, 1.0),
        ({"f"}, 5, 0.0),
        ({"f"}, 10, 1.0),
        ({"x"}, 10, 0.0),
        ({"x", "c", "f"}, 5, 1.0),
        ({"e", "f"}, 1, 0.0),
    ],
)
def test_recall_asks_for_any_relevant_document(relevant: set[str], k: int, expected: float) -> None:
    assert recall(RANKING, relevant, k) == expected


def test_recall_of_an_empty_ranking_is_zero() -> None:
    assert recall([], {"a"}, 5) == 0.0


@pytest.mark.parametrize(
    ("relevant", "expected"),
    [
        ({"a"}, 1.0),
        ({"b"}, 1 / math.log2(3)),
        ({"c"}, 0.5),
        ({"x"}, 0.0),
        # gains 1/log2(2) + 1/log2(4) over the ideal 1/log2(2) + 1/log2(3)
        ({"a", "c"}, 1.5 / (1 + 1 / math.log2(3))),
        # one of two was found, at the second place
        ({"b", "x"}, (1 / math.log2(3)) / (1 + 1 / math.log2(3))),
        ({"a", "b", "c"}, 1.0),
    ],
)
def test_ndcg_by_hand(relevant: set[str], expected: float) -> None:
    assert ndcg(RANKING, relevant) == pytest.approx(expected)


def test_ndcg_of_more_relevant_documents_than_places_can_be_one() -> None:
    ranking = [str(i) for i in range(10)]
    assert ndcg(ranking, {str(i) for i in range(25)}) == pytest.approx(1.0)


def test_ndcg_cuts_after_ten() -> None:
    ranking = [str(i) for i in range(11)]
    assert ndcg(ranking, {"9"}) == pytest.approx(1 / math.log2(11))
    assert ndcg(ranking, {"10"}) == 0.0


def test_ndcg_counts_a_document_once() -> None:
    assert ndcg(["a", "a", "b"], {"a", "b"}) == pytest.approx(1.0)


def test_ndcg_of_an_empty_ranking_is_zero() -> None:
    assert ndcg([], {"a"}) == 0.0


def test_ndcg_without_relevant_documents_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one relevant"):
        ndcg(RANKING, set())


def test_score_and_mean() -> None:
    first, second = score(RANKING, {"a"}), score(RANKING, {"f"})
    assert first == Scores(1.0, 1.0, 1.0, 1.0)
    assert (second.r1, second.r5, second.r10) == (0.0, 0.0, 1.0)
    means = mean([first, second])
    assert (means.r1, means.r5, means.r10) == (0.5, 0.5, 1.0)
    assert means.ndcg10 == pytest.approx((1 + 1 / math.log2(7)) / 2)


def test_mean_of_nothing_is_not_a_number() -> None:
    assert math.isnan(mean([]).ndcg10)


def test_paired_difference() -> None:
    same = paired_difference([0.2, 0.8, 0.5], [0.1, 0.7, 0.4])
    assert (same.mean, same.low, same.high) == pytest.approx((0.1, 0.1, 0.1))
    mixed = paired_difference([1, 0] * 20, [0, 1] * 20)
    assert mixed.mean == 0
    assert mixed.low < 0 < mixed.high
    assert mixed == paired_difference([1, 0] * 20, [0, 1] * 20)
    with pytest.raises(ValueError, match="same queries"):
        paired_difference([1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="same queries"):
        paired_difference([], [])


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


def test_copies_of_a_clip_differ_by_a_free_box(tmp_path: Path) -> None:
    folder = copies(tmp_path / "clips", 3)
    contents = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert len(set(contents)) == 3
    assert [c[:-16] == contents[0][:-16] for c in contents] == [True] * 3
    assert struct.unpack(">I4sQ", contents[2][-16:]) == (16, b"free", 2)
