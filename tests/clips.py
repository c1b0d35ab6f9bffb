"""Clips made on the spot for tests: moving shapes, drawn text, odd times, turned and broken files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]


def scene(index: int, seed: int, width: int = 320, height: int = 180) -> Picture:
    """Frame ``index`` of a scene: blocks of colours that ``seed`` decides, and a moving square."""
    blocks = np.random.default_rng(seed).integers(30, 226, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)
    x = (index * 4) % max(1, width - width // 8)
    corner = (x + width // 8, height // 2 + height // 8)
    ImageDraw.Draw(image).rectangle((x, height // 2, *corner), fill=(255, 255, 255))
    return np.asarray(image, np.uint8)


def page(
    lines: Sequence[tuple[str, int, int, int]], width: int = 640, height: int = 360
) -> Picture:
    """A light page with ``(text, x, y, size_px)`` lines on it."""
    image = Image.new("RGB", (width, height), (236, 236, 230))
    draw = ImageDraw.Draw(image)
    for text, x, y, size in lines:
        draw.text((x, y), text, fill=(20, 20, 40), font=ImageFont.load_default(size=size))
    return np.asarray(image, np.uint8)


def write_video(
    path: Path,
    pictures: Iterable[Picture],
    fps: int = 12,
    pts: Sequence[int] | None = None,
    rotation_deg: float | None = None,
    codec: str = "libx264",
    time_base: Fraction | None = None,
    tags: dict[str, str] | None = None,
    gop: int = 12,
) -> Path:
    """Encode pictures; ``pts`` are in ``time_base`` units (default: one per frame)."""
    with av.open(str(path), "w") as container:
        container.metadata.update(tags or {})
        stream: VideoStream | None = None
        for index, picture in enumerate(pictures):
            if stream is None:
                stream = cast(VideoStream, container.add_stream(codec, rate=fps))
                stream.height, stream.width = picture.shape[:2]
                even = stream.height % 2 == 0 and stream.width % 2 == 0
                stream.pix_fmt = "yuv420p" if even else "yuv444p"
                stream.gop_size = gop
                stream.codec_context.time_base = time_base or Fraction(1, fps)
                if rotation_deg is not None:
                    stream.set_display_rotation(rotation_deg)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.pts = pts[index] if pts is not None else index
            frame.time_base = time_base or Fraction(1, fps)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())
    return path


def write_tone(path: Path, seconds: float, rate: int = 22_050, hertz: float = 440.0) -> Path:
    """A stereo tone without pictures."""
    times = np.arange(int(seconds * rate)) / rate
    wave = (0.5 * np.sin(2 * np.pi * hertz * times) * 32767).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="stereo")
        for at in range(0, len(wave), 1024):
            part = np.repeat(wave[at : at + 1024], 2).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="stereo")
            frame.sample_rate, frame.pts = rate, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sounding(
    path: Path, pictures: Iterable[Picture], sound: NDArray[np.float32], fps: int = 12
) -> Path:
    """A clip (Matroska) with ``sound`` ``(n,)`` at 16 kHz beside its pictures, coded without loss."""
    with av.open(str(path), "w", format="matroska") as container:
        frames = list(pictures)
        seen = container.add_stream("libx264", rate=fps)
        seen.height, seen.width = frames[0].shape[:2]
        seen.pix_fmt = "yuv420p"
        heard = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(seen.encode(frame))
        container.mux(seen.encode())
        wave = np.rint(np.clip(sound, -1, 1) * 32767).astype(np.int16)
        for at in range(0, len(wave), 1024):
            part = av.AudioFrame.from_ndarray(wave[None, at : at + 1024], "s16", "mono")
            part.sample_rate, part.pts = 16_000, at
            container.mux(heard.encode(part))
        container.mux(heard.encode())
    return path
