"""A consistent copy of an index, taken while it may be in use."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from mmretrieve.errors import BackupError, CodesError
from mmretrieve.health.findings import HealthReport, Severity
from mmretrieve.health.tables import files_of
from mmretrieve.health.verify import verify
from mmretrieve.storage.atomic import sync_folder
from mmretrieve.storage.codes.catalogue import CODES, Catalogue, read_catalogue, write_catalogue
from mmretrieve.storage.folder import read_manifest, replace_manifest
from mmretrieve.storage.ledger import (
    Ledger,
    bring_up_to_date,
    read_ledger,
    version_of,
    write_ledger,
)
from mmretrieve.storage.lock import LOCK_FILE, left_behind
from mmretrieve.storage.schema import TABLES
from mmretrieve.storage.tables import open_table

_TRIES = 5


@dataclass(frozen=True, slots=True)
class BackupReport:
    """``n_linked`` files share their bytes with the index (they never change), ``n_copied`` do not."""

    path: str
    n_linked: int
    n_copied: int
    size_bytes: int
    health: HealthReport


def backup(folder: Path, destination: Path, *, link: bool = False) -> BackupReport:
    """Copy the newest committed state to ``destination``, a new folder, and verify the copy. Writers and
    readers may be at work. ``link`` makes hard links of files that never change where the disk is the
    same: quick and free, but a damaged disk damages both.

    Raises:
        BackupError: the destination is there already or cannot be written, or the copy is not sound;
            what was written is removed.
        IndexFormatError: there is no usable index in ``folder``.
    """
    if destination.exists():
        raise BackupError(f"{destination} is there already: name a new folder for the backup")
    if destination.resolve().is_relative_to(folder.resolve()):
        raise BackupError(f"{destination} is inside of the index: name a folder outside of it")
    read_manifest(folder)
    partial = destination.with_name(f".{destination.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        counts = _snapshot(folder, partial, link)
        health = verify(partial)
        if not health.is_clean:
            raise BackupError(
                f"the copy is not sound: {_first(health)}: run `mmretrieve verify` on {folder}"
            )
        _sync(partial)
        partial.replace(destination)
    except OSError as error:
        raise BackupError(f"no backup in {destination}: {error}: nothing was kept of it") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    size = sum(path.stat().st_size for path in destination.rglob("*") if path.is_file())
    return BackupReport(str(destination), *counts, size, health)


def _first(health: HealthReport) -> str:
    found = next(f for f in health.findings if f.severity is not Severity.NOTE)
    return f"{found.where}: {found.what}"


def _snapshot(folder: Path, target: Path, link: bool) -> tuple[int, int]:
    """Try until no writer took away what was being copied: linked and copied files."""
    for _ in range(_TRIES):
        try:
            return _copy(folder, target, link)
        except FileNotFoundError:
            shutil.rmtree(target, ignore_errors=True)
    return _copy(folder, target, link)


def _copy(folder: Path, target: Path, link: bool) -> tuple[int, int]:
    in_use = left_behind(folder)
    target.mkdir(parents=True)
    manifest = read_manifest(folder)
    known = (read_ledger(folder) or Ledger()).files
    names = _table_files(folder)
    catalogue = _catalogue(folder / CODES)
    for name in sorted(catalogue.folders()):
        names += [f"{CODES}/{name}/{path.name}" for path in (folder / CODES / name).iterdir()]
    linked = sum(_put(folder / name, target / name, link) for name in sorted(names))
    if catalogue.folders():
        write_catalogue(target / CODES, catalogue)
    if (folder / "nulls.json").is_file():
        shutil.copyfile(folder / "nulls.json", target / "nulls.json")
    sums = {n: known[n] for name in names if (n := name.removeprefix("lance/")) in known}
    write_ledger(target, Ledger(sums))
    bring_up_to_date(target)
    replace_manifest(target, manifest)
    if in_use or left_behind(folder):
        # A writer was between two tables: who writes to the copy first tidies up what it had begun.
        (target / LOCK_FILE).write_text("copied while a writer was at work\n", encoding="utf-8")
    return linked, len(names) - linked


def _table_files(folder: Path) -> list[str]:
    """What the newest versions of the tables are made of, that go together."""
    there = [n for n in TABLES if (folder / "lance" / f"{n}.lance" / "_versions").is_dir()]
    for _ in range(_TRIES):
        # Videos first: passages are written before the video that names them, and removed after it.
        opened = {name: open_table(folder, name) for name in there}
        if "videos" not in opened or opened["videos"].latest_version == opened["videos"].version:
            break
    names = []
    for table, dataset in opened.items():
        names += sorted(f"lance/{name}" for name in files_of(dataset, table))
        versions = folder / "lance" / f"{table}.lance" / "_versions"
        names += [
            f"lance/{table}.lance/_versions/{path.name}"
            for path in versions.iterdir()
            if version_of(f"_versions/{path.name}") == dataset.version
        ]
    return names


def _catalogue(codes: Path) -> Catalogue:
    """The codes that are valid; none where they cannot be read, since they can be made again."""
    try:
        return read_catalogue(codes)
    except CodesError:
        return Catalogue()


def _put(source: Path, target: Path, link: bool) -> bool:
    """Link or copy a file: whether it was linked."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                raise
        else:
            return True
    shutil.copyfile(source, target)
    return False


def _sync(folder: Path) -> None:
    """Bring a new folder to disk with all that is in it."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with Path(parent, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(parent))
