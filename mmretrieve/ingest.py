"""One file to one :class:`VideoEntry`: read, recognise, embed. Knows nothing of tables."""

from __future__ import annotations

import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmretrieve.config import Settings
from mmretrieve.datatypes import (
    METADATA_PASSAGE,
    MODALITIES,
    Modality,
    Passage,
    Probe,
    Segment,
    TokenEmbeddings,
)
from mmretrieve.encoders.base import Encoder
from mmretrieve.errors import StoppedError
from mmretrieve.indexers.metadata import VideoMetadata
from mmretrieve.indexers.reading import Reader, Reading
from mmretrieve.indexers.speech import SpeechTrack
from mmretrieve.indexers.windows import Window, distribute, extend
from mmretrieve.isolation.pool import IsolatedReader
from mmretrieve.reports import Stage
from mmretrieve.storage.records import Thumbnail, VideoEntry, VideoRecord

if TYPE_CHECKING:
    from mmretrieve.indexers.visual import VisualPassage

OCR_SOURCE = "rapidocr"
THUMBNAIL_PX = 240
_JPEG_QUALITY = 70
_TOLD_WARNINGS = 20

Part = tuple[Passage, TokenEmbeddings]


@dataclass(frozen=True, slots=True)
class Ingested:
    """A video ready to be committed, and the seconds that each stage took."""

    entry: VideoEntry
    stage_s: dict[Stage, float]


@dataclass(slots=True)
class _Clock:
    seconds: dict[Stage, float] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: Stage) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one passage of pictures gave, with the pictures themselves let go."""

    window: Window
    regions: tuple[Segment, ...]
    tokens: TokenEmbeddings
    lines: tuple[Segment, ...]
    thumbnails: tuple[Thumbnail, ...]


class Ingestor:
    """Reads and embeds videos; one for a run, shared by its worker threads.

    Files are read by ``reader``, by default in processes of their own with bounds of time and memory;
    what comes out of it is embedded here.
    """

    def __init__(self, settings: Settings, encoder: Encoder, reader: Reader | None = None) -> None:
        self._settings = settings
        self._encoder = encoder
        self._reader = reader if reader is not None else IsolatedReader(settings)
        self._closed = threading.Event()

    def warm_up(self, n_files: int) -> None:
        """Get ready for so many files, in the background."""
        self._reader.warm_up(min(n_files, self._settings.jobs))

    def close(self) -> None:
        """End what is under way: threads inside :meth:`ingest` come back with an error at once."""
        self._closed.set()
        self._reader.close()

    def ingest(
        self, path: Path, video_id: str, on_time: Callable[[float], None] | None = None
    ) -> Ingested:
        """Everything that the index holds about a file; ``on_time`` is told, from this thread, the
        second of the video that has been reached.

        Raises:
            InputError: nothing in the file can be decoded, or reading it went over a bound.
            SetupError: a model or an extra is missing; no other file would fare better.
        """
        clock = _Clock()
        watcher = _Watcher(self._look, clock, on_time)
        reading = self._reader.read(path, watcher)
        clock.seconds.update(reading.seconds)
        seen = tuple(watcher.passages)
        parts = tuple(self._parts(seen, reading.track, reading.metadata, clock))
        video = self._record(path, video_id, reading, parts, watcher.warnings.all())
        thumbnails = tuple(t for s in seen for t in s.thumbnails)
        return Ingested(VideoEntry(video, parts, thumbnails), clock.seconds)

    def _look(self, passage: VisualPassage) -> _Seen:
        regions, tokens = self._encoder.frames(passage.keyframes)
        pictures = (
            Thumbnail(k.time_s, passage.number, thumbnail(k.image)) for k in passage.keyframes
        )
        window = Window(passage.number, passage.start_s, passage.end_s)
        return _Seen(window, regions, tokens, passage.ocr, tuple(pictures))

    def _parts(
        self,
        seen: tuple[_Seen, ...],
        track: SpeechTrack,
        metadata: VideoMetadata,
        clock: _Clock,
    ) -> Iterator[Part]:
        windows = extend([s.window for s in seen], track.segments, self._settings.passages)
        spoken = distribute(windows, track.segments)
        pictures = {s.window.number: s for s in seen}
        for window in windows:
            if self._closed.is_set():
                raise StoppedError("the run was stopped")
            picture = pictures.get(window.number)
            if picture is not None and len(picture.regions):
                passage = _passage(window, Modality.FRAMES, picture.regions, "keyframes")
                yield passage, picture.tokens
            texts = {
                Modality.OCR: picture.lines if picture is not None else (),
                Modality.SPEECH: spoken.get(window.number, ()),
            }
            with clock.time(Stage.TEXT):
                tokens = self._encoder.texts(texts)
            for modality, source in (
                (Modality.OCR, OCR_SOURCE),
                (Modality.SPEECH, track.source),
            ):
                if modality in tokens and len(tokens[modality].vectors):
                    yield _passage(window, modality, texts[modality], source), tokens[modality]
        with clock.time(Stage.TEXT):
            about = self._encoder.texts({Modality.METADATA: metadata.segments})
        if Modality.METADATA in about and len(about[Modality.METADATA].vectors):
            yield (
                Passage(
                    METADATA_PASSAGE, Modality.METADATA, None, None, metadata.segments, "metadata"
                ),
                about[Modality.METADATA],
            )

    def _record(
        self,
        path: Path,
        video_id: str,
        reading: Reading,
        parts: tuple[Part, ...],
        warnings: tuple[str, ...],
    ) -> VideoRecord:
        probe, metadata, track = reading.probe, reading.metadata, reading.track
        counts = {m: 0 for m in MODALITIES}
        sources: dict[Modality, str] = {}
        for passage, tokens in parts:
            counts[passage.modality] += len(tokens.vectors)
            sources[passage.modality] = passage.source
        facts = dict(metadata.facts)
        if track.language is not None:
            facts.setdefault("language", track.language)
        return VideoRecord(
            video_id=video_id,
            revision=uuid.uuid4().hex,
            path=str(path),
            title=metadata.title,
            duration_s=probe.duration_s or max((p.end_s or 0.0 for p, _ in parts), default=0.0),
            probe=probe,
            facts=facts,
            sources=sources,
            n_tokens={m: n for m, n in counts.items() if n},
            settings_key=self._settings.content_key,
            warnings=warnings,
            indexed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


class _Watcher:
    """Embeds the passages of one file as they come."""

    def __init__(
        self,
        look: Callable[[VisualPassage], _Seen],
        clock: _Clock,
        on_time: Callable[[float], None] | None,
    ) -> None:
        self._look = look
        self._clock = clock
        self._on_time = on_time
        self.passages: list[_Seen] = []
        self.warnings = _Warnings()

    def probed(self, probe: Probe) -> None:
        """Nothing to do: the facts come with the reading."""

    def seen(self, passage: VisualPassage) -> None:
        """Take in the next passage."""
        with self._clock.time(Stage.FRAMES):
            self.passages.append(self._look(passage))
        if self._on_time is not None:
            self._on_time(passage.end_s)

    def warn(self, message: str) -> None:
        """Note what was left out."""
        self.warnings.add(message)


class _Warnings:
    """Distinct messages of one file, as many as a person would read."""

    def __init__(self) -> None:
        self._messages: dict[str, None] = {}
        self._lock = threading.Lock()

    def add(self, message: str) -> None:
        with self._lock:
            if len(self._messages) < _TOLD_WARNINGS:
                self._messages[message] = None

    def all(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._messages)


def thumbnail(image: NDArray[np.uint8]) -> bytes:
    """A JPEG whose longer side is at most :data:`THUMBNAIL_PX` of ``(height, width, 3)`` RGB."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _passage(
    window: Window, modality: Modality, segments: tuple[Segment, ...], source: str
) -> Passage:
    return Passage(window.number, modality, window.start_s, window.end_s, segments, source)
