"""A library of as many small videos as wanted: drawn pictures and words, some with files beside them.

Every number gives the same video whenever it is made. A sentence of its own is what a video can be
found by: it is drawn, said in a subtitle file, or the title in an ``info.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, FPS = 192, 108, 3
PER_FOLDER = 500
_PEOPLE = (
    "baker sailor teacher painter gardener pilot nurse farmer drummer potter weaver miner fisher tailor "
    "plumber dancer judge writer skater archer"
)
_DEEDS = (
    "carries repairs paints counts follows hides washes sells measures borrows admires breaks finds "
    "photographs polishes loses weighs teaches draws guards"
)
_COLOURS = (
    "red green blue yellow purple orange silver golden black white brown pink grey striped spotted "
    "wooden"
)
_THINGS = (
    "lantern bicycle violin kettle ladder umbrella suitcase clock basket hammer statue telescope "
    "blanket mirror compass bottle helmet piano wheel anchor candle rope tent spoon barrel"
)
_PLACES = (
    "harbour library market desert bridge castle garden station museum valley island kitchen meadow "
    "tunnel lighthouse orchard"
)


@dataclass(frozen=True, slots=True)
class MadeVideo:
    """``sentence`` is what the video can be found by, ``kind`` where it stands: ``screen``, ``said`` or
    ``info``."""

    path: Path
    sentence: str
    kind: str


def described(folder: Path, number: int) -> MadeVideo:
    """Where video ``number`` lies below ``folder``, and its sentence."""
    path = folder / f"{number // PER_FOLDER:03}" / f"v{number:06}.mp4"
    return MadeVideo(path, sentence(number), ("screen", "said", "info")[number % 3])


def sentence(number: int, edition: int = 0) -> str:
    """Five words; no two numbers below 2,560,000 share all of them. ``edition`` gives another one."""
    rng = np.random.default_rng(0)
    mixed = (number * 1_000_003 + edition * 7_919) % 2_560_000
    words = []
    for choice in (_PEOPLE, _DEEDS, _COLOURS, _THINGS, _PLACES):
        options = choice.split()
        order = rng.permutation(len(options))
        words.append(options[order[mixed % len(options)]])
        mixed //= len(options)
    who, does, colour, what, where = words
    return f"{who} {does} {colour} {what} {where}"


def make(folder: Path, numbers: range, edition: int = 0) -> Iterator[MadeVideo]:
    """Write the videos of ``numbers``, one after the other."""
    for number in numbers:
        made = described(folder, number)
        text = sentence(number, edition)
        made.path.parent.mkdir(parents=True, exist_ok=True)
        seed = number + edition * 1_000_003
        _write(made.path, _picture(seed, text if made.kind == "screen" else ""), seed)
        if made.kind == "said":
            lines = f"1\n00:00:00,000 --> 00:00:01,000\n{text}\n"
            made.path.with_suffix(".srt").write_text(lines, encoding="utf-8")
        elif made.kind == "info":
            about = {"title": text, "upload_date": f"2024{1 + seed % 12:02}{1 + seed % 28:02}"}
            made.path.with_suffix(".info.json").write_text(json.dumps(about), encoding="utf-8")
        yield MadeVideo(made.path, text, made.kind)


def made_or_kept(folder: Path, numbers: range) -> Iterator[MadeVideo]:
    """As :func:`make`; a folder of videos that is there already, as from a run before, is kept."""
    for low in range(numbers.start, numbers.stop, PER_FOLDER):
        some = range(low, min(low + PER_FOLDER, numbers.stop))
        there = [described(folder, number) for number in some]
        if all(_is_there(video) for video in there):
            yield from there
        else:
            yield from make(folder, some)


def _is_there(video: MadeVideo) -> bool:
    beside = {"said": ".srt", "info": ".info.json", "screen": ".mp4"}[video.kind]
    return video.path.is_file() and video.path.with_suffix(beside).is_file()


def _picture(seed: int, text: str) -> NDArray[np.uint8]:
    """Soft blocks of colours, a figure, and words on a plate."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(30, 226, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(blocks).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    x, y, size = (int(rng.integers(low, high)) for low, high in ((10, 130), (5, 30), (20, 45)))
    colour = tuple(int(v) for v in rng.integers(0, 256, 3))
    shape = (draw.ellipse, draw.rectangle)[seed % 2]
    shape((x, y, x + size, y + size), fill=cast("tuple[int, int, int]", colour))
    if text:
        words = text.split()
        draw.rectangle((0, 64, WIDTH, HEIGHT), fill=(245, 245, 240))
        for row, part in enumerate((" ".join(words[:3]), " ".join(words[3:]))):
            font = ImageFont.load_default(size=14)
            draw.text((6, 67 + 19 * row), part, fill=(15, 15, 30), font=font)
    return np.asarray(image, np.uint8)


def _write(path: Path, picture: NDArray[np.uint8], seed: int) -> None:
    """One second to three of a still picture."""
    temporary = path.with_suffix(".tmp")
    with av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "20", "threads": "1"}
        container.metadata["comment"] = f"number {seed}"
        frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
        for i in range(FPS * (1 + seed % 3)):
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    temporary.replace(path)
