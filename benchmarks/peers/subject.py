"""What is measured: anything that builds an index of a corpus and searches it.

To add an engine write a class with these methods and name it in :mod:`benchmarks.peers.registry`. It runs
in a process of its own, maybe in an environment without the program's requirements: import NumPy,
:mod:`benchmarks.search_corpus` and what the engine needs, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from benchmarks.search_corpus import Block, Corpus

Array = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Dial:
    """One setting of what an engine lets its users choose between fast and right."""

    name: str
    values: Mapping[str, int | float] = field(default_factory=dict)


class Subject(Protocol):
    """An engine. ``build`` and ``open`` happen in different processes, so that what the one leaves in
    memory is not counted for the other."""

    def build(self, corpus: Corpus, folder: Path, threads: int) -> None:
        """Write an index into the empty ``folder``. Tokens come from ``corpus.vectors``, mapped into
        memory, or ``corpus.blocks()``."""
        ...

    def open(self, corpus: Corpus, folder: Path, threads: int) -> None:
        """Make ready to search what :meth:`build` wrote."""
        ...

    def dials(self) -> Sequence[Dial]:
        """Settings to measure, fastest first."""
        ...

    def search(self, query: Array, k: int, dial: Dial, case: str) -> Sequence[int] | Numbers:
        """Numbers of the best ``k`` passages (of videos, for a case by video), best first.

        ``query`` ``(n_query_tokens, dim)``; ``case`` is the name of a case of
        :mod:`benchmarks.search_cases`. Engines that know of plain MaxSim alone are only asked
        ``plain merged``. Queries are asked more than once: nothing that depends on one may be kept
        for the next.
        """
        ...

    def facts(self) -> Mapping[str, str | int | float]:
        """What else is worth knowing; ``hot_bytes``: what of the index a search keeps in memory."""
        ...


@runtime_checkable
class Updatable(Protocol):
    """An engine whose index can change while it is open."""

    def add(self, block: Block) -> None:
        """Add videos; the next search finds them."""
        ...

    def delete(self, videos: Sequence[int]) -> None:
        """Delete videos; the next search does not find them."""
        ...


def best(scores: NDArray[np.floating], k: int) -> Numbers:
    """Numbers of the ``k`` largest scores, largest first."""
    k = min(k, len(scores))
    some = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
    return np.asarray(some[np.argsort(-scores[some], kind="stable")], np.int64)
