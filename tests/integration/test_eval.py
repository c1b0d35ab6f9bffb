"""``mmretrieve eval`` on the clips that come with the package, and on TREC files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mmretrieve import Engine
from mmretrieve.cli.app import app
from mmretrieve.datatypes import Way
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
    assert {way for _, way in means} == {way.value for way in Way} - {Way.AUDIO.value}
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


def test_probes_importance_and_a_report(queries: Path, demo_index: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    probed = ("--probe", "all", "--importance", "--compare", "token_max,bm25")
    result = run(queries, "--index", demo_index, *probed, "--report", report)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    drops = {(d["probe"], d["run"]): d for d in record["probes"]}
    assert set(drops) == {
        *((probe, "token_max") for probe in (
            "missing_at_random", "missing_not_at_random", "content_dilution",
            "modality_interference", "attribute_insertion", "typos")),
        ("attribute_insertion", "bm25"), ("typos", "bm25"),
    }  # fmt: skip
    for drop in drops.values():
        assert drop["n_changed"] > 0
        gap = drop["changed"] - drop["clean"]
        assert drop["difference"]["mean"] == pytest.approx(gap, abs=1e-5)
    assert drops["typos", "bm25"]["difference"]["mean"] < 0
    assert drops["missing_not_at_random", "token_max"]["difference"]["mean"] < 0
    again = json.loads(run(queries, "--index", demo_index, *probed).stdout)
    assert again["probes"] == record["probes"]
    importance = record["importance"]
    assert set(importance["modalities"]) == {"frames", "speech", "ocr", "metadata"}
    counts = [importance[k] for k in ("n_one_enough", "n_several", "n_unanswered")]
    assert sum(counts) == len(QUERIES)
    page = report.read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") >= 4


def test_known_items_of_the_index(demo_index: Path) -> None:
    args = ("--known-items", "30", "--index", demo_index, "--compare", "all", "--measures", "R@1")
    first, other = run(*args), run(*args, "--seed", "1")
    assert first.exit_code == 0, first.output
    record = json.loads(first.stdout)
    runs = {(r["queries"], r["run"]): r for r in record["runs"]}
    assert runs["all", "token_max"]["n_queries"] == 30
    assert {group for group, _ in runs} == {"all", "speech", "ocr", "metadata"}
    assert {run for _, run in runs}.isdisjoint({"bm25", "pooled", "gramian"})
    assert "not hidden from them: pooled, gramian, bm25" in first.stderr
    assert json.loads(run(*args).stdout) == record
    assert json.loads(other.stdout) != record
    refused = run("--known-items", "5", "--index", demo_index, "--compare", "bm25")
    assert refused.exit_code == 2
    assert "does not rank by similarities" in refused.stderr


def test_a_published_layout_from_given_texts(tmp_path: Path) -> None:
    folder, index = tmp_path / "tvr", tmp_path / "index"
    folder.mkdir()
    said = {
        "c1": ["where did you park the car", "by the old bakery"],
        "c2": ["the patient has a fever", "give her some water"],
        "c3": ["nobody here"],
    }
    subtitles = [
        {"vid_name": name, "sub": [
            {"text": text, "start": 30.0 * i, "end": 30.0 * i + 4} for i, text in enumerate(texts)
        ]}
        for name, texts in said.items()
    ]  # fmt: skip
    asked = [("1", "parking near the bakery", "c1", [30, 34]), ("2", "a feverish patient", "c2", [0, 4]),
             ("3", "an unknown film", "c9", [0, 1])]  # fmt: skip
    queries = [
        {"desc_id": i, "desc": text, "type": "t", "vid_name": name, "ts": ts}
        for i, text, name, ts in asked
    ]
    for name, records in (("tvr_val_release", queries), ("tvqa_subtitles", subtitles)):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text(text, "utf-8")
    where = ["--layout", "tvr", "--index", str(index)]
    made = CliRunner().invoke(app, ["index", str(folder), *where])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["counts"]["indexed"] == 3
    result = run(folder, *where, "--probe", "speech_noise", "--measures", "R@1")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["runs"][0]["n_queries"] == 2
    assert record["runs"][0]["measures"]["R@1"]["mean"] == 1.0
    assert record["moments"]["runs"][0]["measures"]["R@1,IoU>=0.5"]["mean"] == 1.0
    assert record["notes"] == ["1 of 3 queries have no answer in the index"]
    assert [(d["probe"], d["n_changed"]) for d in record["probes"]] == [("speech_noise", 3)]
    table = run(folder, *where, "--format", "markdown")
    assert "**Moments: Mean over queries" in table.stdout


def test_a_layout_without_content_or_answers(tmp_path: Path, demo_index: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("key,vid_key,video_id,sentence\nret0,m1,video1,a cat\n", "utf-8")
    made = CliRunner().invoke(app, ["index", str(file), "--layout", "msrvtt"])
    assert made.exit_code == 2
    assert "no content in it" in made.stderr
    result = run(file, "--layout", "msrvtt", "--index", demo_index)
    assert result.exit_code == 2
    assert "none of its 1 queries is answered by a video of the index" in result.stderr


def test_moments_of_queries(demo: Engine, demo_index: Path, tmp_path: Path) -> None:
    hit = demo.search(QUERIES[0].text).hits[0]
    moment = [hit.moment.start_s, hit.moment.end_s]
    query = {"query_id": "1", "query": QUERIES[0].text, "relevant": [hit.video.video_id],
             "moments": [moment]}  # fmt: skip
    file = tmp_path / "queries.jsonl"
    file.write_text(json.dumps(query) + "\n", "utf-8")
    record = json.loads(run(file, "--index", demo_index).stdout)
    (row,) = record["moments"]["runs"]
    assert row["measures"]["mIoU"]["mean"] == 1.0


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
        (("--qrels", "q", "--run", "r", "--depth", "5"), "only --measures, --report and --format"),
        (("--qrels", "q", "--run", "r", "--importance"), "only --measures, --report and --format"),
        (("queries.jsonl", "--known-items", "5"), "leave QUERIES and --layout out"),
        (("--layout", "tvr"), "name the folder"),
        (("queries.jsonl", "--probe", "rain"), "'rain': expected some of missing_at_random"),
        (("queries.jsonl", "--probe", "speech_noise"), "with --layout"),
        (("queries.jsonl", "--report", "r.pdf"), "ends in .html or .md"),
        (("queries.jsonl", "--report", "no/such/r.html"), "there is no folder no/such"),
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
