"""One run of indexing documents: what is new or changed, embed it in parallel, commit in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mmretrieve.checkpoints import Checkpoints
from mmretrieve.config import Settings
from mmretrieve.document_ingest import DocumentIngestor
from mmretrieve.documents import Document
from mmretrieve.encoders.base import Encoder
from mmretrieve.errors import InputError, UsageError
from mmretrieve.indexing import IndexRun, Options
from mmretrieve.reports import FileResult, IndexReport, Outcome, Progress
from mmretrieve.storage.folder import Manifest
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import FileRecord, VideoEntry
from mmretrieve.storage.writer import IndexWriter

BATCH = 64


@dataclass(frozen=True, slots=True)
class _Todo:
    document: Document
    state: FileRecord


@dataclass(frozen=True, slots=True)
class _Done:
    result: FileResult
    state: FileRecord
    entry: VideoEntry | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """The index that is written to, what makes its tokens, and what brings the rest up to date."""

    folder: Path
    manifest: Manifest
    settings: Settings
    encoder: Encoder
    seal: Callable[[], Sequence[str]]
    checkpoints: Checkpoints


def index_all(
    parts: Parts,
    given: Sequence[Path | Document],
    options: Options,
    on_progress: Callable[[Progress], None] | None,
) -> IndexReport:
    """Files first, then documents, as one run. See :meth:`mmretrieve.engine.Engine.index`."""
    documents = [item for item in given if isinstance(item, Document)]
    files = [Path(item) for item in given if not isinstance(item, Document)]
    how = (parts.folder, parts.manifest, parts.settings, parts.encoder, options)
    derived = (parts.seal, parts.checkpoints)
    report = IndexReport((), 0, 0.0)
    if files or not documents:
        report = IndexRun(*how, *derived).run(files, on_progress)
    if documents and not report.interrupted:
        report = report.then(DocumentRun(*how, *derived).run(documents, on_progress))
    return report


class DocumentRun:
    """One call of ``index`` with documents."""

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
        """``seal``, ``checkpoints``: as for :class:`mmretrieve.indexing.IndexRun`."""
        self._folder = folder
        self._manifest = manifest
        self._settings = settings
        self._encoder = encoder
        self._options = options
        self._seal = seal
        self._checkpoints = checkpoints
        self._warnings: list[str] = []
        self._results: list[FileResult] = []

    def run(
        self, documents: Sequence[Document], on_progress: Callable[[Progress], None] | None
    ) -> IndexReport:
        """See :meth:`mmretrieve.engine.Engine.index`.

        Raises:
            UsageError: an id given twice.
        """
        start = time.perf_counter()
        _check_distinct(documents)
        known = {f.path: f for f in Snapshot(self._folder, self._manifest).files}
        todo = [t for d in documents if (t := self._todo(d, known.get(d.path))) is not None]
        interrupted = False
        if self._options.dry_run:
            self._results += [FileResult(t.state.path, Outcome.INDEXED) for t in todo]
        elif todo:
            interrupted = self._write(todo, start, on_progress)
        took_s = time.perf_counter() - start
        warnings = tuple(self._warnings)
        return IndexReport(tuple(self._results), 0, took_s, interrupted, warnings)

    def _todo(self, document: Document, before: FileRecord | None) -> _Todo | None:
        """The document with its state if there is something to do; else a result is noted."""
        state = FileRecord(document.path, 0, 0, "", self._settings.content_key, document.doc_id)
        try:
            state = replace(state, sidecars=document.fingerprint())
        except InputError as error:
            self._results.append(FileResult(state.path, Outcome.FAILED, error=str(error)))
            return None
        if before is None or self._options.force or not _same(before, state):
            return _Todo(document, state)
        if before.error is None:
            self._results.append(FileResult(state.path, Outcome.UNCHANGED))
            return None
        if self._options.retry_failed:
            return _Todo(document, state)
        self._results.append(FileResult(state.path, Outcome.SKIPPED, error=before.error))
        return None

    def _write(
        self,
        todo: Sequence[_Todo],
        start: float,
        on_progress: Callable[[Progress], None] | None,
    ) -> bool:
        with (
            closing(DocumentIngestor(self._settings, self._encoder)) as ingestor,
            IndexWriter(self._folder, self._manifest) as writer,
            ThreadPoolExecutor(self._settings.jobs, thread_name_prefix="document") as pool,
        ):
            writer.sweep(Snapshot(self._folder, self._manifest).unmarked_revisions())
            n_done = 0
            for batch in _batches(todo):
                done: list[_Done] = []
                try:
                    for item in pool.map(partial(self._one, ingestor), batch):
                        done.append(item)
                        self._results.append(item.result)
                        n_done += 1
                        _tell(on_progress, n_done, len(todo), start, item.result)
                except KeyboardInterrupt:
                    ingestor.close()
                    pool.shutdown(cancel_futures=True)
                    self._commit(writer, done)
                    return True
                n_tokens = self._commit(writer, done)
                self._warnings += self._checkpoints.committed(n_tokens)
            self._warnings += writer.tend()
            self._warnings += self._seal()
        return False

    def _one(self, ingestor: DocumentIngestor, item: _Todo) -> _Done:
        start = time.perf_counter()
        try:
            made = ingestor.ingest(item.document)
        except InputError as error:
            took_s = time.perf_counter() - start
            failed = FileResult(item.state.path, Outcome.FAILED, error=str(error), took_s=took_s)
            return _Done(failed, replace(item.state, error=str(error)))
        result = FileResult(
            path=item.state.path,
            outcome=Outcome.INDEXED,
            duration_s=made.entry.video.duration_s,
            took_s=time.perf_counter() - start,
            n_tokens=made.entry.video.n_tokens,
            stage_s=made.stage_s,
        )
        return _Done(result, item.state, made.entry)

    def _commit(self, writer: IndexWriter, done: Sequence[_Done]) -> int:
        """How many tokens are new."""
        entries = [d.entry for d in done if d.entry is not None]
        writer.commit(entries, [d.state for d in done])
        return sum(sum(entry.video.n_tokens.values()) for entry in entries)


def _batches(todo: Sequence[_Todo]) -> list[Sequence[_Todo]]:
    return [todo[i : i + BATCH] for i in range(0, len(todo), BATCH)]


def _check_distinct(documents: Sequence[Document]) -> None:
    seen: set[str] = set()
    for document in documents:
        if document.doc_id in seen:
            raise UsageError(f"document id {document.doc_id!r} is given twice: ids must differ")
        seen.add(document.doc_id)


def _same(before: FileRecord, now: FileRecord) -> bool:
    return (before.sidecars, before.settings_key) == (now.sidecars, now.settings_key)


def _tell(
    on_progress: Callable[[Progress], None] | None,
    n_done: int,
    n_total: int,
    start: float,
    result: FileResult,
) -> None:
    if on_progress is None:
        return
    elapsed = time.perf_counter() - start
    eta_s = elapsed / max(n_done, 1) * (n_total - n_done)
    on_progress(Progress(n_done, n_total, 0.0, elapsed, eta_s, result))
