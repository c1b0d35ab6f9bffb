"""Screens of the demo clips: a terminal, slides, the bars of a podcast, drifting colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.demo_pictures import HEIGHT, WIDTH, Colour, noise

INK: Colour = (34, 40, 49)
TERMINAL: tuple[tuple[float, Colour, str], ...] = (
    (0.5, (120, 220, 140), "dev@laptop:~/site$ git pull"),
    (3.0, (235, 235, 235), "git@forge.example: Permission denied (publickey)."),
    (3.2, (235, 235, 235), "fatal: Could not read from remote repository."),
    (7.0, (120, 220, 140), "dev@laptop:~/site$ ssh-add ~/.ssh/id_ed25519"),
    (9.0, (235, 235, 235), "Identity added: /home/dev/.ssh/id_ed25519"),
    (12.0, (120, 220, 140), "dev@laptop:~/site$ git pull"),
    (14.0, (235, 235, 235), "Updating 3f2a91c..b70d4e8"),
    (14.2, (235, 235, 235), "Fast-forward"),
    (14.4, (235, 235, 235), " templates/invoice.html | 12 ++++++------"),
    (18.0, (120, 220, 140), "dev@laptop:~/site$ df -h /var"),
    (20.0, (235, 235, 235), "/dev/sda2   40G   40G     0  100%  /var"),
    (20.2, (250, 120, 110), "warning: no space left on device"),
)


@dataclass(frozen=True, slots=True)
class Slide:
    """A heading with lines below, shown from ``start_s`` on."""

    start_s: float
    heading: str
    lines: tuple[str, ...]


SLIDES: tuple[Slide, ...] = (
    Slide(0, "Week 5: keeping data", ("Why disks fail", "Backups that work", "Questions")),
    Slide(
        6,
        "Why disks fail",
        (
            "Bearings wear out",
            "Flash cells lose their charge",
            "Most failures come without a warning",
        ),
    ),
    Slide(
        12,
        "The 3-2-1 backup rule",
        (
            "Keep three copies of the data",
            "on two kinds of media",
            "and one copy in another building",
        ),
    ),
    Slide(
        18,
        "Homework",
        (
            "Restore one file from your backup",
            "Measure how long it takes",
            "Hand in by Friday noon",
        ),
    ),
)


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A DejaVu font (Debian: ``fonts-dejavu-core``)."""
    return ImageFont.truetype(f"{name}.ttf", size)


def terminal(t: float) -> Image.Image:
    """A terminal window in which commands appear; small text."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), (52, 60, 78))
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((30, 26, WIDTH - 30, HEIGHT - 26), 18, (18, 20, 26))
    draw.rounded_rectangle((30, 26, WIDTH - 30, 76), 18, (44, 48, 58))
    for i, colour in enumerate(((240, 96, 88), (246, 190, 80), (100, 200, 96))):
        draw.ellipse((54 + 34 * i, 40, 76 + 34 * i, 62), colour)
    face = font("DejaVuSansMono", 29)
    shown = [line for line in TERMINAL if line[0] <= t]
    for row, (start_s, colour, text) in enumerate(shown):
        typed = text
        if "$ " in text:
            prompt, command = text.split("$ ")
            typed = f"{prompt}$ {command[: int((t - start_s) * 16)]}"
        draw.text((56, 96 + 46 * row), typed, colour, font=face)
    return picture


def slide(t: float) -> Image.Image:
    """The slide of that time."""
    current = [s for s in SLIDES if s.start_s <= t][-1]
    picture = Image.new("RGB", (WIDTH, HEIGHT), (250, 249, 246))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 26, HEIGHT), (38, 92, 148))
    draw.text((100, 84), current.heading, (38, 92, 148), font=font("DejaVuSans-Bold", 62))
    draw.line((100, 176, WIDTH - 100, 176), (200, 204, 210), 4)
    for row, line in enumerate(current.lines):
        draw.ellipse((104, 262 + 104 * row, 120, 278 + 104 * row), (38, 92, 148))
        draw.text((150, 246 + 104 * row), line, INK, font=font("DejaVuSans", 42))
    return picture


def bars(t: float, loudness: NDArray[np.float32], fps: float) -> Image.Image:
    """Bars that follow the loudness (``(n_frames,)``, 0..1) of what is heard at ``t``."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), (28, 24, 44))
    draw = ImageDraw.Draw(picture)
    here = int(t * fps)
    for i in range(-20, 21):
        frame = here + i
        level = float(loudness[frame]) if 0 <= frame < len(loudness) else 0.0
        half = 8 + 230 * level * math.exp(-((i / 14) ** 2))
        x = WIDTH / 2 + 28 * i
        colour = (int(240 - 3 * abs(i)), int(120 + 4 * abs(i)), 150)
        draw.rounded_rectangle((x - 9, HEIGHT / 2 - half, x + 9, HEIGHT / 2 + half), 9, colour)
    return picture


def drifting_colours(t: float) -> Image.Image:
    """Soft colours out of focus; nothing that could be named."""
    layers = []
    for i in range(3):
        field = np.roll(noise(91 + i, 3, 1), int((18 + 9 * i) * t), axis=1)
        layers.append(60 + 110 * field)
    return Image.fromarray(np.stack(layers, -1).astype(np.uint8))
