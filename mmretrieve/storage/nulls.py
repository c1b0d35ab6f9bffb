"""Null scores kept beside the tables, so that a search does not have to ask the null queries anew.

They are derived data: they name the state of the index that they were measured on, and are ignored
for any other; but while a writer is at work, whose every commit is a new state, those of a state of about the
same size serve, so that a search need not wait for what the writer will measure anyway when it ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmretrieve.errors import IndexLockedError
from mmretrieve.scoring.answered import Background
from mmretrieve.scoring.nulls import Nulls
from mmretrieve.storage.atomic import is_whole, replace_text, sealed_json
from mmretrieve.storage.lock import take

WriteNulls = Callable[[Path, int, int, Mapping[str, Background]], None]
"""Of the index in a folder, for a state and its number of tokens."""
_FILE = "nulls.json"
NEAR = 2.0
"""Times the tokens, up to which a state counts as near another: the best score that chance reaches grows with
the logarithm of a library, if at all."""


def write_nulls(folder: Path, version: int, n_tokens: int, nulls: Mapping[str, Background]) -> None:
    """Keep what was measured on state ``version``, which has ``n_tokens``, in one step; not while another
    process writes, whose state is a newer one."""
    try:
        lock = take(folder)
    except IndexLockedError:
        return
    done = False
    try:
        put_nulls(folder, version, n_tokens, nulls)
        done = lock.left_behind is None
    finally:
        lock.release(clean=done)


def put_nulls(folder: Path, version: int, n_tokens: int, nulls: Mapping[str, Background]) -> None:
    """:func:`write_nulls` for a caller who holds the writer's lock."""
    rows = {
        kind: {
            "n_tokens": measured.nulls.n_tokens.tolist(),
            "best": measured.nulls.best.tolist(),
            "reached": measured.reached.tolist(),
            "typical": measured.typical.tolist(),
        }
        for kind, measured in nulls.items()
    }
    data = {"version": version, "n_tokens": n_tokens, "nulls": rows}
    replace_text(folder / _FILE, sealed_json(data))


def read_nulls(folder: Path, version: int) -> dict[str, Background]:
    """What was measured on state ``version``; empty where nothing (readable) was, or less than
    is needed now."""
    measured = _read(folder)
    return dict(measured.nulls) if measured is not None and measured.version == version else {}


def near_nulls(folder: Path, n_tokens: int) -> dict[str, Background]:
    """What was measured on a state not much smaller or larger than one of ``n_tokens``; empty where there is
    no such."""
    measured = _read(folder)
    if measured is None:
        return {}
    fewer, more = sorted((measured.n_tokens, n_tokens))
    return dict(measured.nulls) if more <= NEAR * fewer else {}


def measured_tokens(folder: Path) -> int:
    """Tokens of the state that was measured last; 0 where none was."""
    measured = _read(folder)
    return 0 if measured is None else measured.n_tokens


@dataclass(frozen=True, slots=True)
class _Measured:
    version: int
    n_tokens: int
    nulls: Mapping[str, Background]


def _read(folder: Path) -> _Measured | None:
    try:
        data = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        if not is_whole(data):
            return None
        nulls = {
            kind: Background(
                Nulls(np.array(row["n_tokens"], np.int32), np.array(row["best"], np.float32)),
                np.array(row["reached"], np.float32),
                np.array(row["typical"], np.float32),
            )
            for kind, row in data["nulls"].items()
        }
        return _Measured(int(data["version"]), int(data.get("n_tokens", 0)), nulls)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
