"""One run of indexing: what is new, work on it in parallel, commit in batches."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mmretrieve.config import Settings
from mmretrieve.encoders.base import Encoder
from mmretrieve.errors import InputError
from mmretrieve.fingerprint import fingerprint
from mmretrieve.indexers.discover import FoundFile, discover
from mmretrieve.indexers.sidecars import find_sidecars, signature
from mmretrieve.ingest import Ingestor
from mmretrieve.reports import FileResult, IndexReport, Outcome, Progress, Stage
from mmretrieve.storage.folder import Manifest
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import FileRecord, VideoEntry
from mmretrieve.storage.writer import IndexWriter

BATCH_FILES = 16
BATCH_S = 15.0
"""A batch is committed when it has so many files, or when its oldest result is so old."""
TELL_EVERY_S = 1.0
_NO_SIDECARS = signature(())


@dataclass(frozen=True, slots=True)
class Options:
    """How a run treats what it finds; see :meth:`mmretrieve.engine.Engine.index`."""

    exclude: tuple[str, ...] = ()
    prune: bool = False
    retry_failed: bool = False
    force: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class _Todo:
    """A file to work on, the state in which it was found, and what the index knew about it."""

    found: FoundFile
    state: FileRecord
    before: FileRecord | None = None


@dataclass(frozen=True, slots=True)
class _Done:
    result: FileResult
    state: FileRecord
    entry: VideoEntry | None = None


@dataclass(slots=True)
class _Batch:
    done: list[_Done] = field(default_factory=list)
    since: float = 0.0

    def is_due(self) -> bool:
        return len(self.done) >= BATCH_FILES or (
            bool(self.done) and time.monotonic() - self.since > BATCH_S
        )


class IndexRun:
    """One call of ``index``. Reads the index once, then writes to it alone."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        settings: Settings,
        encoder: Encoder,
        options: Options,
        seal: Callable[[], Sequence[str]],
    ) -> None:
        """``seal`` brings what is derived from the tables up to date and says what went wrong."""
        self._folder = folder
        self._manifest = manifest
        self._settings = settings
        self._encoder = encoder
        self._options = options
        self._seal = seal
        self._results: list[FileResult] = []
        self._warnings: list[str] = []
        self._n_pruned = 0
        self._stopping = threading.Event()
        self._turns: dict[int, threading.Lock] = {}
        self._claims: dict[str, threading.Lock] = {}

    def run(
        self, paths: Sequence[Path], on_progress: Callable[[Progress], None] | None
    ) -> IndexReport:
        """See :meth:`mmretrieve.engine.Engine.index`."""
        start = time.perf_counter()
        # Not resolve(): a library is shown under the links by which its user knows it.
        roots = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100
        found = list(discover(roots, self._options.exclude, self._warnings.append))
        snapshot = Snapshot(self._folder, self._manifest)
        known = {file.path: file for file in snapshot.files}
        todo = [t for f in found if (t := self._todo(f, known)) is not None]
        # A copy with nothing beside it is served by one that has subtitles, so those come first.
        todo.sort(key=lambda t: t.state.sidecars == _NO_SIDECARS)
        gone = self._gone(roots, found, known) if self._options.prune else []
        interrupted = False
        if self._options.dry_run:
            self._results += [_result(t, Outcome.INDEXED) for t in todo]
            self._n_pruned = len({f.video_id for f in gone} - {None})
        elif todo or gone or snapshot.unmarked_revisions() or snapshot.orphans():
            tell = _Teller(on_progress, len(todo))
            interrupted = self._write(todo, gone, tell)
        return IndexReport(
            tuple(self._results), self._n_pruned, time.perf_counter() - start, interrupted,
            tuple(self._warnings),
        )  # fmt: skip

    def _todo(self, found: FoundFile, known: dict[str, FileRecord]) -> _Todo | None:
        """The file with its state if there is something to do; else a result is noted."""
        path = str(found.path)
        if not _is_unicode(path):
            path = os.fsencode(path).decode("utf-8", "replace")
            told = "the name is not valid UTF-8: rename the file"
            self._results.append(FileResult(path, Outcome.FAILED, error=f"{path}: {told}"))
            return None
        beside = find_sidecars(found.path, self._settings.speech.language).paths
        state = FileRecord(
            path, found.size_bytes, found.mtime_ns, signature(beside), self._settings.content_key
        )
        before = known.get(path)
        todo = _Todo(found, state, before)
        if before is None or self._options.force or not _same_state(before, state):
            return todo
        if before.error is None:
            self._results.append(_result(todo, Outcome.UNCHANGED))
            return None
        if self._options.retry_failed:
            return todo
        self._results.append(_result(todo, Outcome.SKIPPED, before.error))
        return None

    def _gone(
        self, roots: Sequence[Path], found: Sequence[FoundFile], known: dict[str, FileRecord]
    ) -> list[FileRecord]:
        """Files of the index that lay below ``roots`` and are no longer there."""
        present = {str(f.path) for f in found}
        return [
            file
            for path, file in known.items()
            if path not in present
            and any(Path(path).is_relative_to(root) for root in roots)
            and not Path(path).exists()
        ]

    def _write(self, todo: Sequence[_Todo], gone: Sequence[FileRecord], tell: _Teller) -> bool:
        with IndexWriter(self._folder, self._manifest) as writer:
            # Taken under the lock: another writer may have ended since the first look.
            snapshot = Snapshot(self._folder, self._manifest)
            writer.sweep(snapshot.unmarked_revisions())
            batch, interrupted = _Batch(), False
            tell.of(None)
            finished = self._work(todo, snapshot, tell)
            try:
                for done in finished:
                    if not batch.done:
                        batch.since = time.monotonic()
                    batch.done.append(done)
                    if batch.is_due():
                        self._commit(writer, batch, snapshot)
                    self._results.append(done.result)
                    tell.of(done.result)
            except KeyboardInterrupt:
                interrupted = True
            finally:
                with suppress(KeyboardInterrupt):
                    finished.close()
                self._commit(writer, batch, snapshot)
            if not interrupted:
                self._tidy(writer, gone)
                writer.optimize()
                self._warnings += self._seal()
        return interrupted

    def _work(self, todo: Sequence[_Todo], snapshot: Snapshot, tell: _Teller) -> Generator[_Done]:
        """Results in the order in which they are ready, with at most ``jobs`` + 1 files under way
        so that what waits to be committed stays small."""
        ingestor = Ingestor(self._settings, self._encoder)
        ingestor.warm_up(len(todo))
        pool = ThreadPoolExecutor(self._settings.jobs, thread_name_prefix="video")
        indexed = {
            v.video_id for v in snapshot.videos if v.settings_key == self._settings.content_key
        }
        states: dict[str, list[FileRecord]] = {}
        for file in () if self._options.force else snapshot.files:
            if file.video_id is not None and file.error is None:
                states.setdefault(file.video_id, []).append(file)
        pending: set[Future[_Done]] = set()
        waiting = iter(todo)
        try:
            while True:
                while len(pending) <= self._settings.jobs and (item := next(waiting, None)):
                    pending.add(pool.submit(self._one, item, ingestor, indexed, states, tell))
                if not pending:
                    return
                ready, pending = wait(pending, TELL_EVERY_S, return_when=FIRST_COMPLETED)
                if not ready:
                    tell.of(None)
                for future in ready:
                    yield future.result()
        finally:
            self._stopping.set()
            for future in pending:
                future.cancel()
            ingestor.close()  # first, so that nobody waits for what is under way
            pool.shutdown(wait=True, cancel_futures=True)

    def _one(
        self,
        item: _Todo,
        ingestor: Ingestor,
        indexed: set[str],
        states: dict[str, list[FileRecord]],
        tell: _Teller,
    ) -> _Done:
        start = time.perf_counter()
        try:
            with self._claimed(item.found) as video_id:
                hashed_s = time.perf_counter() - start
                state = _with(item.state, video_id=video_id)
                twins = [f for f in states.get(video_id, ()) if self._serves(f, state)]
                if twins and video_id in indexed:
                    return _Done(_result(item, _kinship(twins, state)), state)
                made = ingestor.ingest(item.found.path, video_id, tell.reached(item.state.path))
                indexed.add(video_id)
                states.setdefault(video_id, []).append(state)
        except InputError as error:
            took_s = time.perf_counter() - start
            # What was there before stays until the file is mended or gone.
            kept = item.before.video_id if item.before is not None else None
            failed = _with(item.state, video_id=kept, error=str(error))
            return _Done(_result(item, Outcome.FAILED, str(error), took_s), failed)
        video = made.entry.video
        result = FileResult(
            path=item.state.path,
            outcome=Outcome.INDEXED,
            duration_s=video.duration_s,
            took_s=time.perf_counter() - start,
            warnings=video.warnings,
            n_tokens=video.n_tokens,
            stage_s={Stage.FINGERPRINT: hashed_s, **made.stage_s},
        )
        return _Done(result, state, made.entry)

    @contextmanager
    def _claimed(self, found: FoundFile) -> Iterator[str]:
        """The file's fingerprint, and the claim to it until the end: of files with the same bytes
        the others wait for the one whose turn came first."""
        with self._turns.setdefault(found.size_bytes, threading.Lock()):
            video_id = fingerprint(found.path, lambda: not self._stopping.is_set())
            claim = self._claims.setdefault(video_id, threading.Lock())
            claim.acquire()
        try:
            yield video_id
        finally:
            claim.release()

    def _serves(self, other: FileRecord, state: FileRecord) -> bool:
        """Whether what was indexed from ``other``, which has the same bytes, holds for ``state``. A
        copy with nothing beside it adds nothing to a file that has subtitles."""
        bare = state.sidecars == _NO_SIDECARS and state.path != other.path
        beside = other.sidecars == state.sidecars or (bare and Path(other.path).exists())
        return beside and other.settings_key == state.settings_key

    def _commit(self, writer: IndexWriter, batch: _Batch, snapshot: Snapshot) -> None:
        if batch.done:
            entries = {d.entry.video.video_id: d.entry for d in batch.done if d.entry is not None}
            moved = [d.state for d in batch.done if d.result.outcome is Outcome.MOVED]
            ids = {state.video_id for state in moved}
            gone = [
                f.path for f in snapshot.files if f.video_id in ids and not Path(f.path).exists()
            ]
            writer.commit(list(entries.values()), [d.state for d in batch.done])
            writer.forget_files(gone)
            batch.done.clear()

    def _tidy(self, writer: IndexWriter, gone: Sequence[FileRecord]) -> None:
        """Let go of files that are gone, and of videos that no file has any more. Comes last: only
        then is it known what was moved."""
        writer.forget_files({f.path for f in gone})
        orphans = Snapshot(self._folder, self._manifest).orphans()
        writer.remove_videos(orphans)
        self._n_pruned = len(orphans & {f.video_id for f in gone})


class _Teller:
    """Counts what is done and under way, and tells about it from the thread that runs the run."""

    def __init__(self, on_progress: Callable[[Progress], None] | None, n_total: int) -> None:
        self._on_progress = on_progress
        self._n_total = n_total
        self._n_done = 0
        self._done_s = 0.0
        self._busy: dict[str, float] = {}
        self._start = time.perf_counter()

    def reached(self, path: str) -> Callable[[float], None]:
        """A function that notes the second which the work on a file has reached."""
        self._busy[path] = 0.0
        return lambda second: self._busy.__setitem__(path, second)

    def of(self, result: FileResult | None) -> None:
        """Tell that a file is done, or just where things are."""
        if result is not None:
            self._n_done += 1
            self._done_s += result.duration_s
            self._busy.pop(result.path, None)
        if self._on_progress is None:
            return
        elapsed, busy = time.perf_counter() - self._start, dict(self._busy)
        left = self._n_total - self._n_done
        self._on_progress(
            Progress(
                n_done=self._n_done,
                n_total=self._n_total,
                done_s=self._done_s + sum(busy.values()),
                elapsed_s=elapsed,
                eta_s=elapsed / self._n_done * left if self._n_done else None,
                result=result,
                busy=tuple(busy),
            )
        )


def _kinship(twins: Sequence[FileRecord], state: FileRecord) -> Outcome:
    """What a file is that has the same bytes as files of the index."""
    if any(twin.path == state.path for twin in twins):
        return Outcome.UNCHANGED
    exists = any(Path(twin.path).exists() for twin in twins)
    return Outcome.DUPLICATE if exists else Outcome.MOVED


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _same_state(before: FileRecord, now: FileRecord) -> bool:
    return (before.size_bytes, before.mtime_ns, before.sidecars, before.settings_key) == (
        now.size_bytes, now.mtime_ns, now.sidecars, now.settings_key,
    )  # fmt: skip


def _with(state: FileRecord, video_id: str | None = None, error: str | None = None) -> FileRecord:
    return FileRecord(
        state.path, state.size_bytes, state.mtime_ns, state.sidecars, state.settings_key,
        video_id, error,
    )  # fmt: skip


def _result(
    item: _Todo, outcome: Outcome, error: str | None = None, took_s: float = 0.0
) -> FileResult:
    return FileResult(item.state.path, outcome, error=error, took_s=took_s)
