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

from mmretrieve.scoring.answered import Background
from mmretrieve.scoring.nulls import Nulls

_FILE = "nulls.json"


def write_nulls(folder: Path, version: int, nulls: Mapping[str, Background]) -> None:
    """Keep what was measured on state ``version``, in one step."""
    rows = {
        kind: {
            "n_tokens": measured.nulls.n_tokens.tolist(),
            "best": measured.nulls.best.tolist(),
            "reached": measured.reached.tolist(),
            "typical": measured.typical.tolist(),
        }
        for kind, measured in nulls.items()
    }
    temporary = folder / f"{_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps({"version": version, "nulls": rows}), encoding="utf-8")
    temporary.replace(folder / _FILE)


def read_nulls(folder: Path, version: int) -> dict[str, Background]:
    """What was measured on state ``version``; empty where nothing (readable) was, or less than
    is needed now."""
    try:
        data = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        if data["version"] != version:
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
