"""The ``mmretrieve`` command as a process of its own, and folders of small clips to give it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.result import ROOT
from mmretrieve.demo import clips_folder

QUICK = ("--asr", "off", "--ocr", "off")
"""Flags that leave out what takes long."""
_MAIN = "from mmretrieve.cli import main; main()"


def command(*arguments: str | Path) -> list[str]:
    """What the installed ``mmretrieve`` runs, from this checkout."""
    return [sys.executable, "-c", _MAIN, *(str(a) for a in arguments)]


def environment() -> dict[str, str]:
    """The environment with this checkout first on the path."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": str(ROOT) + (os.pathsep + before if before else "")}


def run(arguments: Sequence[str]) -> float:
    """Seconds that a process took.

    Raises:
        RuntimeError: it failed; the message holds the end of what it said.
    """
    start = time.perf_counter()
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=False)
    took_s = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(arguments[2:])} ended with {done.returncode}:\n{done.stderr[-2000:]}"
        )
    return took_s


def copies(folder: Path, n: int, clips: Sequence[str] = ("clip_0007.mp4",), first: int = 0) -> Path:
    """``n`` clips with the content of demo clips and bytes of their own: each ends in a ``free``
    box (ISO/IEC 14496-12) that holds its number, counted from ``first``."""
    folder.mkdir(parents=True)
    for i in range(n):
        source = clips_folder() / clips[i % len(clips)]
        box = struct.pack(">I4sQ", 16, b"free", first + i)
        (folder / f"clip_{i:04}.mp4").write_bytes(source.read_bytes() + box)
    return folder
