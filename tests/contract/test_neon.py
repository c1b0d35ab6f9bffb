"""The kernels for ARM give what the portable ones give: built with a cross-compiler, run in an emulator."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "mmretrieve" / "kernels" / "csrc"
COMPILER = "aarch64-linux-gnu-g++"
EMULATOR = "qemu-aarch64"


@pytest.mark.slow
def test_neon_equals_portable(tmp_path: Path) -> None:
    for tool, package in ((COMPILER, "g++-aarch64-linux-gnu"), (EMULATOR, "qemu-user")):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian: apt install {package})")
    program = tmp_path / "levels_agree"
    command = [
        COMPILER, "-std=c++17", "-O2", "-static", "-ffp-contract=off", "-fno-math-errno",
        "-fno-trapping-math", "-I", str(SOURCES), str(ROOT / "tests/native/levels_agree.cpp"),
        str(SOURCES / "level_portable.cpp"), str(SOURCES / "level_neon.cpp"), "-o", str(program),
    ]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([EMULATOR, str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "0 differences"
