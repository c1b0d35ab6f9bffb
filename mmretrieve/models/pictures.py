"""Pictures to patches, as Qwen's vision towers take them.

The frames of a document are one video: ``temporal`` frames share a patch in time (the last one is
repeated where they do not come out even), and ``merge`` by ``merge`` patches become one token.
Pillow and NumPy alone: what the tower sees must not depend on which image library is installed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmretrieve.errors import MediaError, UsageError
from mmretrieve.models.protocol import Picture

MIN_PIXELS = 56 * 56
_MOST_OBLONG = 200
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class PatchShape:
    """``side``: pixels of a patch; ``merge``: patches a token has on each side; ``temporal``: frames
    of a patch; ``mean``/``std``: of the colours, in 0..1."""

    side: int = 14
    merge: int = 2
    temporal: int = 2
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    @property
    def token_side(self) -> int:
        """Pixels on a side of what one token stands for."""
        return self.side * self.merge


@dataclass(frozen=True, slots=True)
class Patches:
    """``values``: ``(n_patches, 3 * temporal * side**2)`` float32, the patches of a token side by
    side; ``grid``: patches in time, height and width."""

    values: NDArray[np.float32]
    grid: tuple[int, int, int]


def fitted(height: int, width: int, shape: PatchShape, max_pixels: int) -> tuple[int, int]:
    """Height and width nearest to the given ones that are whole tokens, between :data:`MIN_PIXELS`
    and ``max_pixels`` in area, and near to the given ratio."""
    side = shape.token_side
    height = max(height, math.ceil(width / _MOST_OBLONG))
    width = max(width, math.ceil(height / _MOST_OBLONG))
    rows, columns = round(height / side), round(width / side)
    if rows * columns * side**2 > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = (max(1, math.floor(n / shrink / side)) for n in (height, width))
        most = max(1, max_pixels // side**2)
        rows, columns = min(rows, most), min(columns, most)
    elif rows * columns * side**2 < MIN_PIXELS:
        grow = math.sqrt(MIN_PIXELS / (height * width))
        rows, columns = (math.ceil(n * grow / side) for n in (height, width))
    return rows * side, columns * side


def shrunk(image: NDArray[np.uint8], shape: PatchShape, max_pixels: int) -> NDArray[np.uint8]:
    """A picture at the size that :func:`patches` gives it; doing so twice changes nothing."""
    return resized(image, fitted(image.shape[0], image.shape[1], shape, max_pixels))


def resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``(height, width, 3)`` uint8 by bicubic interpolation; ``size``: height and width."""
    from PIL import Image

    if image.shape[:2] == size:
        return image
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def read_picture(picture: Picture) -> NDArray[np.uint8]:
    """``(height, width, 3)`` uint8 RGB.

    Raises:
        MediaError: the file is absent or no picture.
        UsageError: an array of another shape or type.
    """
    if isinstance(picture, str | Path):
        from PIL import Image, ImageOps

        try:
            with Image.open(picture) as opened:
                upright = ImageOps.exif_transpose(opened)
                return np.asarray(upright.convert("RGB"))
        except (OSError, Image.DecompressionBombError) as error:
            raise MediaError(f"{picture} cannot be read as a picture: {error}") from error
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise UsageError(
            f"a picture of shape {picture.shape} and type {picture.dtype}: expected (height, width, "
            "3) uint8 RGB"
        )
    return picture


def spread(n: int, most: int) -> list[int]:
    """At most ``most`` of ``n`` indices, evenly spread, the middle of each share."""
    if n <= most:
        return list(range(n))
    return [int((i + 0.5) * n / most) for i in range(most)]


def patches(images: Sequence[NDArray[np.uint8]], shape: PatchShape, max_pixels: int) -> Patches:
    """The frames of one document, all at the size that fits the first of them."""
    height, width = fitted(images[0].shape[0], images[0].shape[1], shape, max_pixels)
    frames = np.stack([resized(image, (height, width)) for image in images])
    lacking = -len(frames) % shape.temporal
    frames = np.concatenate([frames, np.repeat(frames[-1:], lacking, axis=0)])
    mean, std = (np.asarray(values, np.float32) for values in (shape.mean, shape.std))
    colours = (frames.astype(np.float32) / np.float32(255) - mean) / std
    t, h, w = len(frames) // shape.temporal, height // shape.side, width // shape.side
    m, s = shape.merge, shape.side
    blocks = colours.reshape(t, shape.temporal, h // m, m, s, w // m, m, s, 3)
    # time, token row, token column, patch row, patch column | colour, frame, y, x
    ordered = blocks.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    values = ordered.reshape(t * h * w, 3 * shape.temporal * s**2)
    return Patches(np.ascontiguousarray(values), (t, h, w))
