"""``mmretrieve eval`` on the clips that come with the package, and on TREC files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mmretrieve.cli.app import app
from mmretrieve.demo import QUERIES, clips_folder

pytestmark = pytest.mark.slow


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, ["eval", *(str(arg) for arg in args)])


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    """The queries of the demo: answers by file name, by path and by path below the folder."""
    file = tmp_path / "queries.jsonl"
    named = [q.file for q in QUERIES]
    named[0] = str(clips_folder() / named[0])
    named[1] = f"clips/{named[1]}"
    records = [
        {"query_id": f"q{i}", "query": q.text, "query_type": q.modality.value, "relevant": [name]}
        for i, (q, name) in enumerate(zip(QUERIES, named, strict=True))
    ]
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return file


def test_all_ways_on_the_demo(queries: Path, demo_index: Path) -> None:
    result = run(queries, "--index", demo_index, "--compare", "all", "--measures", "nDCG@10,R@1")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    means = {
        (row["queries"], row["run"]): row["measures"]["nDCG@10"]["mean"] for row in record["runs"]
    }
    assert {way for _, way in means} == {
        "token_max", "modality_max", "weighted", "clamr", "frames", "speech", "ocr", "metadata",
    }  # fmt: skip
    assert means["all", "token_max"] > 0.9
    for modality in ("frames", "speech", "ocr", "metadata"):
        assert means[modality, modality] > 0.9
        assert means["all", modality] < means["all", "token_max"]
    assert means["all", "clamr"] != means["all", "token_max"]
    assert {d["against"] for d in record["differences"]} == {"token_max"}
    winning = record["modalities"]["token_max"]
    assert winning["n_queries"] == len(QUERIES)
    assert winning["accuracy"] > 0.9
    assert sum(winning["distribution"].values()) == pytest.approx(1, abs=1e-4)


def test_a_run_measures_the_same_from_its_file(
    queries: Path, demo_index: Path, tmp_path: Path
) -> None:
    run_file, qrels_file = tmp_path / "run.trec", tmp_path / "qrels.trec"
    outputs = ("--run-out", run_file, "--qrels-out", qrels_file)
    direct = run(queries.parent, "--index", demo_index, "--compare", "clamr", *outputs)
    assert direct.exit_code == 0, direct.output
    again = run("--qrels", qrels_file, "--run", run_file)
    assert again.exit_code == 0, again.output
    overall = [json.loads(result.stdout)["runs"][0] for result in (direct, again)]
    assert overall[0] == overall[1]
    assert overall[0]["run"] == "clamr"


@pytest.mark.parametrize(
    ("chosen", "start"),
    [("table", "Mean over queries"), ("markdown", "**Mean over queries")],
)
def test_tables(queries: Path, demo_index: Path, chosen: str, start: str) -> None:
    result = run(queries, "--index", demo_index, "--format", chosen, "--measures", "RR")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(start)
    assert "token_max" in result.stdout
    assert "any accuracy" in result.stdout
    assert "12 queries in" in result.stderr


def test_an_unknown_video_is_placed(queries: Path, demo_index: Path) -> None:
    with queries.open("a", encoding="utf-8") as file:
        file.write('{"query_id": "x", "query": "a dog", "relevant": ["none.mp4"]}\n')
    result = run(queries, "--index", demo_index)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{queries}:{len(QUERIES) + 1}: no video of the index fits 'none.mp4'" in result.stderr


def test_two_trec_runs(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("1 0 a 1\n2 0 b 1\n", "utf-8")
    (tmp_path / "good").write_text("1 Q0 a 1 2 t\n1 Q0 b 2 1 t\n2 Q0 b 1 1 t\n", "utf-8")
    (tmp_path / "poor").write_text("1 Q0 a 1 2 t\n9 Q0 b 2 1 t\n", "utf-8")
    files = ("--qrels", tmp_path / "qrels", "--run", tmp_path / "good", "--run", tmp_path / "poor")
    result = run(*files, "--measures", "RR")
    record = json.loads(result.stdout)
    assert [(r["run"], r["measures"]["RR"]["mean"]) for r in record["runs"]] == [
        (str(tmp_path / "good"), 1.0),
        (str(tmp_path / "poor"), 0.5),
    ]
    assert record["differences"][0]["measures"]["RR"]["mean"] == -0.5
    assert record["modalities"] == {}
    assert "1 of 2 judged queries are not in the run and score 0" in result.stderr
    assert "1 queries without judgements are ignored" in result.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "nothing to measure"),
        (("--qrels", "q"), "both --qrels and --run"),
        (("--run", "r"), "both --qrels and --run"),
        (("queries.jsonl", "--qrels", "q", "--run", "r"), "either QUERIES.jsonl or both"),
        (("--qrels", "q", "--run", "r", "--depth", "5"), "only --measures and --format"),
        (("queries.jsonl", "--compare", "best"), "'best': expected some of token_max"),
        (("queries.jsonl", "--compare", ","), "nothing: expected some of"),
        (("queries.jsonl", "--compare", "all", "--run-out", "r"), "--run-out writes one run"),
        (("queries.jsonl", "--run-out", "no/such/r"), "there is no folder no/such"),
        (("queries.jsonl", "--measures", "F1"), "no measure 'F1'"),
    ],
)
def test_what_cannot_be_meant(args: tuple[str, ...], said: str) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
