"""Which files of the index are gone for sure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmretrieve.errors import PruneRefusedError
from mmretrieve.storage.records import FileRecord


def is_gone(path: str) -> bool:
    """Whether there is no such file. A file that cannot be asked about (no permission, a disk that does
    not answer) is not gone."""
    try:
        os.stat(path)  # noqa: PTH116 - without building a Path for every file of a library
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def gone_files(
    roots: Sequence[Path], present: Iterable[str], known: Iterable[FileRecord]
) -> list[FileRecord]:
    """Files of the index that lay below ``roots`` and are no longer there; ``present`` are those found.

    Raises:
        PruneRefusedError: nothing at all is left below a root, which looks like a disk that is not there.
    """
    found, files = set(present), list(known)
    out = []
    for root in roots:
        below = [file for file in files if Path(file.path).is_relative_to(root)]
        missing = [file for file in below if file.path not in found and is_gone(file.path)]
        left = len(missing) < len(below) or any(Path(p).is_relative_to(root) for p in found)
        if missing and not left and root.is_dir():
            raise PruneRefusedError(
                f"{root} holds no video, and the index knows {len(missing)} there: is its disk "
                "mounted? Nothing was removed; if they are meant to go, use "
                f"`mmretrieve remove '{root}/*'`"
            )
        out += missing
    return list({file.path: file for file in out}.values())
