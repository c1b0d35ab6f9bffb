"""The lines of an index (subtitles, lines on screen, metadata fields), and the tokens of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.storage.reader import Snapshot

TEXTS = (Modality.SPEECH, Modality.OCR, Modality.METADATA)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Line:
    """One segment of text of one video."""

    video_id: str
    modality: Modality
    text: str
    field: str | None
    start_s: float | None
    end_s: float | None


def lines(snapshot: Snapshot, modalities: Sequence[Modality] = TEXTS) -> list[Line]:
    """All lines, in the order of modalities, videos and passages. Of frames, whose lines are the labels
    of keyframes, also those without a label."""
    codes = [MODALITIES.index(m) for m in modalities]
    cells = snapshot.library.cells
    mine = np.flatnonzero(np.isin(cells.modality, codes))
    found = []
    for cell, detail in zip(mine.tolist(), snapshot.cells.details(cells.row[mine]), strict=True):
        video = snapshot.videos[int(cells.video[cell])]
        modality = MODALITIES[int(cells.modality[cell])]
        found += [
            Line(video.video_id, modality, s.text, s.field, s.start_s, s.end_s)
            for s in detail.passage.segments
            if s.text.strip() or modality is Modality.FRAMES
        ]
    return found


def hidden_tokens(snapshot: Snapshot, video_id: str, text: str) -> dict[int, NDArray[np.bool_]]:
    """Cell -> ``(n_tokens,)``: the tokens of a video that say ``text``, wherever it occurs word for
    word in a line of any modality. Case and punctuation do not count."""
    number = next(i for i, v in enumerate(snapshot.videos) if v.video_id == video_id)
    codes = [MODALITIES.index(m) for m in TEXTS]
    cells = snapshot.library.cells
    mine = np.flatnonzero((cells.video == number) & np.isin(cells.modality, codes))
    pattern = _pattern(text)
    found = {}
    for cell, detail in zip(mine.tolist(), snapshot.cells.details(cells.row[mine]), strict=True):
        mask = np.zeros(len(detail.token_segment), bool)
        for segment, line in enumerate(detail.passage.segments):
            for match in pattern.finditer(line.text):
                inside = (detail.char_start < match.end()) & (detail.char_end > match.start())
                mask |= (detail.token_segment == segment) & inside
        if mask.any():
            found[cell] = mask
    return found


def words_of(text: str) -> tuple[str, ...]:
    """The words in lower case, without punctuation."""
    return tuple(_WORD.findall(text.casefold()))


def _pattern(text: str) -> re.Pattern[str]:
    words = map(re.escape, _WORD.findall(text))
    return re.compile(r"(?<!\w)" + r"\W+".join(words) + r"(?!\w)", re.IGNORECASE)
