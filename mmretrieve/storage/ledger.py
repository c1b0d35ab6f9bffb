"""The ledger: size and hash of every file of the tables, which Lance itself does not keep.

Files of the tables never change once they are written, so a writer adds what is new when it ends, and
makes sure that it is on disk. ``checksums.json`` also holds the version of every table then, and a copy of
the manifest: what is needed to tell that something is missing, and to mend it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmretrieve.errors import IndexFormatError
from mmretrieve.storage.atomic import is_whole, replace_text, sealed_json, sync_folder

LEDGER = "checksums.json"
_PARTS = ("data", "_deletions", "_versions", "_transactions", "_indices")
_MUTABLE = "latest_version_hint.json"
"""A hint that Lance replaces with every version, and does without."""
_BLOCK_BYTES = 1 << 22
_LARGEST_VERSION = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class FileSum:
    """What a file holds."""

    size_bytes: int
    blake3: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """``files``: path below ``lance/`` -> what it holds; ``versions``: table -> its newest version;
    ``manifest``: text of ``manifest.json``."""

    files: Mapping[str, FileSum] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    manifest: str = ""


def read_ledger(folder: Path) -> Ledger | None:
    """The ledger of the index in ``folder``; None where there is none.

    Raises:
        IndexFormatError: it cannot be read, or is not as it was written.
    """
    path = folder / LEDGER
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not is_whole(data):
            raise ValueError("its own checksum is wrong")
        files = {str(n): FileSum(int(s), str(h)) for n, (s, h) in data["files"].items()}
        versions = {str(n): int(v) for n, v in data["versions"].items()}
        return Ledger(files, versions, str(data["manifest"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexFormatError(
            f"{path} cannot be read ({error}): run `mmretrieve repair`, which checks the tables and "
            "writes it anew"
        ) from error


def bring_up_to_date(folder: Path) -> None:
    """Add new files of the tables, on disk from then on, and drop those that are gone. The caller holds
    the writer's lock. A ledger that is damaged is left for ``repair`` to look at.

    Raises:
        OSError: it cannot be written; it is as it was.
    """
    try:
        before = read_ledger(folder)
    except IndexFormatError:
        return
    known = before.files if before is not None else {}
    files, grown = {}, set()
    for path, size_bytes in table_files(folder):
        entry = known.get(path)
        if entry is None:
            file = folder / "lance" / path
            entry = FileSum(size_bytes, hash_of(file, sync=True))
            grown.add(file.parent)
        files[path] = entry
    for parent in grown:
        sync_folder(parent)
    ledger = Ledger(files, newest_versions(files), _text(folder / "manifest.json"))
    if ledger != before:
        write_ledger(folder, ledger)


def write_ledger(folder: Path, ledger: Ledger) -> None:
    """Replace the ledger."""
    data = {
        "files": {name: [sum_.size_bytes, sum_.blake3] for name, sum_ in ledger.files.items()},
        "versions": dict(ledger.versions),
        "manifest": ledger.manifest,
    }
    replace_text(folder / LEDGER, sealed_json(data))


def table_files(folder: Path) -> Iterator[tuple[str, int]]:
    """Path below ``lance/`` and size of every file of the tables that does not change."""
    lance = folder / "lance"
    for table in sorted(lance.glob("*.lance")) if lance.is_dir() else ():
        for part in _PARTS:
            for parent, _, names in os.walk(table / part):
                for name in sorted(names):
                    path = Path(parent, name)
                    if name == _MUTABLE or _is_unfinished(name):
                        continue
                    try:
                        yield path.relative_to(lance).as_posix(), path.stat().st_size
                    except FileNotFoundError:  # a writer beside us cleaned up
                        continue


def _is_unfinished(name: str) -> bool:
    """Whether the object store was writing it: it is renamed when it is whole (``name#1``)."""
    return "#" in name or name.startswith(".tmp")


def hash_of(path: Path, *, sync: bool = False) -> str:
    """The BLAKE3 hash of a file; ``sync`` first makes sure that it is on disk."""
    from blake3 import blake3

    hasher = blake3()
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        while block := file.read(_BLOCK_BYTES):
            hasher.update(block)
    return str(hasher.hexdigest())


def newest_versions(paths: Iterable[str]) -> dict[str, int]:
    """Table -> newest version, by the names of version files."""
    found: dict[str, int] = {}
    for path in paths:
        table, _, rest = path.partition(".lance/")
        version = version_of(rest)
        if version is not None:
            found[table] = max(version, found.get(table, 0))
    return found


def version_of(path: str) -> int | None:
    """The version that a file below a table's folder describes, None for any other file."""
    folder, _, name = path.rpartition("/")
    number = name.removesuffix(".manifest")
    if folder != "_versions" or number == name or not number.isdecimal():
        return None
    # Names count down, so that the newest comes first; those of old tables count up.
    return _LARGEST_VERSION - int(number) if len(number) == 20 else int(number)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
