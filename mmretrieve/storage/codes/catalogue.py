"""The catalogue of token codes: which folders are valid, and what their files hold.

``codes/catalogue.json`` is replaced in one step; folders that it does not name are no part of the
index. New things go to new folders, whose numbers are never used twice.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmretrieve.datatypes import MODALITIES
from mmretrieve.errors import CodesError
from mmretrieve.storage.atomic import is_whole, replace_text, sealed_json
from mmretrieve.storage.codes.files import ArrayFile, Folder
from mmretrieve.storage.codes.segment import BOOK, LAYOUT, TOKENS, SegmentKind, of_modality

CODES = "codes"
FORMAT = 1
_FILE = "catalogue.json"
_KINDS = {
    **LAYOUT,
    **{of_modality(n, m): kind for n, kind in {**TOKENS, **BOOK}.items() for m in MODALITIES},
}


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A sealed segment: its folder, and what is needed to plan without opening it."""

    folder: Folder
    kind: SegmentKind
    n_unusable: int = 0


@dataclass(frozen=True, slots=True)
class BookState:
    """How well one modality's codebook fits: ``n_tokens`` live when it was trained; the mean
    ``similarity`` of tokens to their centroids then; of ``n_since`` tokens sealed since then, the sum
    of similarities."""

    n_tokens: int
    similarity: float
    n_since: int = 0
    sum_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Catalogue:
    """``next_number`` is of the next new folder; ``books`` maps a modality with a codebook to its
    state; ``sampled`` is the digest of the videos that the samples were drawn from; ``retired``
    maps folders that readers may still be opening to the time (s since 1970) when they went."""

    next_number: int = 1
    segments: tuple[SegmentEntry, ...] = ()
    codebook: Folder | None = None
    books: Mapping[str, BookState] = field(default_factory=dict)
    sample_passages: Folder | None = None
    sample_videos: Folder | None = None
    sampled: str = ""
    retired: Mapping[str, float] = field(default_factory=dict)

    def folders(self) -> set[str]:
        """Names of the folders that are valid."""
        named = (self.codebook, self.sample_passages, self.sample_videos)
        return {f.name for f in (*(s.folder for s in self.segments), *named) if f is not None}


def digest(revisions: Collection[str]) -> str:
    """What names a set of videos."""
    from blake3 import blake3

    return str(blake3("\n".join(sorted(revisions)).encode()).hexdigest())


def read_catalogue(codes: Path) -> Catalogue:
    """The catalogue in folder ``codes``; an empty one where there is none.

    Raises:
        CodesError: it cannot be read, or is of another format.
    """
    path = codes / _FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Catalogue()
    except (OSError, ValueError) as error:
        raise CodesError(f"{path} cannot be read ({error})") from error
    version = data.get("format") if isinstance(data, dict) else None
    if version != FORMAT:
        raise CodesError(f"{path} is of format {version}, this program knows {FORMAT}")
    if not is_whole(data):
        raise CodesError(f"{path} is not as it was written (wrong checksum)")
    try:
        return _catalogue(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CodesError(f"{path} is no catalogue of token codes ({error!r})") from error


def state_of_codes(folder: Path) -> tuple[str, ...]:
    """What differs whenever the catalogue of the index in ``folder`` was replaced; nothing where there is
    none."""
    try:
        found = (folder / CODES / _FILE).stat()
    except OSError:
        return ()
    return (f"{found.st_ino} {found.st_mtime_ns} {found.st_size}",)


def write_catalogue(codes: Path, catalogue: Catalogue) -> None:
    """Replace the catalogue in one step. What it names must be on disk already."""
    data = {"format": FORMAT, **dataclasses.asdict(catalogue)}
    replace_text(codes / _FILE, sealed_json(data, indent=1))


def remove_others(codes: Path, keep: Collection[str]) -> None:
    """Remove all folders but these. Only the writer may: to others a folder that the catalogue does
    not name may be about to be named."""
    for path in codes.iterdir():
        if path.is_dir() and path.name not in keep:
            shutil.rmtree(path)


def next_number(codes: Path, catalogue: Catalogue) -> int:
    """A number that no folder has, valid or left over."""
    used = [p.name.rpartition("-")[2] for p in codes.iterdir()] if codes.is_dir() else []
    return max([catalogue.next_number, *(int(n) + 1 for n in used if n.isdecimal())])


def _catalogue(data: Mapping[str, Any]) -> Catalogue:
    return Catalogue(
        next_number=int(data["next_number"]),
        segments=tuple(
            SegmentEntry(_folder(s["folder"]), SegmentKind(s["kind"]), int(s["n_unusable"]))
            for s in data["segments"]
        ),
        codebook=_optional(data["codebook"]),
        books={str(name): BookState(**state) for name, state in data["books"].items()},
        sample_passages=_optional(data["sample_passages"]),
        sample_videos=_optional(data["sample_videos"]),
        sampled=str(data["sampled"]),
        retired={str(name): float(at) for name, at in data["retired"].items()},
    )


def _optional(data: Mapping[str, Any] | None) -> Folder | None:
    return None if data is None else _folder(data)


def _folder(data: Mapping[str, Any]) -> Folder:
    name = str(data["name"])
    if Path(name).name != name:
        raise ValueError(f"{name!r} is no name of a folder")
    return Folder(name, {str(n): _file(str(n), f) for n, f in data["files"].items()})


def _file(name: str, data: Mapping[str, Any]) -> ArrayFile:
    entry = ArrayFile(str(data["dtype"]), tuple(int(n) for n in data["shape"]), str(data["blake3"]))
    expected, dtype = np.dtype(_KINDS[name]), np.dtype(entry.dtype)
    fits = dtype.kind == "S" if expected.kind == "S" else dtype == expected
    if not fits or not entry.shape or min(entry.shape) < 0:
        raise ValueError(f"{name} has type {entry.dtype} and shape {entry.shape}")
    return entry
