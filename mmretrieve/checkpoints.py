"""Bringing what is derived from the tables up to date while a long run is still going, so that a search need
not catch up with all that was committed since the run began."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mmretrieve.storage.nulls import measured_tokens

GROWTH = 0.5
"""New tokens a token that was there at the last checkpoint, from which on there is another one: less than
what makes a state count as near (:data:`mmretrieve.storage.nulls.NEAR`), and a number of times that grows
with the logarithm of what is indexed."""
LEAST_S = 30.0
"""What is over sooner has no need of any."""


class Checkpoints:
    """Those of one run. The caller holds the writer's lock."""

    def __init__(
        self,
        folder: Path,
        take: Callable[[], Sequence[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``take`` seals and measures what is there, and says what went wrong."""
        self._folder = folder
        self._take = take
        self._clock = clock
        self._since_s = clock()
        self._new = 0
        self._before: int | None = None

    def committed(self, n_tokens: int) -> tuple[str, ...]:
        """So many tokens were committed: take a checkpoint if one is due. What went wrong, if anything."""
        if self._before is None:
            self._before = measured_tokens(self._folder)
        self._new += n_tokens
        if self._new <= GROWTH * self._before or self._clock() - self._since_s < LEAST_S:
            return ()
        notes = tuple(self._take())
        give_back_memory()
        self._new, self._before, self._since_s = 0, None, self._clock()
        return notes


def give_back_memory() -> None:
    """Return to the system what was freed: the C library keeps it in pieces where many threads took it, and a
    checkpoint frees as much as it looked at."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
        if trim is not None:
            trim(0)
