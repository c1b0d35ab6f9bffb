"""Stretches of sound as plain data and back, checked like :mod:`mmretrieve.isolation.records`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmretrieve.datatypes import Sound
from mmretrieve.indexers.hearing import RATE
from mmretrieve.isolation.records import MalformedError, Plain

if TYPE_CHECKING:
    from mmretrieve.indexers.hearing import Span

_SLACK = 2
"""Samples: times are rounded to them."""


def plain_spans(spans: Sequence[Span]) -> Plain:
    """Stretches of a file as JSON data."""
    return {"spans": [[start_s, end_s] for start_s, end_s in spans]}


def read_spans(plain: Plain) -> list[Span]:
    """The inverse of :func:`plain_spans`."""
    return [(float(start_s), float(end_s)) for start_s, end_s in plain["spans"]]


def plain_sound(number: int, sound: Sound) -> tuple[Plain, list[bytes]]:
    """The sound of the stretch of this number as JSON data, and the bytes of its samples."""
    body = {"number": number, "start_s": sound.start_s}
    return body, [np.ascontiguousarray(sound.samples, "<f4").tobytes()]


def read_sound(
    plain: object, blobs: Sequence[bytes], first: int, spans: Sequence[Span]
) -> tuple[int, Sound]:
    """The inverse of :func:`plain_sound`, for a stretch from number ``first`` on.

    Raises:
        MalformedError: what no honest worker sends.
    """
    if not isinstance(plain, dict) or set(plain) != {"number", "start_s"} or len(blobs) != 1:
        raise MalformedError("a sound with other fields")
    number, start_s = plain["number"], plain["start_s"]
    if type(number) is not int or not first <= number < len(spans):
        raise MalformedError("sound that was not asked for")
    low, high = spans[number]
    n_bytes = len(blobs[0])
    if type(start_s) not in (int, float) or not low <= start_s <= high:
        raise MalformedError("sound from another place")
    if not 0 < n_bytes <= 4 * (round((high - start_s) * RATE) + _SLACK) or n_bytes % 4:
        raise MalformedError(f"a sound of {n_bytes} bytes")
    samples = np.frombuffer(blobs[0], "<f4").astype(np.float32)
    if not (np.abs(samples) <= 1.0).all():  # false of what is no number, too
        raise MalformedError("a sound that is louder than can be")
    return number, Sound(float(start_s), samples)
