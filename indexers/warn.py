"""How readers tell of what they left out: one message, and the work goes on."""

from __future__ import annotations

from collections.abc import Callable

Warn = Callable[[str], None]


def ignore(message: str) -> None:
    """Take a warning and do nothing."""
