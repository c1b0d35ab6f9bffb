"""What is asked of the search structure: ways of scoring, filters, modalities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import MODALITIES, Aggregation, Modality
from mmretrieve.scoring.aggregation import Scoring

PLAIN = Scoring(power=1.0, centre=False)
_WEIGHTS = {
    Modality.FRAMES: 0.5,
    Modality.SPEECH: 2.0,
    Modality.OCR: 1.0,
    Modality.METADATA: 0.25,
}
TEXT = (Modality.SPEECH, Modality.OCR)


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of search. ``modalities`` as with ``--in``; ``share`` of the videos that a filter keeps;
    ``by_video``: whole videos are ranked, else passages each with its video's metadata."""

    name: str
    scoring: Scoring
    modalities: tuple[Modality, ...] = MODALITIES
    share: float = 1.0
    by_video: bool = False

    @property
    def key(self) -> str:
        """The same text for the same case."""
        return f"{self.scoring.key} {','.join(self.modalities)} {self.share:g} {self.by_video}"

    def used(self, modality: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which cells of ``modality`` ``(n_cells,)`` may take part."""
        codes = [MODALITIES.index(m) for m in self.modalities]
        used: NDArray[np.bool_] = np.isin(modality, codes)
        return used


MERGED = Case("plain merged", PLAIN, TEXT)
"""The task of all engines alike: MaxSim over the tokens of a passage, no metadata. It equals plain
``token_max`` over the modalities of a passage, since the best token is the best of any modality."""

CASES = (
    Case("default", Scoring()),
    Case("plain", PLAIN),
    Case("modality_max", Scoring(Aggregation.MODALITY_MAX)),
    Case("weighted mean", Scoring(Aggregation.WEIGHTED, _WEIGHTS)),
    Case("weighted token_max", Scoring(weights=_WEIGHTS)),
    Case("speech alone", Scoring(), (Modality.SPEECH,)),
    Case("1 % of videos", Scoring(), share=0.01),
    Case("10 % of videos", Scoring(), share=0.1),
    Case("by video", Scoring(), by_video=True),
)


def find_cases(names: str) -> tuple[Case, ...]:
    """Cases by name, comma-separated words that begin a name; ``all`` for all.

    Raises:
        ValueError: no case begins like that.
    """
    if names == "all":
        return CASES
    found: list[Case] = []
    for wanted in names.split(","):
        matching = [c for c in CASES if c.name.startswith(wanted.strip())]
        if not matching:
            raise ValueError(f"no case {wanted!r}: expected some of {[c.name for c in CASES]}")
        found += [c for c in matching if c not in found]
    return tuple(found)
