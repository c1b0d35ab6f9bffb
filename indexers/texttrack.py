"""Following lines of text through a video, so that what stays is read once.

Per pick, text is looked for only where the picture changed since that place was last looked at
and where the gate allows; a line in an unchanged place lives on. When a line came or went is
found on the small samples between two picks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from mmretrieve.datatypes import Box, Segment
from mmretrieve.indexers import textgate
from mmretrieve.indexers.textgate import CELL_PX

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmretrieve.indexers.keyframes import Pick, Sample
    from mmretrieve.indexers.ocr import OcrReader

_TILE_PX = 16
_TILE_CHANGE = 7.0
"""Mean difference of luma over a tile of the canvas that calls for reading again."""
_SAME_TEXT = 0.8
_SAME_PLACE = 0.4
_STILL = 10.0
"""Mean difference of luma inside a line's box up to which it counts as still there."""


@dataclass(slots=True)
class _Line:
    segment: Segment
    start_s: float
    end_s: float


class TextTracker:
    """Lines of text of one video over time. Feed it the picks in order."""

    def __init__(self, reader: OcrReader) -> None:
        self._reader = reader
        self._live: list[_Line] = []
        self._done: list[_Line] = []
        self._canvas: NDArray[np.uint8] | None = None
        self._last: Pick | None = None

    def observe(self, pick: Pick) -> None:
        """Take in one pick: read what is new, and close the lines that are gone."""
        frame = pick.frame
        canvas = self._reader.canvas(frame.gray_within(self._reader.settings.max_side_px))
        changed = self._changed(canvas)
        if self._last is None or changed.any():
            self._update(pick, canvas, changed)
        for line in self._live:
            line.end_s = pick.end_s
        self._last = pick

    def lines(self, start_s: float, end_s: float) -> tuple[Segment, ...]:
        """The lines seen between two times, each once, clipped to them, in order of appearance
        and, of those that came together, in reading order."""
        merged: list[Segment] = []
        for line in sorted([*self._done, *self._live], key=lambda line: line.start_s):
            begin, end = max(line.start_s, start_s), min(line.end_s, end_s)
            if begin >= end:
                continue
            part = replace(line.segment, start_s=begin, end_s=end)
            twin = next((i for i, other in enumerate(merged) if _is_same(other, part)), None)
            if twin is None:
                merged.append(part)
            else:
                until = max(merged[twin].end_s or 0.0, end)
                merged[twin] = replace(merged[twin], end_s=until)
        return tuple(merged)

    def forget(self, before_s: float) -> None:
        """Drop the lines that ended by ``before_s``."""
        self._done = [line for line in self._done if line.end_s > before_s]

    def _changed(self, canvas: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Cells that differ from what was last looked at there; keeps the new look of them."""
        shape = (-(-canvas.shape[0] // CELL_PX), -(-canvas.shape[1] // CELL_PX))
        if self._canvas is None or self._canvas.shape != canvas.shape:
            self._canvas = canvas.copy()
            return np.ones(shape, np.bool_)
        down, right = -canvas.shape[0] % CELL_PX, -canvas.shape[1] % CELL_PX
        apart = cv2.copyMakeBorder(
            cv2.absdiff(canvas, self._canvas), 0, down, 0, right, cv2.BORDER_REPLICATE
        )
        tiles_size = (apart.shape[1] // _TILE_PX, apart.shape[0] // _TILE_PX)
        tiles = cv2.resize(apart, tiles_size, interpolation=cv2.INTER_AREA) >= _TILE_CHANGE
        per_cell = CELL_PX // _TILE_PX
        cells = tiles.reshape(shape[0], per_cell, shape[1], per_cell).any(axis=(1, 3))
        stale = cv2.resize(
            cells.astype(np.uint8), apart.shape[::-1], interpolation=cv2.INTER_NEAREST
        )[: canvas.shape[0], : canvas.shape[1]]
        self._canvas = np.where(stale > 0, canvas, self._canvas)
        return cast("NDArray[np.bool_]", cells)

    def _update(self, pick: Pick, canvas: NDArray[np.uint8], changed: NDArray[np.bool_]) -> None:
        wanted = changed & textgate.likely(canvas)
        scale = (canvas.shape[1] / CELL_PX, canvas.shape[0] / CELL_PX)
        # A line that is touched at all is looked at whole, so that no half of it is read.
        for _ in range(2):
            for line in self._live:
                cells = _cells(line.segment.box, scale)
                if changed[cells].any() or wanted[cells].any():
                    wanted[cells] = True
        gone = [line for line in self._live if wanted[_cells(line.segment.box, scale)].any()]
        regions = textgate.regions(wanted)
        found: tuple[Segment, ...] = ()
        if regions:
            found = self._reader.read_regions(pick.frame.rgb(), regions)
        staying = [line for line in self._live if line not in gone]
        for segment in found:
            if any(_overlap(segment.box, line.segment.box) > _SAME_PLACE for line in staying):
                continue
            self._live.append(self._continue(segment, gone, pick))
        for line in gone:
            self._live.remove(line)
            line.end_s = self._gone_at(line, pick)
            self._done.append(line)

    def _continue(self, segment: Segment, gone: list[_Line], pick: Pick) -> _Line:
        """The line that ``segment`` goes on with, taken out of ``gone``, or a new one."""
        for line in gone:
            if _is_same(line.segment, segment):
                gone.remove(line)
                self._live.remove(line)
                better = max(line.segment, segment, key=lambda s: s.confidence)
                line.segment = replace(better, box=segment.box)
                return line
        return _Line(segment, self._came_at(segment.box, pick), pick.end_s)

    def _between(self, pick: Pick) -> list[Sample]:
        """Samples after the last pick's moment and up to this one's."""
        since = self._last.frame.time_s if self._last is not None else -1.0
        before = self._last.samples if self._last is not None else ()
        samples = [*before, *pick.samples]
        return [s for s in samples if since < s.time_s <= pick.frame.time_s]

    def _came_at(self, box: Box | None, pick: Pick) -> float:
        samples = self._between(pick)[::-1]
        still = list(_while_still(samples, pick.frame.small, box))
        first = still[-1] if still else pick.frame.time_s
        # Nothing came before the first sample of the video or of the shot.
        return min(first, pick.start_s) if pick.samples[0].time_s >= first else first

    def _gone_at(self, line: _Line, pick: Pick) -> float:
        if self._last is None:
            return pick.start_s
        samples = self._between(pick)
        still = list(_while_still(samples, self._last.frame.small, line.segment.box))
        later = [s.time_s for s in samples if not still or s.time_s > still[-1]]
        return max(line.start_s, later[0] if later else pick.frame.time_s)


def _while_still(
    samples: Sequence[Sample], reference: NDArray[np.uint8], box: Box | None
) -> Iterator[float]:
    """Times of the leading samples that look like ``reference`` inside ``box``."""
    height, width = reference.shape
    x0, y0, x1, y1 = box or (0.0, 0.0, 1.0, 1.0)
    rows = slice(int(y0 * height), max(int(y0 * height) + 1, int(np.ceil(y1 * height))))
    columns = slice(int(x0 * width), max(int(x0 * width) + 1, int(np.ceil(x1 * width))))
    for sample in samples:
        if sample.small.shape != reference.shape:
            return
        apart = cv2.absdiff(sample.small[rows, columns], reference[rows, columns])
        if float(apart.mean()) > _STILL:
            return
        yield sample.time_s


def _cells(box: Box | None, scale: tuple[float, float]) -> tuple[slice, slice]:
    x0, y0, x1, y1 = box or (0.0, 0.0, 1.0, 1.0)
    columns = slice(int(x0 * scale[0]), int(np.ceil(x1 * scale[0])))
    return slice(int(y0 * scale[1]), int(np.ceil(y1 * scale[1]))), columns


def _overlap(a: Box | None, b: Box | None) -> float:
    """Shared area as a share of the smaller box, 0..1."""
    if a is None or b is None:
        return 0.0
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return width * height / smaller if smaller > 0 else 0.0


def _is_same(a: Segment, b: Segment) -> bool:
    if _overlap(a.box, b.box) < _SAME_PLACE:
        return False
    x, y = a.text.casefold(), b.text.casefold()
    return x == y or SequenceMatcher(None, x, y, autojunk=False).ratio() >= _SAME_TEXT
