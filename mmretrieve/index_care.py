"""What an engine can do for the health of its index, and how what it does is noted in the log."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mmretrieve.errors import CodesError, IndexNotFoundError
from mmretrieve.reports import FileResult, IndexReport, Outcome, Progress
from mmretrieve.storage.codes.catalogue import CODES, digest, read_catalogue
from mmretrieve.storage.folder import FORMAT_VERSION, Manifest, read_manifest
from mmretrieve.storage.journal import Journal
from mmretrieve.storage.lock import holder, left_behind
from mmretrieve.storage.reader import Snapshot

if TYPE_CHECKING:
    from mmretrieve.health.backup import BackupReport
    from mmretrieve.health.findings import HealthReport
    from mmretrieve.health.repair import RepairReport
    from mmretrieve.kernels.base import Kernels


class Care(ABC):
    """Checking, mending and copying the index of an engine."""

    _journal: Journal
    _manifest: Manifest

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where the index lies."""

    @abstractmethod
    def refresh(self) -> None:
        """Forget what is in memory."""

    @abstractmethod
    def _chosen_kernels(self) -> Kernels:
        """What works on tokens."""

    @abstractmethod
    def _measure_chance(self) -> None:
        """Keep the null scores of the newest state."""

    def verify_codes(self) -> tuple[str, ...]:
        """Read all that searching scans and compare it with its checksums: what is wrong, if
        anything. A search copes with it, more slowly; :meth:`rebuild` mends it."""
        from mmretrieve.storage.codes.reading import verify

        return verify(self.folder, self._manifest)

    def rebuild(self) -> tuple[str, ...]:
        """Write what searching scans anew from the tables; what to know about it.

        Raises:
            IndexLockedError: another process is writing.
            CodesError: it cannot be written; what was there stays.
        """
        from mmretrieve.storage.codes.update import rebuild
        from mmretrieve.storage.writer import IndexWriter

        with IndexWriter(self.folder, self._manifest):
            report = rebuild(self.folder, self._manifest, self._chosen_kernels())
        self._measure_chance()
        self._journal.note("codes rebuilt", notes=report.notes, took_s=report.took_s)
        return report.notes

    def verify(self, *, deep: bool = False) -> HealthReport:
        """Check every promise that the index makes on disk; ``deep`` looks at all vectors, codes and
        pictures instead of a sample. Works beside a writer."""
        return verify_folder(self.folder, self._journal, deep=deep)

    def repair(self, *, dry_run: bool = False, drop: bool = False) -> RepairReport:
        """Mend what can be mended; see :func:`mmretrieve.health.repair.repair`.

        Raises:
            IndexLockedError: another process is writing.
        """
        report = repair_folder(
            self.folder, self._chosen_kernels(), self._journal, dry_run=dry_run, drop=drop
        )
        self.refresh()
        return report

    def backup(self, destination: Path, *, link: bool = False) -> BackupReport:
        """A consistent copy in a new folder, verified; see :func:`mmretrieve.health.backup.backup`.

        Raises:
            BackupError: it cannot be made.
        """
        from mmretrieve.health.backup import backup

        report = backup(self.folder, destination, link=link)
        self._journal.note("backup", to=report.path, size_bytes=report.size_bytes)
        return report


def verify_folder(folder: Path, journal: Journal, *, deep: bool = False) -> HealthReport:
    """:meth:`Care.verify` of an index that no engine may be able to open.

    Raises:
        IndexNotFoundError: there is nothing in the folder that an index has.
    """
    from mmretrieve.health.verify import verify

    check_is_index(folder)
    report = verify(folder, deep=deep)
    told = [f"{f.severity.value} {f.where}: {f.what}" for f in report.findings]
    journal.note("verified", clean=report.is_clean, deep=deep, findings=told, took_s=report.took_s)
    return report


def repair_folder(
    folder: Path, kernels: Kernels, journal: Journal, *, dry_run: bool = False, drop: bool = False
) -> RepairReport:
    """:meth:`Care.repair` of an index that no engine may be able to open.

    Raises:
        IndexNotFoundError: there is nothing in the folder that an index has.
        IndexLockedError: another process is writing.
    """
    from mmretrieve.health.repair import repair

    check_is_index(folder)
    report = repair(folder, kernels, dry_run=dry_run, drop=drop)
    if not dry_run:
        done = [f"{a.where}: {a.what} ({a.why})" for a in report.actions]
        journal.note(
            "repaired", clean=report.is_clean, actions=done, index_again=report.index_again,
            give_again=report.give_again, quarantine=report.quarantine,
        )  # fmt: skip
    return report


def check_is_index(folder: Path) -> None:
    """Make sure that there is something to look at, if only pieces of an index.

    Raises:
        IndexNotFoundError: there is not.
    """
    if not any((folder / name).exists() for name in ("manifest.json", "checksums.json", "lance")):
        raise IndexNotFoundError(
            f"{folder} is no index: make one with `mmretrieve index FOLDER`, or name one with --index"
        )


def recover(snapshot: Snapshot, journal: Journal, seal: Callable[[], Sequence[str]]) -> bool:
    """Tidy up after a writer that was killed or failed, and bring the index to this program's format:
    whether there was need. ``seal`` brings the codes up to date.

    Raises:
        IndexWriteError: the disk is full, for one.
    """
    from mmretrieve.storage.writer import IndexWriter

    folder = snapshot.folder
    is_old = read_manifest(folder).format_version < FORMAT_VERSION
    if not is_old and not left_behind(folder) and not _is_behind(snapshot):
        return False
    if holder(folder) is not None:
        return False  # that writer tidies up itself; whoever has to write is told
    with IndexWriter(folder, snapshot.manifest) as writer:
        before = writer.recovered_from
        notes = seal()
    if is_old:
        journal.note("migrated", to=FORMAT_VERSION)
    if before is not None:
        journal.note("recovered", after=before, notes=notes)
    return True


def _is_behind(snapshot: Snapshot) -> bool:
    """Whether codes are of another state than the tables, as after a disk that was full."""
    if not snapshot.videos or not snapshot.has_stable_rows:
        return False
    try:
        sampled = read_catalogue(snapshot.folder / CODES).sampled
    except CodesError:
        return True
    return sampled != digest([video.revision for video in snapshot.videos])


@dataclass(slots=True)
class ObservedRun:
    """A run of indexing with its events noted in the log."""

    journal: Journal
    on_progress: Callable[[Progress], None] | None
    report: IndexReport = field(default_factory=lambda: IndexReport((), 0, 0.0))

    def progress(self, progress: Progress) -> None:
        """Note what became of a file, and pass it on."""
        if progress.result is not None:
            self.journal.note("file", **_about(progress.result))
        if self.on_progress is not None:
            self.on_progress(progress)


@contextmanager
def observed_run(
    journal: Journal, on_progress: Callable[[Progress], None] | None, *, dry_run: bool
) -> Iterator[ObservedRun]:
    """Note the start and the end of a run; ``report`` is to be set inside."""
    run = ObservedRun(Journal(None) if dry_run else journal, on_progress)
    run.journal.note("run started")
    start_s = time.perf_counter()
    try:
        yield run
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"
        run.journal.note("run failed", error=told, took_s=time.perf_counter() - start_s)
        raise
    report = run.report
    run.journal.note(
        "run finished",
        counts={o.value: n for o in Outcome if (n := report.count(o))},
        n_pruned=report.n_pruned,
        interrupted=report.interrupted,
        warnings=report.warnings,
        took_s=time.perf_counter() - start_s,
    )


def _about(result: FileResult) -> dict[str, object]:
    return {
        "path": result.path,
        "outcome": result.outcome.value,
        "error": result.error,
        "duration_s": result.duration_s,
        "took_s": result.took_s,
        "stage_s": {stage.value: seconds for stage, seconds in result.stage_s.items()},
        "n_tokens": {m.value: n for m, n in result.n_tokens.items()},
        "warnings": result.warnings,
    }
