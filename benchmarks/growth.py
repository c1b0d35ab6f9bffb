"""``growth``: how the time of a search grows with tokens, far beyond what can be indexed here in a while.

A coded segment of real tokens is laid end to end as often as it takes. Centroids are split at random so
that there are as many as an index of that size would have, and each list and table is as long as it would be.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.peers.engine import Engine as Subject
from benchmarks.result import RESULTS, Result
from benchmarks.search_base import load_base, load_queries
from benchmarks.search_corpus import Corpus
from benchmarks.search_data import Grown, write_corpus
from benchmarks.text_tokens import TokenCache
from mmretrieve.datatypes import MODALITIES, QueryTokens
from mmretrieve.kernels.arrays import Codebook, Codes, Layout, Lists, Tokens8
from mmretrieve.kernels.base import Kernels
from mmretrieve.kernels.choose import kernels
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.search.prepared import PreparedQuery, Space, prepare
from mmretrieve.search.ranking import Ranker
from mmretrieve.search.selection import Selection
from mmretrieve.search.stages import Limits, path_of
from mmretrieve.search.stages import Path as SearchPath
from mmretrieve.storage.codes.codebook import book_size
from mmretrieve.storage.codes.segment import Segment
from mmretrieve.storage.reader import Snapshot

BASE_TOKENS = 1_100_000
SIZES = (3_000_000, 10_000_000, 30_000_000, 100_000_000)
N_QUERIES = 20
ROUNDS = 3
_SCAN = Limits(lists_from=1 << 62)
_LISTS = Limits(lists_from=0)


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds at one size: medians over queries."""

    n_tokens: int
    n_centroids: int
    scan: float
    lists: float
    planned: str
    filtered: float


def run(data: Path, cache: Path) -> None:
    """Print the table, draw it, write the result."""
    result = Result("growth")
    tokens = TokenCache(cache)
    base, (queries, _) = load_base(data, tokens), load_queries(data, tokens)
    with tempfile.TemporaryDirectory(prefix="mmretrieve-growth-") as name:
        folder = Path(name)
        write_corpus(Grown(base), base, BASE_TOKENS, folder / "corpus")
        corpus, subject = Corpus(folder / "corpus"), Subject()
        subject.build(corpus, folder, 2)
        subject.open(corpus, folder, 2)
        found = [_at(subject.snapshot, queries[:N_QUERIES], size) for size in SIZES]
    rows = [(t.n_tokens, t.n_centroids, t.scan, t.lists, t.planned, t.filtered) for t in found]
    columns = (
        "tokens", "centroids", "centroid scan ms", "lists ms", "what the planner takes", "1 % filter ms",
    )  # fmt: skip
    result.add("Candidates of one query of 32 tokens, default score", columns, rows)
    result.note(
        "Chance, tables and all stages up to the residuals; without the last read of 32 documents from the "
        "tables, which takes the same at every size. Recall of the paths is measured by `search`."
    )
    _draw(found)
    result.save()


def _at(snapshot: Snapshot, queries: Sequence[np.ndarray], size: int) -> Times:
    live = max(snapshot.searchable.segments, key=lambda one: sum(one.segment.n_tokens))
    large = _laid(live.segment, size)
    made = kernels()
    prepared = [_prepared(made, q) for q in queries]
    everything = Selection(
        None, None, None, None, np.array(large.n_tokens, np.int64), large.layout.n_videos
    )
    few = _few(large)
    weights = Scoring().weight_vector
    return Times(
        sum(large.n_tokens),
        sum(0 if b is None else len(b.centroids) for b in large.books),
        _median_ms(snapshot, made, large, everything, prepared, _SCAN),
        _median_ms(snapshot, made, large, everything, prepared, _LISTS),
        path_of(large, everything, weights, Limits()).value,
        _median_ms(snapshot, made, large, few, prepared, Limits()),
    )


def _prepared(made: Kernels, query: np.ndarray) -> PreparedQuery:
    words = np.arange(len(query), dtype=np.int32)
    tokens = QueryTokens("", {"text": query}, ("",) * len(query), words)
    return prepare(tokens, [Space("text", query.shape[1])] * len(MODALITIES), made)


def _median_ms(
    snapshot: Snapshot, made: Kernels, segment: Segment, selection: Selection,
    queries: Sequence[PreparedQuery], limits: Limits,
) -> float:  # fmt: skip
    ranker = Ranker(snapshot, made, limits)
    taken = []
    for turn in range(ROUNDS + 1):
        for query in queries:
            start = time.perf_counter()
            stages = ranker.stages(query, Scoring(), by_video=False)
            found = stages.candidates(segment, selection, limits.pool(10, by_video=False))
            if turn:
                taken.append(time.perf_counter() - start)
            if not len(found.numbers):
                raise AssertionError("a query without candidates")
    return 1e3 * float(np.median(taken))


def _few(segment: Segment) -> Selection:
    """Every hundredth video."""
    layout = segment.layout
    videos = np.arange(0, layout.n_videos, 100)
    passages = np.zeros(layout.n_passages, bool)
    for first, last in zip(layout.videos[videos], layout.videos[videos + 1], strict=True):
        passages[first:last] = True
    keep = np.repeat(passages, np.diff(layout.passages))
    counts = np.bincount(layout.modality, np.where(keep, layout.count, 0), len(MODALITIES))
    return Selection(
        keep.astype(np.uint8), passages.astype(np.uint8), np.flatnonzero(passages), videos,
        counts.astype(np.int64), len(videos),
    )  # fmt: skip


def _laid(segment: Segment, size: int) -> Segment:
    """The segment end to end until it has ``size`` tokens."""
    n = -(-size // sum(segment.n_tokens))
    rng = np.random.default_rng(0)
    layout = _laid_layout(segment.layout, np.array(segment.n_tokens), n)
    split = [
        1 if book is None else max(1, book_size(n * count) // len(book.centroids))
        for book, count in zip(segment.books, segment.n_tokens, strict=True)
    ]
    books = tuple(
        None if book is None else _split_book(book, k)
        for book, k in zip(segment.books, split, strict=True)
    )
    codes = tuple(
        None if c is None else _laid_codes(c, n, k, rng)
        for c, k in zip(segment.codes, split, strict=True)
    )
    lists = tuple(
        None if c is None or b is None else _lists(layout, m, c, len(b.centroids))
        for m, (c, b) in enumerate(zip(codes, books, strict=True))
    )
    n_tokens = tuple(n * count for count in segment.n_tokens)
    return replace(segment, layout=layout, books=books, codes=codes, lists=lists, n_tokens=n_tokens)


def _laid_layout(layout: Layout, n_tokens: np.ndarray, n: int) -> Layout:
    copies = np.arange(n)
    begin = layout.begin + copies[:, None] * n_tokens[layout.modality]

    def ends(values: np.ndarray) -> np.ndarray:
        shifted = values[1:] + copies[:, None] * int(values[-1])
        return np.concatenate([[0], shifted.ravel()]).astype(np.int64)

    return Layout(
        np.tile(layout.modality, n), begin.ravel(), np.tile(layout.count, n), ends(layout.passages),
        ends(layout.videos), np.tile(layout.timeless, n),
    )  # fmt: skip


def _split_book(book: Codebook, k: int) -> Codebook:
    values = np.repeat(book.centroids.values, k, axis=0)
    return replace(book, centroids=Tokens8(values, np.repeat(book.centroids.scales, k)))


def _laid_codes(codes: Codes, n: int, k: int, rng: np.random.Generator) -> Codes:
    centroid = np.tile(np.asarray(codes.centroid), n)
    if k > 1:
        centroid = centroid * np.uint16(k) + rng.integers(0, k, len(centroid), np.uint16)
    return Codes(centroid, np.tile(np.asarray(codes.residual), (n, 1)))


def _lists(layout: Layout, m: int, codes: Codes, n_centroids: int) -> Lists:
    cells = np.flatnonzero(layout.modality == m)
    passage = np.searchsorted(layout.passages, cells, side="right") - 1
    owner = np.repeat(passage, layout.count[cells]).astype(np.uint64)
    keys = np.unique(codes.centroid.astype(np.uint64) << np.uint64(32) | owner)
    starts = np.searchsorted(keys >> np.uint64(32), np.arange(n_centroids + 1, dtype=np.uint64))
    return Lists((keys & np.uint64(0xFFFFFFFF)).astype(np.uint32), starts.astype(np.int64))


def _draw(found: Sequence[Times]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4))
    sizes = np.array([t.n_tokens for t in found], float)
    axes.loglog(sizes, [t.scan for t in found], "o-", label="scan of centroids")
    axes.loglog(sizes, [t.lists for t in found], "o-", label="lists")
    axes.loglog(sizes, [t.filtered for t in found], "o-", label="filter that keeps 1 %")
    taken = [t.lists if t.planned == SearchPath.LISTS else t.scan for t in found]
    axes.loglog(sizes, taken, "k--", lw=1, label="what the planner takes")
    axes.loglog(sizes, found[0].scan * sizes / sizes[0], ":", color="grey", label="linear")
    axes.set_xlabel("tokens")
    axes.set_ylabel("milliseconds")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(RESULTS / "growth.png", dpi=110)
