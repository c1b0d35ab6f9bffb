"""Reading media files: facts, sampled pictures with exact times, single frames, sound.

Only PyAV is used; no program is started and nothing but the given file is opened.

Time zero is where the container's timeline starts, which is what players show and what subtitle
files count from. A time is ``pts * time_base - origin`` in rational arithmetic, turned into
``float`` seconds at the very end, so sampling and fetching agree to the bit on variable frame
rates and on streams that start late, early, or below zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np

from mmretrieve.datatypes import Probe
from mmretrieve.errors import MediaError
from mmretrieve.indexers.containers import (
    MAX_DURATION_S,
    MAX_PIXELS,
    Damage,
    best_audio,
    best_video,
    check_size,
    decode,
    open_media,
    origin_s,
    rate_of,
    start_s,
)
from mmretrieve.indexers.sound import iter_audio
from mmretrieve.indexers.warn import Warn, ignore

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

__all__ = [
    "SampledFrame",
    "best_audio",
    "best_video",
    "fetch_frame",
    "iter_audio",
    "iter_frames",
    "open_media",
    "origin_s",
    "probe",
]

ANALYSIS_SIDE_PX = 160
"""Longer side of the small pictures that cuts and keyframes are found on."""

_MAX_TAGS, _MAX_TAG_NAME_CHARS, _MAX_TAG_CHARS = 500, 200, 100_000
_DECODE_THREADS = 2
_SEEK_MARGIN_S = Fraction(2)
_TICK_S = Fraction(1, 1000)
"""Containers round times to this much; a frame so little before its period belongs to it."""
_FAST_SOURCE = 3
"""A source this many times faster than asked for may drop frames that nothing refers to."""


@dataclass(frozen=True, slots=True)
class SampledFrame:
    """One decoded frame. ``small`` is ``(h, w)`` uint8 luma and ``chroma`` ``(h, w, 2)`` uint8,
    both as displayed with the longer side at most :data:`ANALYSIS_SIDE_PX`. ``width``/``height``
    are those of the full picture as displayed, which is made only when asked for."""

    time_s: float
    small: NDArray[np.uint8]
    chroma: NDArray[np.uint8]
    width: int
    height: int
    _frame: VideoFrame
    _quarter_turns: int

    def rgb(self) -> NDArray[np.uint8]:
        """The full picture, ``(height, width, 3)`` uint8 RGB as displayed."""
        return _picture(self._frame, self._quarter_turns, "rgb24")

    def rgb_within(self, shorter_side_px: int) -> NDArray[np.uint8]:
        """The picture scaled down until its shorter side is at most ``shorter_side_px``."""
        factor = min(Fraction(1), Fraction(shorter_side_px, min(self.width, self.height)))
        return _picture(self._frame, self._quarter_turns, "rgb24", factor)

    def gray_within(self, longer_side_px: int) -> NDArray[np.uint8]:
        """Luma ``(h, w)`` uint8, scaled down until its longer side is at most
        ``longer_side_px``."""
        factor = min(Fraction(1), Fraction(longer_side_px, max(self.width, self.height)))
        return _picture(self._frame, self._quarter_turns, "gray", factor)


def probe(path: Path) -> Probe:
    """Facts of a media file. At most one frame is decoded, to learn the display rotation.

    ``width`` and ``height`` are as displayed; ``rotation_deg`` is clockwise, one of 0, 90, 180,
    270; ``duration_s`` is 0 where the file does not say.

    Raises:
        MediaError: the file cannot be opened, or holds neither video nor audio.
    """
    with open_media(path) as container:
        video, audio = best_video(container), best_audio(container)
        if video is None and audio is None:
            raise MediaError(f"{path.name}: no video or audio in it that can be played")
        if video is not None:
            check_size(path, video.width, video.height)
        turns = _probe_turns(container, video) if video is not None else 0
        size = (video.width, video.height) if video is not None else (None, None)
        width, height = size[::-1] if turns % 2 else size
        return Probe(
            duration_s=_duration_s(container),
            container=container.format.name,
            size_bytes=path.stat().st_size,
            width=width,
            height=height,
            fps=float(rate_of(video)) if video is not None and rate_of(video) else None,
            video_codec=video.codec_context.codec.canonical_name if video is not None else None,
            audio_codec=audio.codec_context.codec.canonical_name if audio is not None else None,
            rotation_deg=turns * 90,
            n_audio_streams=len(container.streams.audio),
            n_subtitle_streams=len(container.streams.subtitles),
            tags=_tags(container, video, audio),
        )


def _tags(container: InputContainer, *streams: VideoStream | AudioStream | None) -> dict[str, str]:
    """Tags by lower-case name; those of the container win over those of streams. Bounded: a file may
    consist of nothing else."""
    tags: dict[str, str] = {}
    for source in (container, *streams):
        for name, value in (source.metadata if source is not None else {}).items():
            if len(tags) < _MAX_TAGS and len(name) <= _MAX_TAG_NAME_CHARS:
                tags.setdefault(name.lower(), value[:_MAX_TAG_CHARS])
    return tags


def _duration_s(container: InputContainer) -> float:
    known = [
        float(stream.duration * stream.time_base)
        for stream in (*container.streams.video, *container.streams.audio)
        if stream.duration and stream.time_base
    ]
    if container.duration and container.duration > 0:
        known = [float(Fraction(container.duration, av.time_base))]
    return max((d for d in known if 0 < d <= MAX_DURATION_S), default=0.0)


def _probe_turns(container: InputContainer, video: VideoStream) -> int:
    if not {"mov", "mp4", "matroska"} & set(container.format.name.split(",")):
        return 0
    frame = next(decode(container, video, Damage()), None)
    return _turns(frame) if frame is not None else 0


def _turns(frame: VideoFrame) -> int:
    """Clockwise quarter turns that bring a decoded picture upright."""
    return round(-frame.rotation / 90) % 4


def _prepare(path: Path, container: InputContainer) -> VideoStream:
    video = best_video(container)
    if video is None:
        raise MediaError(f"{path.name}: no video in it that can be played")
    check_size(path, video.width, video.height)
    video.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    video.thread_type = av.codec.context.ThreadType.AUTO
    video.thread_count = _DECODE_THREADS
    return video


def _timed(
    container: InputContainer, video: VideoStream, damage: Damage
) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Frames with their times from the origin, which never run backwards."""
    origin, step = origin_s(container), 1 / (rate_of(video) or Fraction(25))
    last: Fraction | None = None
    for frame in decode(container, video, damage):
        stamp = frame.pts if frame.pts is not None else frame.dts
        base = frame.time_base or video.time_base
        if stamp is not None and base is not None:
            time = stamp * base - origin
        else:
            time = last + step if last is not None else Fraction(0)
        if last is not None and time <= last:
            continue
        if time > MAX_DURATION_S:
            return
        last = time
        yield time, frame


def iter_frames(path: Path, fps: float, warn: Warn = ignore) -> Iterator[SampledFrame]:
    """Decode the video once and yield about ``fps`` frames per second of it, in order.

    Of each period of ``1 / fps`` seconds the first frame in it is taken; a slower source gives
    all its frames. Damage is reported through ``warn`` as long as anything could be decoded.

    Raises:
        MediaError: cannot be opened, no video, absurd dimensions, or not one frame decodable.
    """
    rate, damage = Fraction(fps).limit_denominator(1000), Damage()
    slot, last, found = -1, Fraction(0), False
    with open_media(path) as container:
        video = _prepare(path, container)
        sparse = rate_of(video) >= _FAST_SOURCE * rate
        video.codec_context.skip_frame = "NONREF" if sparse else "DEFAULT"
        for time, frame in _timed(container, video, damage):
            if sparse and found and time - last > 1 / rate:
                # Too few frames refer to each other here: from now on decode all of them.
                video.codec_context.skip_frame, sparse = "DEFAULT", False
            found, last = True, time
            period = int((time + _TICK_S) * rate // 1)
            if period > slot and time >= 0:
                slot = period
                yield _sample(path, time, frame)
        _report(path, container, video, last if found else None, damage, warn)


def _report(
    path: Path,
    container: InputContainer,
    video: VideoStream,
    last: Fraction | None,
    damage: Damage,
    warn: Warn,
) -> None:
    if last is None:
        why = damage.reason or "it holds no pictures"
        raise MediaError(f"{path.name}: not one frame could be decoded: {why}")
    planned = _video_end_s(container, video)
    if damage.errors:
        warn(f"{path.name}: {damage.errors} damaged parts of the video skipped ({damage.reason})")
    if planned - last > max(Fraction(1), planned / 10):
        warn(
            f"{path.name}: pictures end at {float(last):.1f} s of {float(planned):.1f} s;"
            " the file may be cut short"
        )


def _video_end_s(container: InputContainer, video: VideoStream) -> Fraction:
    if video.duration and video.time_base:
        return video.duration * video.time_base
    return Fraction(container.duration or 0, av.time_base)


def _sample(path: Path, time: Fraction, frame: VideoFrame) -> SampledFrame:
    check_size(path, frame.width, frame.height)
    turns = _turns(frame)
    factor = min(Fraction(1), Fraction(ANALYSIS_SIDE_PX, max(frame.width, frame.height)))
    planes = _picture(frame, turns, "yuv444p", factor)
    width, height = (frame.width, frame.height)[:: -1 if turns % 2 else 1]
    return SampledFrame(
        float(time), planes[0], np.moveaxis(planes[1:], 0, -1), width, height, frame, turns
    )


def _picture(
    frame: VideoFrame, turns: int, layout: str, factor: Fraction = Fraction(1)
) -> NDArray[np.uint8]:
    """Convert and scale in one step, then turn upright."""
    width, height = max(1, round(frame.width * factor)), max(1, round(frame.height * factor))
    scaling = "AREA" if factor < 1 else "BILINEAR"
    made = frame.reformat(width, height, layout, interpolation=scaling, threads=1)
    array = cast("NDArray[np.uint8]", made.to_ndarray())
    axes = (1, 2) if layout == "yuv444p" else (0, 1)
    return np.ascontiguousarray(np.rot90(array, -turns, axes)) if turns else array


def fetch_frame(path: Path, time_s: float) -> NDArray[np.uint8]:
    """The frame shown at ``time_s``: ``(height, width, 3)`` uint8 RGB as displayed.

    For a time that :func:`iter_frames` gave it is that frame, bit for bit.

    Raises:
        MediaError: as :func:`iter_frames`.
    """
    for seek in (True, False):
        with open_media(path) as container:
            video = _prepare(path, container)
            if seek and not _seek(container, video, time_s):
                continue
            frame = _frame_at(container, video, time_s, from_key=seek)
            if frame is not None:
                check_size(path, frame.width, frame.height)
                return _picture(frame, _turns(frame), "rgb24")
    raise MediaError(f"{path.name}: no frame could be decoded at {time_s:.3f} s")


def _seek(container: InputContainer, video: VideoStream, time_s: float) -> bool:
    """Jump to a point safely before; false when decoding from the start is as good or needed."""
    target = Fraction(time_s) + origin_s(container) - _SEEK_MARGIN_S
    start = start_s(video)
    if video.time_base is None or start is None or target <= start:
        return False
    try:
        container.seek(int(target / video.time_base), stream=video, backward=True)
    except (av.FFmpegError, OSError):
        return False
    return True


def _frame_at(
    container: InputContainer, video: VideoStream, time_s: float, *, from_key: bool
) -> VideoFrame | None:
    """The last frame at or before ``time_s``, else the first; ``None``: begin further ahead.

    After a seek nothing counts until the first key frame, because what is shown before it may
    refer to pictures that were never decoded.
    """
    shown: VideoFrame | None = None
    trusted = not from_key
    for time, frame in _timed(container, video, Damage()):
        if from_key and frame.pts is None:
            return None
        trusted = trusted or frame.key_frame
        if not trusted:
            continue
        if float(time) > time_s:
            return shown if shown is not None or from_key else frame
        shown = frame
    return shown
