"""Opening media files, choosing streams, and decoding past damage: what pictures and sound share.

Nothing but the given local file is opened: only containers that hold their own media are read, so
that no play list, whatever its file is called, can bring in other files or the network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast, overload

import av
from av.stream import Disposition

from mmretrieve.errors import MediaError
from mmretrieve.regular import open_regular

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


MAX_SIDE_PX = 16_384
MAX_PIXELS = 1 << 27

MAX_DURATION_S = 30 * 86_400
"""A file that claims more does not know how long it is; nothing after it is read."""

DEMUXERS = (
    "aac,ac3,aiff,amr,ape,apng,asf,au,av1,avi,avs2,avs3,caf,dirac,dnxhd,dts,dv,eac3,f4v,flac,flv,gif,"
    "gxf,h261,h263,h264,hevc,ivf,lmlm4,m4v,matroska,mjpeg,mov,mp3,mpc,mpc8,mpeg,mpegts,mpegvideo,mxf,"
    "nut,obu,ogg,rm,tak,truehd,tta,vc1,vvc,w64,wav,webm,wtv,wv,xwma,yuv4mpegpipe"
)
"""FFmpeg's readers of containers whose media lies in the file itself. Left out are play lists (hls,
dash, concat, imf), devices, scripts, text, and still pictures."""
_EXACT_START_S = Fraction(1, 500)


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open a local file for reading, with the errors that a person can act on.

    Raises:
        MediaError: missing, unreadable, empty, or no media file.
    """
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise MediaError(
                    f"{path.name}: the file is empty (0 bytes); copy or download it again"
                )
        container = av.open(
            # The prefix keeps FFmpeg from taking a name with a colon for an address.
            f"file:{path.absolute()}",
            "r",
            options={"protocol_whitelist": "file", "format_whitelist": DEMUXERS},
            metadata_errors="replace",
        )
    except IsADirectoryError as error:
        raise MediaError(f"{path.name}: is a folder, expected a media file") from error
    except av.error.ArgumentError as error:
        raise MediaError(
            f"{path.name}: cannot be opened as media: no container that is read here; expected mp4, "
            "mkv, webm, avi, mpeg or the like"
        ) from error
    except MemoryError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{path.name}: cannot be opened as media: {reason_of(error)}") from error
    with container:
        yield container


def reason_of(error: Exception) -> str:
    """One line that says what went wrong."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).splitlines()[0] if text else type(error).__name__


def _playable(stream: VideoStream | AudioStream) -> bool:
    return cast(object, stream.codec_context) is not None


def best_video(container: InputContainer) -> VideoStream | None:
    """The video stream that a player would show; cover pictures do not count."""
    cover = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [s for s in container.streams.video if _playable(s) and not s.disposition & cover]
    best = container.streams.best("video")
    return next((s for s in streams if best and s.index == best.index), next(iter(streams), None))


def best_audio(container: InputContainer) -> AudioStream | None:
    """The sound that a player would play: marked as default, else the first."""
    streams = [s for s in container.streams.audio if _playable(s)]
    chosen = (s for s in streams if s.disposition & Disposition.default)
    return next(chosen, next(iter(streams), None))


def origin_s(container: InputContainer) -> Fraction:
    """Time zero of a file in seconds of its own clock: subtract it from ``pts * time_base``."""
    known = cast("int | None", container.start_time)
    video = best_video(container)
    first = start_s(video) if video is not None else None
    if known is None:
        return first or Fraction(0)
    start = Fraction(known, av.time_base)
    # The container's clock is in microseconds; where the video decides, use its exact one.
    return first if first is not None and abs(first - start) < _EXACT_START_S else start


def start_s(stream: VideoStream | AudioStream) -> Fraction | None:
    """When a stream starts, in seconds of its own clock."""
    if stream.start_time is None or stream.time_base is None:
        return None
    return stream.start_time * stream.time_base


def rate_of(stream: VideoStream) -> Fraction:
    """Frames per second, 0 if unknown."""
    return stream.average_rate or stream.guessed_rate or Fraction(0)


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse absurd pictures before memory is taken for them."""
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
        limit = f"{MAX_SIDE_PX} pixels a side and {MAX_PIXELS} in all"
        raise MediaError(
            f"{path.name}: picture of {width} x {height} is above the limit of {limit}"
        )


@dataclass(slots=True)
class Damage:
    """What went wrong while a stream was decoded."""

    errors: int = 0
    reason: str = ""

    def add(self, error: Exception) -> None:
        """Note one damaged part.

        Raises:
            MemoryError: it is no damage: memory ran out.
        """
        if isinstance(error, MemoryError):
            raise error
        self.errors += 1
        self.reason = self.reason or reason_of(error)


@overload
def decode(
    container: InputContainer, stream: VideoStream, damage: Damage
) -> Iterator[VideoFrame]: ...


@overload
def decode(
    container: InputContainer, stream: AudioStream, damage: Damage
) -> Iterator[AudioFrame]: ...


def decode(
    container: InputContainer, stream: VideoStream | AudioStream, damage: Damage
) -> Iterator[VideoFrame | AudioFrame]:
    """All frames of a stream that can be decoded, in order of display; what cannot be is noted
    in ``damage``."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            damage.add(error)
            packet = None
        try:
            yield from stream.decode(packet)
        except av.error.EOFError:
            return
        except (av.FFmpegError, ValueError) as error:
            damage.add(error)
        if packet is None:
            return
