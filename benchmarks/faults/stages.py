"""What is disturbed: every way in which an index is written to, on small indexes of documents."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from unittest import mock

from benchmarks.faults.library import documents
from mmretrieve import Engine
from mmretrieve.documents import Document
from mmretrieve.errors import UsageError
from mmretrieve.health.backup import backup
from mmretrieve.health.repair import repair
from mmretrieve.health.verify import verify
from mmretrieve.kernels.plain import PlainKernels
from mmretrieve.storage import upkeep
from mmretrieve.storage.codes.policy import Limits
from mmretrieve.storage.codes.update import update
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.ledger import LEDGER, table_files
from mmretrieve.storage.writer import IndexWriter

_CODED = Limits(exact_below=10, lists_from=50)
INDEX, COPY = "index", "copy"


@dataclass(frozen=True, slots=True)
class Stage:
    """``prepare`` makes what is there before, ``act`` is disturbed, ``finish`` (``act`` by default) is
    what a user does afterwards. All get a folder that holds the index and what belongs to it."""

    name: str
    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    finish: Callable[[Path], object] | None = None

    def end(self, folder: Path) -> None:
        """What a user does after it was disturbed."""
        (self.finish or self.act)(folder)


def _index(folder: Path, found: list[Document]) -> None:
    with Engine.create(folder / INDEX) as engine:
        engine.index(list(found))


def _base(folder: Path) -> None:
    """Two runs, so that there are several pieces, versions and segments."""
    _index(folder, documents(0, 8))
    _index(folder, [*documents(8, 12), *documents(0, 2, edition=1)])


def _remove(folder: Path) -> None:
    with Engine.open(folder / INDEX) as engine:
        for name in ("doc-003", "doc-009"):
            try:
                engine.remove([name])
            except UsageError:
                continue  # removed before the fault


def _remove_at_once(folder: Path) -> None:
    with Engine.open(folder / INDEX) as engine:
        engine.remove(["doc-003", "doc-009"])


def _compact(folder: Path) -> None:
    with (
        mock.patch.object(upkeep, "KEEP_OLD_VERSIONS", timedelta(0)),
        IndexWriter(folder / INDEX, read_manifest(folder / INDEX)) as writer,
    ):
        writer.optimize()


def _without_codes(folder: Path) -> None:
    _base(folder)
    shutil.rmtree(folder / INDEX / "codes")


def _update(folder: Path, limits: Limits) -> None:
    index = folder / INDEX
    manifest = read_manifest(index)
    with IndexWriter(index, manifest):
        update(index, manifest, PlainKernels(), limits)


def _rebuild(folder: Path) -> None:
    with Engine.open(folder / INDEX) as engine:
        engine.rebuild()


def _of_format_1(folder: Path) -> None:
    """The index as the first format had it."""
    _base(folder)
    path = folder / INDEX / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["blake3"]
    text = json.dumps({**data, "format_version": 1}, indent=2, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")
    (folder / INDEX / LEDGER).unlink()


def _migrate(folder: Path) -> None:
    _index(folder, documents(12, 13))


def _backup(folder: Path) -> None:
    backup(folder / INDEX, folder / COPY)


def _backup_again(folder: Path) -> None:
    """A backup that is there must be whole; else it is made now."""
    if not (folder / COPY).exists():
        _backup(folder)
    report = verify(folder / COPY, deep=True)
    if report.findings:
        raise RuntimeError(f"the backup is not sound: {report.findings[0]}")


def _damaged(folder: Path) -> None:
    """Damage of many kinds, all of which a repair mends without a loss."""
    _base(folder)
    index = folder / INDEX
    flip(next(index.glob("codes/segment-*/revision.bin")))
    for path, _ in list(table_files(index)):
        if path.startswith("files.lance/data/") or "/_transactions/" in path:
            flip(index / "lance" / path)
    (index / "nulls.json").write_text("{", encoding="utf-8")
    (index / "checksums.json.new").write_text("half", encoding="utf-8")


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def _repair(folder: Path) -> None:
    repair(folder / INDEX, PlainKernels())


def _repair_and_chance(folder: Path) -> None:
    _repair(folder)
    _rebuild(folder)


STAGES = (
    Stage("index", lambda f: f.mkdir(parents=True), lambda f: _index(f, documents(0, 8))),
    Stage("add", _base, lambda f: _index(f, documents(12, 16))),
    Stage("replace", _base, lambda f: _index(f, documents(2, 6, edition=1))),
    Stage("remove", _base, _remove_at_once, _remove),
    Stage("compact", _base, _compact),
    Stage("codes update", _without_codes, lambda f: _update(f, Limits())),
    Stage("codes training", _base, lambda f: _update(f, _CODED)),
    Stage("codes rebuild", _base, _rebuild),
    Stage("migration", _of_format_1, _migrate),
    Stage("backup", _base, _backup, _backup_again),
    Stage("repair", _damaged, _repair, _repair_and_chance),
)
