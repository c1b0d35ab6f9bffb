"""What a target of ``fuzz`` is, and the checks that several share."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Protocol

from mmretrieve.datatypes import Segment


class WrongError(Exception):
    """A promise that an input broke."""


class Target(Protocol):
    """One way into the program."""

    name: str
    weight: float
    """Share of the inputs, relative to the other targets; 0 for a number of its own."""

    def prepare(self, folder: Path) -> None:
        """Make seeds and what else is needed, once, in a folder that is the target's own."""
        ...

    def make(self, rng: Random) -> bytes:
        """An input that follows from the random numbers."""
        ...

    def feed(self, data: bytes) -> str:
        """What became of an input, in a word or two. Whatever it raises is a fault of the program."""
        ...

    def close(self) -> None:
        """Let go of what :meth:`prepare` made."""
        ...


def check_segments(segments: Iterable[Segment], duration_s: float | None = None) -> None:
    """Segments that can be stored, shown and cited.

    Raises:
        WrongError: one cannot.
    """
    for segment in segments:
        check_text(segment.text)
        times = [t for t in (segment.start_s, segment.end_s) if t is not None]
        if not all(math.isfinite(t) and 0 <= t < 1e8 for t in times) or sorted(times) != times:
            raise WrongError(f"times {times}")
        if not 0 <= segment.confidence <= 1:
            raise WrongError(f"confidence {segment.confidence}")


def check_text(text: str) -> None:
    """Text that UTF-8 can hold, without NUL.

    Raises:
        WrongError: it is none.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise WrongError("text that cannot be stored") from error
    if "\0" in text:
        raise WrongError("NUL in a text")


def check_shown(text: str) -> None:
    """Text that can steer no terminal.

    Raises:
        WrongError: it can.
    """
    for sign in text:
        bidi = unicodedata.bidirectional(sign) in (
            *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
        )
        if bidi or (unicodedata.category(sign) in ("Cc", "Cs") and sign != "\n"):
            raise WrongError(f"U+{ord(sign):04X} would be shown")
