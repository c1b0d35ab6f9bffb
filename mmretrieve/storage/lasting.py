"""Asking an index that a writer goes on changing.

A reader holds one state. The files of a state go some time after a newer one took its place
(:data:`mmretrieve.storage.upkeep.KEEP_AT_LEAST`), and a reader that slept for longer, as a process that was
stopped or a laptop that was closed does, finds them gone: it asks the newest state instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mmretrieve.errors import IndexFormatError

_T = TypeVar("_T")
_TIMES = 3


def of_a_state_that_lasts(folder: Path, ask: Callable[[], _T], forget: Callable[[], None]) -> _T:
    """What ``ask`` gives. Where files of the state that it read are gone, ``forget`` is called, so that it
    reads the newest one, and it is asked again.

    Raises:
        IndexFormatError: files of the newest state are missing, too.
    """
    for _ in range(_TIMES):
        try:
            return ask()
        except (OSError, ValueError) as error:
            if not _may_be_gone(error):
                raise  # a failing disk or a lost permission, which asking again does not mend
            forget()
            missing = error
    raise IndexFormatError(
        f"a file of {folder} is missing ({missing}): `mmretrieve verify` says what is damaged, "
        "`mmretrieve repair` mends what can be mended"
    ) from missing


def _may_be_gone(error: OSError | ValueError) -> bool:
    """Whether a file may be missing. LanceDB says so by an error without a number where it reads some rows,
    and within an ``ArrowInvalid`` where it reads a whole table."""
    if isinstance(error, OSError):
        return error.errno is None or isinstance(error, FileNotFoundError)
    return type(error).__name__ == "ArrowInvalid" and "Not found" in str(error)
