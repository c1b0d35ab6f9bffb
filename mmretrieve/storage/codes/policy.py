"""When to seal, merge, rebuild and train anew. Decided from numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmretrieve.datatypes import MODALITIES
from mmretrieve.kernels.base import Numbers
from mmretrieve.storage.codes.catalogue import BookState
from mmretrieve.storage.codes.codebook import book_size
from mmretrieve.storage.codes.segment import SegmentKind


@dataclass(frozen=True, slots=True)
class Limits:
    """``exact_below``: live tokens up to which nothing is coded (once coded, down to half of it).
    ``lists_from``: tokens of a coded segment that gets inverted lists. ``max_segments``: beyond,
    small ones are merged. ``dead_share``: of a segment's tokens, beyond which it is rebuilt.
    ``growth``: of a modality's tokens, and ``drift`` of the mean similarity to centroids of
    tokens sealed later, at least ``drift_share`` of all, from which on its codebook is trained anew.
    ``grace_s``: how long a folder stays after the catalogue let go of it; where such folders take more
    than ``waste`` of what is in use, the oldest stay for ``least_grace_s`` only (a reader that comes
    too late reads the catalogue again)."""

    exact_below: int = 1_000_000
    lists_from: int = 10_000_000
    max_segments: int = 6
    dead_share: float = 0.2
    growth: float = 4.0
    drift: float = 0.05
    drift_share: float = 0.05
    grace_s: float = 600.0
    waste: float = 0.3
    least_grace_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Held:
    """Videos that belong together: in a sealed segment, or new ones (no name). ``n_tokens`` a
    modality, ``(n_modalities,)`` int64, of the living and of all."""

    name: str | None
    revisions: frozenset[str]
    n_live: Numbers
    n_all: Numbers
    kind: SegmentKind = SegmentKind.EXACT

    @property
    def live(self) -> int:
        return int(self.n_live.sum())


@dataclass(frozen=True, slots=True)
class Plan:
    """Segments to keep, sets of videos to make one segment of each, how, and modalities to train."""

    kind: SegmentKind
    keep: tuple[str, ...]
    build: tuple[frozenset[str], ...]
    train: frozenset[int] = field(default_factory=frozenset)


def plan(
    held: Sequence[Held], new: Held | None, books: Mapping[str, BookState], limits: Limits
) -> Plan:
    """What to do about segments as they are and videos that none of them has."""
    everything = [*held, *([new] if new is not None else [])]
    kind = _kind(held, sum(part.live for part in everything), limits)
    train = _to_train(everything, books, limits) if kind is SegmentKind.CODED else frozenset()
    settled: list[Held] = []
    again: list[Held] = []
    for part in held:
        if _is_outdated(part, kind, train):
            again.append(part)
        elif part.n_all.sum() - part.live > limits.dead_share * part.n_all.sum():
            settled.append(_unsealed([part]))
        elif part.revisions:
            settled.append(part)
    loose = [part for part in (*again, *([new] if new is not None else [])) if part.revisions]
    if loose:
        settled.append(_unsealed(loose))
    merged = _merged([part for part in settled if part.revisions], limits.max_segments)
    keep = tuple(part.name for part in merged if part.name is not None)
    build = tuple(part.revisions for part in merged if part.name is None)
    return Plan(kind, keep, build, train)


def _kind(held: Sequence[Held], total: int, limits: Limits) -> SegmentKind:
    coded = any(part.kind is SegmentKind.CODED for part in held)
    enough = limits.exact_below / 2 if coded else limits.exact_below
    return SegmentKind.CODED if total >= enough else SegmentKind.EXACT


def _to_train(
    parts: Sequence[Held], books: Mapping[str, BookState], limits: Limits
) -> frozenset[int]:
    found = set()
    for m, modality in enumerate(MODALITIES):
        live = sum(int(part.n_live[m]) for part in parts)
        state = books.get(modality.value)
        if live and (state is None or _is_outgrown(state, live, limits)):
            found.add(m)
    return frozenset(found)


def _is_outgrown(state: BookState, live: int, limits: Limits) -> bool:
    larger = book_size(live) > book_size(state.n_tokens)
    if live >= limits.growth * state.n_tokens and larger:
        return True
    if state.n_since < max(limits.drift_share * live, 1):
        return False
    return state.sum_since / state.n_since < state.similarity - limits.drift


def _is_outdated(part: Held, kind: SegmentKind, train: frozenset[int]) -> bool:
    """Whether a segment is of another kind, or coded with a codebook that goes."""
    return part.kind is not kind or any(part.n_all[m] > 0 for m in train)


def _merged(parts: Sequence[Held], most: int) -> list[Held]:
    """At most so many: the smallest are made one, with others of about its size, so that a token is
    moved a number of times that grows with the logarithm of the index."""
    found = sorted(parts, key=lambda part: part.live)
    if len(found) <= most:
        return found
    n, size = 1, found[0].live
    while n < len(found) and (len(found) - n >= most or found[n].live <= 2 * size):
        size += found[n].live
        n += 1
    return [_unsealed(found[:n]), *found[n:]]


def _unsealed(parts: Sequence[Held]) -> Held:
    live = sum((part.n_live for part in parts[1:]), parts[0].n_live)
    return Held(None, frozenset().union(*(part.revisions for part in parts)), live, live)
