"""The bars of the search structure: what each asks for, what was measured, met or missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.peers.registry import BASELINE, OURS
from benchmarks.search_records import (
    DEFAULT_DIAL,
    EXACT_DIAL,
    TARGETS,
    Records,
    Speed,
    cheapest,
)

LATENCY_MS = {100_000: 2.0, 1_000_000: 5.0, 10_000_000: 10.0, 100_000_000: 60.0}
EXACT_MS = {100_000: 2.0, 1_000_000: 12.0}
_THREADS = 2
_RECALL = 0.99


@dataclass(frozen=True, slots=True)
class Bar:
    """``measured`` is None where nothing was; ``met`` likewise."""

    name: str
    asked: str
    where: str
    measured: str | None
    met: bool | None

    @property
    def verdict(self) -> str:
        """In a word."""
        return "not measured" if self.met is None else "met" if self.met else "missed"


def bars(records: Records) -> list[Bar]:
    """All bars, each at every size where it makes sense."""
    parts: Sequence[Callable[[Records], Iterator[Bar]]] = (
        _recall, _latency, _exact, _plaid, _tachiom, _build, _bytes, _filter, _weights, _updates,
        _memory,
    )  # fmt: skip
    return [bar for part in parts for bar in part(records)]


def _recall(records: Records) -> Iterator[Bar]:
    for n in records.sizes:
        found = [
            s
            for s in records.speeds
            if (s.engine, s.n_tokens, s.threads, s.dial) == (OURS, n, _THREADS, DEFAULT_DIAL)
        ]
        worst = min(found, key=lambda s: s.recall, default=None)
        yield _bar(
            "recall@10, any aggregation, any filter",
            f">= {_RECALL}",
            n,
            f"{worst.recall:.4f} (lowest of {len(found)}: {worst.case}, {worst.kind})"
            if worst
            else None,
            worst.recall >= _RECALL if worst else None,
        )


def _latency(records: Records) -> Iterator[Bar]:
    for n in records.sizes:
        for dial, limits in ((DEFAULT_DIAL, LATENCY_MS), (EXACT_DIAL, EXACT_MS)):
            limit = limits.get(n)
            if limit is None:
                continue
            found = records.speed(OURS, n, _THREADS, dial)
            if dial == EXACT_DIAL and found is None:
                continue
            yield _bar(
                f"p50, {dial}",
                f"<= {limit:g} ms at recall {_RECALL}",
                n,
                f"{found.p50_ms:.2f} ms at {found.recall:.3f}" if found else None,
                found.p50_ms <= limit and found.recall >= _RECALL if found else None,
            )


def _exact(records: Records) -> Iterator[Bar]:
    for n in records.sizes:
        if n > max(EXACT_MS):
            continue
        found = records.speed(OURS, n, _THREADS, EXACT_DIAL)
        yield _bar(
            f"exact scan against {BASELINE}",
            ">= 10x",
            n,
            f"{found.to_baseline:.1f}x" if found else None,
            found.to_baseline >= 10 if found else None,
        )


def _plaid(records: Records) -> Iterator[Bar]:
    for n in records.sizes:
        if n < 1_000_000:
            continue
        engines = [e for e in records.engines if e.startswith("fast-plaid")]
        theirs = [s for e in engines for s in records.sweep(e, n, _THREADS)]
        ratios = {
            recall: _times(cheapest(records.sweep(OURS, n, _THREADS), recall), their)
            for recall in TARGETS
            if (their := cheapest(theirs, recall)) is not None
        }
        yield _bar(
            "against fast-plaid at equal recall",
            ">= 10x",
            n,
            ", ".join(f"{x:.1f}x at {recall}" for recall, x in ratios.items()) or None,
            min(ratios.values()) >= 10 if ratios else None,
        )


def _tachiom(records: Records) -> Iterator[Bar]:
    """Every setting of theirs against the fastest of ours that is at least as right."""
    for n in records.sizes:
        theirs = records.sweep("TACHIOM", n, _THREADS)
        ours = records.sweep(OURS, n, _THREADS)
        if not theirs or not ours:
            yield _bar("against TACHIOM at every recall it reaches", "> 1x", n, None, None)
            continue
        ratios = [_times(cheapest(ours, their.recall), their) for their in theirs]
        reached = cheapest(ours, _RECALL) is not None
        text = f"{min(ratios):.2f}x to {max(ratios):.2f}x; {_RECALL} {'' if reached else 'not '}reached"
        met = min(ratios) > 1 and reached
        yield _bar("against TACHIOM at every recall it reaches", "> 1x", n, text, met)


def _build(records: Records) -> Iterator[Bar]:
    for build in records.builds:
        if build.engine == OURS and not build.merged and build.n_tokens == 1_000_000:
            text = f"{build.seconds:.1f} s"
            yield _bar("build", "< 30 s", build.n_tokens, text, build.seconds < 30)


def _bytes(records: Records) -> Iterator[Bar]:
    for n in records.sizes:
        built = next(
            (b for b in records.builds if (b.engine, b.n_tokens, b.merged) == (OURS, n, False)),
            None,
        )
        opened = next(
            (o for o in records.opened if (o.engine, o.n_tokens, o.merged) == (OURS, n, False)),
            None,
        )
        hot = None if opened is None or opened.hot_bytes is None else opened.hot_bytes / n
        yield _bar(
            "hot bytes a token", "<= 2", n, None if hot is None else f"{hot:.2f}", _at_most(hot, 2)
        )
        beside = None if opened is None else opened.facts.get("disk_bytes")  # without the tables
        disk = None if built is None or beside is None else float(beside) / n
        yield _bar(
            "bytes a token on disk",
            "<= 70 (aim 36)",
            n,
            None if disk is None else f"{disk:.1f}",
            _at_most(disk, 70),
        )


def _filter(records: Records) -> Iterator[Bar]:
    for n in records.sizes:
        kept = records.speed(OURS, n, _THREADS, DEFAULT_DIAL, "1 % of videos")
        everything = records.speed(OURS, n, _THREADS, DEFAULT_DIAL, "default")
        if kept is None or everything is None:
            yield _bar("filter that keeps 1 %", ">= 10x, no recall lost", n, None, None)
            continue
        times = _paired(everything, kept)
        text = f"{times:.1f}x, recall {kept.recall:.4f} against {everything.recall:.4f}"
        met = times >= 10 and kept.recall >= min(everything.recall, _RECALL)
        yield _bar("filter that keeps 1 %", ">= 10x, no recall lost", n, text, met)


def _weights(records: Records) -> Iterator[Bar]:
    for n in records.sizes:
        weighted = records.speed(OURS, n, _THREADS, DEFAULT_DIAL, "weighted token_max")
        plain = records.speed(OURS, n, _THREADS, DEFAULT_DIAL, "default")
        if weighted is None or plain is None:
            yield _bar("four-way weighting over unweighted", "<= 5 %", n, None, None)
            continue
        more = 100 * (_paired(weighted, plain) - 1)
        yield _bar("four-way weighting over unweighted", "<= 5 %", n, f"{more:+.1f} %", more <= 5)


def _updates(records: Records) -> Iterator[Bar]:
    for done in records.updates:
        speed = (
            f"{done.add_tokens_a_s:,.0f} tokens/s, {100 * done.share_visible:.0f} % found at once"
        )
        met = done.add_tokens_a_s >= 20_000 and done.share_visible == 1
        yield _bar("add", ">= 20,000 tokens/s, visible", done.n_tokens, speed, met)
        gone = f"{done.delete_ms:.3f} ms, {100 * done.share_gone:.0f} % gone at once"
        met = done.delete_ms < 1 and done.share_gone == 1
        yield _bar("delete", "< 1 ms, gone", done.n_tokens, gone, met)


def _memory(records: Records) -> Iterator[Bar]:
    """What building took beyond what the process held before, at the largest size and one smaller."""
    took = {
        b.n_tokens: b.peak_bytes - b.before_bytes
        for b in records.builds
        if b.engine == OURS and not b.merged
    }
    if len(took) < 2:
        return
    *_, smaller, largest = sorted(took)
    text = (
        f"{took[largest] / 2**20:,.0f} MiB after {took[smaller] / 2**20:,.0f} MiB at {smaller:.0e}"
    )
    met = took[largest] <= 1.5 * max(took[smaller], 64 * 2**20)
    yield _bar("peak memory while building", "bounded: <= 1.5x", largest, text, met)


def _paired(one: Speed, other: Speed) -> float:
    """How many times as long ``one`` takes, over searches of the same query in the same turn."""
    n = min(len(one.seconds), len(other.seconds))
    return float(np.median(np.array(one.seconds[:n]) / np.array(other.seconds[:n])))


def _times(ours: Speed | None, theirs: Speed) -> float:
    """How many times as fast ``ours`` is; 0 where there is none as right."""
    return 0.0 if ours is None else theirs.p50_ms / ours.p50_ms


def _at_most(value: float | None, limit: float) -> bool | None:
    return None if value is None else value <= limit


def _bar(name: str, asked: str, n_tokens: int, measured: str | None, met: bool | None) -> Bar:
    return Bar(name, asked, f"{n_tokens:.0e}".replace("+0", ""), measured, met)
