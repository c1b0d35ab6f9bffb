"""Exact phrases in what was said and written on screen."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Modality
from mmretrieve.errors import UsageError
from mmretrieve.storage.reader import Snapshot

_EDGES = (r"(?<!\w)", r"(?!\w)")
_FIRST_UNSPACED = "\u2e80"
"""From here on Unicode has the scripts of East Asia, which put no spaces between words."""
_TEXTS = (Modality.SPEECH, Modality.OCR)


def rows_with_phrase(snapshot: Snapshot, phrase: str) -> NDArray[np.uint64]:
    """Row ids of the cells whose text holds the phrase word for word, case folded.

    Raises:
        UsageError: no word in it.
    """
    words = phrase.split()
    if not words:
        raise UsageError("the phrase is empty: give at least one word")
    pattern = phrase_pattern(words)
    found = [
        row
        for rows, texts in snapshot.cells.texts_with(max(words, key=len), _TEXTS)
        for row, text in zip(rows, texts, strict=True)
        if pattern.search(text)
    ]
    return np.array(found, np.uint64)


def phrase_pattern(words: Sequence[str]) -> re.Pattern[str]:
    """Whole words, whatever stands between them; scripts written without spaces match anywhere."""
    spaced = [
        word[0].isalnum() and word[0] < _FIRST_UNSPACED for word in (words[0], words[-1][::-1])
    ]
    before, after = (edge if needed else "" for needed, edge in zip(spaced, _EDGES, strict=True))
    return re.compile(before + r"\W+".join(map(re.escape, words)) + after, re.IGNORECASE)
