"""Which kernels run, what the environment can ask for, and what happens without the extension."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmretrieve.cli import checks
from mmretrieve.cli.checks import Status
from mmretrieve.cli.goldens import kernels_agree
from mmretrieve.errors import SetupError, UsageError
from mmretrieve.kernels import choose
from mmretrieve.kernels.base import Numbers
from mmretrieve.kernels.plain import PlainKernels

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = "import sys; sys.modules['mmretrieve.kernels._native'] = None\n"
HAS_EXTENSION = choose.available() != ("numpy",)


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(choose.LEVEL_VARIABLE, raising=False)
    monkeypatch.delenv(choose.THREADS_VARIABLE, raising=False)


def run(code: str) -> subprocess.CompletedProcess[str]:
    keep = {k: v for k, v in os.environ.items() if not k.startswith("MMRETRIEVE_")}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=keep, check=True
    )


def test_numpy_always_runs() -> None:
    assert choose.available()[-1] == "numpy"
    assert choose.kernels("numpy").name == "numpy"
    assert set(choose.available()) <= set(choose.LEVELS)


@pytest.mark.skipif(not HAS_EXTENSION, reason="the compiled kernels are not installed")
def test_the_best_level_runs_unless_another_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose.kernels().name == choose.available()[0]
    monkeypatch.setenv(choose.LEVEL_VARIABLE, "portable")
    assert choose.kernels().name == "portable"
    assert choose.kernels("numpy").name == "numpy"  # an argument comes before the environment


def test_unknown_levels_are_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choose.LEVEL_VARIABLE, "sse9")
    with pytest.raises(UsageError, match=r"'sse9'.*here run .*numpy"):
        choose.kernels()


def test_levels_of_other_processors_are_refused() -> None:
    absent = next(name for name in choose.LEVELS if name not in choose.available())
    with pytest.raises(SetupError, match=rf"{absent}.*numpy do"):
        choose.kernels(absent)


@pytest.mark.parametrize("given", ["0", "-1", "many", "100000"])
def test_threads_must_be_a_number(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(choose.THREADS_VARIABLE, given)
    with pytest.raises(UsageError, match=given):
        choose.kernels()
    assert choose.kernels("numpy", threads=2).name == "numpy"


def test_without_the_extension_one_warning_says_what_to_install() -> None:
    done = run(
        WITHOUT + "from mmretrieve.kernels import choose\n"
        "print(choose.available(), [choose.kernels().name for _ in range(3)])"
    )
    assert done.stdout.split() == ["('numpy',)", "['numpy',", "'numpy',", "'numpy']"]
    assert done.stderr.count("SlowKernelsWarning") == 1
    assert "C++17 compiler" in done.stderr
    assert "pip install --force-reinstall" in done.stderr


def test_numpy_asked_for_is_no_reason_to_warn() -> None:
    assert (
        run(WITHOUT + "from mmretrieve.kernels import choose; choose.kernels('numpy')").stderr == ""
    )


def test_importing_does_not_load_the_extension() -> None:
    done = run(
        "import sys, mmretrieve, mmretrieve.kernels.choose\n"
        "print([m for m in sys.modules if m.endswith('_native')])"
    )
    assert done.stdout.strip() == "[]"


class Wrong(PlainKernels):
    """What is selected is off by one."""

    name = "wrong"

    def select(self, scores: np.ndarray, n: int) -> Numbers:
        return super().select(scores, n) + 1


def test_doctor_says_which_kernels_run_and_checks_them(monkeypatch: pytest.MonkeyPatch) -> None:
    check = checks.kernels_check()
    if HAS_EXTENSION:
        assert check.status is Status.OK
        assert check.detail.startswith(choose.available()[0])
    assert kernels_agree(choose.kernels("numpy"))
    assert not kernels_agree(Wrong())
    monkeypatch.setattr(choose, "kernels", Wrong)
    assert checks.kernels_check().status is Status.FAILED
    monkeypatch.undo()
    monkeypatch.setattr(choose, "available", lambda: ("numpy",))
    slow = checks.kernels_check()
    assert slow.status is Status.NOTE
    assert "pip install" in slow.fix
