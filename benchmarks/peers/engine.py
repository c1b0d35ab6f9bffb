"""mmretrieve itself, as the benchmark sees it: tables, codes and ranking, without the text encoder."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.peers.subject import Array, Dial, Numbers
from benchmarks.search_cases import CASES, MERGED, Case
from benchmarks.search_corpus import METADATA, Block, Corpus
from benchmarks.search_records import DEFAULT_DIAL, EXACT_DIAL
from mmretrieve.datatypes import (
    METADATA_PASSAGE,
    MODALITIES,
    Filter,
    Modality,
    Passage,
    Probe,
    QueryTokens,
    Segment,
    TokenEmbeddings,
)
from mmretrieve.kernels.choose import kernels
from mmretrieve.search.prepared import Space, prepare
from mmretrieve.search.ranking import Ranker
from mmretrieve.search.searcher import masked
from mmretrieve.search.selection import Selection, select
from mmretrieve.search.stages import Limits
from mmretrieve.storage.codes.policy import Limits as CodeLimits
from mmretrieve.storage.codes.segment import SegmentKind
from mmretrieve.storage.codes.update import update
from mmretrieve.storage.folder import Manifest, write_manifest
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import VideoEntry, VideoRecord
from mmretrieve.storage.writer import IndexWriter

_BY_NAME = {case.name: case for case in (*CASES, MERGED)}
_BATCH_VIDEOS = 256
_EXACT_UP_TO = 2_000_000
"""Tokens up to which the exact scan is measured beside the default."""
_SHARES = (0.01, 0.1)
_MARGIN = "standard deviations"
_SPARE = "read beside"
_AFTER_CENTROIDS = "after centroids"
_SPACE = "text"


class Engine:
    """All cases, add and delete."""

    def build(self, corpus: Corpus, folder: Path, threads: int) -> None:
        """Tables as an index run writes them, then codes; those of the exact scan in a second folder that
        shares the tables."""
        manifest = _manifest(corpus.dim)
        write_manifest(folder / "index", manifest)
        kept = {share: corpus.kept(share) for share in _SHARES}
        with IndexWriter(folder / "index", manifest) as writer:
            for block in corpus.blocks(_BATCH_VIDEOS):
                writer.commit(list(_entries(block, corpus.videos, kept)), [])
            writer.optimize()
            update(folder / "index", manifest, kernels(threads=threads))
        if corpus.n_tokens <= _EXACT_UP_TO:
            write_manifest(folder / "exact", manifest)
            (folder / "exact" / "lance").symlink_to(Path("..") / "index" / "lance")
            limits = CodeLimits(exact_below=1 << 62)
            update(folder / "exact", manifest, kernels(threads=threads), limits)

    def open(self, corpus: Corpus, folder: Path, threads: int) -> None:
        self._corpus, self._folder = corpus, folder / "index"
        self._manifest = _manifest(corpus.dim)
        self._kernels = kernels(threads=threads)
        self._spaces = [Space(_SPACE, corpus.dim)] * len(MODALITIES)
        self._first: Mapping[int, int] = dict(enumerate(corpus.videos.tolist()))
        self._default = self._opened(self._folder)
        exact = folder / "exact"
        self._exact = self._opened(exact) if exact.is_dir() else None

    @property
    def snapshot(self) -> Snapshot:
        """What is searched by default."""
        return self._default

    def dials(self) -> Sequence[Dial]:
        found = [
            Dial("fastest", {_AFTER_CENTROIDS: 48, _SPARE: 2, _MARGIN: 0}),
            Dial("faster", {_AFTER_CENTROIDS: 128, _SPARE: 6, _MARGIN: 1}),
            Dial(
                DEFAULT_DIAL,
                {
                    _AFTER_CENTROIDS: Limits().after_centroids,
                    _SPARE: Limits().spare,
                    _MARGIN: Limits().margin,
                },
            ),
        ]
        coded = any(
            live.segment.kind is SegmentKind.CODED for live in self._default.searchable.segments
        )
        if not coded:
            return found[2:]
        return [*found, Dial(EXACT_DIAL)] if self._exact else found

    def search(self, query: Array, k: int, dial: Dial, case: str) -> Numbers:
        wanted = _BY_NAME[case]
        snapshot = self._exact if dial.name == EXACT_DIAL and self._exact else self._default
        limits = Limits(
            after_centroids=int(dial.values.get(_AFTER_CENTROIDS, 0)),
            passages=48 if dial.name == "fastest" else Limits().passages,
            spare=int(dial.values.get(_SPARE, Limits().spare)),
            margin=dial.values.get(_MARGIN, Limits().margin),
        )
        ranker = self._rankers(snapshot, limits)
        words = np.arange(len(query), dtype=np.int32)
        tokens = QueryTokens("", {_SPACE: query}, ("",) * len(query), words)
        prepared = prepare(tokens, self._spaces, self._kernels)
        scoring = masked(wanted.scoring, Filter(modalities=wanted.modalities))
        stages = ranker.stages(prepared, scoring, wanted.by_video)
        ranking = ranker.rank(stages, self._selection(snapshot, wanted), k)
        best = ranking.order[:k]
        videos = [int(snapshot.videos[v].video_id, 16) for v in ranking.documents.video[best]]
        if wanted.by_video:
            return np.array(videos, np.int64)
        passages = ranking.documents.passage[best].tolist()
        return np.array(
            [self._first[v] + p for v, p in zip(videos, passages, strict=True)], np.int64
        )

    def facts(self) -> Mapping[str, str | int | float]:
        codes = self._folder / "codes"
        hot = 0
        for live in self._default.searchable.segments:
            segment, layout = live.segment, live.segment.layout
            hot += layout.modality.nbytes + layout.begin.nbytes + layout.count.nbytes
            hot += layout.passages.nbytes + layout.videos.nbytes + layout.timeless.nbytes
            hot += sum(c.centroid.nbytes for c in segment.codes if c is not None)
            hot += sum(t.values.nbytes + t.scales.nbytes for t in segment.tokens if t is not None)
        return {
            "hot_bytes": hot,
            "disk_bytes": sum(f.stat().st_size for f in codes.rglob("*") if f.is_file()),
            "kernels": self._kernels.name,
            "search": self._default.searchable.description,
        }

    def add(self, block: Block) -> None:
        """Written to the tables and read from there, as any reader would. The index that was built stays
        as it is for the next run: what changes is a copy by hard links."""
        changed = self._folder.with_name("changed")
        shutil.rmtree(changed, ignore_errors=True)
        shutil.copytree(self._folder, changed, copy_function=os.link)
        self._folder = changed
        more = block.passage[np.searchsorted(block.video, np.unique(block.video))]
        self._first = {
            **self._first,
            **dict(zip(np.unique(block.video).tolist(), more.tolist(), strict=True)),
        }
        videos = np.zeros(int(block.video.max()) + 1, np.int64)
        videos[np.unique(block.video)] = more
        with IndexWriter(self._folder, self._manifest) as writer:
            writer.commit(list(_entries(block, videos, {})), [])
        self._default = self._opened(self._folder)

    def delete(self, videos: Sequence[int]) -> None:
        """The same."""
        with IndexWriter(self._folder, self._manifest) as writer:
            writer.remove_videos([f"{video:032x}" for video in videos])
        self._default = self._opened(self._folder)

    def _opened(self, folder: Path) -> Snapshot:
        snapshot = Snapshot(folder, self._manifest, lambda: self._kernels)
        if not snapshot.searchable.segments:
            raise AssertionError(f"{folder} has nothing to search")
        self._made: dict[tuple[int, Limits], Ranker] = {}
        self._selections: dict[tuple[int, Filter], tuple[Selection, ...]] = {}
        return snapshot

    def _rankers(self, snapshot: Snapshot, limits: Limits) -> Ranker:
        key = (id(snapshot), limits)
        if key not in self._made:
            self._made[key] = Ranker(snapshot, self._kernels, limits)
        return self._made[key]

    def _selection(self, snapshot: Snapshot, case: Case) -> tuple[Selection, ...]:
        wanted = Filter()
        if case.share < 1:
            wanted = Filter(where=((f"in{case.share:g}=", "true"),))
        key = (id(snapshot), wanted)
        if key not in self._selections:
            self._selections[key] = select(snapshot, wanted)
        return self._selections[key]


def _manifest(dim: int) -> Manifest:
    spaces = {m.value: _SPACE for m in Modality}
    return Manifest("lite", dim, {_SPACE: "0" * 64}, spaces, "")


def _entries(
    block: Block, first: Numbers, kept: Mapping[float, np.ndarray[tuple[int], np.dtype[np.bool_]]]
) -> Iterator[VideoEntry]:
    """The videos of a block; ``first[v]`` is the number of video ``v``'s first passage."""
    for i, video in enumerate(np.unique(block.video).tolist()):
        parts = []
        if block.metadata.shape[1]:
            parts.append(_part(METADATA_PASSAGE, METADATA, block.metadata[i], None))
        for cell in np.flatnonzero(block.video == video).tolist():
            number = int(block.passage[cell] - first[video])
            vectors = block.vectors[block.cells[cell] : block.cells[cell + 1]]
            parts.append(_part(number, int(block.modality[cell]), vectors, 20.0 * number))
        facts = {f"in{share:g}": bool(keep[video]) for share, keep in kept.items()}
        record = VideoRecord(
            f"{video:032x}", uuid.uuid4().hex, f"/corpus/{video}.mp4", "", 1.0, Probe(1.0, "mp4", 1)
        )
        yield VideoEntry(replace(record, facts=facts), tuple(parts), ())


def _part(
    number: int, modality: int, vectors: np.ndarray[tuple[int, ...], np.dtype[np.float16]],
    at_s: float | None,
) -> tuple[Passage, TokenEmbeddings]:  # fmt: skip
    none = np.zeros(len(vectors), np.int32)
    end_s = None if at_s is None else at_s + 20
    segments = (Segment("", at_s, end_s),)
    passage = Passage(number, MODALITIES[modality], at_s, end_s, segments, "benchmark")
    return passage, TokenEmbeddings(np.asarray(vectors, np.float32), none, none, none)
