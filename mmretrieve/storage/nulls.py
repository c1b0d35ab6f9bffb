"""Null scores kept beside the tables, so that a search does not have to ask the null queries anew.

They are derived data: they name the state of the index that they were measured on, and are ignored
for any other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmretrieve.scoring.nulls import Nulls
from mmretrieve.storage.atomic import is_whole, sealed_json

_FILE = "nulls.json"


def write_nulls(folder: Path, version: int, nulls: Mapping[str, Nulls]) -> None:
    """Keep what was measured on state ``version``, in one step."""
    rows = {
        kind: {"n_tokens": measured.n_tokens.tolist(), "best": measured.best.tolist()}
        for kind, measured in nulls.items()
    }
    temporary = folder / f"{_FILE}.{os.getpid()}"
    try:
        temporary.write_text(sealed_json({"version": version, "nulls": rows}), encoding="utf-8")
        temporary.replace(folder / _FILE)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_nulls(folder: Path, version: int) -> dict[str, Nulls]:
    """What was measured on state ``version``; empty where nothing (readable) was."""
    try:
        data = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        if data["version"] != version or not is_whole(data):
            return {}
        return {
            kind: Nulls(np.array(row["n_tokens"], np.int32), np.array(row["best"], np.float32))
            for kind, row in data["nulls"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
