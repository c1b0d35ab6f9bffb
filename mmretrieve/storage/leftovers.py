"""Files that a killed process left beside those that the index is made of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmretrieve.storage.folder import is_unfinished


def unfinished(folder: Path) -> Iterator[Path]:
    """Files that were being written to replace others, or to be new files of a table. While a writer is
    at work it may be writing them still."""
    for path in sorted(folder.iterdir()):
        if is_unfinished(path.name):
            yield path
    codes = folder / "codes"
    yield from sorted(codes.glob("*.new")) if codes.is_dir() else ()
    for parent, _, names in os.walk(folder / "lance"):
        for name in sorted(names):
            if "#" in name or name.startswith(".tmp"):
                yield Path(parent, name)


def remove_unfinished(folder: Path) -> tuple[Path, ...]:
    """Remove them. The caller holds the writer's lock."""
    found = tuple(unfinished(folder))
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return found
