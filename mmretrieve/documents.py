"""Documents given as content: what was said and written, what is known, and pictures, without a
video file. They are indexed, searched and measured like videos."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mmretrieve.datatypes import Fact, Modality, Segment
from mmretrieve.errors import InputError, UsageError
from mmretrieve.regular import open_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREFIX = "document:"
"""What stands before the id of a document where a video has its path."""
CONTAINER = "document"
TEXTS = (Modality.SPEECH, Modality.OCR, Modality.METADATA)
_HEX_DIGITS = 32
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What pictures may be: Pillow also knows formats that start other programs."""
_MAX_PICTURE_PIXELS = 1 << 26
_MAX_PICTURE_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a document: a file, or pixels ``(height, width, 3)`` uint8 RGB; with the stretch
    of the video that it stands for, where one is known."""

    image: Path | NDArray[np.uint8]
    start_s: float | None = None
    end_s: float | None = None

    def pixels(self) -> NDArray[np.uint8]:
        """``(height, width, 3)`` uint8 RGB as displayed.

        Raises:
            InputError: the file is no picture that can be read, or the array has another form.
        """
        import numpy as np

        if not isinstance(self.image, Path):
            if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
                raise InputError(
                    f"a picture of {self.image.dtype} {self.image.shape}: expected (height, width, 3) uint8"
                )
            return self.image
        from PIL import Image, ImageOps

        try:
            with open_regular(self.image) as file, Image.open(file, formats=_FORMATS) as opened:
                _check_size(self.image, *opened.size)
                ImageOps.exif_transpose(opened, in_place=True)
                return np.asarray(opened.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"picture {self.image} cannot be read ({error})") from error


@dataclass(frozen=True, slots=True)
class Document:
    """Content under an id, which becomes the ``video_id``.

    ``segments``: speech, on-screen text (``ocr``) and metadata; times may be left out, and what has
    none forms one passage without times. ``title`` counts as metadata. ``facts`` are what filters ask for.
    ``audio``: ``(n,)`` float32 in -1..1, mono, 16 kHz, from second 0 on; encoders that do not hear leave it
    aside.
    """

    doc_id: str
    title: str = ""
    segments: Mapping[Modality, Sequence[Segment]] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    duration_s: float | None = None
    audio: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Check what was given.

        Raises:
            UsageError: an empty id, segments of frames or sound, sound of another form, or times that
                cannot be.
        """
        if not self.doc_id.strip():
            raise UsageError("a document needs an id: got an empty one")
        if Modality.FRAMES in self.segments:
            raise UsageError(f"document {self.doc_id!r}: give pictures, not segments of frames")
        if Modality.AUDIO in self.segments:
            raise UsageError(f"document {self.doc_id!r}: give audio, not segments of it")
        _check_audio(self.doc_id, self.audio)
        spans = [(p.start_s, p.end_s) for p in self.pictures]
        spans += [(s.start_s, s.end_s) for found in self.segments.values() for s in found]
        for start_s, end_s in spans:
            _check_times(self.doc_id, start_s, end_s)

    @property
    def path(self) -> str:
        """What stands where a video has its path."""
        return PREFIX + self.doc_id

    @property
    def metadata(self) -> tuple[Segment, ...]:
        """The title and the segments of metadata."""
        title = (Segment(self.title, field="title"),) if self.title.strip() else ()
        return (*title, *self.segments.get(Modality.METADATA, ()))

    def fingerprint(self) -> str:
        """32 hex digits of the BLAKE3 hash of all content; the same content, the same digits.

        Raises:
            InputError: a picture cannot be read.
        """
        from blake3 import blake3

        hasher = blake3()
        for part in self._parts():
            hasher.update(len(part).to_bytes(8, "little"))
            hasher.update(part)
        return hasher.hexdigest()[:_HEX_DIGITS]

    def _parts(self) -> Iterator[bytes]:
        texts = {m.value: [asdict(s) for s in self.segments.get(m, ())] for m in TEXTS}
        facts = {k: list(v) if isinstance(v, tuple) else v for k, v in self.facts.items()}
        about = [self.doc_id, self.title, texts, facts, self.duration_s]
        yield json.dumps(about, sort_keys=True).encode()
        if self.audio is not None:
            yield b"audio"
            yield self.audio.tobytes()
        for picture in self.pictures:
            yield json.dumps([picture.start_s, picture.end_s]).encode()
            if not isinstance(picture.image, Path):
                yield repr(picture.image.shape).encode()
                yield picture.image.tobytes()
                continue
            try:
                with open_regular(picture.image) as file:
                    yield file.read(_MAX_PICTURE_BYTES)
            except OSError as error:
                told = error.strerror or error
                raise InputError(f"picture {picture.image} cannot be read ({told})") from error


def text_document(
    doc_id: str,
    *,
    title: str = "",
    speech: str = "",
    ocr: str = "",
    description: str = "",
    pictures: Sequence[Path] = (),
    facts: Mapping[str, Fact] | None = None,
) -> Document:
    """A document of whole texts without times; each line of ``ocr`` becomes a segment."""
    segments = {
        Modality.SPEECH: _lines([speech]),
        Modality.OCR: _lines(ocr.splitlines()),
        Modality.METADATA: _lines([description], "description"),
    }
    present = {m: found for m, found in segments.items() if found}
    images = tuple(Picture(path) for path in pictures)
    return Document(doc_id, title, present, images, facts or {})


def _check_audio(doc_id: str, audio: NDArray[np.float32] | None) -> None:
    import numpy as np

    if audio is None:
        return
    if audio.ndim != 1 or audio.dtype != np.float32 or not np.isfinite(audio).all():
        raise UsageError(
            f"document {doc_id!r}: audio of {audio.dtype} {audio.shape}: expected (n,) float32, finite, "
            "mono, 16 kHz"
        )


def _check_size(path: Path, width: int, height: int) -> None:
    """Refuse absurd pictures before memory is taken for them."""
    if width * height > _MAX_PICTURE_PIXELS:
        raise InputError(
            f"picture {path} of {width} x {height} is above the limit of {_MAX_PICTURE_PIXELS} pixels: "
            "scale it down"
        )


def _lines(texts: Sequence[str], field: str | None = None) -> tuple[Segment, ...]:
    return tuple(Segment(text.strip(), field=field) for text in texts if text.strip())


def _check_times(doc_id: str, start_s: float | None, end_s: float | None) -> None:
    if start_s is None and end_s is None:
        return
    if start_s is None or end_s is None or not 0 <= start_s <= end_s < math.inf:
        raise UsageError(
            f"document {doc_id!r}: times {start_s} to {end_s} s: expected 0 <= start_s <= end_s, "
            "or neither"
        )
