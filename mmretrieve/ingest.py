"""One file to one :class:`VideoEntry`: read, recognise, embed. Knows nothing of tables."""

from __future__ import annotations

import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
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
    Keyframe,
    Modality,
    Passage,
    Probe,
    Segment,
    TokenEmbeddings,
    TracePoint,
)
from mmretrieve.encoders.base import Encoder, as_joint, empty_tokens, heard_s
from mmretrieve.errors import StoppedError
from mmretrieve.indexers.metadata import VideoMetadata
from mmretrieve.indexers.reading import Reader, Reading, Wanted
from mmretrieve.indexers.speech import SpeechTrack
from mmretrieve.indexers.warn import Warn
from mmretrieve.indexers.windows import Window, distribute, extend
from mmretrieve.isolation.pool import IsolatedReader
from mmretrieve.joint_ingest import JointPassage, joint_parts, joint_windows, sounds_of
from mmretrieve.lifecycle.keys import StageKey, stage_keys
from mmretrieve.lifecycle.reuse import Kept, Part, Reuse
from mmretrieve.reports import Stage
from mmretrieve.storage.records import Extraction, Heard, Seen, Thumbnail, VideoEntry, VideoRecord

if TYPE_CHECKING:
    from mmretrieve.indexers.visual import VisualPassage

OCR_SOURCE = "rapidocr"
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
    """Reads and embeds videos; one for a run, shared by its worker threads.

    Files are read by ``reader``, by default in processes of their own with bounds of time and memory;
    what comes out of it is embedded here.
    """

    def __init__(self, settings: Settings, encoder: Encoder, reader: Reader | None = None) -> None:
        self._settings = settings
        self._encoder = encoder
        self._joint = as_joint(encoder)
        self._hears_s = heard_s(encoder)
        self._keys = stage_keys(settings, encoder.fingerprints(), self._hears_s)
        self._reader = reader if reader is not None else IsolatedReader(settings)
        self._closed = threading.Event()

    def warm_up(self, n_files: int) -> None:
        """Get ready for so many files, in the background."""
        self._reader.warm_up(min(n_files, self._settings.jobs))

    def goes_on(self) -> bool:
        """Whether :meth:`close` has not been called yet."""
        return not self._closed.is_set()

    def close(self) -> None:
        """End what is under way: threads inside :meth:`ingest` come back with an error at once."""
        self._closed.set()
        self._reader.close()

    def ingest(
        self,
        path: Path,
        video_id: str,
        on_time: Callable[[float], None] | None = None,
        *,
        sidecars: str = "",
        kept: Kept | None = None,
    ) -> Ingested:
        """Everything that the index holds about a file; ``on_time`` is told, from this thread, the
        second of the video that has been reached. ``sidecars``: signature of the files beside it.
        What holds of ``kept``, an earlier state of the same bytes, is used again.

        Raises:
            InputError: nothing in the file can be decoded, or reading it went over a bound.
            SetupError: a model or an extra is missing; no other file would fare better.
        """
        clock, reuse = _Clock(), Reuse(kept, self._keys, together=self._joint is not None)
        wanted = self._wanted(reuse)
        watcher = _Watcher(self._encoder, reuse, wanted, clock, on_time)
        reading = self._reader.read(path, watcher, wanted)
        clock.seconds.update(reading.seconds)
        seen = watcher.passages if wanted.pictures else list(_seen_before(reuse))
        extraction = self._extraction(sidecars, seen, watcher.trace, reading, reuse, wanted)
        for message in _told_before(reading, reuse, wanted):
            watcher.warnings.add(message)
        if self._joint is not None:
            parts = tuple(self._joint_parts(path, seen, reading, clock, watcher.warn))
        else:
            parts = tuple(self._parts(seen, reading.track, reading.metadata, clock, reuse))
        video = self._record(path, video_id, reading, parts, watcher.warnings.all())
        thumbnails = tuple(t for s in seen for t in s.thumbnails)
        return Ingested(VideoEntry(video, parts, thumbnails, extraction), clock.seconds)

    def _wanted(self, reuse: Reuse) -> Wanted:
        """What has to be read anew."""
        written = self._settings.ocr.enabled and not reuse.holds(StageKey.WRITTEN)
        heard: SpeechTrack | None = None
        if reuse.kept is not None and reuse.holds(StageKey.HEARD):
            before = reuse.kept.extraction.heard
            heard = SpeechTrack(before.segments, before.source, before.language)
        return Wanted(written or not reuse.holds(StageKey.FRAMES), written, heard)

    def _extraction(
        self,
        sidecars: str,
        seen: Sequence[_Seen],
        trace: Sequence[TracePoint],
        reading: Reading,
        reuse: Reuse,
        wanted: Wanted,
    ) -> Extraction:
        """What is kept for the next time; stages that failed or were not needed have no key."""
        keys = dict(self._keys)
        before = reuse.kept.extraction if reuse.kept is not None else Extraction("")
        heard = before.heard if wanted.heard is not None else Heard()
        if reading.heard is not None:
            track = reading.heard
            heard = Heard(track.segments, track.source, track.language, reading.heard_warnings)
        elif wanted.heard is None:
            del keys[StageKey.HEARD]
        if not reading.whole:
            for stage in (StageKey.PICTURES, StageKey.FRAMES, StageKey.WRITTEN):
                del keys[stage]
        pictures = Seen(
            tuple((s.window.start_s, s.window.end_s) for s in seen),
            tuple(s.lines for s in seen),
            reading.seen_warnings if wanted.pictures else before.seen.warnings,
            tuple(trace) if wanted.pictures else before.seen.trace,
        )
        return Extraction(sidecars, keys, pictures, heard)

    def _parts(
        self,
        seen: Sequence[_Seen],
        track: SpeechTrack,
        metadata: VideoMetadata,
        clock: _Clock,
        reuse: Reuse,
    ) -> Iterator[Part]:
        windows = extend([s.window for s in seen], track.segments, self._settings.passages)
        spoken = distribute(windows, track.segments)
        pictures = {s.window.number: s for s in seen}
        for window in windows:
            if not self.goes_on():
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
                tokens = reuse.texts(window.number, texts) or self._encoder.texts(texts)
            for modality, source in (
                (Modality.OCR, OCR_SOURCE),
                (Modality.SPEECH, track.source),
            ):
                if modality in tokens and len(tokens[modality].vectors):
                    yield _passage(window, modality, texts[modality], source), tokens[modality]
        about = {Modality.METADATA: metadata.segments}
        with clock.time(Stage.TEXT):
            tokens = reuse.texts(METADATA_PASSAGE, about) or self._encoder.texts(about)
        if Modality.METADATA in tokens and len(tokens[Modality.METADATA].vectors):
            yield (
                Passage(
                    METADATA_PASSAGE, Modality.METADATA, None, None, metadata.segments, "metadata"
                ),
                tokens[Modality.METADATA],
            )

    def _joint_parts(
        self, path: Path, seen: Sequence[_Seen], reading: Reading, clock: _Clock, warn: Warn
    ) -> Iterator[Part]:
        """The same by an encoder that reads all of a passage together, its sound too if it hears."""
        assert self._joint is not None
        track, hears = reading.track, self._hears_s > 0 and reading.probe.has_audio
        windows = joint_windows(
            [s.window for s in seen], reading, self._settings.passages, hears=hears
        )
        spoken, pictures = distribute(windows, track.segments), {s.window.number: s for s in seen}
        passages = []
        for window in windows:
            picture = pictures.get(window.number)
            keyframes, lines = ((), ()) if picture is None else (picture.keyframes, picture.lines)
            said = spoken.get(window.number, ())
            passages.append(JointPassage(window, keyframes, lines, said))
        sources = {Modality.OCR: OCR_SOURCE, Modality.SPEECH: track.source}
        spans = [(w.start_s, min(w.end_s, w.start_s + self._hears_s)) for w in windows if hears]
        sounds = sounds_of(self._reader, path, reading.probe, spans, warn)
        with clock.time(Stage.FRAMES), closing(sounds):
            yield from joint_parts(
                self._joint, passages, reading.metadata.segments, sources, sounds, self.goes_on
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
        encoder: Encoder,
        reuse: Reuse,
        wanted: Wanted,
        clock: _Clock,
        on_time: Callable[[float], None] | None,
    ) -> None:
        self._encoder = encoder
        self._joint = as_joint(encoder)
        self._before = {s.window.number: s for s in _seen_before(reuse)}
        self._frames_hold = reuse.holds(StageKey.FRAMES)
        self._read_anew = wanted.written
        self._clock = clock
        self._on_time = on_time
        self.passages: list[_Seen] = []
        self.trace: list[TracePoint] = []
        self.warnings = _Warnings()

    def probed(self, probe: Probe) -> None:
        """Nothing to do: the facts come with the reading."""

    def seen(self, passage: VisualPassage) -> None:
        """Take in the next passage."""
        self.trace += passage.trace
        with self._clock.time(Stage.FRAMES):
            self.passages.append(self._look(passage))
        if self._on_time is not None:
            self._on_time(passage.end_s)

    def warn(self, message: str) -> None:
        """Note what was left out."""
        self.warnings.add(message)

    def _look(self, passage: VisualPassage) -> _Seen:
        before = self._before.get(passage.number)
        lines = passage.ocr if self._read_anew or before is None else before.lines
        window = Window(passage.number, passage.start_s, passage.end_s)
        if before is not None and self._frames_hold:
            return _Seen(window, before.regions, before.tokens, lines, before.thumbnails)
        pictures = tuple(
            Thumbnail(k.time_s, passage.number, thumbnail(k.image)) for k in passage.keyframes
        )
        if self._joint is not None:
            kept = tuple(self._joint.shrink(k) for k in passage.keyframes)
            return _Seen(window, (), empty_tokens(0), lines, pictures, kept)
        regions, tokens = self._encoder.frames(passage.keyframes)
        return _Seen(window, regions, tokens, lines, pictures)


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


def _seen_before(reuse: Reuse) -> Iterator[_Seen]:
    """The passages of pictures as the index has them, with the lines that still hold."""
    kept = reuse.kept
    if kept is None or not reuse.holds(StageKey.PICTURES):
        return
    lines = kept.extraction.seen.lines if reuse.holds(StageKey.WRITTEN) else ()
    for number, (start_s, end_s) in enumerate(kept.extraction.seen.windows):
        part = kept.part(number, Modality.FRAMES)
        yield _Seen(
            Window(number, start_s, end_s),
            part[0].segments if part is not None else (),
            part[1] if part is not None else empty_tokens(0),
            lines[number] if number < len(lines) else (),
            tuple(t for t in kept.thumbnails if t.passage == number),
        )


def _told_before(reading: Reading, reuse: Reuse, wanted: Wanted) -> Iterator[str]:
    """Warnings of the stages whose earlier results are used again."""
    if reuse.kept is not None and not wanted.pictures:
        yield from reuse.kept.extraction.seen.warnings
    if reuse.kept is not None and wanted.heard is not None and reading.track is wanted.heard:
        yield from reuse.kept.extraction.heard.warnings
