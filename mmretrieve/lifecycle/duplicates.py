"""Videos that show the same pictures: copies that were encoded anew, scaled, cropped a little or trimmed.

Two videos are aligned in time by what their coarse pictures look like, then compared by what *moves* in
them: different takes of one scene (a speaker before the same wall) look alike at any moment, and move
differently. Where nothing moves, the pictures themselves must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import TracePoint

_Floats = NDArray[np.float32]
WIDTH, HEIGHT = 12, 9
STEP_S = 1 / 3


@dataclass(frozen=True, slots=True)
class DuplicateLimits:
    """``alike``: least correlation of pictures at the same time; ``moves``: least correlation of what
    changes in them; ``still``: root mean square change of luma (0 to 255) below which nothing moves:
    a still stretch tells nothing of videos that move elsewhere, and of still videos ``same`` is
    asked of the pictures; ``overlap_s`` or ``overlap_share`` of the shorter
    video, whichever is longer: least time that is shared."""

    alike: float = 0.9
    moves: float = 0.9
    still: float = 3.0
    same: float = 0.99
    overlap_s: float = 1.0
    overlap_share: float = 0.4


@dataclass(frozen=True, slots=True)
class Pair:
    """Two videos by number, how alike they are (0 to 1), and the seconds of each that are shared."""

    first: int
    second: int
    similarity: float
    first_span: tuple[float, float]
    second_span: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Film:
    """Points on a grid of :data:`STEP_S`: ``luma`` ``(n, 9, 12)`` float32, ``start_s`` of the first."""

    luma: _Floats
    start_s: float

    @property
    def rms(self) -> float:
        """How much moves in it: root mean square change of luma."""
        return _rms(self.luma - self.luma.mean(axis=0))


def find_pairs(
    traces: Sequence[Sequence[TracePoint]], limits: DuplicateLimits | None = None
) -> list[Pair]:
    """All pairs of videos that show the same, most alike first."""
    limits = limits or DuplicateLimits()
    films = [_film(trace) for trace in traces]
    found = []
    for first, second in sorted(_candidates(films)):
        pair = _compared(first, second, films, limits)
        if pair is not None:
            found.append(pair)
    return sorted(found, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def groups(pairs: Sequence[Pair]) -> list[list[int]]:
    """Videos that hang together by pairs, each group in the order of numbers."""
    parent: dict[int, int] = {}

    def root(number: int) -> int:
        while parent.setdefault(number, number) != number:
            number = parent[number]
        return number

    for pair in pairs:
        parent[root(pair.second)] = root(pair.first)
    out: dict[int, list[int]] = {}
    for number in sorted(parent):
        out.setdefault(root(number), []).append(number)
    return list(out.values())


def _film(trace: Sequence[TracePoint]) -> _Film | None:
    """Points at even times: the last one shown at each."""
    if not trace:
        return None
    times = np.array([point.time_s for point in trace])
    luma = np.frombuffer(b"".join(point.luma for point in trace), np.uint8)
    pictures = luma.reshape(-1, HEIGHT, WIDTH).astype(np.float32)
    at = np.arange(times[0], times[-1] + STEP_S / 2, STEP_S)
    shown = np.clip(np.searchsorted(times, at + 1e-3, side="right") - 1, 0, len(times) - 1)
    return _Film(pictures[shown], float(times[0]))


def _unit(values: _Floats) -> _Floats:
    """Rows with their mean taken off, of unit length (zeros where nothing is left)."""
    flat = values.reshape(len(values), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    unit: _Floats = np.divide(flat, length, out=np.zeros_like(flat), where=length > 1e-3)
    return unit


_BITS, _BANDS = 32, 4
_CROWDED = 200
_SPREAD = 12


def _candidates(films: Sequence[_Film | None]) -> set[tuple[int, int]]:
    """Pairs with a few pictures that fall into the same cell of a random partition; all pairs of a small
    library."""
    numbers = [number for number, film in enumerate(films) if film is not None]
    if len(numbers) <= _CROWDED:
        return {(a, b) for i, a in enumerate(numbers) for b in numbers[i + 1 :]}
    rng = np.random.default_rng(0)
    planes = rng.normal(size=(WIDTH * HEIGHT, _BITS * _BANDS)).astype(np.float32)
    planes = planes.reshape(-1, _BANDS, _BITS)[:, :, : _BITS // 2]
    cells: dict[tuple[int, int], list[int]] = {}
    for number in numbers:
        film = films[number]
        assert film is not None
        unit = _unit(film.luma)
        signs = np.einsum("nd,dbk->nbk", unit, planes) > 0
        codes = (signs * (1 << np.arange(signs.shape[2]))).sum(axis=2)
        for band in range(_BANDS):
            for code in np.unique(codes[:, band]).tolist():
                cells.setdefault((band, code), []).append(number)
    shared: dict[tuple[int, int], int] = {}
    for members in cells.values():
        if len(members) <= _CROWDED:
            for i, a in enumerate(members):
                for b in members[i + 1 :]:
                    shared[a, b] = shared.get((a, b), 0) + 1
    return set(shared)


def _compared(
    first: int, second: int, films: Sequence[_Film | None], limits: DuplicateLimits
) -> Pair | None:
    a, b = films[first], films[second]
    if a is None or b is None:
        return None
    best: Pair | None = None
    are_still = max(a.rms, b.rms) < limits.still
    for cropped in _crops(b.luma):
        for shift, n in _alignments(a.luma, cropped, limits):
            at_a, at_b = max(shift, 0), max(-shift, 0)
            stretch = a.luma[at_a : at_a + n], cropped[at_b : at_b + n]
            similarity = _similarity(*stretch, are_still, limits)
            if similarity is not None and (best is None or similarity > best.similarity):
                best = Pair(first, second, similarity, _span(a, at_a, n), _span(b, at_b, n))
        if best is not None and best.similarity > 0.97:
            break
    return best


def _span(film: _Film, at: int, n: int) -> tuple[float, float]:
    start_s = film.start_s + at * STEP_S
    return round(start_s, 3), round(start_s + n * STEP_S, 3)


def _crops(luma: _Floats) -> Iterator[_Floats]:
    """The pictures as they are, then as if the other video had lost, or has, a margin."""
    yield luma
    for margin in (0.05, 0.1, -0.05, -0.1):
        yield _zoomed(luma, margin)


def _zoomed(luma: _Floats, margin: float) -> _Floats:
    """The middle of the pictures without ``margin`` on each side; a negative one repeats the edge."""
    x = np.clip((np.arange(WIDTH) + 0.5) / WIDTH * (1 - 2 * margin) + margin, 0, 1) * WIDTH - 0.5
    y = np.clip((np.arange(HEIGHT) + 0.5) / HEIGHT * (1 - 2 * margin) + margin, 0, 1) * HEIGHT - 0.5
    x, y = np.clip(x, 0, WIDTH - 1), np.clip(y, 0, HEIGHT - 1)
    x0, y0 = np.minimum(x.astype(int), WIDTH - 2), np.minimum(y.astype(int), HEIGHT - 2)
    fx, fy = (x - x0).astype(np.float32), (y - y0).astype(np.float32)[:, None]
    rows = luma[:, y0] * (1 - fy) + luma[:, y0 + 1] * fy
    made: _Floats = rows[:, :, x0] * (1 - fx) + rows[:, :, x0 + 1] * fx
    return made


def _alignments(a: _Floats, b: _Floats, limits: DuplicateLimits) -> list[tuple[int, int]]:
    """The likeliest (shift of ``b`` against ``a``, points shared): by how alike pictures are, and by how
    alike the changes in them are."""
    n_a, n_b = len(a), len(b)
    least = max(round(limits.overlap_s / STEP_S), round(limits.overlap_share * min(n_a, n_b)), 2)
    pictures = _unit(a) @ _unit(b).T
    means = {
        s: float(np.diagonal(pictures, -s).mean()) for s in range(least - n_b, n_a - least + 1)
    }
    alike = {shift: mean for shift, mean in means.items() if mean >= limits.alike - 0.05}
    if not alike:
        return []
    moved_a, moved_b = ((x - np.median(x, axis=0)).reshape(len(x), -1) for x in (a, b))
    changes = moved_a @ moved_b.T
    power_a, power_b = ((x**2).sum(axis=1) for x in (moved_a, moved_b))
    found = []
    for shift, mean in alike.items():
        n = min(n_a - max(shift, 0), n_b - max(-shift, 0))
        power = power_a[max(shift, 0) :][:n].sum() * power_b[max(-shift, 0) :][:n].sum()
        moves = np.diagonal(changes, -shift).sum() / max(float(np.sqrt(power)), 1e-6)
        found.append((mean, float(moves), shift, n))
    likely = sorted(found, reverse=True)[:_SPREAD]
    likely += sorted(found, key=lambda one: one[1], reverse=True)[:_SPREAD]
    return list(dict.fromkeys((shift, n) for _, _, shift, n in likely))


def _rms(values: _Floats) -> float:
    return float(np.sqrt((values**2).mean()))


def _similarity(a: _Floats, b: _Floats, are_still: bool, limits: DuplicateLimits) -> float | None:
    """How alike two aligned stretches ``(n, 9, 12)`` are, None where they are not the same."""
    alike = float((_unit(a) * _unit(b)).sum(axis=1).mean())
    if alike < limits.alike:
        return None
    moved_a, moved_b = a - a.mean(axis=0), b - b.mean(axis=0)
    rms_a, rms_b = _rms(moved_a), _rms(moved_b)
    if max(rms_a, rms_b) < limits.still:
        return alike if are_still and alike >= limits.same else None
    if min(rms_a, rms_b) < limits.still / 3:
        return None
    moves = float((moved_a * moved_b).mean() / (rms_a * rms_b))
    return min(alike, moves) if moves >= limits.moves else None


def pairs_of(
    traces: Mapping[str, Sequence[TracePoint]], limits: DuplicateLimits | None = None
) -> list[tuple[str, str, Pair]]:
    """The same by names."""
    names = sorted(traces)
    found = find_pairs([traces[name] for name in names], limits)
    return [(names[pair.first], names[pair.second], pair) for pair in found]
