"""Evidence as people read it: word pieces put together to words, spans of one segment to a quote."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mmretrieve.datatypes import MODALITIES, Evidence, Hit, Modality
from mmretrieve.words import FUNCTION_WORDS

_PIECE = "##"
_LEAST_SHARE = 0.1
"""Evidence with less than this share of a hit's largest contribution is not quoted."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the query and everything that it earned."""

    text: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Quote:
    """One segment of the video and all that matched in it. ``spans`` are sorted, disjoint and cover
    whole words of ``text``; ``words`` are the words of the query that it answers. ``end_s`` is told of
    sound, which has nothing but its times to show."""

    modality: Modality
    start_s: float | None
    text: str
    field: str | None
    spans: tuple[tuple[int, int], ...]
    words: tuple[str, ...]
    contribution: float
    end_s: float | None = None


def words(evidence: Sequence[Evidence], query: str | None = None) -> tuple[Word, ...]:
    """Evidence, in the order of the query, by word of the query.

    Pieces that begin with ``##`` continue the word before them; where ``query`` is given, only if
    the whole is part of it (the beginning of a word may have earned nothing).
    """
    folded = None if query is None else _fold(query)
    groups: list[tuple[str, str, list[Evidence]]] = []
    for item in evidence:
        token = item.query_token
        if groups:
            text, last, members = groups[-1]
            if token == last and all(e.modality is not item.modality for e in members[-1:]):
                members.append(item)
                continue
            joined = text + token.removeprefix(_PIECE)
            if token.startswith(_PIECE) and (folded is None or _fold(joined) in folded):
                groups[-1] = (joined, token, [*members, item])
                continue
        groups.append((token.removeprefix(_PIECE), token, [item]))
    return tuple(Word(text, tuple(members)) for text, _, members in groups)


def quotes(hit: Hit, query: str | None = None) -> tuple[Quote, ...]:
    """What to show for a hit: one quote a segment, by modality, the strongest first. Function words
    are shown only where nothing else matched."""
    members: dict[tuple[object, ...], list[tuple[str, Evidence]]] = {}
    least = _LEAST_SHARE * max((item.contribution for item in hit.evidence), default=0.0)
    matched = words(hit.evidence, query)
    telling = [word for word in matched if word.text.casefold() not in FUNCTION_WORDS]
    for word in telling or matched:
        for item in word.evidence:
            if item.contribution < least:
                continue
            key = (item.modality, item.passage, item.start_s, item.field, item.text)
            members.setdefault(key, []).append((word.text, item))
    found = _joined([_quote(group) for group in members.values()])
    return tuple(sorted(found, key=lambda q: (MODALITIES.index(q.modality), -q.contribution)))


def best_modality(hit: Hit) -> Modality | None:
    """The modality that gave the largest part of the score."""
    earned = {
        modality: sum(e.contribution for e in hit.evidence if e.modality is modality)
        for modality in MODALITIES
    }
    best = max(MODALITIES, key=lambda modality: earned[modality])
    return best if earned[best] > 0 else None


def best_quote(hit: Hit, query: str | None = None) -> Quote | None:
    """The strongest quote that has text."""
    with_text = [quote for quote in quotes(hit, query) if quote.text]
    return max(with_text, key=lambda quote: quote.contribution, default=None)


def excerpt(quote: Quote, limit: int) -> tuple[tuple[str, bool], ...]:
    """The quote's text as (part, whether it matched), cut to about ``limit`` characters around
    what matched."""
    low, high = 0, len(quote.text)
    if high > limit:
        first = quote.spans[0][0] if quote.spans else 0
        low = max(0, min(first - limit // 3, high - limit))
        high = low + limit
    parts = [("... ", False)] if low else []
    at = low
    for start, end in quote.spans:
        start, end = max(start, low), min(end, high)
        if start < end:
            parts += [(quote.text[at:start], False), (quote.text[start:end], True)]
            at = end
    parts.append((quote.text[at:high], False))
    if high < len(quote.text):
        parts.append((" ...", False))
    return tuple(part for part in parts if part[0])


def merge_spans(spans: Iterable[tuple[int, int]], text: str) -> tuple[tuple[int, int], ...]:
    """Spans widened to whole words and joined where only a space lies between them."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(_whole_words(span, text) for span in spans if span[0] < span[1]):
        if merged and (start <= merged[-1][1] or text[merged[-1][1] : start].isspace()):
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _joined(found: Sequence[Quote]) -> list[Quote]:
    """Stretches of sound that follow each other as one."""
    out = [quote for quote in found if quote.modality is not Modality.AUDIO]
    heard = [quote for quote in found if quote.modality is Modality.AUDIO]
    last: Quote | None = None
    for quote in sorted(heard, key=lambda q: q.start_s or 0.0):
        if last is not None and last.end_s == quote.start_s:
            last = replace(
                last,
                words=tuple(dict.fromkeys((*last.words, *quote.words))),
                contribution=last.contribution + quote.contribution,
                end_s=quote.end_s,
            )
            out[-1] = last
        else:
            last = quote
            out.append(last)
    return out


def _quote(group: Sequence[tuple[str, Evidence]]) -> Quote:
    first = group[0][1]
    return Quote(
        modality=first.modality,
        start_s=first.start_s,
        text=first.text,
        field=first.field,
        spans=merge_spans((item.span for _, item in group), first.text),
        words=tuple(dict.fromkeys(word for word, _ in group)),
        contribution=sum(item.contribution for _, item in group),
        end_s=first.end_s if first.modality is Modality.AUDIO else None,
    )


def _whole_words(span: tuple[int, int], text: str) -> tuple[int, int]:
    start, end = max(0, span[0]), min(len(text), span[1])
    while 0 < start < len(text) and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    while 0 < end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
        end += 1
    return start, end


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in decomposed if not unicodedata.combining(c))
