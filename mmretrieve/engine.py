"""The engine: one index folder, everything one can do with it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from mmretrieve.checkpoints import Checkpoints
from mmretrieve.config import Settings
from mmretrieve.datatypes import (
    ConfidenceLabel,
    Filter,
    GroupBy,
    Hit,
    QueryTokens,
    SearchResult,
)
from mmretrieve.documents import Document
from mmretrieve.duplicate_report import ReportsDuplicates
from mmretrieve.encoders.registry import load_encoder
from mmretrieve.errors import CodesError, IndexNotFoundError, PresetMismatchError, UsageError
from mmretrieve.index_care import Care, observed_run, recover
from mmretrieve.index_facts import index_info, new_manifest, video_info
from mmretrieve.lifecycle.earlier import EarlierIndex
from mmretrieve.lifecycle.interrupts import orderly_interrupts
from mmretrieve.reports import IndexInfo, IndexReport, Progress, VideoInfo
from mmretrieve.storage.folder import (
    Manifest,
    check_free,
    default_location,
    locate,
    read_manifest,
    write_manifest,
)
from mmretrieve.storage.journal import Journal
from mmretrieve.storage.lasting import of_a_state_that_lasts
from mmretrieve.storage.lock import holder
from mmretrieve.storage.nulls import WriteNulls, near_nulls, put_nulls, read_nulls, write_nulls
from mmretrieve.storage.reader import Snapshot
from mmretrieve.whole_index import WholeIndex

if TYPE_CHECKING:
    from mmretrieve.kernels.base import Kernels
    from mmretrieve.scoring.aggregation import Scoring
    from mmretrieve.search.everything import Everything
    from mmretrieve.search.searcher import Searcher


_T = TypeVar("_T")
DEVICE_VARIABLE = "MMRETRIEVE_DEVICE"
_KEPT_QUERIES = 512


class Engine(WholeIndex, ReportsDuplicates, Care):
    """Search over the videos of one index folder.

    >>> with Engine.create(Path("library.mmretrieve")) as engine:  # doctest: +SKIP
    ...     engine.index([Path("videos")])
    ...     for hit in engine.search("a red balloon").hits:
    ...         print(hit.video.path, hit.moment.start_s, hit.score)
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        device: str | None = None,
        earlier: EarlierIndex | None = None,
    ) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self._earlier = earlier
        self._device = device or os.environ.get(DEVICE_VARIABLE) or "cpu"
        self._folder = folder
        self._manifest = manifest
        self._settings = Settings.from_toml(manifest.settings_toml)
        self._encoder = load_encoder(self._settings.preset, self._settings.encoder)
        # Chance is measured with the same queries after every change.
        self._encoded = lru_cache(_KEPT_QUERIES)(self._encoder.query)
        self._snapshot: Snapshot | None = None
        self._searcher: Searcher | None = None
        self._near = False
        self._kernels: Kernels | None = None
        self._everything: Everything | None = None
        self._lock = threading.RLock()
        self._journal = Journal.of(folder, self._settings.log_file)

    @classmethod
    def create(
        cls,
        folder: Path | None = None,
        settings: Settings | None = None,
        *,
        device: str | None = None,
        reuse: Path | None = None,
    ) -> Self:
        """A new index, or the one that is there already; given settings become its settings.
        Nothing is written before something is indexed. ``device``: see :meth:`open`. ``reuse``: folder
        of another index; what it read of the same videos is not read again, as far as settings agree.

        Raises:
            PresetMismatchError: the index there has tokens of another preset.
            IndexFormatError: the folder is something else.
            IndexNotFoundError: there is no index to reuse.
            UsageError: ``reuse`` is the folder itself.
        """
        folder = default_location(folder)
        earlier = EarlierIndex(reuse, folder) if reuse is not None else None
        try:
            manifest = read_manifest(folder)
        except IndexNotFoundError:
            check_free(folder)
            return cls(folder, new_manifest(settings or Settings()), device, earlier)
        if settings is not None and settings.preset != manifest.preset:
            raise PresetMismatchError(
                f"{folder} was built with preset {manifest.preset!r}, asked for {settings.preset!r}: "
                f"their tokens cannot be compared; name a new folder with --index (--reuse {folder} keeps "
                "what was recognised)"
            )
        if settings is not None and settings.to_toml() != manifest.settings_toml:
            # The weights stay those that the tokens were made with.
            manifest = replace(manifest, settings_toml=settings.to_toml())
        return cls(folder, manifest, device, earlier)

    @classmethod
    def open(cls, folder: Path | None = None, *, device: str | None = None) -> Self:
        """An existing index: the one given, ``$MMRETRIEVE_INDEX``, or the nearest ``.mmretrieve``.

        ``device`` is where it is searched: ``cpu`` (by compiled code) or ``cuda`` (by PyTorch); else
        what ``$MMRETRIEVE_DEVICE`` says, else ``cpu``.

        Raises:
            IndexNotFoundError: there is none.
            IndexFormatError: it cannot be used.
        """
        found = locate(folder)
        return cls(found, read_manifest(found), device)

    @property
    def folder(self) -> Path:
        """Where the index lies."""
        return self._folder

    @property
    def settings(self) -> Settings:
        """What the index is made with."""
        return self._settings

    def index(
        self,
        paths: Sequence[Path | Document],
        *,
        exclude: Sequence[str] = (),
        prune: bool = False,
        retry_failed: bool = False,
        force: bool = False,
        dry_run: bool = False,
        hold: Callable[[Path], bool] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> IndexReport:
        """Index files and folders (recursively), and documents given as content; what has not
        changed is left alone. A document takes the place of the one that had its id.

        ``exclude``: globs; ``prune``: also remove videos whose files are gone from ``paths``;
        ``force``: index unchanged files again; ``dry_run``: only say what would be done; ``hold``:
        whether a new or changed file is to be left alone this time. A file that cannot be indexed is
        reported and does not stop the run; Ctrl-C keeps what is done.

        Raises:
            UsageError: a path that does not exist, or a document id given twice.
            PruneRefusedError: nothing is left below a folder where there were videos.
            IndexLockedError: another process is writing.
            SetupError: a model or an extra is missing.
        """
        from mmretrieve.document_indexing import Parts, index_all
        from mmretrieve.indexing import Options

        options = Options(tuple(exclude), prune, retry_failed, force, dry_run, hold, self._earlier)
        self._check_encoder()
        if not dry_run:
            write_manifest(self._folder, self._manifest)
            self._recover()
        before = self._fresh().version
        parts = Parts(
            self._folder, self._manifest, self._settings, self._encoder, self._seal,
            Checkpoints(self._folder, self._seal_midway),
        )  # fmt: skip
        with (
            orderly_interrupts(),
            observed_run(self._journal, on_progress, dry_run=dry_run) as run,
        ):
            run.report = index_all(parts, paths, options, run.progress)
            now = self._fresh().version
            if now != before and not read_nulls(self._folder, now):
                self._measure_chance()  # as after an interrupt, which seals nothing
        return run.report

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        scoring: Scoring | None = None,
        filter: Filter | None = None,
        group_by: GroupBy = GroupBy.MOMENT,
        min_confidence: ConfidenceLabel | None = None,
        thumbnails: bool = False,
    ) -> SearchResult:
        """The best ``k`` moments, or videos with their best moment, and why they matched.

        Raises:
            UsageError: a query, filter, weight or ``k`` that cannot be used.
        """
        from mmretrieve.scoring.aggregation import Scoring
        from mmretrieve.search.searcher import Request

        request = Request(k, scoring or Scoring(), filter or Filter(), group_by, min_confidence)
        result = self._lasting(lambda: self._current().search(query, request))
        if not thumbnails:
            return result
        return replace(result, hits=tuple(self._with_picture(hit) for hit in result.hits))

    def explain(
        self, query: str, video: str, *, at_s: float | None = None, scoring: Scoring | None = None
    ) -> Hit:
        """How well one video answers: its best moment, or the one at ``at_s``, with its rank among
        all moments. ``video`` is an id, a path, a file name or a glob that fits one video.

        Raises:
            UsageError: no such video, several, or no passage at that time.
        """
        from mmretrieve.scoring.aggregation import Scoring

        chosen = scoring or Scoring()
        return self._lasting(lambda: self._explain(query, video, at_s, chosen))

    def _explain(self, query: str, video: str, at_s: float | None, scoring: Scoring) -> Hit:
        from mmretrieve.search.named import the_one_named

        with self._lock:
            searcher, snapshot = self._current(), self._opened()
        record = the_one_named(snapshot, video)
        number = [v.video_id for v in snapshot.videos].index(record.video_id)
        hit = searcher.explain(query, number, at_s, scoring)
        if hit is None:
            raise UsageError(
                f"{video} has no indexed passage at {at_s} s: it lasts {record.duration_s:.1f} s"
            )
        return self._with_picture(hit)

    def videos(self) -> tuple[VideoInfo, ...]:
        """All videos of the index, ordered by path."""
        snapshot = self._fresh()
        found = (video_info(v, snapshot.paths[v.video_id]) for v in snapshot.videos)
        return tuple(sorted(found, key=lambda v: v.path))

    def remove(self, names: Sequence[str]) -> tuple[VideoInfo, ...]:
        """Remove videos by id, path, file name or glob. The files themselves are not touched.

        Raises:
            UsageError: a name that fits no video (nothing is removed then).
            IndexLockedError: another process is writing.
        """
        from mmretrieve.storage.writer import IndexWriter

        self._recover()
        removed = self.matching(names)
        with IndexWriter(self._folder, self._manifest) as writer:
            writer.remove_videos([video.video_id for video in removed])
            self._seal()
        self._journal.note("removed", videos=[video.path for video in removed], n=len(removed))
        return removed

    def matching(self, names: Sequence[str]) -> tuple[VideoInfo, ...]:
        """The videos that are meant by ids, paths, file names or globs.

        Raises:
            UsageError: a name that fits no video.
        """
        from mmretrieve.search.named import all_named

        snapshot = self._fresh()
        records = {r.video_id: r for name in names for r in all_named(snapshot, name)}
        return tuple(video_info(r, snapshot.paths[key]) for key, r in records.items())

    def info(self) -> IndexInfo:
        """Counts, sizes and failures."""
        return index_info(self._fresh(), self._journal)

    def _recover(self) -> None:
        """Bring the index to this format and tidy up after a writer that was killed, if there is need."""
        if recover(self._fresh(), self._journal, self._seal):
            version = read_manifest(self._folder).format_version
            self._manifest = replace(self._manifest, format_version=version)
            self.refresh()

    def thumbnail(self, video_id: str, start_s: float, end_s: float | None = None) -> bytes | None:
        """The JPEG of the first keyframe from ``start_s`` to ``end_s``, or where there is none the
        nearest one to ``start_s``; None where the video has no pictures."""
        snapshot = self._fresh()
        record = next((v for v in snapshot.videos if v.video_id == video_id), None)
        pictures = snapshot.thumbnails(record) if record is not None else []
        if not pictures:
            return None
        inside = [p for p in pictures if end_s is not None and start_s <= p.time_s <= end_s]
        return min(inside or pictures, key=lambda p: abs(p.time_s - start_s)).jpeg

    def refresh(self) -> None:
        """Forget what is in memory; the next call sees the newest committed state."""
        with self._lock:
            self._snapshot = None
            self._searcher = None
            self._everything = None

    def close(self) -> None:
        """Let go of the index. Nothing is lost when this is never called."""
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _opened(self) -> Snapshot:
        with self._lock:
            if self._snapshot is None:
                self._snapshot = Snapshot(self._folder, self._manifest, self._chosen_kernels)
            return self._snapshot

    def _fresh(self) -> Snapshot:
        with self._lock:
            before = self._snapshot
            if before is not None and not before.is_current():
                self.refresh()
                self._snapshot = Snapshot(
                    self._folder, self._manifest, self._chosen_kernels, before.videos
                )
            return self._opened()

    def _lasting(self, ask: Callable[[], _T]) -> _T:
        """What ``ask`` gives, asked anew where the state that it read is gone."""
        return of_a_state_that_lasts(self._folder, ask, self.refresh)

    def _current(self) -> Searcher:
        from mmretrieve.search.searcher import Searcher

        with self._lock:
            snapshot = self._fresh()
            if self._searcher is None or (self._near and holder(self._folder) is None):
                self._check_encoder()
                stored = read_nulls(self._folder, snapshot.version)
                self._near = not stored and holder(self._folder) is not None
                if self._near:
                    stored = near_nulls(self._folder, snapshot.n_tokens)
                self._searcher = Searcher(
                    snapshot, self.encode_query, self._chosen_kernels(), stored
                )
            return self._searcher

    def _chosen_kernels(self) -> Kernels:
        from mmretrieve.kernels.choose import kernels_on

        with self._lock:
            if self._kernels is None:
                self._kernels = kernels_on(self._device)
            return self._kernels

    def _seal(self) -> tuple[str, ...]:
        """Bring codes and null scores up to date with the tables, under the writer's lock; what to know
        about it."""
        from mmretrieve.storage.codes.update import update

        notes: tuple[str, ...] = ()
        try:
            gpu = self._device != "cpu"
            notes = update(self._folder, self._manifest, self._chosen_kernels(), gpu=gpu).notes
        except CodesError as error:
            notes = (str(error),)
        try:
            self._measure_chance(put_nulls)
        except OSError as error:
            notes += (f"null scores cannot be kept ({error}): a search measures them anew",)
        return notes

    def _seal_midway(self) -> tuple[str, ...]:
        """:meth:`_seal` in the course of a run, which needs the memory itself."""
        notes = self._seal()
        self.refresh()
        return notes

    def everything(self) -> Everything:
        """All documents of the newest state; see :class:`WholeIndex`."""
        return self._lasting(self._whole)

    def _whole(self) -> Everything:
        from mmretrieve.search.everything import Everything

        with self._lock:
            snapshot = self._fresh()
            if self._everything is None:
                self._check_encoder()
                self._everything = Everything(snapshot, self.encode_query)
            return self._everything

    def _measure_chance(self, write: WriteNulls = write_nulls) -> None:
        """Keep the null scores of the new state, so that the first search need not wait for them."""
        from mmretrieve.search.searcher import Searcher

        self._check_encoder()
        with self._lock:
            self.refresh()
            snapshot = self._opened()
            stored = read_nulls(self._folder, snapshot.version)
            searcher = Searcher(snapshot, self.encode_query, self._chosen_kernels(), stored)
            self._searcher, self._near = searcher, False
        if snapshot.videos:
            write(self._folder, snapshot.version, snapshot.n_tokens, searcher.nulls())

    def encode_query(self, query: str) -> QueryTokens:
        """The tokens of a query.

        Raises:
            UsageError: nothing in it can be searched for.
        """
        return self._encoded(query)

    def _check_encoder(self) -> None:
        used, here = self._manifest.encoders, dict(self._encoder.fingerprints())
        if used != here:
            changed = sorted(n for n in {*used, *here} if used.get(n) != here.get(n))
            raise PresetMismatchError(
                f"{self._folder} was built with other weights ({', '.join(changed)}): index again into "
                f"a new folder (--index NEW --reuse {self._folder} keeps what was recognised), or install "
                "the version of mmretrieve that it was built with"
            )

    def _with_picture(self, hit: Hit) -> Hit:
        start_s, end_s = hit.moment.best_s or 0.0, hit.moment.end_s
        return replace(hit, thumbnail=self.thumbnail(hit.video.video_id, start_s, end_s))
