"""Robustness probes: named, seeded changes of documents or queries, to be measured as a drop.

A change of modalities is a :class:`Plan` over (document, modality) pairs; a change of words or of
pictures is a function of the content. The same seed makes the same change.
"""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import COMMON, MODALITIES, Modality, Segment
from mmretrieve.documents import Document, Picture
from mmretrieve.words import FUNCTION_WORDS

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]

RATE = 0.3
"""Share of documents, words or characters that a probe changes."""
NOBODY = -1
_WORD = re.compile(r"\w+")


class Probe(StrEnum):
    """What is done to documents (the first four, and the last two) or to queries."""

    MISSING_AT_RANDOM = "missing_at_random"
    MISSING_NOT_AT_RANDOM = "missing_not_at_random"
    CONTENT_DILUTION = "content_dilution"
    MODALITY_INTERFERENCE = "modality_interference"
    ATTRIBUTE_INSERTION = "attribute_insertion"
    TYPOS = "typos"
    SPEECH_NOISE = "speech_noise"
    COMPRESSED_FRAMES = "compressed_frames"


OF_CONTENT = (Probe.SPEECH_NOISE, Probe.COMPRESSED_FRAMES)
"""Probes that change what is encoded: only for documents whose content is given."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A change of ``(n_documents, n_modalities)`` pairs: ``dropped`` ones are missing; ``source`` is
    the document whose content stands there, ``added`` one whose content is added, or -1."""

    dropped: Mask
    source: Numbers
    added: Numbers

    @property
    def n_changed(self) -> int:
        """Pairs that are not as they were."""
        own = np.arange(len(self.source))[:, None]
        return int((self.dropped | (self.source != own) | (self.added != NOBODY)).sum())


Planner = Callable[[Mask, Mask, int], Plan]
"""``present`` ``(n_documents, n_modalities)``, ``relevant`` ``(n_documents,)``: whether any query is
answered by it, seed -> plan."""


def missing_at_random(present: Mask, relevant: Mask, seed: int) -> Plan:
    """Every modality of every document is missing with probability :data:`RATE`, but never the last
    one: missing completely at random, the mild case of Swamy et al., 2023 (MultiModN, arXiv 2309.14118)."""
    chance = _lots(present, seed)
    return _dropping(present, (chance < RATE) & present)


def missing_not_at_random(present: Mask, relevant: Mask, seed: int) -> Plan:
    """As above, but only documents that answer some query lose anything, so that what is missing
    depends on the label: the harmful case of Swamy et al., 2023. A document may not score less (or
    more) for what it lacks; in the mild case its rivals lack as much."""
    chance = _lots(present, seed)
    return _dropping(present, (chance < RATE) & present & relevant[:, None])


def content_dilution(present: Mask, relevant: Mask, seed: int) -> Plan:
    """Half of the documents get the content of another one added to one modality of theirs:
    irrelevant text beside what was there (Verma et al., 2022, arXiv 2211.02646)."""
    return _mixing(present, seed, replaced=False)


def modality_interference(present: Mask, relevant: Mask, seed: int) -> Plan:
    """Half of the documents have one modality taken from another document in place of their own, so
    that their modalities contradict each other (Cai et al., 2025, arXiv 2505.19616)."""
    return _mixing(present, seed, replaced=True)


PLANNERS: Mapping[Probe, Planner] = {
    Probe.MISSING_AT_RANDOM: missing_at_random,
    Probe.MISSING_NOT_AT_RANDOM: missing_not_at_random,
    Probe.CONTENT_DILUTION: content_dilution,
    Probe.MODALITY_INTERFERENCE: modality_interference,
}


def insert_attributes(text: str, attributes: Sequence[str], seed: int) -> str:
    """One word of the answer's other content before every third word that means something, at least
    one: cross-modal attribute insertion (Ramshetty et al., 2023, arXiv 2306.11065). The attributes are
    true of the answer: where they mislead classifiers, a search that reads the modality that they come
    from may gain by them. Without attributes the text stays."""
    known = set(_WORD.findall(text.casefold()))
    usable = sorted({w.casefold() for w in attributes} - known - FUNCTION_WORDS)
    usable = [w for w in usable if w.isalpha() and len(w) > 2]
    places = [m.start() for m in _WORD.finditer(text) if m[0].casefold() not in FUNCTION_WORDS]
    if not usable or not places:
        return text
    rng = _random(text, seed)
    for start in sorted(rng.sample(places, max(1, len(places) // 3)), reverse=True):
        text = f"{text[:start]}{rng.choice(usable)} {text[start:]}"
    return text


def typos(text: str, seed: int) -> str:
    """Slips of a hand on a keyboard: in :data:`RATE` of the words of four letters and more, at least
    one, two neighbours swapped, a letter left out, doubled, or another typed (after the noise of
    Belinkov & Bisk, 2018, arXiv 1711.02173)."""
    long = [m for m in _WORD.finditer(text) if len(m[0]) >= 4]
    if not long:
        return text
    rng = _random(text, seed)
    chosen = rng.sample(long, max(1, round(RATE * len(long))))
    for match in sorted(chosen, key=lambda m: m.start(), reverse=True):
        text = text[: match.start()] + _slip(match[0], rng) + text[match.end() :]
    return text


def speech_noise(
    document: Document, vocabulary: Collection[str], seed: int, rate: float = RATE
) -> Document:
    """Mistakes of a recogniser in ``rate`` of the words that are said: most become another word of
    ``vocabulary`` that begins alike, some are lost, some are said twice. Times stay."""
    alike = _beginnings(vocabulary)
    rng = _random(document.doc_id, seed)
    said = tuple(
        replace(segment, text=_misheard(segment.text, alike, rng, rate))
        for segment in document.segments.get(Modality.SPEECH, ())
    )
    kept: tuple[Segment, ...] = tuple(s for s in said if s.text.strip())
    return replace(document, segments={**document.segments, Modality.SPEECH: kept})


def compressed_frames(document: Document, shrink: int = 4, quality: int = 10) -> Document:
    """Pictures as they come out of a poor stream: scaled down by ``shrink``, coded as JPEG, and
    scaled up again (two of the common corruptions of Hendrycks & Dietterich, 2019, arXiv 1903.12261).
    Nothing in it is drawn by lot."""
    return replace(
        document,
        pictures=tuple(
            Picture(_compressed(p.pixels(), shrink, quality), p.start_s, p.end_s)
            for p in document.pictures
        ),
    )


def _lots(present: Mask, seed: int) -> NDArray[np.float64]:
    """A number in 0..1 for each pair. Those of sound, which came later, are drawn last: the others stay what
    they were."""
    rng = np.random.default_rng(seed)
    n, n_common = len(present), len(COMMON)
    parts = [rng.random((n, width)) for width in (n_common, present.shape[1] - n_common)]
    return np.concatenate(parts, axis=1)


def _dropping(present: Mask, wanted: Mask) -> Plan:
    dropped = wanted.copy()
    for row in np.flatnonzero(present.any(axis=1) & ~(present & ~dropped).any(axis=1)):
        # The one that is spared is the first: it must not depend on what others lose.
        dropped[row, int(np.argmax(present[row]))] = False
    return Plan(dropped, _own(present), np.full(present.shape, NOBODY))


def _mixing(present: Mask, seed: int, *, replaced: bool) -> Plan:
    rng = np.random.default_rng(seed)
    source, added = _own(present), np.full(present.shape, NOBODY)
    having = [np.flatnonzero(present[:, m]) for m in range(len(MODALITIES))]
    for document in np.flatnonzero(rng.random(len(present)) < 0.5).tolist():
        able = [m for m in range(len(MODALITIES)) if present[document, m] and len(having[m]) > 1]
        if not able:
            continue
        modality = int(rng.choice(able))
        others = having[modality][having[modality] != document]
        (source if replaced else added)[document, modality] = int(rng.choice(others))
    return Plan(np.zeros(present.shape, bool), source, added)


def _own(present: Mask) -> Numbers:
    return np.repeat(np.arange(len(present))[:, None], present.shape[1], axis=1)


def _random(text: str, seed: int) -> random.Random:
    """For each text its own, so that a query is changed the same way in any set of queries."""
    return random.Random(f"{seed} {text}")


def _slip(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0 and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[: at + 1] + word[at:]
    other = rng.choice([c for c in "abcdefghijklmnopqrstuvwxyz" if c != word[at].casefold()])
    return word[:at] + other + word[at + 1 :]


def _beginnings(vocabulary: Collection[str]) -> dict[str, list[str]]:
    alike: dict[str, list[str]] = {}
    for word in sorted({w.casefold() for w in vocabulary}):
        alike.setdefault(word[:2], []).append(word)
    return alike


def _misheard(
    text: str, alike: Mapping[str, Sequence[str]], rng: random.Random, rate: float
) -> str:
    out: list[str] = []
    for word in text.split():
        draw = rng.random()
        bare = "".join(_WORD.findall(word.casefold()))
        others = [w for w in alike.get(bare[:2], ()) if w != bare]
        if draw >= rate or not bare:
            out.append(word)
        elif draw < 0.7 * rate and others:
            out.append(rng.choice(others))
        elif draw >= 0.85 * rate:
            out += [word, word]
    return " ".join(out)


def _compressed(image: NDArray[np.uint8], shrink: int, quality: int) -> NDArray[np.uint8]:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image))
    size = (max(1, picture.width // shrink), max(1, picture.height // shrink))
    buffer = io.BytesIO()
    picture.resize(size).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as coded:
        return np.asarray(coded.convert("RGB").resize(picture.size), np.uint8)
