"""One run of indexing: what is new or changed, work on it in parallel, commit in batches."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from mmretrieve.checkpoints import Checkpoints
from mmretrieve.config import Settings
from mmretrieve.encoders.base import Encoder, heard_s
from mmretrieve.errors import InputError
from mmretrieve.fingerprint import fingerprint
from mmretrieve.indexers.discover import discover
from mmretrieve.ingest import Ingested, Ingestor
from mmretrieve.lifecycle.dry import kinship, predicted, where
from mmretrieve.lifecycle.earlier import EarlierIndex
from mmretrieve.lifecycle.keys import stage_keys
from mmretrieve.lifecycle.planning import Look, Looked, Refresh, look, settle
from mmretrieve.lifecycle.pool import pooled
from mmretrieve.lifecycle.pruning import gone_files, is_gone
from mmretrieve.lifecycle.reuse import Kept, read_kept
from mmretrieve.lifecycle.states import (
    NO_SIDECARS,
    as_text,
    file_state,
    is_as_recorded,
    is_unicode,
    video_states,
)
from mmretrieve.lifecycle.telling import Teller
from mmretrieve.lifecycle.turns import Turns
from mmretrieve.reports import FileResult, IndexReport, Outcome, Progress, Stage
from mmretrieve.storage.folder import Manifest
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import FileRecord, VideoEntry
from mmretrieve.storage.writer import IndexWriter

BATCH_FILES = 16
BATCH_S = 15.0
"""A batch is committed when it has so many files, or when its oldest result is so old."""
_READ_BEFORE = 16
"""Videos of which what is kept is read at once."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a run treats what it finds; see :meth:`mmretrieve.engine.Engine.index`."""

    exclude: tuple[str, ...] = ()
    prune: bool = False
    retry_failed: bool = False
    force: bool = False
    dry_run: bool = False
    hold: Callable[[Path], bool] | None = None
    earlier: EarlierIndex | None = None


@dataclass(frozen=True, slots=True)
class _Done:
    result: FileResult
    state: FileRecord
    entry: VideoEntry | None = None


_Task = Callable[[], _Done]


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
        checkpoints: Checkpoints,
    ) -> None:
        """``seal`` brings what is derived from the tables up to date and says what went wrong;
        ``checkpoints`` do so in the course of the run."""
        self._folder = folder
        self._manifest = manifest
        self._settings = settings
        self._encoder = encoder
        self._keys = stage_keys(settings, encoder.fingerprints(), heard_s(encoder))
        self._options = options
        self._seal = seal
        self._checkpoints = checkpoints
        self._results: dict[str, FileResult] = {}
        self._warnings: list[str] = []
        self._n_pruned = 0
        self._turns = Turns()

    def run(
        self, paths: Sequence[Path], on_progress: Callable[[Progress], None] | None
    ) -> IndexReport:
        """See :meth:`mmretrieve.engine.Engine.index`."""
        start = time.perf_counter()
        # Not resolve(): a library is shown under the links by which its user knows it.
        roots = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100
        snapshot = Snapshot(self._folder, self._manifest)
        looked = self._look(roots, snapshot)
        present = [item.state.path for item in looked]
        gone = gone_files(roots, present, snapshot.files) if self._options.prune else []
        todo = [item for item in looked if item.look is Look.OPEN]
        # A copy with nothing beside it is served by one that has subtitles, so those come first.
        todo.sort(key=lambda item: item.state.sidecars == NO_SIDECARS)
        interrupted = False
        if self._options.dry_run:
            self._predict(looked, snapshot)
            self._n_pruned = len({f.video_id for f in gone} - {None})
        else:
            refreshes = self._stale(snapshot, looked)
            leftovers = snapshot.unmarked_revisions() or snapshot.orphans()
            if todo or gone or refreshes or leftovers or any(_is_note(i) for i in looked):
                tell = Teller(on_progress, len(todo) + len(refreshes))
                interrupted = self._write(looked, todo, gone, tell, len(refreshes))
        results, took_s = tuple(self._results.values()), time.perf_counter() - start
        return IndexReport(results, self._n_pruned, took_s, interrupted, tuple(self._warnings))

    def _look(self, roots: Sequence[Path], snapshot: Snapshot) -> list[Looked]:
        """All files below the roots; results of those that nothing is to be done with are noted."""
        known = {file.path: file for file in snapshot.files}
        options, out = self._options, []
        for found in list(discover(roots, options.exclude, self._warnings.append)):
            if not is_unicode(found.path):
                path = as_text(found.path)
                told = f"{path}: the name is not valid UTF-8: rename the file"
                self._results[path] = FileResult(path, Outcome.FAILED, error=told)
                continue
            state = file_state(found, self._settings)
            before = known.get(state.path)
            item = look(
                state, before, force=options.force, retry_failed=options.retry_failed
            )  # fmt: skip
            if item.look is Look.OPEN and options.hold is not None and options.hold(found.path):
                # As if it were not there yet; what the index has of it stays.
                continue
            if item.look is Look.KNOWN and before is not None:
                item = replace(item, state=replace(state, video_id=before.video_id))
                self._results[state.path] = FileResult(state.path, Outcome.UNCHANGED)
            elif item.look is Look.SKIP and before is not None:
                self._results[state.path] = FileResult(
                    state.path, Outcome.SKIPPED, error=before.error, reason=item.reason
                )
            out.append(item)
        return out

    def _stale(self, snapshot: Snapshot, looked: Sequence[Looked]) -> list[Refresh]:
        """Stored videos of which something is to be done again; those that are opened anew are not
        looked at before they are."""
        states = {f.path: f for f in snapshot.files}
        states |= {i.state.path: i.state for i in looked if i.look is not Look.SKIP}
        scope = {i.state.path for i in looked if i.look is not Look.SKIP}
        return settle(
            video_states(snapshot), states.values(), scope, self._keys,
            self._settings.content_key, is_as_recorded, NO_SIDECARS,
        )  # fmt: skip

    def _predict(self, looked: Sequence[Looked], snapshot: Snapshot) -> None:
        known = {file.path: file for file in snapshot.files}
        opened = predicted(looked, known, force=self._options.force)
        self._results |= {result.path: result for _, result in opened}
        still = [item for item in looked if item.look is not Look.OPEN]
        for refresh in self._stale(snapshot, [*still, *(item for item, _ in opened)]):
            self._note(_result(refresh.file.path, Outcome.INDEXED, refresh.reason))

    def _write(
        self,
        looked: Sequence[Looked],
        todo: Sequence[Looked],
        gone: Sequence[FileRecord],
        tell: Teller,
        n_expected: int,
    ) -> bool:
        with (
            closing(Ingestor(self._settings, self._encoder)) as ingestor,
            self._writer(ingestor, len(todo) + n_expected) as writer,
        ):
            # Taken under the lock: another writer may have ended since the first look.
            snapshot = Snapshot(self._folder, self._manifest)
            writer.sweep(snapshot.unmarked_revisions())
            tell.of(None)
            opened: dict[str, FileRecord] = {}
            work = self._openings(todo, snapshot, ingestor, tell, opened)
            interrupted = self._drain(writer, work, snapshot, tell, ingestor)
            if not interrupted:
                now = [replace(i, state=opened.get(i.state.path, i.state)) for i in looked]
                stale = self._stale(Snapshot(self._folder, self._manifest), now)
                tell.expect(len(stale) - n_expected)
                work = self._refreshes(stale, ingestor, tell)
                interrupted = self._drain(writer, work, snapshot, tell, ingestor)
            ingestor.close()  # its workers are not needed any more, and their memory is
            if not interrupted:
                writer.commit([], [item.state for item in looked if _is_note(item)])
                self._tidy(writer, gone)
                self._warnings += writer.tend()
                self._warnings += self._seal()
        return interrupted

    def _writer(self, ingestor: Ingestor, n_files: int) -> IndexWriter:
        """The writer, which takes long to import; what reads videos gets ready meanwhile."""
        ingestor.warm_up(n_files)
        return IndexWriter(self._folder, self._manifest)

    def _drain(
        self,
        writer: IndexWriter,
        tasks: Iterator[_Task],
        snapshot: Snapshot,
        tell: Teller,
        ingestor: Ingestor,
    ) -> bool:
        """Work through tasks and commit what comes of them; whether that was interrupted."""
        batch, interrupted = _Batch(), False
        finished = pooled(tasks, self._settings.jobs, lambda: tell.of(None), ingestor.close)
        try:
            for done in finished:
                if not batch.done:
                    batch.since = time.monotonic()
                batch.done.append(done)
                if batch.is_due():
                    n_tokens = self._commit(writer, batch, snapshot)
                    self._warnings += self._checkpoints.committed(n_tokens)
                tell.of(self._note(done.result))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            with suppress(KeyboardInterrupt):
                finished.close()
            self._commit(writer, batch, snapshot)
        return interrupted

    def _note(self, result: FileResult) -> FileResult:
        """Keep the result of a file; one that was moved, or is a copy, stays that when more is done."""
        before = self._results.get(result.path)
        same = before is not None and before.outcome in (Outcome.MOVED, Outcome.DUPLICATE)
        if before is not None and same and result.outcome is Outcome.INDEXED:
            result = replace(result, outcome=before.outcome)
        self._results[result.path] = result
        return result

    def _openings(
        self,
        todo: Sequence[Looked],
        snapshot: Snapshot,
        ingestor: Ingestor,
        tell: Teller,
        opened: dict[str, FileRecord],
    ) -> Iterator[_Task]:
        indexed = set() if self._options.force else {v.video_id for v in snapshot.videos}
        places = {} if self._options.force else where(snapshot.files, snapshot.videos)

        def open_one(item: Looked) -> _Done:
            done = self._open(item, ingestor, indexed, places, tell)
            opened[item.state.path] = done.state
            return done

        return (partial(open_one, item) for item in todo)

    def _open(
        self,
        item: Looked,
        ingestor: Ingestor,
        indexed: set[str],
        places: dict[str, list[str]],
        tell: Teller,
    ) -> _Done:
        """Find out what a file is; read and embed it if the index has nothing with its bytes."""
        start, path = time.perf_counter(), item.state.path
        try:
            with self._claimed(Path(path), item.state.size_bytes, ingestor) as video_id:
                hashed_s = time.perf_counter() - start
                state = replace(item.state, video_id=video_id)
                if video_id in indexed:
                    twins = places.setdefault(video_id, [])
                    same = _result(path, kinship(path, twins), f"same content as {min(twins)}")
                    twins.append(path)
                    return _Done(same, state)
                earlier = self._options.earlier
                kept = earlier.of(video_id) if earlier is not None else None
                made = ingestor.ingest(
                    Path(path), video_id, tell.reached(path), sidecars=state.sidecars, kept=kept
                )
                indexed.add(video_id)
                places.setdefault(video_id, []).append(path)
        except InputError as error:
            return _failed(item, error, time.perf_counter() - start)
        reason = item.reason if kept is None else f"{item.reason}; read before, for another index"
        result = _indexed(path, made, reason, time.perf_counter() - start)
        stages = {Stage.FINGERPRINT: hashed_s, **result.stage_s}
        return _Done(replace(result, stage_s=stages), state, made.entry)

    def _refreshes(
        self, stale: Sequence[Refresh], ingestor: Ingestor, tell: Teller
    ) -> Iterator[_Task]:
        for at in range(0, len(stale), _READ_BEFORE):
            chunk = stale[at : at + _READ_BEFORE]
            wanted = {item.video_id for item in chunk}
            # Read again for every chunk: compaction moves what was there.
            videos = Snapshot(self._folder, self._manifest).videos
            kept = read_kept(self._folder, [v for v in videos if v.video_id in wanted])
            for item in chunk:
                yield partial(self._refresh, item, kept.get(item.video_id), ingestor, tell)

    def _refresh(self, item: Refresh, kept: Kept | None, ingestor: Ingestor, tell: Teller) -> _Done:
        """Do again of one video what changed."""
        start, path = time.perf_counter(), item.file.path
        try:
            made = ingestor.ingest(
                Path(path),
                item.video_id,
                tell.reached(path),
                sidecars=item.file.sidecars,
                kept=kept,
            )
        except InputError as error:
            looked = Looked(item.file, item.file, Look.KNOWN)
            return _failed(looked, error, time.perf_counter() - start)
        result = _indexed(path, made, item.reason, time.perf_counter() - start)
        return _Done(result, item.file, made.entry)

    @contextmanager
    def _claimed(self, path: Path, size_bytes: int, ingestor: Ingestor) -> Iterator[str]:
        """The file's fingerprint, and the claim to it until the end: of files with the same bytes
        the others wait for the one whose turn came first."""
        with ExitStack() as claim:
            with self._turns.of(size_bytes):
                video_id = fingerprint(path, ingestor.goes_on)
                claim.enter_context(self._turns.of(video_id))
            yield video_id

    def _commit(self, writer: IndexWriter, batch: _Batch, snapshot: Snapshot) -> int:
        """How many tokens are new."""
        n_tokens = 0
        if batch.done:
            entries = {d.entry.video.video_id: d.entry for d in batch.done if d.entry is not None}
            moved = {d.state.video_id for d in batch.done if d.result.outcome is Outcome.MOVED}
            writer.commit(list(entries.values()), [d.state for d in batch.done])
            old = (f.path for f in snapshot.files if f.video_id in moved) if moved else ()
            writer.forget_files({path for path in old if is_gone(path)})
            batch.done.clear()
            n_tokens = sum(sum(entry.video.n_tokens.values()) for entry in entries.values())
        return n_tokens

    def _tidy(self, writer: IndexWriter, gone: Sequence[FileRecord]) -> None:
        """Let go of files that are gone, and of videos that no file has any more. Comes last: only
        then is it known what was moved."""
        writer.forget_files({f.path for f in gone})
        orphans = Snapshot(self._folder, self._manifest).orphans()
        writer.remove_videos(orphans)
        self._n_pruned = len(orphans & {f.video_id for f in gone})


def _is_note(item: Looked) -> bool:
    """Whether the state of a known file is to be written down anew."""
    return item.look is Look.KNOWN and item.state != item.before


def _result(path: str, outcome: Outcome, reason: str) -> FileResult:
    return FileResult(path, outcome, reason=reason)


def _indexed(path: str, made: Ingested, reason: str, took_s: float) -> FileResult:
    video = made.entry.video
    return FileResult(
        path=path,
        outcome=Outcome.INDEXED,
        duration_s=video.duration_s,
        took_s=took_s,
        warnings=video.warnings,
        n_tokens=video.n_tokens,
        stage_s=made.stage_s,
        reason=reason,
    )


def _failed(item: Looked, error: InputError, took_s: float) -> _Done:
    # What was there before stays until the file is mended or gone.
    kept = item.before.video_id if item.before is not None else None
    state = replace(item.state, video_id=kept, error=str(error))
    result = FileResult(
        state.path, Outcome.FAILED, error=str(error), took_s=took_s, reason=item.reason
    )
    return _Done(result, state)
