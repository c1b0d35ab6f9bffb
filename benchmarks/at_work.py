"""A writer and readers at work on one index, each in a process of its own; every answer is checked against
brute force over the tables of the state that the reader holds."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import time
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grown import contents, copy_of, file_of
from benchmarks.oracle import Oracle, recall
from benchmarks.result import Result
from mmretrieve import Engine
from mmretrieve.datatypes import MODALITIES, Aggregation, Filter, QueryTokens
from mmretrieve.demo import clips_folder
from mmretrieve.kernels.choose import kernels
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.search.prepared import Space, prepare
from mmretrieve.search.ranking import Ranker
from mmretrieve.search.selection import select
from mmretrieve.search.stages import Limits
from mmretrieve.storage.codes.policy import Limits as CodeLimits
from mmretrieve.storage.codes.update import update
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import VideoEntry
from mmretrieve.storage.writer import IndexWriter

SMALL = CodeLimits(exact_below=4_000, lists_from=1_000, max_segments=3, grace_s=2.0)
"""So that a small index goes through every kind of segment, merges and trainings."""
LEAST, MOST = 40, 160
"""Videos in the index."""
K = 10
HELD = 20
"""One state of so many is held, and asked again after the writer went on."""


@dataclass(frozen=True, slots=True)
class Bound:
    """When to end: after ``n`` operations, or ``seconds`` after the first one."""

    n: int | None = None
    seconds: float | None = None

    def is_over(self, n_done: int, start: float) -> bool:
        """Whether that is now."""
        if self.n is not None:
            return n_done >= self.n
        return time.perf_counter() - start >= (self.seconds or 0.0)

    def quarter(self, n_done: int, start: float) -> bool:
        """Whether a quarter is over, when memory is looked at first."""
        if self.n is not None:
            return n_done >= self.n // 4
        return time.perf_counter() - start >= (self.seconds or 0.0) / 4


@dataclass(slots=True)
class Tally:
    """What one process did: operations by name, errors as texts, recalls of searches, memory in KiB early
    and in the end."""

    operations: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)
    early_kib: int = 0
    late_kib: int = 0

    def count(self, name: str) -> None:
        """One more operation of this kind."""
        self.operations[name] = self.operations.get(name, 0) + 1

    @property
    def total(self) -> int:
        return sum(self.operations.values())


def prepared(folder: Path) -> None:
    """The index to begin with: the demo clips, without codes, since the writer's limits are not the
    engine's."""
    with Engine.create(folder) as engine:
        engine.index([clips_folder()])
    shutil.rmtree(folder / "codes")


def at_work(
    folder: Path, writing: Bound, reading: Bound, n_readers: int, seed: int
) -> tuple[dict[str, Tally], float]:
    """What each process did, and how long it took (s)."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    readers = [
        context.Process(target=_read, args=(folder, reading, seed + 1 + i, queue))
        for i in range(n_readers)
    ]
    start = time.perf_counter()
    for reader in readers:
        reader.start()
    tallies = {"writer": _write(folder, writing, seed)}
    tallies |= {f"reader {i + 1}": queue.get() for i in range(n_readers)}
    for reader in readers:
        reader.join()
    return tallies, time.perf_counter() - start


def tell(result: Result, tallies: dict[str, Tally], took_s: float) -> list[str]:
    """Add the table of what was done; everything that was wrong."""
    rows = [
        (
            who, t.total, ", ".join(f"{n} {c}" for n, c in sorted(t.operations.items())),
            len(t.errors), float(np.mean(t.recalls)) if t.recalls else None,
            t.early_kib / 1024, t.late_kib / 1024,
        )
        for who, t in tallies.items()
    ]  # fmt: skip
    columns = ("process", "operations", "of which", "wrong", "recall@10", "MiB early", "MiB late")
    result.add(
        f"{sum(t.total for t in tallies.values()):,} operations in {took_s:.0f} s", columns, rows
    )
    errors = [error for tally in tallies.values() for error in tally.errors]
    for error in errors[:5]:
        print(error)
    return errors


def _write(folder: Path, bound: Bound, seed: int) -> Tally:
    tally, rng = Tally(), np.random.default_rng(seed)
    manifest = read_manifest(folder)
    videos = list(contents(Snapshot(folder, manifest)))
    present: dict[int, VideoEntry] = {}
    number = 0
    start = time.perf_counter()
    while not bound.is_over(tally.total, start):
        operation = _next_operation(len(present), rng)
        try:
            with IndexWriter(folder, manifest) as writer:
                if operation in ("add", "replace"):
                    old = int(rng.choice(list(present))) if operation == "replace" else number
                    number += operation == "add"
                    video, parts = videos[int(rng.integers(len(videos)))]
                    present[old] = copy_of(video, parts, old, rng)
                    writer.commit([present[old]], [file_of(present[old].video)])
                elif operation == "delete":
                    gone = present.pop(int(rng.choice(list(present))))
                    writer.remove_videos([gone.video.video_id])
                else:
                    writer.optimize()
                    tally.errors += update(folder, manifest, kernels(), SMALL).notes
        except Exception:  # what went wrong is what this looks for
            tally.errors.append(traceback.format_exc())
        tally.count(operation)
        if not tally.early_kib and bound.quarter(tally.total, start):
            tally.early_kib = _memory_kib()
    tally.late_kib = _memory_kib()
    return tally


def _next_operation(n_present: int, rng: np.random.Generator) -> str:
    if rng.random() < 0.08:
        return "compact"
    if n_present < LEAST:
        return "add"
    options = ["replace", "delete"] if n_present >= MOST else ["add", "replace", "delete"]
    return str(rng.choice(options))


def _read(folder: Path, bound: Bound, seed: int, queue: Any) -> None:
    tally, rng = Tally(), np.random.default_rng(seed)
    try:
        reader, start = _Reader(folder), time.perf_counter()
        while not bound.is_over(tally.total, start):
            reader.search(rng, tally)
            if not tally.early_kib and bound.quarter(tally.total, start):
                tally.early_kib = _memory_kib()
        tally.late_kib = _memory_kib()
    except Exception:  # as above
        tally.errors.append(traceback.format_exc())
    queue.put(tally)


class _Reader:
    """Searches the newest state and checks every answer against brute force over the same state."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manifest = read_manifest(folder)
        self._spaces = [Space(self._manifest.space(m), self._manifest.width(m)) for m in MODALITIES]
        self._open()

    def _open(self) -> None:
        self._snapshot = Snapshot(self._folder, self._manifest, kernels)
        self._stored = self._snapshot.library
        self._ranker = Ranker(self._snapshot, kernels(), Limits())

    def search(self, rng: np.random.Generator, tally: Tally) -> None:
        """One search by random words, weights and filter."""
        if not self._snapshot.is_current() and rng.random() > 1 / HELD:
            self._open()
            tally.count("open")
        query, scoring, by_video = self._random_query(rng), _random_scoring(rng), rng.random() < 0.3
        wanted, kept = self._random_filter(rng)
        stages = self._ranker.stages(
            prepare(query, self._spaces, kernels()), scoring, bool(by_video)
        )
        ranking = self._ranker.rank(stages, select(self._snapshot, wanted), 32)
        documents = ranking.documents
        found = [
            (int(documents.video[d]), int(documents.passage[d])) for d in ranking.order.tolist()
        ]
        truth = Oracle(self._stored).scores(
            query.vectors["text"], scoring, stages.rule.calibration, bool(by_video), kept
        )
        for key, d in zip(found, ranking.order.tolist(), strict=True):
            if key not in truth:
                tally.errors.append(f"document {key} is not in the index")
            elif not np.isclose(truth[key], ranking.scores[d], rtol=1e-3, atol=1e-4):
                tally.errors.append(f"document {key}: {ranking.scores[d]}, by hand {truth[key]}")
        tally.recalls.append(recall([key for key in found if key in truth], truth, K))
        tally.count("search")

    def _random_query(self, rng: np.random.Generator) -> QueryTokens:
        vectors = self._stored.vectors
        rows = vectors[rng.integers(0, len(vectors), int(rng.integers(1, 33)))]
        noisy = rows + rng.normal(0, 0.3 / rows.shape[1] ** 0.5, rows.shape)
        unit = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
        words = np.arange(len(unit), dtype=np.int32)
        return QueryTokens("random", {"text": unit}, ("word",) * len(unit), words)

    def _random_filter(self, rng: np.random.Generator) -> tuple[Filter, np.ndarray]:
        everything_kept = np.ones(len(self._snapshot.videos), bool)
        if rng.random() < 0.6:
            return Filter(), everything_kept
        digit = f"{int(rng.integers(16)):x}"
        kept = [digit in v.video_id for v in self._snapshot.videos]
        return Filter(where=(("video_id~", digit),)), np.array(kept, bool)


def _random_scoring(rng: np.random.Generator) -> Scoring:
    weights = {m: float(rng.choice([0.5, 1.0, 2.0])) for m in MODALITIES}
    scoring = Scoring(Aggregation(rng.choice(list(Aggregation))), weights)
    return scoring if rng.random() < 0.7 else replace(scoring, power=1.0, centre=False)


def _memory_kib() -> int:
    """Resident now, where the system tells; else the most so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
