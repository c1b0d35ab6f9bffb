"""The sound of a media file as mono chunks on the timeline of its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np

from mmretrieve.datatypes import Sound
from mmretrieve.errors import MediaError
from mmretrieve.indexers.containers import (
    MAX_DURATION_S,
    Damage,
    best_audio,
    decode,
    open_media,
    origin_s,
)
from mmretrieve.indexers.warn import Warn, ignore

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from numpy.typing import NDArray

_AUDIO_CHUNK_S = 10


def iter_audio(path: Path, rate: int = 16_000, warn: Warn = ignore) -> Iterator[Sound]:
    """The sound as mono chunks of at most ten seconds at ``rate`` samples per second.

    A chunk's ``start_s`` is on the timeline of the pictures; a gap in the stream starts a new
    chunk. Damaged parts are left out and reported through ``warn``.

    Raises:
        MediaError: cannot be opened, or has no audio that can be played.
    """
    damage = Damage()
    with open_media(path) as container:
        stream = best_audio(container)
        if stream is None:
            raise MediaError(f"{path.name}: no audio in it that can be played")
        start, n_samples = 0.0, 0
        parts: list[NDArray[np.float32]] = []
        for time, samples in _resampled(container, stream, rate, damage):
            gap = abs(start + n_samples / rate - time) > 0.1
            if parts and (gap or n_samples + len(samples) > _AUDIO_CHUNK_S * rate):
                yield Sound(start, np.concatenate(parts))
                parts, n_samples = [], 0
            start = time if not parts else start
            parts.append(samples)
            n_samples += len(samples)
        if parts:
            yield Sound(start, np.concatenate(parts))
    if damage.errors:
        warn(f"{path.name}: {damage.errors} damaged parts of the audio skipped ({damage.reason})")


def _resampled(
    container: InputContainer, stream: AudioStream, rate: int, damage: Damage
) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """Mono float pieces of at most a second each with their times; what is before zero is cut."""
    origin, next_time = origin_s(container), 0.0
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    shape: tuple[object, ...] | None = None
    for frame in decode(container, stream, damage):
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape is not None and shape != now:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        shape = now
        if frame.pts is not None and frame.time_base is not None:
            next_time = float(frame.pts * frame.time_base - origin)
        if next_time > MAX_DURATION_S:
            return
        frame.pts = None
        for piece in resampler.resample(frame):
            samples = cast("NDArray[np.float32]", piece.to_ndarray()).reshape(-1)
            early = min(len(samples), max(0, round(-next_time * rate)))
            for at in range(early, len(samples), rate):
                yield next_time + at / rate, samples[at : at + rate]
            next_time += len(samples) / rate
