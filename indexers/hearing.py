"""The sound of given stretches of a media file, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mmretrieve.datatypes import Sound
from mmretrieve.errors import InputError
from mmretrieve.indexers.sound import iter_audio
from mmretrieve.indexers.warn import Warn

RATE = 16_000
SILENT_BELOW = 1e-4
"""A stretch that never gets louder (-80 dB, what coding leaves of silence) is no sound."""

Span = tuple[float, float]


def hear(path: Path, spans: Sequence[Span], warn: Warn) -> Iterator[Sound | None]:
    """The sound of each of ``spans`` (start and end in seconds, ascending), at 16 kHz; None where there
    is none. What cannot be decoded is left out and told of. No more than one stretch and ten seconds
    are held."""
    left = len(spans)
    try:
        for sound in cut(iter_audio(path, RATE, warn), spans):
            yield sound
            left -= 1
    except InputError as error:
        warn(f"sound left out: {error}")
        yield from [None] * left


def cut(chunks: Iterable[Sound], spans: Sequence[Span]) -> Iterator[Sound | None]:
    """What lies of ``chunks`` in each of ``spans``, both in the order of time; gaps inside are silent."""
    source = iter(chunks)
    chunk = next(source, None)
    for start_s, end_s in spans:
        samples = np.zeros(max(0, round((end_s - start_s) * RATE)), np.float32)
        first, last = len(samples), 0
        while chunk is not None and chunk.start_s < end_s:
            low = round((chunk.start_s - start_s) * RATE)
            begin, end = max(0, low), min(len(samples), low + len(chunk.samples))
            if begin < end:
                samples[begin:end] = chunk.samples[begin - low : end - low]
                first, last = min(first, begin), max(last, end)
            if low + len(chunk.samples) > len(samples):
                break  # goes on in the next span
            chunk = next(source, None)
        found = np.clip(samples[first:last], -1.0, 1.0)
        loud = len(found) > 0 and float(np.abs(found).max()) >= SILENT_BELOW
        yield Sound(start_s + first / RATE, found) if loud else None
