"""Queries of phrases that are distinctive for one video in one modality. No model, no chance: the
same library gives the same queries.

A phrase is a run of up to four words of one line, between function words and punctuation (as in RAKE;
Rose et al., 2010). A word weighs ``log(N / n)``, with n of N videos that have it in any modality, half
as much if another modality of the same video has it too; a phrase the sum of its words, times ``1 +
log`` of how often it occurs here. The query takes the best phrases until no other video of the
library has all of its words, two phrases at least where there are two.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.experiments.synthesis.material import Content, clean
from mmretrieve.words import FUNCTION_WORDS

MOST_WORDS = 10
MOST_CHARACTERS = 120
_PHRASE_WORDS = 4
_PHRASES = 2
_SHORTEST = 3
"""Letters of a word that means something on its own."""
_WORD = re.compile(r"\w+(?:['\u2019.]\w+)*")


@dataclass(frozen=True, slots=True)
class _Phrase:
    """``words`` in lower case; ``place``: where it first occurs, as (line, word)."""

    text: str
    words: tuple[str, ...]
    place: tuple[int, int]


class Keyphrases:
    """Knows the words of a library; every content of it, so that other modalities count too."""

    def __init__(self, library: Sequence[Content]) -> None:
        self._words: dict[tuple[str, Modality], set[str]] = {}
        self._having: dict[str, set[str]] = {}
        for content in library:
            words = {word for text in content.texts for word in _lower(text)}
            self._words[content.video_id, content.modality] = words
            for word in words:
                self._having.setdefault(word, set()).add(content.video_id)
        self._n_videos = len({content.video_id for content in library})

    def query(self, content: Content) -> str | None:
        """The query; None where nothing in the content tells its video from all others."""
        phrases: dict[tuple[str, ...], _Phrase] = {}
        counts: Counter[tuple[str, ...]] = Counter()
        for place, text in enumerate(content.texts):
            for phrase in _phrases(text, place):
                phrases.setdefault(phrase.words, phrase)
                counts[phrase.words] += 1
        elsewhere = self._elsewhere(content)
        ranked = sorted(
            phrases.values(),
            key=lambda p: (-self._weight(p, counts[p.words], elsewhere), p.place),
        )
        return self._choose(ranked)

    def _choose(self, ranked: Sequence[_Phrase]) -> str | None:
        chosen: list[_Phrase] = []
        said: set[str] = set()
        for phrase in ranked:
            if said & set(phrase.words) or len(said) + len(phrase.words) > MOST_WORDS:
                continue
            if not self._tells_something(phrase):
                continue
            chosen.append(phrase)
            said |= set(phrase.words)
            if len(chosen) >= _PHRASES and self._is_alone(said):
                break
        if not chosen or not self._is_alone(said):
            return None
        text = " ".join(p.text for p in sorted(chosen, key=lambda p: p.place))
        return clean(text, MOST_CHARACTERS)

    def _tells_something(self, phrase: _Phrase) -> bool:
        """Half of all videos at least lack one of its words."""
        rarest = min(len(self._having[word]) for word in phrase.words)
        return self._n_videos == 1 or 2 * rarest <= self._n_videos

    def _is_alone(self, words: set[str]) -> bool:
        """One video has them all."""
        return len(set.intersection(*(self._having[word] for word in words))) == 1

    def _elsewhere(self, content: Content) -> set[str]:
        """The words of the video's other modalities."""
        others = (m for m in MODALITIES if m is not content.modality)
        return set().union(*(self._words.get((content.video_id, m), set()) for m in others))

    def _weight(self, phrase: _Phrase, count: int, elsewhere: set[str]) -> float:
        # A library of one video would weigh nothing.
        n = max(self._n_videos, 2)
        words = sum(
            math.log(n / len(self._having[word])) * (0.5 if word in elsewhere else 1.0)
            for word in phrase.words
        )
        return words * (1 + math.log(count))


def _phrases(text: str, line: int) -> Iterator[_Phrase]:
    """All phrases of a line that begin and end with a word of meaning."""
    runs: list[list[re.Match[str]]] = [[]]
    end = 0
    for match in _WORD.finditer(text):
        parted = bool(text[end : match.start()].strip())
        end = match.end()
        if parted:
            runs.append([])
        if match[0].casefold() in FUNCTION_WORDS:
            runs.append([])
        else:
            runs[-1].append(match)
    for run in runs:
        for first in range(len(run)):
            for last in range(first, min(first + _PHRASE_WORDS, len(run))):
                words = tuple(m[0].casefold() for m in run[first : last + 1])
                # Names that a camera gives, as GX010115, mean nothing to anybody.
                means = any(len(word) >= _SHORTEST and word.isalpha() for word in words)
                if means and len(set(words)) == len(words):
                    span = text[run[first].start() : run[last].end()]
                    yield _Phrase(span, words, (line, run[first].start()))


def _lower(text: str) -> Iterator[str]:
    return (match[0].casefold() for match in _WORD.finditer(text))
