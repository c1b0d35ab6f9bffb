"""Plain little-endian arrays in a folder: written once, then mapped read-only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from mmretrieve.errors import CodesError
from mmretrieve.storage.atomic import sync_folder
from mmretrieve.storage.codes.segment import Array

_HASH_BYTES = 1 << 24
_READ_BYTES = 1 << 20
"""Smaller files are read: one that is mapped takes a file descriptor, of which a process has a thousand
or so, for as long as its array lives."""


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """What a file holds: numpy's name of the type, the shape, and the BLAKE3 hash of the bytes."""

    dtype: str
    shape: tuple[int, ...]
    blake3: str

    @property
    def size_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of arrays below ``codes``, as the catalogue names it."""

    name: str
    files: Mapping[str, ArrayFile]


class Sink(Protocol):
    """What arrays are written to, piece by piece."""

    def append(self, name: str, rows: Array) -> None:
        """Add rows to the array of this name."""
        ...


class MemorySink:
    """Keeps arrays in memory."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Array]] = {}

    def append(self, name: str, rows: Array) -> None:
        self._parts.setdefault(name, []).append(rows)

    def arrays(self) -> dict[str, Array]:
        """Everything, by name."""
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


@dataclass(slots=True)
class _Open:
    file: IO[bytes]
    hasher: Any
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(slots=True)
class FolderSink:
    """Writes arrays to the files of a new folder."""

    path: Path
    _open: dict[str, _Open] = field(default_factory=dict)
    _done: dict[str, ArrayFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True)

    def append(self, name: str, rows: Array) -> None:
        if name not in self._open:
            self._open[name] = self._start(name, rows)
        mine = self._open[name]
        data = np.ascontiguousarray(rows, mine.dtype)
        mine.shape = (mine.shape[0] + len(data), *mine.shape[1:])
        raw = _bytes(data)
        mine.hasher.update(raw)
        mine.file.write(raw)

    def flush(self) -> dict[str, ArrayFile]:
        """Bring what was appended to disk; it can be read from then on, and not appended to.

        Returns:
            All files of the folder.
        """
        for name, mine in self._open.items():
            mine.file.flush()
            os.fsync(mine.file.fileno())
            mine.file.close()
            self._done[name] = ArrayFile(mine.dtype.str, mine.shape, mine.hasher.hexdigest())
        self._open.clear()
        sync_folder(self.path)
        return dict(self._done)

    def close(self) -> None:
        """Let go of files, finished or not."""
        for mine in self._open.values():
            mine.file.close()
        self._open.clear()

    def _start(self, name: str, rows: Array) -> _Open:
        from blake3 import blake3

        dtype = rows.dtype.newbyteorder("<")
        file = (self.path / f"{name}.bin").open("xb")
        return _Open(file, blake3(), dtype, (0, *rows.shape[1:]))


def map_arrays(codes: Path, folder: Folder, check_bytes: int) -> dict[str, Array]:
    """The arrays of a folder, read-only; large ones are mapped. Sizes are checked, and hashes of files up to
    ``check_bytes``.

    Raises:
        FileNotFoundError: a file is not there.
        CodesError: a file has another size or hash than the catalogue says.
    """
    return {
        name: _map(codes / folder.name / f"{name}.bin", entry, check_bytes)
        for name, entry in folder.files.items()
    }


def _map(path: Path, entry: ArrayFile, check_bytes: int) -> Array:
    size = path.stat().st_size
    if size != entry.size_bytes:
        raise CodesError(f"{path} has {size} bytes, the catalogue says {entry.size_bytes}")
    if not size:
        return np.empty(entry.shape, entry.dtype)
    if size < _READ_BYTES:
        mapped = np.fromfile(path, entry.dtype).reshape(entry.shape)
        mapped.flags.writeable = False
    else:
        mapped = np.asarray(np.memmap(path, entry.dtype, "r", shape=entry.shape))
    if size <= check_bytes and _hash(mapped) != entry.blake3:
        raise CodesError(f"{path} has other content than was written (wrong checksum)")
    return mapped


def _bytes(array: Array) -> memoryview:
    raw: Any = array.reshape(-1).view(np.uint8)
    return memoryview(raw)


def _hash(array: Array) -> str:
    from blake3 import blake3

    hasher = blake3()
    raw = _bytes(array)
    for start in range(0, len(raw), _HASH_BYTES):
        hasher.update(raw[start : start + _HASH_BYTES])
    return str(hasher.hexdigest())
