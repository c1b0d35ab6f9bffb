"""The index folder: where it is, what its manifest promises, and who may write to it."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from mmretrieve.datatypes import Modality
from mmretrieve.errors import IndexFormatError, IndexNotFoundError
from mmretrieve.storage.atomic import is_whole, replace_text, sealed_json, unsealed
from mmretrieve.storage.journal import LOG_NAMES
from mmretrieve.storage.ledger import LEDGER
from mmretrieve.storage.lock import LOCK_FILE, WriterLock, take
from mmretrieve.storage.quarantine import PENDING, QUARANTINE

FOLDER_NAME = ".mmretrieve"
ENV_VARIABLE = "MMRETRIEVE_INDEX"
FORMAT_VERSION = 2
"""1: without a ledger. :mod:`mmretrieve.storage.migrations` has the steps from one to the next."""
_SEALED_SINCE = 2
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index was made with. ``encoders`` maps an encoder to the sha256 of its weights,
    ``spaces`` a modality to the vector space of its tokens, ``dims`` a space to the width of its
    tokens where that is not ``dim``."""

    preset: str
    dim: int
    encoders: dict[str, str]
    spaces: dict[str, str]
    settings_toml: str
    format_version: int = FORMAT_VERSION
    program: str = "mmretrieve"
    dims: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what was read from disk.

        Raises:
            TypeError: a field of another type.
        """
        for name, kind in (("preset", str), ("dim", int), ("settings_toml", str)):
            if type(getattr(self, name)) is not kind:
                raise TypeError(
                    f"{name} must be {kind.__name__}, got {getattr(self, name)!r}"[:200]
                )
        for name, kind in (("encoders", str), ("spaces", str), ("dims", int)):
            table = getattr(self, name)
            if not isinstance(table, dict) or not all(type(v) is kind for v in table.values()):
                raise TypeError(f"{name} must map names to {kind.__name__}, got {table!r}"[:200])
        if self.dim < 1 or min(self.dims.values(), default=1) < 1:
            raise TypeError(f"dim and dims must be above zero, got {self.dim} and {self.dims}")

    def width(self, modality: Modality) -> int:
        """Numbers in a token of this modality."""
        return self.dims.get(self.space(modality), self.dim)

    def space(self, modality: Modality) -> str:
        """The space of a modality's tokens. Where the index has none of it, since its encoder does not
        hear or it is older than the modality, any space will do: that of metadata."""
        return self.spaces.get(modality.value) or self.spaces.get(Modality.METADATA.value, "")

    @property
    def one_width(self) -> int | None:
        """The width of all tokens; None where modalities differ."""
        widths = {self.width(modality) for modality in Modality}
        return widths.pop() if len(widths) == 1 else None

    def to_json(self) -> str:
        """The manifest as it lies on disk."""
        data = dataclasses.asdict(self)
        if not self.dims:  # as it was before spaces could differ, so that older programs read it
            del data["dims"]
        if self.format_version < _SEALED_SINCE:
            return json.dumps(data, indent=2, sort_keys=True) + "\n"
        return sealed_json(data, indent=2)


def locate(explicit: Path | None = None, start: Path | None = None) -> Path:
    """The index to use: ``explicit``, else ``$MMRETRIEVE_INDEX``, else the nearest ``.mmretrieve``
    in ``start`` (the working directory) or a folder above it.

    Raises:
        IndexNotFoundError: there is none; the message says how to make one.
    """
    given = explicit or (Path(value) if (value := os.environ.get(ENV_VARIABLE)) else None)
    if given is not None:
        if not (given / MANIFEST).is_file():
            raise IndexNotFoundError(_no_index(given))
        return given
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / FOLDER_NAME / MANIFEST).is_file():
            return folder / FOLDER_NAME
    raise IndexNotFoundError(
        f"no index in {here} or above it: make one with `mmretrieve index FOLDER_WITH_VIDEOS`, "
        f"or name one with --index or ${ENV_VARIABLE}"
    )


def default_location(explicit: Path | None = None) -> Path:
    """Where ``index`` writes: an existing index as :func:`locate` finds it, else a new one in the
    working directory (or where ``explicit`` or the environment says)."""
    try:
        return locate(explicit)
    except IndexNotFoundError:
        given = explicit or (Path(value) if (value := os.environ.get(ENV_VARIABLE)) else None)
        return given or Path.cwd() / FOLDER_NAME


def check_free(folder: Path) -> None:
    """Make sure that an index may be made here.

    Raises:
        IndexFormatError: it is a file, or a folder that holds other things and no index.
    """
    if folder.exists() and not folder.is_dir():
        raise IndexFormatError(f"{folder} is a file: expected a folder for the index")
    if folder.is_dir() and not (folder / MANIFEST).exists() and _has_foreign_files(folder):
        raise IndexFormatError(
            f"{folder} holds files that are no index: name an empty or new folder with --index"
        )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, unless it is there, in one step (a reader sees the old one or the new one).
    The format of an index that is there stays: only migrations change it.

    Raises:
        IndexFormatError: see :func:`check_free`.
        IndexLockedError: another process is writing.
    """
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).is_file():
        here = read_manifest(folder).format_version
        manifest = dataclasses.replace(manifest, format_version=here)
    if _is_file_with(folder / MANIFEST, manifest.to_json()):
        return
    lock = acquire_lock(folder)
    clean = False
    try:
        replace_manifest(folder, manifest)
        clean = lock.left_behind is None
    finally:
        lock.release(clean=clean)


def replace_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest as it is given. The caller holds the writer's lock."""
    replace_text(folder / MANIFEST, manifest.to_json())


def _is_file_with(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode("utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest.

    Raises:
        IndexNotFoundError: no manifest.
        IndexFormatError: foreign, damaged, or of a newer format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise IndexNotFoundError(_no_index(folder))
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexFormatError(
            f"{path} cannot be read as the manifest of an index ({error}): move the folder away and "
            "index again, or restore the file"
        ) from error
    if data.get("program") != "mmretrieve" or not isinstance(version, int):
        raise IndexFormatError(
            f"{path} was not written by mmretrieve: name another folder with --index"
        )
    if version > FORMAT_VERSION:
        raise IndexFormatError(
            f"{folder} has index format {version}, this program knows up to {FORMAT_VERSION}: "
            "update with `pip install -U mmretrieve`"
        )
    try:
        manifest = Manifest(**unsealed(data))
    except TypeError as error:
        raise IndexFormatError(f"{path} lacks or has unexpected fields ({error})") from error
    if not is_whole(data):
        raise IndexFormatError(
            f"{path} is not as it was written (wrong checksum): run `mmretrieve repair`, which has a copy"
        )
    return manifest


def acquire_lock(folder: Path) -> WriterLock:
    """The writer's lock. The system releases it when its holder ends, however that happens.

    Raises:
        IndexLockedError: another process holds it.
    """
    return take(folder)


def is_ours(name: str) -> bool:
    """Whether a name in the index folder is one of those that this program gives."""
    whole = {
        MANIFEST,
        LOCK_FILE,
        LEDGER,
        "lance",
        "codes",
        "nulls.json",
        QUARANTINE,
        PENDING,
        *LOG_NAMES,
    }
    return name in whole or is_unfinished(name)


def is_unfinished(name: str) -> bool:
    """Whether a name in the index folder is of a file that was to replace another one."""
    replaced = {f"{file}.new" for file in (MANIFEST, LEDGER, PENDING)}
    return name in replaced or name.startswith(("nulls.json.", f"{LOCK_FILE}."))


def _has_foreign_files(folder: Path) -> bool:
    return not all(is_ours(entry.name) for entry in folder.iterdir())


def _no_index(folder: Path) -> str:
    return f"{folder} is no index (it has no {MANIFEST}): make one with `mmretrieve index FOLDER`"
