"""What is told of an index's health without reading it whole."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmretrieve.errors import CodesError, IndexFormatError
from mmretrieve.reports import Health
from mmretrieve.storage.codes.catalogue import CODES, read_catalogue
from mmretrieve.storage.journal import Journal
from mmretrieve.storage.lock import holder, left_behind
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.schema import TABLES
from mmretrieve.storage.tables import open_table

_RUNS = ("run finished", "run failed")


def state_of(snapshot: Snapshot, journal: Journal) -> Health:
    """The health of the index that a snapshot is of."""
    folder = snapshot.folder
    writer = holder(folder)
    versions, pieces = _versions_and_pieces(snapshot)
    latest = _latest(journal)
    return Health(
        writer=str(writer) if writer is not None else None,
        unsettled=writer is None and left_behind(folder),
        n_unsealed=_unsealed(snapshot),
        n_versions=versions,
        n_pieces=pieces,
        n_waiting=_waiting(snapshot),
        notes=snapshot.searchable.notes,
        last_run=latest.get("run"),
        last_verify=latest.get("verified"),
        last_repair=latest.get("repaired"),
        last_trouble=latest.get("trouble"),
    )


def _versions_and_pieces(snapshot: Snapshot) -> tuple[int, int]:
    versions = pieces = 0
    for table in TABLES:
        path = snapshot.folder / "lance" / f"{table}.lance" / "_versions"
        if not path.is_dir():
            continue
        versions += sum(1 for _ in path.glob("*.manifest"))
        try:
            pieces += len(open_table(snapshot.folder, table).get_fragments())
        except IndexFormatError:
            continue  # only begun when a run was killed
    return versions, pieces


def _unsealed(snapshot: Snapshot) -> int:
    """Videos in segments that lie in memory alone."""
    return sum(
        int(np.count_nonzero(live.video >= 0))
        for live in snapshot.searchable.segments
        if live.segment.name == "tail"
    )


def _waiting(snapshot: Snapshot) -> int:
    try:
        return len(read_catalogue(snapshot.folder / CODES).retired)
    except CodesError:
        return 0  # among the notes


def _latest(journal: Journal) -> dict[str, Mapping[str, object]]:
    """The newest record of each kind that matters."""
    found: dict[str, Mapping[str, object]] = {}
    for event in journal.events():
        name = event["event"]
        if name in _RUNS:
            found.setdefault("run", event)
        elif name in ("verified", "repaired"):
            found.setdefault(name, event)
        if name in ("run failed", "recovered"):
            found.setdefault("trouble", event)
        if len(found) == 4:
            break
    return found
