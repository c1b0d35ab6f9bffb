"""Exit codes, errors, settings from flags, and how long the help takes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mmretrieve import __version__
from mmretrieve.cli import checks, goldens
from mmretrieve.cli import index as index_command
from mmretrieve.cli.app import app
from mmretrieve.cli.checks import Check, Status
from mmretrieve.cli.exits import ExitCode
from mmretrieve.cli.explain import split_time
from mmretrieve.cli.options import parse_modalities, parse_weights, query_text
from mmretrieve.config import Settings, SpeechSettings
from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.errors import (
    IndexLockedError,
    MediaError,
    SetupError,
    UsageError,
    WeightsError,
)
from mmretrieve.reports import FileResult, IndexReport, Outcome


@pytest.fixture(autouse=True)
def _outside_any_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMRETRIEVE_INDEX", raising=False)
    monkeypatch.delenv("MMRETRIEVE_DEBUG", raising=False)


def run(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, ""),
        (["--help"], 0, ""),
        (["--version"], 0, ""),
        (["qury", "x"], 2, "Did you mean 'query'?"),
        (["query"], 2, "Missing argument"),
        (["query", "x", "--nope"], 2, "No such option: --nope"),
        (["query", "x", "--fromat", "csv"], 2, "--format"),
        (["query", "x", "--format", "xml"], 2, "'ndjson'"),
        (["query", "x", "-k", "0"], 2, "-k"),
        (["query", "  "], 2, "the query is empty"),
        (["query", "x", "--in", "speach"], 2, "did you mean speech?"),
        (["query", "x", "--in", ","], 2, "expected some of"),
        (["query", "x", "--weight", "speech"], 2, "MODALITY=NUMBER"),
        (["query", "x", "--weight", "speech=-1"], 2, "at least 0"),
        (["query", "x", "--weight", "speech=nan"], 2, "at least 0"),
        (["query", "x", "--from", "1:75"], 2, "time '1:75'"),
        (["query", "x", "--where", "nonsense"], 2, "FIELD=VALUE"),
        (["query", "x"], 4, "mmretrieve index"),
        (["query", "x", "--index", "nowhere"], 4, "no index"),
        (["info"], 4, "no index"),
        (["ls"], 4, "no index"),
        (["remove", "a.mp4"], 4, "no index"),
        (["explain", "x", "a.mp4"], 4, "no index"),
        (["explain", "x", "a.mp4@1:75"], 2, "time '1:75'"),
        (["index"], 2, "Missing argument"),
        (["index", "no/such/place"], 2, "no such file or folder"),
        (["index", ".", "--settings", "none.toml"], 2, "cannot be read"),
        (["index", ".", "--ocr", "maybe"], 2, "--ocr"),
        (["index", ".", "--jobs", "0"], 2, "--jobs"),
    ],
)
def test_exit_codes(args: list[str], code: int, said: str) -> None:
    result = run(*args)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("wrong value"), ExitCode.USAGE),
        (SetupError("not set up"), ExitCode.SETUP),
        (WeightsError("weights gone"), ExitCode.SETUP),
        (IndexLockedError("locked"), ExitCode.SETUP),
        (MediaError("one file"), ExitCode.SOME_FAILED),
        (ModuleNotFoundError("No module named 'av'", name="av"), ExitCode.SETUP),
        (ModuleNotFoundError("No module", name="mmretrieve.x"), ExitCode.INTERNAL),
        (OSError(errno.ENOSPC, "No space left on device"), ExitCode.SETUP),
        (PermissionError(errno.EACCES, "Permission denied"), ExitCode.SETUP),
        (RuntimeError("b\x1b[2Jad"), ExitCode.INTERNAL),
        (BrokenPipeError(errno.EPIPE, "a worker is gone"), ExitCode.INTERNAL),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    ],
)
def test_errors_of_the_engine(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmretrieve.cli.console.stdout_is_closed", lambda: False)
    _break_engine(monkeypatch, error)
    result = run("info")
    assert result.exit_code == code
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "\x1b" not in result.stderr
    assert len(result.stderr.splitlines()) <= 2


def _break_engine(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("mmretrieve.engine.Engine.open", broken)


def test_the_traceback_is_shown_on_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    _break_engine(monkeypatch, RuntimeError("deep inside"))
    assert "Traceback" in run("info", "-v").stderr
    monkeypatch.setenv("MMRETRIEVE_DEBUG", "1")
    shown = run("info").stderr
    assert "Traceback" in shown
    assert "RuntimeError: deep inside" in shown


def test_interrupted_indexing_says_that_progress_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmretrieve.engine.Engine.create", interrupted)
    result = run("index", str(tmp_path))
    assert result.exit_code == 130
    assert "kept" in result.stderr


def _report(*outcomes: Outcome, interrupted: bool = False) -> IndexReport:
    results = tuple(FileResult(f"/v/{i}.mp4", outcome) for i, outcome in enumerate(outcomes))
    return IndexReport(results, 0, 1.0, interrupted)


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (_report(), 0),
        (_report(Outcome.INDEXED, Outcome.UNCHANGED, Outcome.MOVED), 0),
        (_report(Outcome.INDEXED, Outcome.SKIPPED), 0),
        (_report(Outcome.INDEXED, Outcome.FAILED), 1),
        (_report(Outcome.FAILED, Outcome.SKIPPED), 5),
        (_report(Outcome.FAILED), 5),
        (_report(Outcome.FAILED, interrupted=True), 130),
    ],
)
def test_exit_code_of_a_run(report: IndexReport, code: int) -> None:
    assert index_command.exit_code(report) == code


def test_the_end_of_a_run_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    failed = FileResult("/v/bad.mp4", Outcome.FAILED, error="cannot be decoded")
    report = replace(_report(Outcome.INDEXED, Outcome.SKIPPED), n_pruned=2, warnings=("odd link",))
    report = replace(report, results=(*report.results, failed))
    index_command.tell(report, [tmp_path], "/index", quiet=False, dry_run=False)
    said = capsys.readouterr().err
    assert "warning: odd link" in said
    assert "1 indexed, 1 failed, 1 skipped, 2 pruned in 1.0 s; index: /index" in said
    assert "/v/bad.mp4: cannot be decoded" in said
    assert "--retry-failed" in said


def test_a_dry_run_is_told_as_such(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    index_command.tell(_report(Outcome.INDEXED), [tmp_path], "/index", quiet=False, dry_run=True)
    assert capsys.readouterr().err.splitlines() == ["would index /v/0.mp4", "1 to index in 1.0 s"]


def test_an_empty_folder_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    index_command.tell(_report(), [tmp_path / "films"], "/index", quiet=True, dry_run=False)
    assert capsys.readouterr().err == "nothing to index: no video files found in films\n"


def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *flags: str) -> Settings | None:
    seen: list[Settings | None] = []

    def create(_: object, settings: Settings | None, *, reuse: Path | None) -> None:
        seen.append(settings)
        raise SetupError("far enough")

    monkeypatch.setattr("mmretrieve.engine.Engine.create", create)
    assert run("index", str(tmp_path), *flags).exit_code == 4
    return seen[0]


def test_without_flags_the_index_keeps_its_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert _settings(monkeypatch, tmp_path) is None


def test_every_flag_reaches_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = _settings(
        monkeypatch, tmp_path, "--preset", "clip", "--asr", "small", "--language", "de", "--ocr", "off",
        "--jobs", "3",
    )  # fmt: skip
    expected = Settings(
        preset="clip", speech=SpeechSettings(model="small", language="de"), jobs=3
    )  # fmt: skip
    assert found == replace(expected, ocr=replace(expected.ocr, enabled=False))


def test_asr_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = _settings(monkeypatch, tmp_path, "--asr", "off")
    assert found is not None
    assert not found.speech.enabled


def test_flags_go_before_the_settings_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(Settings(jobs=7, speech=SpeechSettings(language="fr")).to_toml())
    found = _settings(monkeypatch, tmp_path, "--settings", str(file), "--jobs", "1")
    assert found is not None
    assert (found.jobs, found.speech.language) == (1, "fr")


def test_flags_change_only_what_they_name_of_an_index(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mmretrieve.storage.folder import Manifest, write_manifest

    stored = Settings(speech=SpeechSettings(language="fr"))
    write_manifest(tmp_path / "ix", Manifest("lite", 128, {}, {}, stored.to_toml()))
    found = _settings(monkeypatch, tmp_path, "--index", str(tmp_path / "ix"), "--ocr", "off")
    assert found is not None
    assert (found.speech.language, found.ocr.enabled) == ("fr", False)


def test_modalities_and_weights() -> None:
    assert parse_modalities(None) == MODALITIES
    assert parse_modalities("ocr, Frames") == (Modality.FRAMES, Modality.OCR)
    assert parse_weights(["speech=2", "ocr=0", "speech=0.5"]) == {
        Modality.SPEECH: 0.5,
        Modality.OCR: 0,
    }


def test_query_text() -> None:
    assert query_text(["red ", " car\n"]) == "red car"
    query_text(["t\udcffides"]).encode("utf-8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.mp4", ("a.mp4", None)),
        ("a.mp4@1:15", ("a.mp4", 75.0)),
        ("me@home.mp4", ("me@home.mp4", None)),
        ("me@home.mp4@5", ("me@home.mp4", 5.0)),
        ("@5", ("@5", None)),
    ],
)
def test_video_and_time(text: str, expected: Any) -> None:
    assert split_time(text) == expected


def test_version() -> None:
    assert run("--version").stdout == f"mmretrieve {__version__}\n"


def test_help_names_every_verb() -> None:
    shown = run("--help").stdout
    for verb in ("index", "query", "info", "ls", "explain", "remove", "doctor", "demo"):
        assert f"\n  {verb} " in shown


def test_help_imports_nothing_heavy() -> None:
    script = "import sys; from mmretrieve.cli.app import app; print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=_environment(),
    )
    heavy = {
        "numpy",
        "rich",
        "lance",
        "lancedb",
        "pyarrow",
        "onnxruntime",
        "faiss",
        "av",
        "PIL",
        "cv2",
    }
    assert not heavy & set(shown.stdout.split())


@pytest.mark.parametrize("args", [["--help"], ["query", "--help"], ["--version"]])
def test_a_closed_pipe_is_quiet(args: list[str]) -> None:
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "mmretrieve.cli", *args],
        stdout=written, stderr=subprocess.PIPE, text=True, env=_environment(), check=False,
    )  # fmt: skip
    os.close(written)
    assert (done.returncode, done.stderr) == (0, "")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def _doctor(monkeypatch: pytest.MonkeyPatch, *found: Check) -> None:
    monkeypatch.setattr(checks, "run_checks", lambda folder: iter(found))


def test_doctor_shows_the_fix_and_exits_with_4(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Check("av", Status.FAILED, "No module named 'av'", "pip install av")
    _doctor(monkeypatch, Check("numpy", Status.OK, "2.4"), broken)
    result = run("doctor")
    assert result.exit_code == 4
    assert "mend it with: pip install av" in result.stdout
    record = json.loads(run("doctor", "--format", "json").stdout)
    assert (record["schema"], record["ok"]) == (1, False)
    assert record["checks"][1]["fix"] == "pip install av"


def test_doctor_with_notes_only_is_content(monkeypatch: pytest.MonkeyPatch) -> None:
    _doctor(monkeypatch, Check("index place", Status.NOTE, "little room", "make room"))
    result = run("doctor")
    assert result.exit_code == 0
    assert "all 1 checks passed" in result.stdout


def test_a_check_that_raises_is_a_failed_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(checks, "import_module", missing)
    first = next(checks.run_checks(tmp_path))
    assert (first.status, first.fix) == (Status.FAILED, "pip install numpy")
    assert "numpy" in first.detail


def test_altered_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mmretrieve.encoders.weights.verify", lambda: {"a.onnx": True, "b.json": False}
    )
    good, bad = checks.weight_checks()
    assert (good.status, bad.status) == (Status.OK, Status.FAILED)
    assert "b.json" in bad.name
    assert "pip install" in bad.fix


def test_the_place_of_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.place_check(tmp_path / "new" / ".mmretrieve").status is Status.OK
    monkeypatch.setattr("os.access", lambda *_: False)
    assert checks.place_check(tmp_path / "new").status is Status.FAILED


def test_encoders_give_the_golden_vectors() -> None:
    assert goldens.faults(goldens.measure_texts(), goldens.TEXT_GOLDEN) == []
    assert goldens.faults(goldens.measure_frames(), goldens.FRAME_GOLDEN) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"norms": (0.5, 1.0)}, "unit length"),
        ({"norms": (float("nan"), float("nan"))}, "unit length"),
        ({"likeness": 1.0}, "same vectors"),
        ({"likeness": float("nan")}, "expected ones"),
        ({"heads": goldens.FRAME_GOLDEN.heads}, "expected ones"),
        ({"heads": ((0.0,) * 12, (0.0,) * 12)}, "expected ones"),
    ],
)
def test_faulty_encoders_are_told(change: dict[str, Any], said: str) -> None:
    found = goldens.faults(replace(goldens.TEXT_GOLDEN, **change), goldens.TEXT_GOLDEN)
    assert any(said in fault for fault in found)
