"""Small files that are replaced in one step and say by themselves whether they are whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECK = "blake3"
"""Field with the hash of all others."""


def sync_folder(path: Path) -> None:
    """Make sure that names of files in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_text(path: Path, text: str) -> None:
    """Write a file so that others see the old one or the new one, on disk when this returns."""
    temporary = path.with_name(f"{path.name}.new")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sealed_json(data: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON text of ``data`` with its own hash."""
    whole = {**data, CHECK: _hash(data)}
    return json.dumps(whole, indent=indent, sort_keys=True) + "\n"


def is_whole(data: Mapping[str, Any]) -> bool:
    """Whether parsed JSON has the hash it was written with; what has none counts as whole."""
    return CHECK not in data or data[CHECK] == _hash(unsealed(data))


def unsealed(data: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` without its hash."""
    return {name: value for name, value in data.items() if name != CHECK}


def _hash(data: Mapping[str, Any]) -> str:
    from blake3 import blake3

    return str(blake3(json.dumps(data, sort_keys=True).encode()).hexdigest())
