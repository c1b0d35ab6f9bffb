"""``updates``: single updates by the thousand, and the room that the index takes while they come."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.made_library import make, sentence
from benchmarks.result import Result
from mmretrieve import Engine
from mmretrieve.config import Settings
from mmretrieve.datatypes import GroupBy, Modality, Segment
from mmretrieve.documents import Document
from mmretrieve.health.findings import Severity
from mmretrieve.reports import Outcome

TOLD_EVERY = 25
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Room:
    """After ``n`` updates: bytes on disk of all and of parts, number of files, milliseconds of the last
    update."""

    n: int
    total: int
    tables: int
    codes: int
    n_files: int
    took_ms: float


def run(n_updates: int, n_videos: int, n_documents: int, seconds: float) -> int:
    """Print the tables and write the result; 1 where the index more than doubled or lost anything."""
    result = Result("updates")
    with tempfile.TemporaryDirectory(prefix="mmretrieve-updates-") as name:
        place = Path(name)
        list(make(place / "library", range(n_videos)))
        documents = [_document(number, 0) for number in range(n_documents)]
        with Engine.create(place / "index", Settings(jobs=1)) as engine:
            engine.index([place / "library", *documents])
        rooms, editions, warnings = _update(place, n_updates, (n_videos, n_documents), seconds)
        wrong = _wrong(place, editions)
        with Engine.create(place / "fresh", Settings(jobs=1)) as engine:
            last = [_document(n, editions.get((1, n), 0)) for n in range(n_documents)]
            engine.index([place / "library", *last])
        fresh = _room(place / "fresh", 0, 0.0)
    if rooms[-1].n < n_updates:
        result.note(f"Stopped after {seconds:.0f} s, {rooms[-1].n} of {n_updates} updates.")
    return _report(result, rooms, fresh, wrong, warnings, (n_videos, n_documents))


def _update(
    place: Path, n_updates: int, made: tuple[int, int], seconds: float
) -> tuple[list[Room], dict[tuple[int, int], int], list[str]]:
    """Change one video or one document at a time, each in a run of its own."""
    rng, (n_videos, n_documents) = np.random.default_rng(0), made
    index, rooms = place / "index", [_room(place / "index", 0, 0.0)]
    editions: dict[tuple[int, int], int] = {}
    warnings: list[str] = []
    end = time.perf_counter() + seconds
    with Engine.open(index) as engine:
        for n in range(1, n_updates + 1):
            kind = int(n_documents > 0 and (n % 2 == 0 or not n_videos))
            number = int(rng.integers(n_documents if kind else n_videos))
            editions[kind, number] = n
            if kind:
                given: Path | Document = _document(number, n)
            else:
                given = next(iter(make(place / "library", range(number, number + 1), n))).path
            start = time.perf_counter()
            report = engine.index([given])
            took_ms = 1e3 * (time.perf_counter() - start)
            if report.count(Outcome.INDEXED) != 1:
                raise RuntimeError(f"update {n} did not index: {report.results}")
            warnings += report.warnings
            late = time.perf_counter() > end
            rooms.append(_room(index, n, took_ms))
            if n % TOLD_EVERY == 0 or late:
                mib = rooms[-1].total / 2**20
                print(f"{n} updates: {mib:.1f} MiB, {took_ms:.0f} ms", flush=True)
            if late:
                break
    return rooms, editions, warnings


def _document(number: int, edition: int) -> Document:
    said = [Segment(sentence(1_000_000 + number, edition), 0.0, 2.0)]
    title = f"document {number} edition {edition}"
    return Document(f"doc{number}", title, {Modality.SPEECH: said}, duration_s=2.0)


def _room(index: Path, n: int, took_ms: float) -> Room:
    files = [(f, f.stat().st_size) for f in index.rglob("*") if f.is_file()]

    def below(name: str) -> int:
        return sum(size for f, size in files if f.is_relative_to(index / name))

    return Room(n, sum(s for _, s in files), below("lance"), below("codes"), len(files), took_ms)


def _wrong(place: Path, editions: dict[tuple[int, int], int]) -> list[str]:
    """Updated documents that are not found by their newest words, and faults of the codes."""
    with Engine.open(place / "index") as engine:
        wrong = [
            f"{f.where}: {f.what}"
            for f in engine.verify().findings
            if f.severity is not Severity.NOTE
        ]
        for (kind, number), edition in sorted(editions.items()):
            if kind and number % 10 == 0:
                asked = sentence(1_000_000 + number, edition)
                hits = engine.search(asked, k=1, group_by=GroupBy.VIDEO).hits
                if not hits or hits[0].video.video_id != f"doc{number}":
                    wrong.append(f"doc{number} is not found by {asked!r}")
    return wrong


def _report(
    result: Result, rooms: Sequence[Room], fresh: Room, wrong: Sequence[str],
    warnings: Sequence[str], made: tuple[int, int],
) -> int:  # fmt: skip
    first, most, last = rooms[0], max(rooms, key=lambda room: room.total), rooms[-1]
    chosen = [rooms[i] for i in np.unique(np.linspace(0, len(rooms) - 1, _SHOWN).astype(int))]
    mib = 2.0**20
    rows = [
        (
            r.n,
            r.total / mib,
            r.tables / mib,
            r.codes / mib,
            r.n_files,
            r.took_ms,
            r.total / first.total,
        )
        for r in chosen
    ]
    columns = ("updates", "MiB", "tables", "codes", "files", "ms of one", "times the first")
    result.add(f"{made[0]} videos and {made[1]} documents, one changed at a time", columns, rows)
    result.add(
        "Growth",
        ("", "MiB", "times as large as before the updates", "times as large as made anew"),
        [
            ("before", first.total / mib, 1.0, None),
            ("most", most.total / mib, most.total / first.total, most.total / fresh.total),
            ("in the end", last.total / mib, last.total / first.total, last.total / fresh.total),
            ("made anew from the last state", fresh.total / mib, fresh.total / first.total, 1.0),
        ],
    )
    for text in [*wrong[:5], *warnings[:5]]:
        print(text)
    result.note(f"Wrong in the end: {len(wrong)}. Warnings of runs: {len(warnings)}.")
    result.save()
    return int(bool(wrong) or bool(warnings) or most.total >= 2 * first.total)
