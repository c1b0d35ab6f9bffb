"""Where weights lie: a folder, or what the hub's own cache holds. Nothing here looks at the network."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmretrieve.errors import WeightsError

_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")

Lookup = Callable[[str], Path | None]
"""A hub id to the folder that holds it, or None where it was not fetched."""


def cached(hub_id: str) -> Path | None:
    """The newest snapshot of a hub id that ``hf download`` left on this machine."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        return None
    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        return None


def resolve(source: str, lookup: Lookup = cached, near: Path | None = None) -> Path:
    """The folder that ``source`` names: a path (from ``near``, if given, before the working
    directory), or a hub id that was fetched before.

    Raises:
        WeightsError: neither; the message has the command that fetches it.
    """
    for candidate in (*([near / source] if near is not None else []), Path(source).expanduser()):
        if candidate.is_dir():
            return candidate
    if _HUB_ID.match(source):
        found = lookup(source)
        if found is not None:
            return found
        raise WeightsError(
            f"no folder {source}, and the hub's cache does not hold it: hf download {source}"
        )
    raise WeightsError(f"{source}: no such folder; expected one with weights, or a hub id as a/b")


def check_weights(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a folder, in the order of their names.

    Raises:
        WeightsError: there are none; pickled ones are never read, they can run code.
    """
    found = tuple(sorted(folder.glob("*.safetensors")))
    if found:
        return found
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled:
        raise WeightsError(
            f"{folder} has only pickled weights ({pickled[0]}), which can run code and are not read: "
            "convert them to safetensors, or fetch the model's safetensors"
        )
    raise WeightsError(f"{folder} has no *.safetensors: expected a model's weights in it")


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file.

    Raises:
        WeightsError: absent, or no JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error}): fetch the model again") from error
    if not isinstance(data, dict):
        raise WeightsError(f"{path} holds no JSON object: fetch the model again")
    return data


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprints(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """``name/path`` and sha256 of all that decides a model's tokens: weights, tokenizer, settings."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".safetensors", ".json"} and path.is_file():
            yield f"{name}/{path.relative_to(folder).as_posix()}", sha256_of(path)
