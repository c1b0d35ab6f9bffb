"""The command line with the real engine, on the clips that come with the package."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mmretrieve.cli.app import app
from mmretrieve.datatypes import Modality
from mmretrieve.demo import QUERIES, UNANSWERABLE, DemoQuery, clips_folder

pytestmark = pytest.mark.slow

BAD = "broken.mp4"


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="session")
def cli_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo clips, one damaged file, and their index in ``index``."""
    library = tmp_path_factory.mktemp("library")
    shutil.copytree(clips_folder(), library / "clips")
    (library / "clips" / BAD).write_bytes(b"no video" * 1000)
    result = run("index", library / "clips", "--index", library / "index")
    assert result.exit_code == 1, result.output
    record = json.loads(result.stdout)
    clips = {asked.file for asked in QUERIES}
    assert record["counts"]["failed"] == 1
    assert record["counts"]["indexed"] >= len(clips)
    assert BAD in result.stderr
    return library


@pytest.fixture(autouse=True)
def _here(cli_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cli_library)
    monkeypatch.setenv("MMRETRIEVE_INDEX", str(cli_library / "index"))
    monkeypatch.delenv("MMRETRIEVE_DEBUG", raising=False)


@pytest.mark.parametrize("asked", QUERIES, ids=lambda asked: asked.text)
def test_the_known_answer_is_among_the_first(asked: DemoQuery, cli_library: Path) -> None:
    result = run("query", asked.text, "-k", "3")
    hits = [json.loads(line) for line in result.stdout.splitlines()]
    assert str(cli_library / "clips" / asked.file) in [hit["video"]["path"] for hit in hits]


def test_contributions_add_up_to_the_score() -> None:
    record = json.loads(run("query", QUERIES[0].text, "--format", "json").stdout)
    for hit in record["hits"]:
        total = sum(item["contribution"] for item in hit["evidence"])
        assert total == pytest.approx(hit["score"], abs=1e-4)


def test_a_nonsense_query_abstains() -> None:
    result = run("query", UNANSWERABLE, "--min-confidence", "high", "--fail-if-empty")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "no good match" in result.stderr


def test_the_table_quotes_what_matched() -> None:
    speech = next(asked for asked in QUERIES if asked.modality is Modality.SPEECH)
    shown = run("query", speech.text, "--format", "table", "-k", "1").stdout
    assert "\n     speech " in shown
    assert "**" in shown
    assert f"clips/{speech.file}" in shown


def test_flags_reach_the_search() -> None:
    one = json.loads(run("query", "tides", "--in", "speech", "--format", "json").stdout)
    assert {m for hit in one["hits"] for m in hit["modalities"]} == {"speech"}
    twice = json.loads(
        run("query", "tides", "--in", "speech", "--weight", "speech=2", "--format", "json").stdout
    )
    assert twice["hits"][0]["score"] == pytest.approx(2 * one["hits"][0]["score"], rel=1e-4)
    none = run("query", "tides", "--where", "duration_s>100000", "--fail-if-empty")
    assert none.exit_code == 3
    few = run(
        "query", "tides", "--video", "podcast*", "--from", "0:00", "--to", "0:20", "--format", "csv"
    )
    rows = list(csv.DictReader(io.StringIO(few.stdout)))
    assert rows
    assert {Path(row["path"]).name for row in rows} == {"podcast_012.mp4"}


def test_explain_shows_a_video_that_did_not_rank() -> None:
    result = run("explain", "what causes the tides", "screen_0931.mp4", "--format", "table")
    assert result.exit_code == 0, result.output
    assert "screen_0931.mp4" in result.stdout
    assert "= score" in result.stdout
    record = json.loads(run("explain", "tides", "podcast_012.mp4@0:15").stdout)
    assert record["start_s"] <= 25
    assert record["evidence"][0]["similarity"] > 0


def test_info_and_ls_agree() -> None:
    facts = json.loads(run("info").stdout)
    videos = [json.loads(line) for line in run("ls").stdout.splitlines()]
    assert facts["n_videos"] == len(videos)
    assert [failure["path"].rsplit("/", 1)[-1] for failure in facts["failures"]] == [BAD]
    for modality, count in facts["n_tokens"].items():
        assert count == sum(video["n_tokens"].get(modality, 0) for video in videos)
    assert "could not be indexed" in run("info", "--format", "table").stdout
    assert "clips/podcast_012.mp4" in run("ls", "--format", "table").stdout


def test_a_second_run_finds_nothing_to_do(cli_library: Path) -> None:
    result = run("index", cli_library / "clips")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["counts"]["indexed"] == 0
    assert "--retry-failed" in result.stderr


def test_a_dry_run_changes_nothing(cli_library: Path) -> None:
    result = run("index", cli_library / "clips", "--force", "--dry-run")
    assert result.exit_code == 0
    assert "would index clips/podcast_012.mp4" in result.stderr
    assert json.loads(result.stdout)["dry_run"] is True


def test_only_bad_files_is_exit_code_5(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    assert run("index", tmp_path, "--index", tmp_path / "ix").exit_code == 5


def test_an_empty_folder_is_no_error(tmp_path: Path) -> None:
    result = run("index", tmp_path, "--index", tmp_path / "ix")
    assert result.exit_code == 0
    assert "nothing to index: no video files found in" in result.stderr


def test_removed_videos_are_gone(cli_library: Path, tmp_path: Path) -> None:
    shutil.copytree(cli_library / "index", tmp_path / "ix")
    result = run("remove", "podcast_012.mp4", "--index", tmp_path / "ix", "--yes")
    assert result.exit_code == 0, result.output
    assert "removed clips/podcast_012.mp4" in result.stderr
    assert "podcast_012" not in run("ls", "--index", tmp_path / "ix").stdout
    assert run("remove", "podcast_012.mp4", "--index", tmp_path / "ix", "--yes").exit_code == 2


def test_doctor_finds_a_sound_installation() -> None:
    result = run("doctor", "--format", "json")
    record = json.loads(result.stdout)
    assert result.exit_code == 0, [c for c in record["checks"] if c["status"] == "failed"]
    assert record["ok"] is True


def test_demo_answers_its_own_questions(tmp_path: Path) -> None:
    result = run("demo", "--keep", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("as expected") >= len(QUERIES) - 2
    assert "no good match, as it should be" in result.stdout
    assert f"--index {tmp_path / 'demo'}" in result.stderr
