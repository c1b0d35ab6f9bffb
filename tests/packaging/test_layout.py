"""What is installed, under which names, and what importing it costs."""

from __future__ import annotations

import hashlib
import importlib
import json
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PYPROJECT["tool"]["setuptools"]["packages"]
HELP_BAR_S = 0.5
"""Of the processor, so that other work on the machine is no matter."""
HEAVY = ("torch", "onnxruntime", "lancedb", "lance", "faiss", "pyarrow", "cv2", "av", "numpy")


def packages_on_disk() -> set[str]:
    """Every folder with an ``__init__.py`` below the package and the two folders beside it."""
    found = set()
    for top, name in (
        ("mmretrieve", "mmretrieve"),
        ("cli", "mmretrieve.cli"),
        ("indexers", "mmretrieve.indexers"),
    ):
        for init in (ROOT / top).rglob("__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(ROOT / top).parts]))
    return found


def run_python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_every_package_on_disk_is_listed() -> None:
    assert packages_on_disk() == set(PACKAGES)


def test_every_folder_with_python_files_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "mmretrieve").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_no_generic_top_level_name_is_installed() -> None:
    assert {name.split(".")[0] for name in PACKAGES} == {"mmretrieve"}


@pytest.mark.parametrize("name", ["cli", "indexers"])
def test_linked_folders_lead_to_the_real_ones(name: str) -> None:
    link = ROOT / "mmretrieve" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


def test_public_names_exist() -> None:
    package = importlib.import_module("mmretrieve")
    assert len(set(package.__all__)) == len(package.__all__) > 0
    assert [name for name in package.__all__ if not hasattr(package, name)] == []
    assert "Engine" in package.__all__


def test_importing_is_light() -> None:
    loaded = json.loads(
        run_python("import json, sys, mmretrieve; print(json.dumps(list(sys.modules)))")
    )
    assert [name for name in HEAVY if name in loaded] == []


def test_notice_names_every_shipped_network() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for path in sorted((ROOT / "mmretrieve" / "encoders" / "weights").glob("*.onnx")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert path.name in notice
        assert digest in notice, f"NOTICE has not the sha256 of {path.name}: {digest}"


def test_help_is_fast() -> None:
    command = [sys.executable, "-c", "from mmretrieve.cli import main; main()", "--help"]
    took_s = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert "query" in done.stdout
    assert min(took_s) < HELP_BAR_S
