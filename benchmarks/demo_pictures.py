"""Pictures of the demo clips, drawn with NumPy and Pillow: scenes that an ImageNet network knows.

Every function maps a time in seconds to a picture. They are drawn at twice the size;
:func:`finish` halves it. Nothing is random: noise comes from seeded generators.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WIDTH, HEIGHT = 1280, 720
Colour = tuple[int, int, int]
Field = NDArray[np.floating[Any]]
_PHI = (1 + math.sqrt(5)) / 2


def finish(picture: Image.Image) -> NDArray[np.uint8]:
    """Half-size ``(360, 640, 3)`` uint8 RGB."""
    size = (WIDTH // 2, HEIGHT // 2)
    return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS))


@cache
def noise(seed: int, cells: int, octaves: int = 4) -> Field:
    """Smooth noise in 0..1, ``(HEIGHT, WIDTH)`` float32, ``cells`` bumps across at the coarsest.

    Left and right edge fit together.
    """
    generator = np.random.default_rng(seed)
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    for octave in range(octaves):
        n = cells * 2**octave
        grid = generator.random((max(2, n * HEIGHT // WIDTH), n), dtype=np.float32)
        wrapped = np.pad(grid, ((0, 0), (3, 3)), mode="wrap")
        layer = Image.fromarray(wrapped).resize(
            (WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=(3, 0, n + 3, grid.shape[0])
        )
        total += np.asarray(layer) / 2**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / (high - low)


def gradient(stops: Sequence[tuple[float, Colour]]) -> Image.Image:
    """A vertical gradient through ``(fraction of height, colour)`` stops."""
    places = [place for place, _ in stops]
    rows = np.linspace(0, 1, HEIGHT)
    channels = [np.interp(rows, places, [colour[i] for _, colour in stops]) for i in range(3)]
    column = np.stack(channels, 1).astype(np.uint8)[:, None, :]
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(column, (HEIGHT, WIDTH, 3))))


def blend(base: Image.Image, colour: Colour, mask: Field) -> Image.Image:
    """Paint ``colour`` where ``mask`` (``(HEIGHT, WIDTH)``, 0..1) is one."""
    cover = Image.fromarray((np.clip(mask, 0, 1) * 255).astype(np.uint8))
    base.paste(Image.new("RGB", base.size, colour), (0, 0), cover)
    return base


def grain(base: Image.Image, field: Field, strength: float, top: int = 0) -> Image.Image:
    """Darken and lighten by ``field`` below row ``top``."""
    pixels = np.asarray(base).astype(np.float32)
    pixels[top:] *= 1 + strength * (field[top:, :, None] - 0.5)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def mesh() -> tuple[Field, Field]:
    """Pixel coordinates ``x, y``."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    return x, y


def clouds(base: Image.Image, seed: int, shift: float, amount: float = 0.9) -> Image.Image:
    """White clouds in the upper two thirds, moved by ``shift`` pixels."""
    field = np.roll(noise(seed, 5, 6), int(shift), axis=1)
    fade = np.clip(1.2 - np.linspace(0, 1.8, HEIGHT, dtype=np.float32), 0, 1)[:, None]
    return blend(base, (255, 255, 255), np.clip((field - 0.5) * 4, 0, 1) * fade * amount)


def ridge(seed: int, base_y: float, height: float, cells: int = 4) -> Field:
    """``(WIDTH,)`` rows of a mountain line."""
    line: Field = base_y - height * noise(seed, cells, 5)[HEIGHT // 2]
    return line


def balloon(t: float) -> Image.Image:
    """A striped hot-air balloon that rises over green hills."""
    picture = clouds(gradient([(0, (52, 120, 205)), (0.8, (190, 220, 245))]), 3, 6 * t)
    x, y = mesh()
    for seed, base_y, colour in ((11, 640, (104, 146, 118)), (12, 700, (72, 124, 60))):
        line = ridge(seed, base_y, 120, 3)
        picture = blend(picture, colour, np.clip(y - line[None], 0, 1))
    picture = grain(picture, noise(13, 60, 3), 0.35, 560)
    cx, cy, radius = 560 + 8 * t, 330 - 7 * t, 200.0
    draw = ImageDraw.Draw(picture)
    for side in (-1, 1):
        for spread in (20, 42):
            draw.line((cx + side * spread, cy + 258, cx + side * 24, cy + 330), (60, 50, 40), 3)
    draw.rounded_rectangle((cx - 28, cy + 328, cx + 28, cy + 372), 6, (120, 78, 40))
    draw.rectangle((cx - 28, cy + 328, cx + 28, cy + 336), (84, 52, 26))
    v = (y - cy) / radius
    lower = np.clip(v / 1.32, 0, 1)
    width = np.where(v < 0, np.sqrt(np.clip(1 - v * v, 0, 1)), 1 - 0.78 * lower**2.1) * radius
    inside = (np.abs(x - cx) < width) & (v > -1) & (v < 1.32)
    u = np.clip((x - cx) / np.maximum(width, 1), -1, 1)
    gore = np.floor((np.arcsin(u) / math.pi + 0.5) * 12).astype(int) % 3
    colours = np.array([(214, 40, 40), (250, 200, 40), (36, 84, 190)], np.float32)[gore]
    light = 0.55 + 0.5 * np.sqrt(np.clip(1 - (u + 0.35) ** 2 * 0.6, 0, 1)) - 0.12 * np.clip(v, 0, 1)
    pixels = np.asarray(picture).astype(np.float32)
    pixels[inside] = np.clip(colours * light[..., None], 0, 255)[inside]
    return Image.fromarray(pixels.astype(np.uint8))


@cache
def _ball_faces() -> tuple[Field, Field]:
    """Unit centres ``(32, 3)`` of a truncated icosahedron's faces (12 pentagons first), distances."""
    a, b = 1.0, _PHI
    five: list[tuple[float, float, float]] = [
        p for s in (a, -a) for r in (b, -b) for p in ((0, s, r), (s, r, 0), (r, 0, s))
    ]
    six: list[tuple[float, float, float]] = [
        (x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)
    ]
    c, d = 1 / _PHI, _PHI
    six += [p for s in (c, -c) for r in (d, -d) for p in ((0, r, s), (r, s, 0), (s, 0, r))]
    centres = np.array(five + six, np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return centres, np.array([2.327] * 12 + [2.267] * 20, np.float32) / 2.478


def soccer_ball(t: float) -> Image.Image:
    """A black and white football that rolls over grass."""
    cx, cy, radius = 470 + 30 * t, 440.0, 190.0
    x, y = mesh()
    picture = blend(
        meadow(), (10, 30, 5), 0.6 * np.exp(-(((x - cx) / 200) ** 2 + ((y - 625) / 34) ** 2))
    )
    nx, ny = (x - cx) / radius, (y - cy) / radius
    inside = nx**2 + ny**2 < 1
    normal = np.stack([nx, ny, np.sqrt(np.clip(1 - nx**2 - ny**2, 0, 1))], -1)
    turn, tilt = 30 * t / radius + 0.35, 0.5
    roll = np.array(
        [[math.cos(turn), math.sin(turn), 0], [-math.sin(turn), math.cos(turn), 0], [0, 0, 1]]
    )
    lean = np.array(
        [[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]]
    )
    centres, distances = _ball_faces()
    reach = normal @ (lean @ roll).T.astype(np.float32) @ centres.T / distances
    order = np.sort(reach, axis=-1)
    white = 238 - 150 * np.clip(1 - (order[..., -1] - order[..., -2]) / 0.016, 0, 1)
    tone = np.where(reach.argmax(-1) < 12, 26.0, white)
    light = 0.42 + 0.66 * np.clip(normal @ np.array([-0.45, -0.68, 0.58], np.float32), 0, 1)
    pixels = np.asarray(picture).astype(np.float32)
    pixels[inside] = np.clip(tone * light, 0, 255)[inside][:, None]
    return tufts(Image.fromarray(pixels.astype(np.uint8)), cx)


@cache
def _meadow() -> Image.Image:
    generator = np.random.default_rng(5)
    picture = gradient([(0, (70, 110, 60)), (0.3, (96, 150, 62)), (1, (46, 104, 30))])
    picture = grain(picture.filter(ImageFilter.GaussianBlur(9)), noise(21, 12, 6), 0.7)
    draw = ImageDraw.Draw(picture)
    for row in np.sort(generator.uniform(150, HEIGHT + 60, 14000)):
        length = 6 + 46 * (row - 150) / HEIGHT
        left, lean = generator.uniform(0, WIDTH), generator.uniform(-0.5, 0.5)
        shade = generator.uniform(0.6, 1.25)
        colour = (int(62 * shade), int(128 * shade), int(38 * shade))
        draw.line((left, row, left + lean * length, row - length), colour, 2 if row < 450 else 3)
    return picture


def meadow() -> Image.Image:
    """Grass, seen from low."""
    return _meadow().copy()


def tufts(picture: Image.Image, cx: float) -> Image.Image:
    """Blades of grass in front of what lies at ``cx``."""
    generator = np.random.default_rng(6)
    draw = ImageDraw.Draw(picture)
    for left in generator.uniform(cx - 220, cx + 220, 240):
        row, length = generator.uniform(620, 665), generator.uniform(20, 58)
        shade = generator.uniform(0.6, 1.25)
        colour = (int(62 * shade), int(128 * shade), int(38 * shade))
        draw.line((left, row, left + generator.uniform(-14, 14), row - length), colour, 3)
    return picture


def daisy(t: float) -> Image.Image:
    """A white daisy that nods in a meadow."""
    picture = meadow().filter(ImageFilter.GaussianBlur(8))
    cx, cy = 620 + 12 * math.sin(t), 330 + 6 * math.cos(0.8 * t)
    draw = ImageDraw.Draw(picture)
    draw.line([(cx, cy), (cx + 10, cy + 200), (600, HEIGHT)], (70, 130, 50), 18, joint="curve")
    x, y = mesh()
    angle, radius = np.arctan2(y - cy, (x - cx)), np.hypot(x - cx, y - cy)
    pixels = np.asarray(picture).astype(np.float32)
    for layer, turn in ((0, 0.0), (1, math.pi / 21)):
        petal = (angle + turn + 0.03 * math.sin(t)) * 21 / (2 * math.pi)
        off = np.abs(petal - np.round(petal)) * 2
        length = 268 - 14 * layer + 14 * np.sin(np.round(petal) * 2.3)
        width = np.clip(1.12 - (radius / length) ** 5, 0, 1) * (0.86 if layer else 1)
        inside = (off < width) & (radius < length) & (radius > 40)
        tone = (205 + 22 * layer + 28 * radius / 268) * (1 - 0.22 * off**2)
        pixels[inside] = np.stack([tone, tone, tone * 0.98], -1)[inside]
    centre = radius < 78
    seeds = 0.8 + 0.35 * np.random.default_rng(9).random((HEIGHT // 4, WIDTH // 4))
    speckle = np.kron(seeds, np.ones((4, 4)))
    shade = (1.05 - 0.35 * (radius / 78) ** 4)[..., None] * speckle[..., None]
    pixels[centre] = (np.array([246, 196, 30]) * shade)[centre]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def candle(t: float) -> Image.Image:
    """A burning candle in a dark room; the flame flickers."""
    picture = gradient(
        [(0, (22, 14, 12)), (0.8, (44, 24, 16)), (0.81, (70, 40, 24)), (1, (40, 22, 14))]
    )
    x, y = mesh()
    flicker = 6 * math.sin(5 * t) + 3 * math.sin(11 * t)
    glow = np.exp(-((np.hypot(x - 640, y - 210) / 300) ** 1.4))
    picture = blend(picture, (255, 150, 50), (0.62 + 0.01 * flicker) * glow)
    wide, top, bottom = 82, 330, 640
    inside = (np.abs(x - 640) < wide) & (y > top + 8 * np.sin(x / 30)) & (y < bottom)
    u = (x - 640) / wide
    light = (1 - 0.5 * u**2) * (0.62 + 0.55 * np.exp(-(y - top) / 120))
    pixels = np.asarray(picture).astype(np.float32)
    wax = np.array([244, 226, 188], np.float32) * light[..., None]
    pixels[inside] = np.clip(wax, 0, 255)[inside]
    picture = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((640 - wide, 318, 640 + wide, 352), (255, 232, 180))
    draw.ellipse((500, 622, 780, 668), (150, 112, 50))
    draw.ellipse((540, 622, 740, 650), (196, 160, 84))
    draw.line((640, 336, 643, 286), (40, 26, 20), 6)
    for scale, colour in ((1.0, (255, 150, 30)), (0.8, (255, 206, 80)), (0.5, (255, 250, 215))):
        v = np.clip((306 - y) / ((170 + flicker) * scale), 0, 1)
        half = 38 * scale * np.clip(np.sin(math.pi * np.sqrt(v)), 0, 1) ** 0.8
        sway = 640 + flicker * v**2
        flame = (np.abs(x - sway) < half) & (y < 306) & (v < 1)
        picture = blend(picture, colour, flame.astype(np.float32))
    return picture


def traffic_light(t: float) -> Image.Image:
    """A traffic light in a street; red for five seconds, then green."""
    picture = gradient(
        [(0, (150, 180, 210)), (0.75, (206, 214, 220)), (0.76, (90, 90, 94)), (1, (60, 60, 64))]
    )
    draw = ImageDraw.Draw(picture)
    generator = np.random.default_rng(51)
    for left in range(-40, WIDTH, 150):
        top, tone = int(generator.integers(120, 380)), int(generator.integers(110, 170))
        draw.rectangle((left, top, left + 138, 548), (tone, tone - 8, tone - 16))
        for wx in range(left + 14, left + 120, 30):
            for wy in range(top + 16, 530, 40):
                draw.rectangle((wx, wy, wx + 16, wy + 24), (70, 84, 100))
    picture = picture.filter(ImageFilter.GaussianBlur(7))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((626, 560, 654, 720), (54, 58, 60))
    draw.rounded_rectangle((540, 70, 740, 566), 30, (28, 30, 32))
    draw.rounded_rectangle((552, 82, 728, 554), 24, (44, 46, 48))
    red = t < 5
    lamps = (
        ((150), (255, 40, 30), red),
        ((318), (250, 190, 30), False),
        ((486), (40, 235, 110), not red),
    )
    for row, colour, lit in lamps:
        shade = colour if lit else (colour[0] // 5, colour[1] // 5, colour[2] // 5)
        if lit:
            x, y = mesh()
            glow = np.exp(-((np.hypot(x - 640, y - row) / 120) ** 2))
            picture = blend(picture, colour, 0.45 * glow)
            draw = ImageDraw.Draw(picture)
        draw.ellipse((572, row - 68, 708, row + 68), (18, 18, 20))
        draw.ellipse((580, row - 60, 700, row + 60), shade)
        draw.pieslice((560, row - 86, 720, row + 74), 195, 345, (16, 16, 18))
        draw.ellipse((584, row - 50, 696, row + 60), shade)
    return picture


def spider_web(t: float) -> Image.Image:
    """A spider in its web, with a blurred garden behind."""
    picture = gradient([(0, (34, 60, 28)), (1, (16, 30, 14))])
    picture = grain(picture, noise(61, 6, 3), 1.1)
    draw = ImageDraw.Draw(picture)
    cx, cy = 640 + 5 * math.sin(t), 350 + 4 * math.cos(1.3 * t)
    angles = np.linspace(0, 2 * math.pi, 23)[:-1] + 0.06 * np.sin(np.arange(22) * 2.4)
    for angle in angles:
        draw.line(
            (cx, cy, cx + 900 * math.cos(angle), cy + 900 * math.sin(angle)), (186, 192, 188), 2
        )
    closed = [*angles, angles[0] + 2 * math.pi]
    for ring in range(3, 34):
        for left, right in pairwise(closed):
            radius = 12 * ring + 3 * math.sin(ring * 1.9 + 3 * left)
            middle = (left + right) / 2
            points = [(left, radius), (middle, radius * 0.955), (right, radius)]
            line = [(cx + r * math.cos(a), cy + r * math.sin(a)) for a, r in points]
            draw.line(line, (206, 212, 208), 2)
    for side in (-1, 1):
        for k, angle in enumerate((-1.0, -0.4, 0.35, 0.95)):
            knee = (cx + side * (52 * math.cos(angle)), cy + 58 * math.sin(angle))
            foot = (cx + side * (78 + 12 * (k % 2)) * math.cos(angle), cy + 104 * math.sin(angle))
            draw.line([(cx, cy), knee, foot], (150, 104, 60), 6)
    draw.ellipse((cx - 26, cy - 10, cx + 26, cy + 58), (140, 92, 50))
    draw.ellipse((cx - 8, cy + 4, cx + 8, cy + 40), (224, 196, 150))
    draw.ellipse((cx - 16, cy - 34, cx + 16, cy - 2), (110, 72, 40))
    return picture


def snow_mountain(t: float) -> Image.Image:
    """Snow-covered mountains under a blue sky, seen from a train."""
    picture = clouds(gradient([(0, (30, 90, 180)), (0.7, (170, 205, 235))]), 71, 8 * t, 0.5)
    _, y = mesh()
    shift = int(10 * t)
    for seed, base_y, height, dark in ((72, 560, 430, 150), (73, 720, 400, 80)):
        line = np.roll(ridge(seed, base_y, height, 5), -shift)
        slope = np.gradient(np.roll(noise(seed + 10, 9, 6), -shift, 1), axis=1) * 90
        rock = np.clip((noise(seed + 20, 14, 6) - 0.52) * 9 + (y - line[None] - 170) / 260, 0, 1)
        snow = 225 + 30 * np.clip(slope, -1.5, 1)
        tone = snow * (1 - rock) + (dark + 30 * slope) * rock
        colour = np.stack([tone * 0.93, tone * 0.97, np.minimum(tone * 1.06, 255)], -1)
        inside = y > line[None]
        pixels = np.asarray(picture).astype(np.float32)
        pixels[inside] = np.clip(colour, 0, 255)[inside]
        picture = Image.fromarray(pixels.astype(np.uint8))
    return picture


def wall_clock(t: float) -> Image.Image:
    """A round clock on a wall; its second hand moves."""
    picture = grain(Image.new("RGB", (WIDTH, HEIGHT), (186, 168, 140)), noise(81, 40, 4), 0.12)
    x, y = mesh()
    picture = blend(picture, (60, 48, 36), 0.5 * np.exp(-((np.hypot(x - 656, y - 380) / 300) ** 8)))
    draw = ImageDraw.Draw(picture)
    cx, cy = 640, 360
    for radius, colour in (
        (296, (92, 54, 28)),
        (284, (128, 80, 44)),
        (262, (70, 42, 22)),
        (256, (250, 247, 238)),
    ):
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), colour)
    for minute in range(60):
        angle = math.radians(6 * minute)
        inner, width = (222, 7) if minute % 5 == 0 else (238, 3)
        dx, dy = math.sin(angle), -math.cos(angle)
        draw.line(
            (cx + inner * dx, cy + inner * dy, cx + 250 * dx, cy + 250 * dy), (30, 30, 30), width
        )
    face = ImageFont.truetype("DejaVuSerif-Bold.ttf", 46)
    for hour in range(1, 13):
        angle = math.radians(30 * hour)
        where = (cx + 188 * math.sin(angle), cy - 188 * math.cos(angle))
        draw.text(where, str(hour), (24, 24, 24), font=face, anchor="mm")
    for turn, length, width, colour in (
        (305 + t / 120, 120, 16, (20, 20, 20)),
        (60 + t / 10, 190, 11, (20, 20, 20)),
        (6 * t + 130, 215, 4, (190, 20, 20)),
    ):
        dx, dy = math.sin(math.radians(turn)), -math.cos(math.radians(turn))
        draw.line((cx - 34 * dx, cy - 34 * dy, cx + length * dx, cy + length * dy), colour, width)
    draw.ellipse((cx - 14, cy - 14, cx + 14, cy + 14), (20, 20, 20))
    return picture
