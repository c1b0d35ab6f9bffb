"""Mending an index: what can be rebuilt is rebuilt, what cannot is kept and told about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmretrieve.errors import IndexFormatError
from mmretrieve.health.files import FileState
from mmretrieve.health.findings import Finding, Part, Severity
from mmretrieve.health.salvage import Salvage, drop_damaged, is_rebuildable, revive
from mmretrieve.health.verify import Inspection, inspect
from mmretrieve.storage.codes.update import rebuild
from mmretrieve.storage.folder import acquire_lock, read_manifest, replace_manifest
from mmretrieve.storage.ledger import LEDGER, Ledger, read_ledger, version_of, write_ledger
from mmretrieve.storage.quarantine import PENDING, Quarantine
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import FileRecord, VideoEntry, VideoRecord
from mmretrieve.storage.schema import TABLES
from mmretrieve.storage.writer import IndexWriter, named_errors

if TYPE_CHECKING:
    from mmretrieve.kernels.base import Kernels


@dataclass(frozen=True, slots=True)
class Action:
    """What was done (or would be) to what, and why."""

    what: str
    where: str
    why: str


@dataclass(frozen=True, slots=True)
class RepairReport:
    """``index_again``: files to be indexed by the next run; ``give_again``: documents, and videos whose
    files are gone, of which something was lost for good, or kept from a damaged file; ``left``: errors
    and warnings that stay; ``quarantine``: where damaged files were kept."""

    path: str
    dry_run: bool
    actions: tuple[Action, ...] = ()
    index_again: tuple[str, ...] = ()
    give_again: tuple[str, ...] = ()
    left: tuple[Finding, ...] = ()
    quarantine: str | None = None

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left to mend."""
        return not self.left


@dataclass(slots=True)
class _Repair:
    folder: Path
    kernels: Kernels
    dry_run: bool
    drop: bool
    quarantine: Quarantine
    actions: list[Action] = field(default_factory=list)
    salvage: Salvage = field(default_factory=Salvage)

    def do(self, what: str, where: str, why: str, act: Callable[[], object]) -> None:
        """Note an action, and carry it out unless this is only to tell."""
        self.actions.append(Action(what, where, why))
        if not self.dry_run:
            act()


def repair(
    folder: Path, kernels: Kernels, *, dry_run: bool = False, drop: bool = False
) -> RepairReport:
    """Mend the index in ``folder``. Damaged files go to its ``quarantine``. Videos of which
    something is lost are taken out if their files are there, so that the next run indexes them
    again; others are kept as far as they can be read, unless ``drop`` is given.

    Raises:
        IndexLockedError: another process is writing.
        IndexFormatError: there is no manifest, and no copy of it.
        IndexWriteError: the disk is full or fails; the next repair goes on.
    """
    work = _Repair(folder, kernels, dry_run, drop, Quarantine(folder))
    work.salvage = Salvage.pending(folder)
    found = inspect(folder, deep=True)
    lock = None if dry_run else acquire_lock(folder)
    try:
        with named_errors(folder):
            _manifest(work, found)
            _tables(work, found)
            _ledger(work, found)
    finally:
        if lock is not None:
            lock.release(clean=False)  # so that the writer below recovers, or the next one
    if dry_run:
        return _told(work, found, found.findings)
    with IndexWriter(folder, read_manifest(folder), recover=False) as writer:
        _put_back(work, writer)
        writer.recover()
        _rows(work, writer)
        _codes(work, found)
        (folder / PENDING).unlink(missing_ok=True)
    after = inspect(folder, deep=True)
    return _told(work, after, after.findings)


def _told(work: _Repair, found: Inspection, findings: list[Finding]) -> RepairReport:
    if work.dry_run:
        _plan(work, found)
    left = tuple(f for f in findings if f.severity is not Severity.NOTE)
    return RepairReport(
        str(work.folder), work.dry_run, tuple(work.actions),
        tuple(sorted(work.salvage.index_again)), tuple(sorted(work.salvage.give_again)),
        () if work.dry_run else left,
        str(work.quarantine.place) if work.quarantine.is_used else None,
    )  # fmt: skip


def _manifest(work: _Repair, found: Inspection) -> None:
    if found.manifest is not None:
        return
    text = found.ledger.manifest
    if not text:
        raise IndexFormatError(
            f"the manifest of {work.folder} cannot be read and there is no copy of it: restore "
            "manifest.json from a backup, or index again into a new folder"
        )

    def restore() -> None:
        work.quarantine.take(work.folder / "manifest.json")
        (work.folder / "manifest.json").write_text(text, encoding="utf-8")
        replace_manifest(work.folder, read_manifest(work.folder))

    work.do("restored from its copy", "manifest.json", "it cannot be read", restore)


def _tables(work: _Repair, found: Inspection) -> None:
    """Make every table one that can be opened and read, with what is left of it."""
    for table in TABLES:
        damaged = found.files.damage_of(table)
        for path, why in sorted(damaged.items()):
            full = f"{table}.lance/{path}"
            if full not in found.tables.needed:
                what = "moved to quarantine"
                work.do(what, f"lance/{full}", why, _mover(work, full))
        _rolled_back(work, found.files, found.ledger, table)
    if work.dry_run:
        return
    again = inspect(work.folder)
    if again.manifest is None:
        return
    sums = replace(
        again.files,
        damaged={**again.files.damaged, **found.files.damaged, **again.tables.unreadable},
    )
    for action in drop_damaged(work.folder, again, sums, work.quarantine, work.salvage):
        work.actions.append(Action(*action))


def _mover(work: _Repair, path: str) -> Callable[[], object]:
    return lambda: work.quarantine.take(work.folder / "lance" / path)


def _rolled_back(work: _Repair, files: FileState, ledger: Ledger, table: str) -> None:
    """Tell about a table whose newest versions are lost: what they held is found missing below."""
    lost = [
        path
        for path in files.missing
        if path.startswith(f"{table}.lance/")
        and (version_of(path.partition(".lance/")[2]) or 0) > files.versions.get(table, 0)
    ]
    if lost or (table in ledger.versions and table not in files.versions):
        why = f"{len(lost)} files of newer versions are gone"
        version = files.versions.get(table, 0)
        work.do(f"went back to version {version}", f"table {table}", why,
                lambda: work.salvage.keep(work.folder, work.quarantine, table, None))  # fmt: skip
        if not version:
            path = work.folder / "lance" / f"{table}.lance"
            if path.exists() and not work.dry_run:
                work.quarantine.take(path)


def _ledger(work: _Repair, found: Inspection) -> None:
    """Start the ledger anew where it does not fit; the writer that follows fills it."""
    broken = any(f.part is Part.LEDGER and f.severity is Severity.ERROR for f in found.findings)
    if broken or found.files.damaged or found.files.missing:
        why = "it cannot be read" if broken else "it names files that were taken out"

        def renew() -> None:
            if broken:
                work.quarantine.take(work.folder / LEDGER)
                return
            ledger = read_ledger(work.folder) or Ledger()
            bad = found.files.damaged.keys() | found.files.missing
            kept = {path: entry for path, entry in ledger.files.items() if path not in bad}
            write_ledger(work.folder, replace(ledger, files=kept, versions={}))

        work.do("brought up to date", LEDGER, why, renew)


def _put_back(work: _Repair, writer: IndexWriter) -> None:
    """Write again what was read of damaged pieces, and rows of videos that were lost."""
    work.salvage.restore(work.folder, writer)
    if "videos" in work.salvage.lost:
        for video in revive(work.folder, inspect(work.folder)):
            what = "its row was made again from its passages"
            work.do(what, f"video {video.video_id}", "its row was lost", _committer(writer, video))
    snapshot = Snapshot(work.folder, read_manifest(work.folder))
    there = {video.video_id for video in snapshot.videos}
    work.salvage.give_again |= {
        v.path for v in snapshot.videos if v.video_id in work.salvage.doubtful
    }
    for file in snapshot.files:
        if file.error is None and file.video_id not in there:
            again = Path(file.path).is_file()
            (work.salvage.index_again if again else work.salvage.give_again).add(file.path)


def _committer(writer: IndexWriter, video: VideoRecord) -> Callable[[], object]:
    note = FileRecord(video.path, 0, 0, "", "", video.video_id)
    return lambda: writer.commit([VideoEntry(video, (), ())], [note])


def _rows(work: _Repair, writer: IndexWriter) -> None:
    """Take out what is incomplete and can be indexed again; make notes for videos without any."""
    found = inspect(work.folder, deep=True)
    snapshot = Snapshot(work.folder, read_manifest(work.folder))
    _deduplicate(work, writer, snapshot)
    suspect = {found.rows.videos.get(r) for r in found.rows.suspect}
    suspect |= work.salvage.without_pictures(snapshot, found)
    held = {revision for revision, _ in found.rows.found}  # others are of a state of the past
    for video in snapshot.videos:
        if video.video_id not in suspect:
            continue
        paths = [f.path for f in snapshot.files if f.video_id == video.video_id]
        if is_rebuildable(video, paths):
            work.salvage.index_again |= {p for p in (*paths, video.path) if Path(p).exists()}
        elif paths or video.revision in held:
            work.salvage.give_again.add(video.path)
            if not work.drop:
                continue
        why = "something of it is lost or wrong"
        work.do("taken out", f"video {video.video_id}", why, _remover(writer, video))
    _note_homeless(work, writer)


def _remover(writer: IndexWriter, video: VideoRecord) -> Callable[[], object]:
    return lambda: writer.remove_videos([video.video_id])


def _deduplicate(work: _Repair, writer: IndexWriter, snapshot: Snapshot) -> None:
    by_path: dict[str, list[FileRecord]] = {}
    for file in snapshot.files:
        by_path.setdefault(file.path, []).append(file)
    twice = {path: found[-1] for path, found in by_path.items() if len(found) > 1}
    if twice:

        def once() -> None:
            writer.forget_files(twice.keys())
            writer.commit([], list(twice.values()))

        work.do("noted once", f"{len(twice)} files", "they were noted several times", once)


def _note_homeless(work: _Repair, writer: IndexWriter) -> None:
    """Videos without any note would be dropped by the next run: notes were lost, or not written yet."""
    snapshot = Snapshot(work.folder, read_manifest(work.folder))
    orphans = snapshot.orphans()
    notes = [
        FileRecord(v.path, 0, 0, "", v.settings_key, v.video_id)
        for v in snapshot.videos
        if v.video_id in orphans
    ]
    if notes:
        work.do("noted again from the videos", f"{len(notes)} files", "their notes were lost",
                lambda: writer.commit([], notes))  # fmt: skip


def _codes(work: _Repair, found: Inspection) -> None:
    broken = [f for f in found.findings if f.part is Part.CODES and f.severity is not Severity.NOTE]
    why = broken[0].what if broken else "the tables changed"
    if broken or work.salvage.lost or any(a.what == "taken out" for a in work.actions):
        manifest = read_manifest(work.folder)
        catalogue = work.folder / "codes" / "catalogue.json"
        if any("catalogue" in f.what for f in broken):
            catalogue.unlink(missing_ok=True)
        work.do("rebuilt from the tables", "codes", why,
                lambda: rebuild(work.folder, manifest, work.kernels))  # fmt: skip
    if any(f.part is Part.CHANCE and f.severity is not Severity.NOTE for f in found.findings):
        path = work.folder / "nulls.json"
        work.do("removed: searches measure it anew", path.name, "it cannot be read",
                lambda: path.unlink(missing_ok=True))  # fmt: skip


def _plan(work: _Repair, found: Inspection) -> None:
    """What a repair would do about the rest, as far as this look tells."""
    for finding in found.findings:
        if finding.part in (Part.ROWS, Part.VECTORS, Part.THUMBNAILS):
            work.actions.append(
                Action("would be taken out or tidied up", finding.where, finding.what)
            )
        elif finding.part in (Part.CODES, Part.CHANCE) and finding.severity is not Severity.NOTE:
            work.actions.append(Action("would be rebuilt", finding.where, finding.what))
        elif finding.part in (Part.FILES, Part.TABLES) and finding.severity is Severity.ERROR:
            work.actions.append(
                Action("would be dropped with what it holds", finding.where, finding.what)
            )
