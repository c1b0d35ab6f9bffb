"""From tokens of a joined text back to the segments it was joined from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Segment, TokenEmbeddings
from mmretrieve.errors import UsageError

MAX_QUERY_CHARS = 10_000
"""Of a query that are looked at: far more than a model takes."""


def joined(segments: Sequence[Segment]) -> str:
    """The text of segments, one a line."""
    return "\n".join(segment.text for segment in segments)


def of_segments(
    vectors: NDArray[np.float32], spans: NDArray[np.int64], segments: Sequence[Segment]
) -> TokenEmbeddings:
    """Tokens of the text :func:`joined` of ``segments``. ``spans``: ``(n_tokens, 2)`` characters of
    that text, without the blanks before a word; both 0 for a token that stands for no part of it,
    which is given the whole of the first segment."""
    text = joined(segments)
    lengths = np.array([len(s.text) for s in segments], np.int64)
    begins = np.concatenate([[0], np.cumsum(lengths[:-1] + 1)])
    starts = np.array([_first_letter(text, int(a), int(b)) for a, b in spans], np.int64)
    segment = np.searchsorted(begins, starts, side="right") - 1
    first = np.minimum(starts - begins[segment], lengths[segment])
    last = np.clip(spans[:, 1] - begins[segment], first, lengths[segment])
    return TokenEmbeddings(
        vectors, segment.astype(np.int32), first.astype(np.int32), last.astype(np.int32)
    )


def _first_letter(text: str, start: int, end: int) -> int:
    """Where a token begins without blanks; where it is nothing but blanks, its start."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()) if piece.strip() else start


def asked_text(text: str) -> str:
    """The part of a query that is looked at.

    Raises:
        UsageError: nothing but blanks.
    """
    if not text.strip():
        raise UsageError("the query is empty: give at least one word")
    return text[:MAX_QUERY_CHARS]


def query_words(text: str, spans: NDArray[np.int64]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """What each token of a query stands for, and which of its words (as blanks part them) it belongs
    to. A token that goes on with a word begins with ``##``; one that stands for no part of the text
    is left empty and belongs to word -1."""
    pieces: list[str] = []
    words: list[int] = []
    for a, b in spans.tolist():
        start = _first_letter(text, a, b)
        piece = text[start:b].rstrip()
        number = len(text[:start].split()) - (start > 0 and not text[start - 1].isspace())
        known = bool(piece)
        going_on = known and bool(words) and words[-1] == number
        pieces.append(f"##{piece}" if going_on else piece)
        words.append(number if known else -1)
    return tuple(pieces), np.array(words, np.int32)
