"""Where a picture may hold text: a cheap test in front of the text detector.

Text is thin strokes of one tone on another, several side by side. Strokes are what a top-hat
(light on dark) or a black-hat (dark on light) leaves of the luma; a cell may hold text when
enough of it is stroke, the strokes are strong, and rows of it cross several of them. Three
scales cover small to large letters. The test passes some foliage and brickwork; it must not
miss text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Region = tuple[int, int, int, int]
"""``(x0, y0, x1, y1)`` in pixels, the far ends exclusive."""

CELL_PX = 32
"""Side of the cells that are judged; the detector needs multiples of it."""

_STROKE_PX = 9
_LEVELS = 3
_MIN_STRENGTH = 24
_MIN_SHARE = 0.04
_MIN_CROSSINGS = 0.05
_WHOLE_SHARE = 0.75


def likely(gray: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Cells of a luma picture ``(h, w)`` uint8 that may hold text, ``(ceil(h/32), ceil(w/32))``."""
    rows, columns = -(-gray.shape[0] // CELL_PX), -(-gray.shape[1] // CELL_PX)
    found = np.zeros((rows, columns), np.uint8)
    level = gray
    for _ in range(_LEVELS):
        cells = _stroke_cells(level)
        scaled = cv2.resize(cells, (columns, rows), interpolation=cv2.INTER_NEAREST)
        found |= scaled
        level = cast("NDArray[np.uint8]", cv2.pyrDown(level)) if min(level.shape) >= 64 else level
    return found.astype(np.bool_)


def _stroke_cells(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (_STROKE_PX, _STROKE_PX)
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, size)
    light = cv2.morphologyEx(gray, cv2.MORPH_TOPHAT, kernel)
    dark = cv2.morphologyEx(gray, cv2.MORPH_BLACKHAT, kernel)
    cells: NDArray[np.uint8] | None = None
    for strokes in (light, dark):
        mask = (strokes >= _MIN_STRENGTH).astype(np.uint8)
        edges = np.zeros_like(mask)
        edges[:, 1:] = mask[:, 1:] ^ mask[:, :-1]
        share, crossings = _cell_means(mask), _cell_means(edges)
        hit = ((share >= _MIN_SHARE) & (crossings >= _MIN_CROSSINGS)).astype(np.uint8)
        cells = hit if cells is None else cells | hit
    assert cells is not None
    return cells


def _cell_means(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    down, right = -mask.shape[0] % CELL_PX, -mask.shape[1] % CELL_PX
    padded = cv2.copyMakeBorder(mask, 0, down, 0, right, cv2.BORDER_CONSTANT, value=0)
    size = (padded.shape[1] // CELL_PX, padded.shape[0] // CELL_PX)
    means = cv2.resize(padded.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return cast("NDArray[np.float32]", means)


def regions(cells: NDArray[np.bool_]) -> tuple[Region, ...]:
    """Rectangles around the cells that are set, disjoint, with a margin of one cell above and
    below and two on either side, where a line may thin out."""
    if not cells.any():
        return ()
    grown = cv2.dilate(cells.astype(np.uint8), np.ones((3, 5), np.uint8))
    boxes = list(_boxes(grown))
    while (merged := _merge(boxes)) != boxes:
        boxes = merged
    area = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes)
    if area >= _WHOLE_SHARE * cells.size:
        boxes = [(0, 0, cells.shape[1], cells.shape[0])]
    return tuple(
        (x0 * CELL_PX, y0 * CELL_PX, x1 * CELL_PX, y1 * CELL_PX) for x0, y0, x1, y1 in boxes
    )


def _boxes(cells: NDArray[np.uint8]) -> Iterator[Region]:
    _, _, stats, _ = cv2.connectedComponentsWithStats(cells, connectivity=8)
    for x, y, width, height, _ in stats[1:]:
        yield int(x), int(y), int(x + width), int(y + height)


def _merge(boxes: list[Region]) -> list[Region]:
    """Join the rectangles that overlap."""
    out: list[Region] = []
    for box in boxes:
        touching = [b for b in out if _overlap(b, box)]
        out = [b for b in out if b not in touching]
        group = np.array([box, *touching])
        (x0, y0), (x1, y1) = group[:, :2].min(axis=0), group[:, 2:].max(axis=0)
        out.append((int(x0), int(y0), int(x1), int(y1)))
    return out


def _overlap(a: Region, b: Region) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
