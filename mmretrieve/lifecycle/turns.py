"""Turns between threads, by key."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class Turns:
    """Who works on what: one thread a key at a time, the others wait. A key takes memory while it is held
    alone, so that a run over many files does not grow with them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.held: set[Hashable] = set()

    @contextmanager
    def of(self, key: Hashable) -> Iterator[None]:
        """Hold ``key``, once nobody else does."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self.held)
            self.held.add(key)
        try:
            yield
        finally:
            with self._changed:
                self.held.discard(key)
                self._changed.notify_all()
