"""Reading text in pictures with RapidOCR, whose weights come inside its wheel.

A picture is first searched for places that may hold text (:mod:`.textgate`); the detector sees
only these, at ``max_side_px``, and the recogniser reads each line from the full picture, alone,
so a line never depends on its batch mates. The network is never used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import cv2
import numpy as np

from mmretrieve.config import OcrSettings
from mmretrieve.datatypes import Box, Segment
from mmretrieve.errors import MissingExtraError, WeightsError
from mmretrieve.indexers import textgate
from mmretrieve.indexers.textgate import CELL_PX, Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MIN_LONE_CONFIDENCE = 0.95
_MIN_CROP_PX = 4
_LINE_OVERLAP = 0.6
_LINE_GAP = 0.9
_LINE_RATIO = 1.7
_REC_MIN_WIDTH_PX = 160
_COARSE = 0.625
"""Scale of the first look. Lines at least 18 px tall were all found at it, smaller ones not."""
_COARSE_SIDE_PX = 480
"""A first look is not shrunk below this longer side."""
_MARGIN = 0.2
"""What a line's box is widened by on either end, of its height: coarse boxes clip end letters."""
_SMALL_PX = 20
"""Height of a line, on the canvas, below which its surroundings are looked at again."""


@dataclass(frozen=True, slots=True)
class _Word:
    """What the recogniser read at ``quad`` ``(4, 2)`` float32, pixels of the full picture,
    clockwise from the upper left."""

    quad: NDArray[np.float32]
    text: str
    confidence: float

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        (x0, y0), (x1, y1) = self.quad.min(axis=0), self.quad.max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)


class _Detector(Protocol):
    def __call__(self, image: NDArray[np.uint8]) -> _Found: ...


class _Recogniser(Protocol):
    def __call__(self, image: NDArray[np.uint8]) -> _Read: ...


class _Found(Protocol):
    boxes: NDArray[np.float32] | None


class _Read(Protocol):
    txts: tuple[str, ...] | None
    scores: tuple[float, ...] | None


class OcrReader:
    """Reads the text in a picture. One reader may be used from several threads at once.

    Args:
        threads: threads that one call may use.
        settings: least confidence, and the size that text is looked for at.
    """

    name = "rapidocr"

    def __init__(self, threads: int = 1, settings: OcrSettings | None = None) -> None:
        self.settings = settings or OcrSettings()
        self._threads = threads
        self._lock = threading.Lock()
        self._engines: tuple[_Detector, _Recogniser] | None = None

    def load(self) -> None:
        """Load the models now instead of at the first picture with text.

        Raises:
            MissingExtraError: RapidOCR is not installed.
            WeightsError: its models are absent.
        """
        self._models()

    def read(self, image: NDArray[np.uint8]) -> tuple[Segment, ...]:
        """The lines of text in ``image`` ``(h, w, 3)`` uint8 RGB, in reading order, without times.

        The answer depends on the picture alone.

        Raises:
            MissingExtraError: RapidOCR is not installed.
            WeightsError: its models are absent.
        """
        canvas = self.canvas(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        return self.read_regions(image, textgate.regions(textgate.likely(canvas)))

    def canvas(self, gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``gray`` ``(h, w)`` uint8 at the size that text is looked for at."""
        width, height = self._canvas_size(gray.shape[1], gray.shape[0])
        if (height, width) == gray.shape:
            return gray
        small = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
        return cast("NDArray[np.uint8]", small)

    def read_regions(
        self, image: NDArray[np.uint8], regions: Iterable[Region]
    ) -> tuple[Segment, ...]:
        """Like :meth:`read`, looking only into ``regions``, given in pixels of the canvas."""
        places = tuple(regions)
        if not places:
            return ()
        words = [
            word
            for quad in self._detect(image, places)
            if (word := self._recognise(image, quad)) is not None
        ]
        return _lines(words, image.shape[1], image.shape[0])

    def _canvas_size(self, width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, self.settings.max_side_px / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _detect(
        self, image: NDArray[np.uint8], regions: tuple[Region, ...]
    ) -> list[NDArray[np.float32]]:
        """Quads ``(4, 2)`` float32 in pixels of ``image``: first coarsely, then once more at full
        size around what came out small."""
        size = self._canvas_size(image.shape[1], image.shape[0])
        canvas = cast("NDArray[np.uint8]", cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        coarse = self._look(canvas, regions, min(1.0, max(_COARSE, _COARSE_SIDE_PX / max(size))))
        small = [quad for quad in coarse if _height(quad) < _SMALL_PX]
        quads = [quad for quad in coarse if _height(quad) >= _SMALL_PX]
        if small:
            cells = np.zeros((-(-size[1] // CELL_PX), -(-size[0] // CELL_PX)), np.bool_)
            for quad in small:
                (x0, y0), (x1, y1) = quad.min(axis=0) // CELL_PX, quad.max(axis=0) // CELL_PX
                cells[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] = True
            fine = self._look(canvas, textgate.regions(cells), 1.0)
            quads += [quad for quad in fine if not any(_inside(quad, large) for large in quads)]
        scale = np.array([image.shape[1] / size[0], image.shape[0] / size[1]], np.float32)
        return [(quad * scale).astype(np.float32) for quad in quads]

    def _look(
        self, canvas: NDArray[np.uint8], regions: tuple[Region, ...], scale: float
    ) -> list[NDArray[np.float32]]:
        """Run the detector on regions of the canvas shrunk by ``scale``; quads in canvas pixels."""
        detector = self._models()[0]
        quads: list[NDArray[np.float32]] = []
        for x0, y0, x1, y1 in regions:
            tile = canvas[y0:y1, x0:x1]
            height, width = (
                max(CELL_PX, round(n * scale / CELL_PX) * CELL_PX) for n in tile.shape[:2]
            )
            made = cv2.resize(tile, (width, height), interpolation=cv2.INTER_AREA)
            boxes = detector(cast("NDArray[np.uint8]", cv2.cvtColor(made, cv2.COLOR_RGB2BGR))).boxes
            back = np.array([tile.shape[1] / width, tile.shape[0] / height], np.float32)
            for box in boxes if boxes is not None else ():
                quads.append((np.asarray(box, np.float32) * back + (x0, y0)).astype(np.float32))
        return quads

    def _recognise(self, image: NDArray[np.uint8], quad: NDArray[np.float32]) -> _Word | None:
        crop = _upright(image, quad)
        if min(crop.shape[:2]) < _MIN_CROP_PX:
            return None
        read = self._models()[1](crop)
        text = read.txts[0].strip() if read.txts else ""
        confidence = float(read.scores[0]) if read.scores else 0.0
        if confidence < self.settings.min_confidence or not _plausible(text, confidence):
            return None
        return _Word(quad, text, min(1.0, confidence))

    def _models(self) -> tuple[_Detector, _Recogniser]:
        with self._lock:
            if self._engines is None:
                self._engines = _load(self._threads)
            return self._engines


def _height(quad: NDArray[np.float32]) -> float:
    """Length of the shorter pair of sides, pixels."""
    return float(min(np.linalg.norm(quad[0] - quad[3]), np.linalg.norm(quad[0] - quad[1])))


def _inside(quad: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether the middle of one quad lies within the bounds of another."""
    middle = quad.mean(axis=0)
    return bool((middle >= other.min(axis=0)).all() and (middle <= other.max(axis=0)).all())


def _plausible(text: str, confidence: float) -> bool:
    """Round things look like an O: a lone sign must be certain."""
    signs = sum(sign.isalnum() for sign in text)
    return signs > 1 or (signs == 1 and confidence >= _MIN_LONE_CONFIDENCE)


def _load(threads: int) -> tuple[_Detector, _Recogniser]:
    """A detector and a recogniser that change no state when called."""
    try:
        import rapidocr
    except ImportError as error:
        raise MissingExtraError(
            "reading on-screen text needs RapidOCR: pip install rapidocr (or index with --ocr off)"
        ) from error
    folder = Path(rapidocr.__file__).parent / "models"
    common: dict[str, Any] = {
        "Global.log_level": "critical",
        "Global.use_cls": False,
        "Global.use_preprocess_img": False,
        "Global.text_score": 0.0,
        "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        "Det.model_path": _model(folder, "det"),
        "Det.limit_type": "max",
        "Det.limit_side_len": 1 << 20,
        "Rec.model_path": _model(folder, "rec"),
        "Rec.rec_batch_num": 1,
        "Rec.rec_img_shape": [3, 48, _REC_MIN_WIDTH_PX],
    }
    detector = rapidocr.RapidOCR(params={**common, "Global.use_rec": False})
    recogniser = rapidocr.RapidOCR(params={**common, "Global.use_det": False})
    blank = np.full((64, 64, 3), 255, np.uint8)
    detector(blank), recogniser(blank)
    return cast(_Detector, detector), cast(_Recogniser, recogniser)


def _model(folder: Path, task: str) -> str:
    """Path of a model inside the installed package; naming it keeps RapidOCR off the network."""
    found = sorted(folder.glob(f"*_{task}_*.onnx"))
    if not found:
        raise WeightsError(
            f"no {task} model in {folder}: pip install --force-reinstall rapidocr restores it"
        )
    return str(found[-1])


def _upright(image: NDArray[np.uint8], quad: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture inside a quad, ``(h, w, 3)`` uint8 BGR, turned so that it is not tall."""
    top, right, bottom, left = (
        float(np.linalg.norm(quad[i] - quad[(i + 1) % 4])) for i in range(4)
    )
    width, height = int(max(top, bottom)), int(max(left, right))
    if min(width, height) < _MIN_CROP_PX:
        return np.zeros((0, 0, 3), np.uint8)
    if width > height:
        margin = round(_MARGIN * height)
        along = margin * (quad[1] - quad[0]) / max(top, 1.0)
        quad = (quad + np.stack([-along, along, along, -along])).astype(np.float32)
        width += 2 * margin
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    turn = cv2.getPerspectiveTransform(quad, corners)
    crop = cv2.warpPerspective(
        image, turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    crop = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
    if height >= 1.5 * width:
        crop = np.ascontiguousarray(np.rot90(crop))
    return cast("NDArray[np.uint8]", crop)


def _lines(words: list[_Word], width: int, height: int) -> tuple[Segment, ...]:
    """Join words that stand on one line closely; top to bottom, then left to right."""
    lines: list[list[_Word]] = []
    for word in sorted(words, key=lambda w: (w.bounds[0], w.bounds[1])):
        home = next((line for line in lines if _continues(line[-1], word)), None)
        if home is None:
            lines.append([word])
        else:
            home.append(word)
    segments = [_segment(line, width, height) for line in lines]
    return tuple(sorted(segments, key=_reading_order))


def _continues(left: _Word, right: _Word) -> bool:
    a, b = left.bounds, right.bounds
    tall_a, tall_b = a[3] - a[1], b[3] - b[1]
    low, high = sorted((max(tall_a, 1.0), max(tall_b, 1.0)))
    shared = min(a[3], b[3]) - max(a[1], b[1])
    gap = b[0] - a[2]
    on_line = shared >= _LINE_OVERLAP * low and high <= _LINE_RATIO * low
    return on_line and -0.5 * low <= gap <= _LINE_GAP * low


def _segment(line: list[_Word], width: int, height: int) -> Segment:
    text = line[0].text
    for word in line[1:]:
        close = not text[-1].isascii() and not word.text[0].isascii()
        text += word.text if close else f" {word.text}"
    bounds = np.array([word.bounds for word in line])
    (x0, y0), (x1, y1) = bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)
    shares = np.clip([x0 / width, y0 / height, x1 / width, y1 / height], 0.0, 1.0)
    box: Box = (float(shares[0]), float(shares[1]), float(shares[2]), float(shares[3]))
    n_signs = [len(word.text) for word in line]
    mean = float(np.average([word.confidence for word in line], weights=n_signs))
    return Segment(text=text, confidence=mean, box=box)


def _reading_order(segment: Segment) -> tuple[int, float, float]:
    """Lines whose middles lie within a sixtieth of the height count as side by side."""
    x0, y0, _, y1 = segment.box or (0.0, 0.0, 0.0, 0.0)
    return int((y0 + y1) / 2 * 60), x0, y0
