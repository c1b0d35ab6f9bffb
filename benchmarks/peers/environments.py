"""Makes the environments of peers: ``python -m benchmarks.peers.environments FOLDER``.

A peer that pins what the program does not is installed into a virtual environment of its own; one that
needs nothing but NumPy into a folder for the path. What is there already is left alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CRIPPLING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NPY_DISABLE_CPU_FEATURES", "MKL_CBWR")
"""Whoever set these chose slower products than the processor can do; nothing shall run with them."""
_TAIL = 400


@dataclass(frozen=True, slots=True)
class Recipe:
    """``requirement`` for pip; ``options`` besides; ``own``: with all it depends on, by itself."""

    requirement: str
    own: bool = False
    options: tuple[str, ...] = ()


RECIPES = {
    "threadpoolctl": Recipe("threadpoolctl==3.8.0"),
    "maxsim-cpu": Recipe("maxsim-cpu==0.1.0"),
    # Its wheel asks for a newer glibc than many systems have, and runs on 2.36 nevertheless.
    "tachiom": Recipe("tachiom==0.4.0", options=("--platform", "manylinux_2_39_x86_64")),
    "fast-plaid": Recipe("fast-plaid==1.7.0.2110", own=True),
}


class PeerAbsentError(Exception):
    """An environment cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """``python`` to run, with ``path`` (may be None) to be found first."""

    python: Path
    path: Path | None


def find_environment(folder: Path, name: str | None) -> Environment:
    """The environment of a peer, made if it is not there. None: the one that runs this.

    Raises:
        PeerAbsentError: it cannot be made.
    """
    if name is None:
        return Environment(Path(sys.executable), None)
    recipe, place = RECIPES[name], folder / name
    mark = place / "requirement.txt"
    if not (mark.exists() and mark.read_text(encoding="utf-8") == recipe.requirement):
        place.mkdir(parents=True, exist_ok=True)
        print(f"installing {recipe.requirement} into {place.name}", file=sys.stderr, flush=True)
        if recipe.own:
            venv.create(place, with_pip=True, clear=True)
            _pip(_python(place), recipe.requirement)
        else:
            folder_options = ("--target", str(place), "--upgrade", "--no-deps")
            binary = ("--only-binary=:all:",)
            _pip(
                Path(sys.executable),
                recipe.requirement,
                (*folder_options, *binary, *recipe.options),
            )
        mark.write_text(recipe.requirement, encoding="utf-8")
    return (
        Environment(_python(place), None)
        if recipe.own
        else Environment(Path(sys.executable), place)
    )


def _python(place: Path) -> Path:
    return place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _pip(python: Path, requirement: str, options: Sequence[str] = ()) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, *options, requirement], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-_TAIL:]
        raise PeerAbsentError(f"pip install {requirement} ended with {done.returncode}: {said}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make all of them; the exit code is the number of those that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.environments")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder
    failed = 0
    for name in RECIPES:
        try:
            made = find_environment(folder, name)
        except PeerAbsentError as error:
            failed += 1
            print(f"{name}: absent: {error}")
        else:
            print(f"{name}: {made.python.name}, path {made.path.name if made.path else 'its own'}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
