"""Null scores kept beside the tables, so that a search does not have to ask the null queries anew.

They are derived data: they name the state of the index that they were measured on, and are ignored
for any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmretrieve.errors import IndexLockedError
from mmretrieve.scoring.answered import Background
from mmretrieve.scoring.nulls import Nulls
from mmretrieve.storage.atomic import is_whole, replace_text, sealed_json
from mmretrieve.storage.lock import take

_FILE = "nulls.json"


def write_nulls(folder: Path, version: int, nulls: Mapping[str, Background]) -> None:
    """Keep what was measured on state ``version``, in one step; not while another process writes, whose
    state is a newer one."""
    rows = {
        kind: {
            "n_tokens": measured.nulls.n_tokens.tolist(),
            "best": measured.nulls.best.tolist(),
            "reached": measured.reached.tolist(),
            "typical": measured.typical.tolist(),
        }
        for kind, measured in nulls.items()
    }
    try:
        lock = take(folder)
    except IndexLockedError:
        return
    done = False
    try:
        replace_text(folder / _FILE, sealed_json({"version": version, "nulls": rows}))
        done = lock.left_behind is None
    finally:
        lock.release(clean=done)


def read_nulls(folder: Path, version: int) -> dict[str, Background]:
    """What was measured on state ``version``; empty where nothing (readable) was, or less than
    is needed now."""
    try:
        data = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        if data["version"] != version or not is_whole(data):
            return {}
        return {
            kind: Background(
                Nulls(np.array(row["n_tokens"], np.int32), np.array(row["best"], np.float32)),
                np.array(row["reached"], np.float32),
                np.array(row["typical"], np.float32),
            )
            for kind, row in data["nulls"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
