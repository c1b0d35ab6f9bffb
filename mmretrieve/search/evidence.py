"""Why a document scored what it scored: the winning token behind every contribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, Evidence, QueryTokens
from mmretrieve.search.ranking import Ranking
from mmretrieve.storage.cells import CellDetail
from mmretrieve.words import FUNCTION_WORDS

UNMATCHED_BELOW = 0.35
"""A word whose best token stays below this distance above chance counts as not matched."""


@dataclass(frozen=True, slots=True)
class Win:
    """Query token ``query_token`` was answered best, in modality number ``modality``, by the token
    at row ``token`` of cell ``cell``, which added ``contribution`` to the score."""

    query_token: int
    modality: int
    cell: int
    token: int
    contribution: float
    similarity: float


def wins(ranking: Ranking, document: int, spaces: Sequence[str]) -> list[Win]:
    """The winning tokens of one document, in the order of the query."""
    parts, documents, cells = ranking.parts(document), ranking.documents, ranking.cells
    own = documents.cell[documents.document == document]
    found = []
    for modality in np.flatnonzero((parts > 0).any(axis=1)).tolist():
        mine = own[cells.modality[own] == modality]
        tokens = np.flatnonzero(parts[modality] > 0)
        winners = mine[np.argmax(cells.maxima[np.ix_(mine, tokens)], axis=0)]
        vectors = ranking.query.vectors[spaces[modality]]
        for query_token, cell in zip(tokens.tolist(), winners.tolist(), strict=True):
            similarity = cells.vectors[cell].astype(np.float32) @ vectors[query_token]
            token = int(similarity.argmax())
            share = float(parts[modality, query_token])
            found.append(Win(query_token, modality, cell, token, share, float(similarity[token])))
    return sorted(found, key=lambda win: (win.query_token, win.modality))


def describe(
    found: Sequence[Win], ranking: Ranking, details: Mapping[int, CellDetail]
) -> tuple[Evidence, ...]:
    """Evidence of winning tokens; ``details`` holds every cell of the ranking that won."""
    return tuple(
        _describe(win, ranking.query.texts[win.query_token], details[win.cell]) for win in found
    )


def content_words(query: QueryTokens) -> tuple[tuple[str, NDArray[np.bool_]], ...]:
    """The words of a query that are no function words, each with the mask of its tokens."""
    masks = (query.word == word for word in dict.fromkeys(query.word.tolist()))
    words = ((_word_text(query.texts, mine), mine) for mine in masks)
    return tuple((t, m) for t, m in words if t not in FUNCTION_WORDS and t.isalnum())


def unmatched_words(
    ranking: Ranking, document: int, words: Sequence[tuple[str, NDArray[np.bool_]]]
) -> tuple[str, ...]:
    """Those of ``words`` (:func:`content_words`) that nothing in the document matched."""
    reached = ranking.above_chance(document)
    return tuple(text for text, mine in words if reached[mine].max() < UNMATCHED_BELOW)


def _word_text(texts: Sequence[str], mine: NDArray[np.bool_]) -> str:
    """Word pieces put together again."""
    return "".join(texts[i].removeprefix("##") for i in np.flatnonzero(mine).tolist())


def _describe(win: Win, query_token: str, detail: CellDetail) -> Evidence:
    passage = detail.passage
    segment = passage.segments[detail.token_segment[win.token]]
    return Evidence(
        query_token=query_token,
        modality=MODALITIES[win.modality],
        contribution=win.contribution,
        similarity=win.similarity,
        passage=passage.number,
        start_s=segment.start_s if segment.start_s is not None else passage.start_s,
        end_s=segment.end_s if segment.end_s is not None else passage.end_s,
        text=segment.text,
        span=(int(detail.char_start[win.token]), int(detail.char_end[win.token])),
        box=segment.box,
        field=segment.field,
        source=passage.source,
    )
