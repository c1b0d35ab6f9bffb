"""What the README tells a reader to type is what CI runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def setup_lines() -> list[str]:
    """The lines of the README's first shell block."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```(?:bash|sh|console)\n(.*?)```", readme, re.DOTALL)
    assert block is not None, "README.md has no shell block"
    return [line for line in block[1].splitlines() if line.strip()]


def commands() -> list[str]:
    return [part.strip() for line in setup_lines() for part in line.split("&&")]


def test_setup_takes_two_lines() -> None:
    assert len(setup_lines()) == 2


def test_ci_runs_the_commands_in_this_order() -> None:
    """Word for word; only the folder of the environment has another name."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    wanted = [command.replace(".venv", ".venv-ci") for command in commands()]
    assert [line for line in script if line in wanted] == wanted


@pytest.mark.parametrize("word", ["pytest", "mmretrieve demo", "venv"])
def test_setup_covers(word: str) -> None:
    assert any(word in command for command in commands())
