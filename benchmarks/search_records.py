"""What was measured, as records, and what can be read off them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

TARGETS = (0.90, 0.95, 0.99)
DEFAULT_DIAL, EXACT_DIAL = "default", "exact"


@dataclass(frozen=True, slots=True)
class Speed:
    """Searches of one engine with one setting: recall@10 over ``n_queries``, seconds of each search, and
    of the baseline's search of the same query just before it."""

    engine: str
    dial: str
    case: str
    kind: str
    n_tokens: int
    threads: int
    recall: float
    n_queries: int
    seconds: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def p50_ms(self) -> float:
        return 1e3 * float(np.median(self.seconds))

    @property
    def p95_ms(self) -> float:
        return 1e3 * float(np.percentile(self.seconds, 95))

    @property
    def to_baseline(self) -> float:
        """The median of how many times as fast as the baseline a search was."""
        return float(np.median(np.array(self.baseline) / np.array(self.seconds)))


@dataclass(frozen=True, slots=True)
class Build:
    """What it took to make one index. Memory is what the process itself held, in bytes: ``before`` it
    began, and at most."""

    engine: str
    n_tokens: int
    merged: bool
    seconds: float
    disk_bytes: int
    before_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Update:
    """Adding and deleting."""

    n_tokens: int
    add_tokens_a_s: float
    share_visible: float
    delete_ms: float
    share_gone: float


@dataclass(frozen=True, slots=True)
class Opened:
    """A process ready to search: bytes of its own, and what the engine says of itself."""

    engine: str
    n_tokens: int
    threads: int
    merged: bool
    own_bytes: int
    facts: dict[str, str | int | float]

    @property
    def hot_bytes(self) -> float | None:
        """Bytes of the index that are kept in memory, by the engine's own account."""
        value = self.facts.get("hot_bytes")
        return None if value is None else float(value)


@dataclass(slots=True)
class Records:
    """All of one run. ``absent``: engine, tokens, and why there is nothing of it."""

    speeds: list[Speed] = field(default_factory=list)
    builds: list[Build] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    absent: list[tuple[str, int, str]] = field(default_factory=list)
    task: str = ""

    def speed(
        self, engine: str, n_tokens: int, threads: int, dial: str, case: str | None = None
    ) -> Speed | None:
        """One measurement with queries of even length, if it was made."""
        found = self.sweep(engine, n_tokens, threads, case)
        return next((s for s in found if s.dial == dial), None)

    def sweep(
        self, engine: str, n_tokens: int, threads: int, case: str | None = None
    ) -> list[Speed]:
        """All settings of an engine on the common task (or another case)."""
        wanted = (engine, n_tokens, threads, case or self.task, "even")
        return [
            s for s in self.speeds if (s.engine, s.n_tokens, s.threads, s.case, s.kind) == wanted
        ]

    @property
    def sizes(self) -> list[int]:
        return sorted({s.n_tokens for s in self.speeds})

    @property
    def engines(self) -> list[str]:
        return list(dict.fromkeys(s.engine for s in self.speeds))


def cheapest(speeds: Iterable[Speed], recall: float) -> Speed | None:
    """The fastest setting that reaches a recall. Nothing is interpolated: who uses an engine can have
    the settings that it has."""
    good = [s for s in speeds if s.recall >= recall - 1e-9]
    return min(good, key=lambda s: s.p50_ms, default=None)


def frontier(speeds: Sequence[Speed]) -> list[Speed]:
    """The settings that no other one beats in both recall and speed, by ascending recall."""
    kept: list[Speed] = []
    for speed in sorted(speeds, key=lambda s: (-s.recall, s.p50_ms)):
        if not kept or speed.p50_ms < kept[-1].p50_ms:
            kept.append(speed)
    return kept[::-1]
