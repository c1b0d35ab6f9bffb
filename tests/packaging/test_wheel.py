"""The wheel holds everything that is needed, and nothing under a generic name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from mmretrieve.demo import QUERIES
from mmretrieve.encoders.weights import SHA256

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("mmretrieve", "cli", "indexers", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
SIZE_BAR_BYTES = 100_000_000  # what the package index takes by default

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy, so that no build folder is left in the repository."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
            shutil.copytree(source, copy / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(source, copy / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "-w",
        str(out),
        str(copy),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_only_one_top_level_name(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mmretrieve"}


def test_every_module_is_in(names: set[str]) -> None:
    expected = set()
    for top, target in (
        ("mmretrieve", "mmretrieve"),
        ("cli", "mmretrieve/cli"),
        ("indexers", "mmretrieve/indexers"),
    ):
        for path in (ROOT / top).rglob("*.py"):
            expected.add(f"{target}/{path.relative_to(ROOT / top).as_posix()}")
    assert expected - names == set()


def test_compiled_kernels_are_in_for_all_python_versions(wheel: Path, names: set[str]) -> None:
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        pytest.skip("no C++ compiler: the wheel is built without the extension")
    (extension,) = [n for n in names if n.startswith("mmretrieve/kernels/_native")]
    assert ".abi3." in extension or extension.endswith(".pyd")
    assert "-cp311-abi3-" in wheel.name
    assert not [n for n in names if "csrc" in n]


def test_sources_of_the_kernels_are_in_the_source_archive() -> None:
    folder = ROOT / "mmretrieve" / "kernels" / "csrc"
    on_disk = {p.relative_to(ROOT).as_posix() for p in folder.iterdir()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (extension,) = project["tool"]["setuptools"]["ext-modules"]
    assert on_disk == {*extension["sources"], *extension["depends"]}


def test_typed_marker_is_in(names: set[str]) -> None:
    assert "mmretrieve/py.typed" in names


def test_weights_are_in(names: set[str]) -> None:
    assert {f"mmretrieve/encoders/weights/{name}" for name in SHA256} - names == set()


def test_demo_clips_and_their_sidecars_are_in(names: set[str]) -> None:
    clips = ROOT / "mmretrieve" / "demo" / "clips"
    on_disk = {p.relative_to(ROOT).as_posix() for p in clips.rglob("*") if p.is_file()}
    assert on_disk - names == set()
    assert {f"mmretrieve/demo/clips/{query.file}" for query in QUERIES} - names == set()


def test_licences_are_in(names: set[str]) -> None:
    endings = {name.rsplit("/", 1)[-1] for name in names if ".dist-info/licenses/" in name}
    assert {"LICENSE", "NOTICE"} <= endings


def test_files_are_readable_by_all(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        modes = {i.filename: (i.external_attr >> 16) & 0o777 for i in archive.infolist()}
    assert {name: oct(mode) for name, mode in modes.items() if not mode & 0o044} == {}


def test_wheel_fits_the_package_index(wheel: Path) -> None:
    assert wheel.stat().st_size < SIZE_BAR_BYTES
