"""One file to one :class:`VideoEntry`: read, recognise, embed. Knows nothing of tables."""

from __future__ import annotations

import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmretrieve.config import Settings
from mmretrieve.datatypes import (
    METADATA_PASSAGE,
    MODALITIES,
    Keyframe,
    Modality,
    Passage,
    Probe,
    Segment,
    TokenEmbeddings,
)
from mmretrieve.encoders.base import Encoder, as_joint, empty_tokens
from mmretrieve.errors import InputError, MediaError
from mmretrieve.indexers.media import probe as probe_media
from mmretrieve.indexers.metadata import VideoMetadata, read_metadata
from mmretrieve.indexers.ocr import OcrReader
from mmretrieve.indexers.sidecars import Sidecars, find_sidecars
from mmretrieve.indexers.speech import SpeechReader, SpeechTrack
from mmretrieve.indexers.visual import VisualPassage, iter_visual
from mmretrieve.indexers.windows import Window, distribute, extend
from mmretrieve.joint_ingest import JointPassage, Part, joint_parts
from mmretrieve.reports import Stage
from mmretrieve.storage.records import Thumbnail, VideoEntry, VideoRecord

THUMBNAIL_PX = 240
_JPEG_QUALITY = 70
_TOLD_WARNINGS = 20


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
    """What one passage of pictures gave, with the pictures themselves let go of as far as can be."""

    window: Window
    regions: tuple[Segment, ...]
    tokens: TokenEmbeddings
    lines: tuple[Segment, ...]
    thumbnails: tuple[Thumbnail, ...]
    keyframes: tuple[Keyframe, ...] = ()
    """What a joint encoder needs of them; others have looked already."""


class Ingestor:
    """Reads and embeds videos; one for a run, shared by its worker threads."""

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self._settings = settings
        self._encoder = encoder
        self._joint = as_joint(encoder)
        self._speech = SpeechReader(settings.speech, threads=1)
        self._ocr = OcrReader(threads=1, settings=settings.ocr) if settings.ocr.enabled else None
        self._listeners = ThreadPoolExecutor(settings.jobs, thread_name_prefix="speech")

    def close(self) -> None:
        """Stop the threads that listen."""
        self._listeners.shutdown(cancel_futures=True)

    def ingest(
        self, path: Path, video_id: str, on_time: Callable[[float], None] | None = None
    ) -> Ingested:
        """Everything that the index holds about a file; ``on_time`` is told, from this thread, the
        second of the video that has been reached.

        Raises:
            InputError: nothing in the file can be decoded.
            SetupError: a model or an extra is missing; no other file would fare better.
        """
        clock, warnings = _Clock(), _Warnings()
        probe = probe_media(path)
        sidecars = find_sidecars(path, self._settings.speech.language)
        metadata = read_metadata(path, probe, sidecars, warnings.add)
        heard = self._listeners.submit(self._listen, path, probe, sidecars, warnings.add)
        try:
            seen = self._watch(path, probe, clock, warnings.add, on_time)
        except MediaError as error:
            if not _has_speech(heard):
                raise
            warnings.add(f"pictures cannot be decoded, indexed by its sound: {error}")
            seen = ()
        except BaseException:
            heard.cancel()
            raise
        track, clock.seconds[Stage.SPEECH] = heard.result()
        parts = tuple(self._parts(seen, track, metadata, clock))
        video = self._record(path, video_id, probe, metadata, track, parts, warnings.all())
        thumbnails = tuple(t for s in seen for t in s.thumbnails)
        return Ingested(VideoEntry(video, parts, thumbnails), clock.seconds)

    def _listen(
        self, path: Path, probe: Probe, sidecars: Sidecars, warn: Callable[[str], None]
    ) -> tuple[SpeechTrack, float]:
        start = time.perf_counter()
        try:
            track = self._speech.read(path, probe, sidecars, warn)
        except InputError as error:
            warn(f"speech left out: {error}")
            track = SpeechTrack()
        return track, time.perf_counter() - start

    def _watch(
        self,
        path: Path,
        probe: Probe,
        clock: _Clock,
        warn: Callable[[str], None],
        on_time: Callable[[float], None] | None,
    ) -> tuple[_Seen, ...]:
        settings = self._settings
        if not probe.has_video or not settings.visual.enabled:
            return ()
        passages = iter_visual(path, probe, settings.visual, settings.passages, self._ocr, warn)
        seen: list[_Seen] = []
        while True:
            with clock.time(Stage.VISUAL):
                passage = next(passages, None)
            if passage is None:
                return tuple(seen)
            with clock.time(Stage.FRAMES):
                seen.append(self._look(passage))
            if on_time is not None:
                on_time(passage.end_s)

    def _look(self, passage: VisualPassage) -> _Seen:
        pictures = tuple(
            Thumbnail(k.time_s, passage.number, thumbnail(k.image)) for k in passage.keyframes
        )
        window = Window(passage.number, passage.start_s, passage.end_s)
        if self._joint is not None:
            kept = tuple(self._joint.shrink(k) for k in passage.keyframes)
            return _Seen(window, (), empty_tokens(0), passage.ocr, pictures, kept)
        regions, tokens = self._encoder.frames(passage.keyframes)
        return _Seen(window, regions, tokens, passage.ocr, pictures)

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
        if self._joint is not None:
            yield from self._together(windows, pictures, spoken, track, metadata, clock)
            return
        for window in windows:
            picture = pictures.get(window.number)
            if picture is not None and len(picture.regions):
                passage = _passage(window, Modality.FRAMES, picture.regions, "keyframes")
                yield passage, picture.tokens
            texts = {
                Modality.OCR: _lines(picture),
                Modality.SPEECH: spoken.get(window.number, ()),
            }
            with clock.time(Stage.TEXT):
                tokens = self._encoder.texts(texts)
            for modality, source in (
                (Modality.OCR, OcrReader.name),
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

    def _together(
        self,
        windows: Sequence[Window],
        pictures: Mapping[int, _Seen],
        spoken: Mapping[int, tuple[Segment, ...]],
        track: SpeechTrack,
        metadata: VideoMetadata,
        clock: _Clock,
    ) -> Iterator[Part]:
        assert self._joint is not None
        sources = {Modality.OCR: OcrReader.name, Modality.SPEECH: track.source}
        passages = [
            JointPassage(
                window,
                _keyframes(pictures.get(window.number)),
                _lines(pictures.get(window.number)),
                spoken.get(window.number, ()),
            )
            for window in windows
        ]
        with clock.time(Stage.FRAMES):
            yield from joint_parts(self._joint, passages, metadata.segments, sources)

    def _record(
        self,
        path: Path,
        video_id: str,
        probe: Probe,
        metadata: VideoMetadata,
        track: SpeechTrack,
        parts: tuple[Part, ...],
        warnings: tuple[str, ...],
    ) -> VideoRecord:
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


def _lines(picture: _Seen | None) -> tuple[Segment, ...]:
    return picture.lines if picture is not None else ()


def _keyframes(picture: _Seen | None) -> tuple[Keyframe, ...]:
    return picture.keyframes if picture is not None else ()


def _passage(
    window: Window, modality: Modality, segments: tuple[Segment, ...], source: str
) -> Passage:
    return Passage(window.number, modality, window.start_s, window.end_s, segments, source)


def _has_speech(heard: Future[tuple[SpeechTrack, float]]) -> bool:
    track, _ = heard.result()
    return bool(track.segments)
