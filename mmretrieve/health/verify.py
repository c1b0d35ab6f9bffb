"""Checking every promise that an index makes on disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mmretrieve.errors import IndexFormatError, IndexNotFoundError
from mmretrieve.health.codes import check_codes
from mmretrieve.health.files import FileState, file_findings, look_at_files
from mmretrieve.health.findings import Finding, HealthReport, Part, error, note, warning
from mmretrieve.health.tables import Rows, Tables, check_rows, open_tables
from mmretrieve.health.vectors import check_thumbnails, check_vectors
from mmretrieve.storage.atomic import is_whole
from mmretrieve.storage.codes.catalogue import state_of_codes
from mmretrieve.storage.folder import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    is_ours,
    is_unfinished,
    read_manifest,
)
from mmretrieve.storage.ledger import LEDGER, Ledger, read_ledger
from mmretrieve.storage.leftovers import unfinished
from mmretrieve.storage.lock import LOCK_FILE, holder, left_behind
from mmretrieve.storage.quarantine import PENDING
from mmretrieve.storage.schema import TABLES

_TRIES = 5
"""How often to look again when a writer changed the index meanwhile."""


@dataclass(slots=True)
class Inspection:
    """All that one look at an index found, for a report and for a repair."""

    manifest: Manifest | None = None
    ledger: Ledger = field(default_factory=Ledger)
    files: FileState = field(default_factory=FileState)
    tables: Tables = field(default_factory=Tables)
    rows: Rows = field(default_factory=Rows)
    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, found: Iterable[Finding | int]) -> None:
        """Keep findings, and add up the numbers under a name."""
        try:
            for one in found:
                if isinstance(one, Finding):
                    self.findings.append(one)
                else:
                    self.checked[name] = self.checked.get(name, 0) + one
        except (ValueError, OSError, RuntimeError) as failure:  # Arrow and Lance raise all of them
            told = f"{name} cannot be read ({str(failure).partition(', /')[0]})"
            self.findings.append(error(Part.TABLES, told, "tables"))


def verify(folder: Path, *, deep: bool = False) -> HealthReport:
    """Check the index in ``folder``. A writer may be at work meanwhile. ``deep`` looks at all vectors,
    codes and pictures instead of a sample; all files are compared with their checksums anyway."""
    start_s = time.perf_counter()
    for _ in range(_TRIES):
        before = _state(folder)
        found = inspect(folder, deep=deep)
        if not found.findings or _state(folder) == before:
            break
    took_s = time.perf_counter() - start_s
    return HealthReport(str(folder), tuple(found.findings), dict(found.checked), deep, took_s)


def inspect(folder: Path, *, deep: bool = False) -> Inspection:
    """One look at everything."""
    found = Inspection()
    found.rows.is_unsettled = left_behind(folder)
    _manifest(folder, found)
    _ledger(folder, found)
    found.files = look_at_files(folder, found.ledger)
    found.checked["files"] = found.files.n_files
    if found.files.n_new:
        told = f"{found.files.n_new} files of tables have no checksum yet"
        found.findings.append(note(Part.LEDGER, told, LEDGER))
    if found.manifest is not None:
        _content(folder, found.manifest, found, deep)
    else:
        found.findings += file_findings(found.files, found.ledger, frozenset(found.files.damaged))
    _nulls(folder, found)
    _others(folder, found)
    return found


def _state(folder: Path) -> tuple[object, ...]:
    """What differs when a writer did something."""
    versions = []
    for table in TABLES:
        try:
            versions += os.listdir(folder / "lance" / f"{table}.lance" / "_versions")  # noqa: PTH208
        except OSError:
            versions.append(table)
    return (*sorted(versions), *state_of_codes(folder), holder(folder))


def _manifest(folder: Path, found: Inspection) -> None:
    try:
        found.manifest = read_manifest(folder)
    except (IndexFormatError, IndexNotFoundError) as failure:
        found.findings.append(error(Part.MANIFEST, str(failure), MANIFEST))
        return
    version = found.manifest.format_version
    if version < FORMAT_VERSION:
        told = f"format {version}, this program writes {FORMAT_VERSION}"
        found.findings.append(
            note(Part.MANIFEST, told, MANIFEST, "the next run that writes brings it up to date")
        )


def _ledger(folder: Path, found: Inspection) -> None:
    try:
        ledger = read_ledger(folder)
    except IndexFormatError as failure:
        found.findings.append(error(Part.LEDGER, str(failure), LEDGER))
        return
    written = any((folder / "lance").glob("*.lance"))
    old = found.manifest is not None and found.manifest.format_version == 1
    if ledger is None and written and not old and not found.rows.is_unsettled:
        told = "is not there: files of the tables have no checksums to compare with"
        found.findings.append(error(Part.LEDGER, told, LEDGER))
    found.ledger = ledger or Ledger()


def _content(folder: Path, manifest: Manifest, found: Inspection, deep: bool) -> None:
    found.tables = tables = open_tables(folder, manifest, found.files)
    found.findings += file_findings(found.files, found.ledger, frozenset(tables.needed))
    found.findings += tables.findings
    found.add("rows", check_rows(tables, found.rows))
    found.checked |= {"videos": len(found.rows.videos), "passages": found.rows.n_passages}
    passages = tables.opened.get("passages")
    if passages is not None:
        found.add("vectors", check_vectors(passages, manifest, found.rows, deep))
    if "keyframes" in tables.opened:
        pictures = check_thumbnails(tables.opened["keyframes"], found.rows, deep)
        found.add("thumbnails", pictures)
    if "videos" in tables.opened:
        codes = check_codes(folder, manifest, passages, found.rows, deep)
        found.add("tokens in codes", codes)


def _nulls(folder: Path, found: Inspection) -> None:
    path = folder / "nulls.json"
    try:
        whole = is_whole(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, AttributeError):
        whole = False
    if not whole:
        told = "cannot be read: searches measure chance anew"
        found.findings.append(warning(Part.CHANCE, told, path.name))


def _others(folder: Path, found: Inspection) -> None:
    for path in unfinished(folder):
        where = path.relative_to(folder).as_posix()
        found.findings.append(note(Part.FOLDER, "was not finished by a run that was killed", where))
    if (folder / PENDING).exists():
        told = "a repair was interrupted: nothing can be written before it is done"
        found.findings.append(warning(Part.FOLDER, told, PENDING))
    for entry in sorted(folder.iterdir()):
        if not is_ours(entry.name) and not is_unfinished(entry.name):
            told, fix = "is no part of the index", "move it elsewhere if it is yours"
            found.findings.append(note(Part.FOLDER, told, entry.name, fix))
    owner = holder(folder)
    if owner is not None:
        told, fix = f"{owner} is writing", "nothing to do"
        found.findings.append(note(Part.LOCK, told, LOCK_FILE, fix))
    elif left_behind(folder):
        found.findings.append(note(Part.LOCK, "a run ended without tidying up", LOCK_FILE))
