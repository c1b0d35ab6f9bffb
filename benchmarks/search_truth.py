"""The right answers: exact float32 scores of every document, by the formulas of
:mod:`mmretrieve.scoring.reference`, in plain NumPy. Nothing here knows the program's search."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.search_base import Array, Numbers
from benchmarks.search_cases import Case
from benchmarks.search_corpus import METADATA, Block, Corpus
from mmretrieve.datatypes import MODALITIES, Aggregation
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.storage.codes.sample import PASSAGES, VIDEOS

N_BEST = 100
"""Documents that chance is measured on, evenly spread over all, as many as a search takes."""
_CHUNK_VIDEOS, _CHUNK_QUERY_TOKENS = 4, 64
"""So many at a time that their products stay in the cache."""
_VERSION = 3


@dataclass(frozen=True, slots=True)
class Truth:
    """The best documents of each query: ``ids`` ``(n_queries, N_BEST)`` int64 and ``scores`` float64,
    best first, -1 and -inf where fewer documents take part."""

    ids: Numbers
    scores: NDArray[np.float64]

    def recall(self, query: int, found: Sequence[int] | Numbers, k: int = 10) -> float:
        """The share of the ``k`` best that is among the first ``k`` of ``found``. What scores the same
        as the last of them (within float32 rounding) is as good.

        Raises:
            ValueError: a document was found twice.
        """
        first = [int(i) for i in found[:k]]
        if len(set(first)) < len(first):
            raise ValueError(f"query {query}: a document is among the first {k} twice: {first}")
        scores = self.scores[query]
        n = min(k, int(np.isfinite(scores).sum()))
        if not n:
            return 1.0
        last = scores[n - 1]
        right = set(self.ids[query][scores >= last - 1e-6 * max(1.0, abs(last))].tolist())
        return min(n, len(right.intersection(first))) / n


class Questions:
    """Queries side by side: ``tokens`` ``(n_tokens, dim)``, query ``i`` begins at ``starts[i]``."""

    def __init__(self, queries: Sequence[Array]) -> None:
        self.tokens: Array = np.concatenate(list(queries)).astype(np.float32)
        self.lengths: Numbers = np.array([len(q) for q in queries], np.int64)
        self.starts: Numbers = np.cumsum(self.lengths) - self.lengths

    @property
    def key(self) -> str:
        """The same text for the same queries."""
        state = hashlib.sha256(self.tokens.tobytes())
        state.update(self.lengths.tobytes())
        return state.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Chance:
    """What query tokens reach by chance in a sample of documents: ``total`` and ``count``
    ``(n_modalities, n_tokens)`` of their similarities."""

    total: NDArray[np.float64]
    count: NDArray[np.int64]

    def null(self, scoring: Scoring) -> Array:
        """``(n_modalities, n_tokens)``: the mean, drawn towards what is known beforehand."""
        if not scoring.centre:
            return np.zeros(self.total.shape, np.float32)
        prior = np.array([scoring.prior[m] for m in MODALITIES])[:, None]
        k = scoring.prior_weight
        return np.asarray((self.total + k * prior) / (self.count + k), np.float32)


def find_truth(
    corpus: Corpus, key: str, queries: Sequence[Array], cases: Sequence[Case], cache: Path
) -> dict[str, Truth]:
    """Right answers by the name of the case; ``key`` stands for the corpus. What ``cache`` holds for
    the same corpus, queries and case is not worked out again."""
    questions = Questions(queries)
    cache.mkdir(parents=True, exist_ok=True)
    paths = {case.name: cache / f"{_key(key, questions, case)}.npz" for case in cases}
    missing = [case for case in cases if not paths[case.name].exists()]
    if missing:
        for case, truth in zip(missing, score_all(corpus, questions, missing), strict=True):
            np.savez(paths[case.name], allow_pickle=False, ids=truth.ids, scores=truth.scores)
    found = {}
    for name, path in paths.items():
        with np.load(path) as stored:
            found[name] = Truth(stored["ids"], stored["scores"])
    return found


def score_all(corpus: Corpus, questions: Questions, cases: Sequence[Case]) -> list[Truth]:
    """Score every document for every case, a few videos at a time."""
    chances = {kind: measure_chance(corpus, questions, kind) for kind in (False, True)}
    nulls = [chances[case.by_video].null(case.scoring) for case in cases]
    kept = [corpus.kept(case.share) if case.share < 1 else None for case in cases]
    best = [_Best(len(questions.lengths)) for _ in cases]
    for block in corpus.blocks(_CHUNK_VIDEOS):
        similarity = similarities(block, questions.tokens)
        passages, first = np.unique(block.passage, return_index=True)
        videos = block.video[first]
        for case, null, keep, mine in zip(cases, nulls, kept, best, strict=True):
            chosen = similarity if keep is None else similarity[keep[videos]]
            ids = passages if keep is None else passages[keep[videos]]
            of = videos if keep is None else videos[keep[videos]]
            if not len(ids):
                continue
            if case.by_video:
                ids, starts = np.unique(of, return_index=True)
                chosen = np.maximum.reduceat(chosen, starts, axis=0)
            mine.add(ids, scores(chosen, case, null, questions))
    return [found.truth() for found in best]


def similarities(block: Block, tokens: Array) -> Array:
    """``(n_passages, n_modalities, n_tokens)`` maxima of a block, each passage with its video's
    metadata; -inf where a passage has none of a modality."""
    first = int(block.passage[0])
    out = np.full(
        (int(block.passage[-1]) + 1 - first, len(MODALITIES), len(tokens)), -np.inf, np.float32
    )
    vectors = block.vectors.astype(np.float32)
    cells = np.empty((len(block.modality), len(tokens)), np.float32)
    for start in range(0, len(tokens), _CHUNK_QUERY_TOKENS):
        some = slice(start, start + _CHUNK_QUERY_TOKENS)
        cells[:, some] = np.maximum.reduceat(vectors @ tokens[some].T, block.cells[:-1], axis=0)
    out[block.passage - first, block.modality] = cells
    if block.metadata.shape[1]:
        named = (block.metadata.astype(np.float32) @ tokens.T).max(axis=1)
        _, own = np.unique(block.passage, return_index=True)
        out[:, METADATA] = named[block.video[own] - block.first_video]
    return out


def measure_chance(corpus: Corpus, questions: Questions, by_video: bool) -> Chance:
    """Chance on passages (each with its video's metadata) or on whole videos."""
    sample = _sample(corpus, by_video)
    total = np.zeros((len(MODALITIES), len(questions.tokens)))
    count = np.zeros(total.shape, np.int64)
    video_of = np.arange(corpus.n_videos) if by_video else corpus.video_of_passage
    for video in np.unique(video_of[sample]).tolist():
        block = corpus.block(video, video + 1)
        found = similarities(block, questions.tokens)
        if by_video:
            found = found.max(axis=0, keepdims=True)
        else:
            found = found[sample[video_of[sample] == video] - block.passage[0]]
        present = np.isfinite(found)
        total += np.where(present, found, 0).sum(axis=0, dtype=np.float64)
        count += present.sum(axis=0)
    return Chance(total, count)


def _sample(corpus: Corpus, by_video: bool) -> Numbers:
    """Numbers of the documents that stand for chance, as the program defines them: evenly spread, half as
    many while they have too many tokens."""
    named = corpus.metadata.shape[1]
    passages = np.diff(corpus.offsets)
    if by_video:
        n_tokens, size = np.add.reduceat(passages, corpus.videos[:-1]) + named, VIDEOS
    else:
        n_tokens, size = passages + named, PASSAGES
    n = size.most
    while True:
        even = np.linspace(0, len(n_tokens) - 1, min(n, len(n_tokens))).astype(np.int64)
        if n // 2 < size.fewest or n_tokens[even].sum() <= size.n_tokens:
            return even
        n //= 2


def scores(similarity: Array, case: Case, null: Array, questions: Questions) -> NDArray[np.float64]:
    """``(n_documents, n_queries)`` by the formulas of the reference; -inf for what is no document."""
    scoring = case.scoring
    asked = np.array([m in case.modalities for m in MODALITIES])
    weights = np.where(asked, scoring.weight_vector, 0)
    used = np.flatnonzero(weights > 0)
    found = similarity[:, used]
    have = np.isfinite(found[:, :, 0])
    scale = np.array([scoring.scale[MODALITIES[m]] for m in used], np.float32)
    if not scoring.centre:
        scale[:] = 1
    values = np.where(have[:, :, None], found - null[used], 0) / scale[:, None]
    if scoring.centre:
        np.maximum(values, 0, out=values)
    if scoring.power != 1:
        values = values * values * values if scoring.power == 3 else values**scoring.power
    values *= weights[used][:, None].astype(np.float32)
    by_cell = _over_queries(values, questions)
    if scoring.aggregation is Aggregation.TOKEN_MAX:
        best = np.where(have[:, :, None], values, -np.inf).max(axis=1)
        out = _over_queries(best, questions)
    elif scoring.aggregation is Aggregation.MODALITY_MAX:
        out = np.where(have[:, :, None], by_cell, -np.inf).max(axis=1)
    else:
        total = np.where(have, weights[used], 0).sum(axis=1)[:, None]
        out = by_cell.sum(axis=1) / np.where(total > 0, total, 1)
    own = np.asarray(have[:, np.flatnonzero(used != METADATA)].any(axis=1))
    return np.where(own[:, None], out, -np.inf)


def _over_queries(values: NDArray[np.floating], questions: Questions) -> NDArray[np.float64]:
    """The mean over each query's tokens, which are the last axis."""
    sums = np.add.reduceat(values, questions.starts, axis=-1, dtype=np.float64)
    return np.asarray(sums / questions.lengths, np.float64)


class _Best:
    """The ``N_BEST`` best documents of each query so far; ties go to lower numbers."""

    def __init__(self, n_queries: int) -> None:
        self._ids = np.full((n_queries, N_BEST), -1, np.int64)
        self._scores = np.full((n_queries, N_BEST), -np.inf)

    def add(self, ids: Numbers, found: NDArray[np.float64]) -> None:
        """Documents of higher numbers than all before, ``found`` ``(n_documents, n_queries)``."""
        scores = np.concatenate([self._scores, found.T], axis=1)
        rows = np.broadcast_to(ids, (len(scores), len(ids)))
        everything = np.concatenate([self._ids, rows], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :N_BEST]
        self._scores = np.take_along_axis(scores, order, axis=1)
        self._ids = np.take_along_axis(everything, order, axis=1)

    def truth(self) -> Truth:
        return Truth(np.where(np.isfinite(self._scores), self._ids, -1), self._scores)


def _key(corpus: str, questions: Questions, case: Case) -> str:
    state = f"{_VERSION} {corpus} {questions.key} {case.key} {PASSAGES} {VIDEOS}"
    return hashlib.sha256(state.encode()).hexdigest()[:16]
