"""One document to one :class:`VideoEntry`: the same passages, encoders and records as a video."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    Sound,
    TokenEmbeddings,
)
from mmretrieve.documents import CONTAINER, Document, Picture
from mmretrieve.encoders.base import Encoder, JointContent, as_joint, heard_s
from mmretrieve.errors import InputError
from mmretrieve.indexers.hearing import RATE, cut
from mmretrieve.indexers.windows import Window, cover, distribute, extend
from mmretrieve.ingest import Ingested, thumbnail
from mmretrieve.isolation.pool import IsolatedReader
from mmretrieve.joint_ingest import about, parts_of
from mmretrieve.lifecycle.reuse import Part
from mmretrieve.reports import Stage
from mmretrieve.storage.records import Thumbnail, VideoEntry, VideoRecord

SOURCE = "given"
_SPOKEN_OR_WRITTEN = (Modality.OCR, Modality.SPEECH)


@dataclass(frozen=True, slots=True)
class _Content:
    """What one passage holds; without times where ``start_s`` is None."""

    number: int
    start_s: float | None
    end_s: float | None
    texts: Mapping[Modality, tuple[Segment, ...]]
    pictures: tuple[Picture, ...]
    sound: Sound | None = None

    def passage(self, modality: Modality, segments: tuple[Segment, ...]) -> Passage:
        return Passage(self.number, modality, self.start_s, self.end_s, segments, SOURCE)


class DocumentIngestor:
    """Embeds documents; one for a run, shared by its threads. Pictures given as files are decoded in
    processes of their own, which :meth:`close` ends."""

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self._settings = settings
        self._encoder = encoder
        self._joint = as_joint(encoder)
        self._hears_s = heard_s(encoder)
        self._reader = IsolatedReader(settings)

    def close(self) -> None:
        """End what is under way: threads inside :meth:`ingest` come back with an error at once."""
        self._reader.close()

    def ingest(self, document: Document) -> Ingested:
        """Everything that the index holds about a document.

        Raises:
            InputError: a picture cannot be read, or nothing in the document can be searched for.
        """
        seconds = {Stage.TEXT: 0.0, Stage.FRAMES: 0.0}
        parts: list[Part] = []
        thumbnails: list[Thumbnail] = []
        for content in contents(document, self._settings, self._hears_s):
            start = time.perf_counter()
            if self._joint is not None:
                found, seen = self._together(content)
                parts += found
                thumbnails += seen
                seconds[Stage.FRAMES] += time.perf_counter() - start
                continue
            if content.pictures and self._settings.visual.enabled:
                part, seen = self._frames(content)
                parts.append(part)
                thumbnails += seen
            middle = time.perf_counter()
            parts += self._texts(content)
            seconds[Stage.FRAMES] += middle - start
            seconds[Stage.TEXT] += time.perf_counter() - middle
        parts += self._metadata(document)
        if not parts:
            raise InputError(
                f"document {document.doc_id!r} has nothing to search for: give text or pictures"
            )
        record = self._record(document, parts)
        return Ingested(VideoEntry(record, tuple(parts), tuple(thumbnails)), seconds)

    def _together(self, content: _Content) -> tuple[list[Part], list[Thumbnail]]:
        assert self._joint is not None
        keyframes = list(self._keyframes(content.pictures)) if self._settings.visual.enabled else []
        small = tuple(self._joint.shrink(k) for k in keyframes)
        given = JointContent(small, content.texts, content.start_s, content.end_s, content.sound)
        (made,) = self._joint.joint([given])
        parts = list(parts_of(given, made, content.number, dict.fromkeys(Modality, SOURCE)))
        if content.start_s is None:
            parts = [(_timeless(passage), tokens) for passage, tokens in parts]
        seen = [Thumbnail(k.time_s, content.number, thumbnail(k.image)) for k in keyframes]
        return parts, seen

    def _frames(self, content: _Content) -> tuple[Part, list[Thumbnail]]:
        keyframes = list(self._keyframes(content.pictures))
        regions, tokens = self._encoder.frames(keyframes)
        if content.start_s is None:
            regions = tuple(replace(region, start_s=None, end_s=None) for region in regions)
        seen = [Thumbnail(k.time_s, content.number, thumbnail(k.image)) for k in keyframes]
        return (content.passage(Modality.FRAMES, regions), tokens), seen

    def _texts(self, content: _Content) -> Iterator[Part]:
        tokens = self._encoder.texts(content.texts)
        for modality in _SPOKEN_OR_WRITTEN:
            if _has_tokens(tokens, modality):
                yield content.passage(modality, content.texts[modality]), tokens[modality]

    def _metadata(self, document: Document) -> Iterator[Part]:
        if self._joint is not None:
            yield from about(self._joint, self._all_keyframes(document), document.metadata, SOURCE)
            return
        tokens = self._encoder.texts({Modality.METADATA: document.metadata})
        if _has_tokens(tokens, Modality.METADATA):
            passage = Passage(
                METADATA_PASSAGE, Modality.METADATA, None, None, document.metadata, SOURCE
            )
            yield passage, tokens[Modality.METADATA]

    def _all_keyframes(self, document: Document) -> tuple[Keyframe, ...]:
        assert self._joint is not None
        if not self._settings.visual.enabled:
            return ()
        return tuple(self._joint.shrink(k) for k in self._keyframes(document.pictures))

    def _keyframes(self, pictures: Sequence[Picture]) -> Iterator[Keyframe]:
        for picture in pictures:
            start_s = picture.start_s or 0.0
            yield Keyframe(start_s, start_s, picture.end_s or 0.0, self._pixels(picture))

    def _pixels(self, picture: Picture) -> NDArray[np.uint8]:
        if isinstance(picture.image, Path):
            return self._reader.picture(picture.image.absolute())
        return picture.pixels()

    def _record(self, document: Document, parts: Sequence[Part]) -> VideoRecord:
        counts = dict.fromkeys(MODALITIES, 0)
        for passage, tokens in parts:
            counts[passage.modality] += len(tokens.vectors)
        ends = [passage.end_s or 0.0 for passage, _ in parts]
        duration_s = document.duration_s if document.duration_s is not None else max(ends)
        return VideoRecord(
            video_id=document.doc_id,
            revision=uuid.uuid4().hex,
            path=document.path,
            title=document.title or document.doc_id,
            duration_s=duration_s,
            probe=Probe(duration_s, CONTAINER, 0),
            facts=dict(document.facts),
            sources={m: SOURCE for m, n in counts.items() if n},
            n_tokens={m: n for m, n in counts.items() if n},
            settings_key=self._settings.content_key,
            indexed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def contents(document: Document, settings: Settings, hears_s: float = 0.0) -> Iterator[_Content]:
    """The passages of a document: windows of what has times, as for a video, then one without times
    for the rest. ``hears_s``: seconds of a passage's sound that the encoder takes."""
    texts = {m: tuple(document.segments.get(m, ())) for m in _SPOKEN_OR_WRITTEN}
    timed = [s for found in texts.values() for s in found if s.start_s is not None]
    shown = [p for p in document.pictures if p.start_s is not None]
    spans = timed + [Segment("", p.start_s, p.end_s) for p in shown]
    spans.sort(key=lambda s: (s.start_s or 0.0, s.end_s or 0.0))
    windows = extend((), spans, settings.passages)
    if document.audio is not None and hears_s:
        ends = [s.end_s or 0.0 for s in spans]
        windows = cover((), max([len(document.audio) / RATE, *ends]), settings.passages)
    heard = _heard(document, windows, hears_s)
    homes = {m: distribute(windows, found) for m, found in texts.items()}
    for window in windows:
        mine = {m: found.get(window.number, ()) for m, found in homes.items()}
        pictures = tuple(p for p in shown if _home(windows, p) == window.number)
        sound = heard.get(window.number)
        yield _Content(window.number, window.start_s, window.end_s, mine, pictures, sound)
    rest = {m: tuple(s for s in found if s.start_s is None) for m, found in texts.items()}
    loose = tuple(p for p in document.pictures if p.start_s is None)
    if any(rest.values()) or loose:
        yield _Content(len(windows), None, None, rest, loose)


def _heard(document: Document, windows: Sequence[Window], hears_s: float) -> dict[int, Sound]:
    """Window number -> the sound in it that the encoder takes."""
    if document.audio is None or not hears_s:
        return {}
    spans = [(w.start_s, min(w.end_s, w.start_s + hears_s)) for w in windows]
    found = cut([Sound(0.0, document.audio)], spans)
    return {w.number: s for w, s in zip(windows, found, strict=True) if s is not None}


def _timeless(passage: Passage) -> Passage:
    segments = tuple(replace(s, start_s=None, end_s=None) for s in passage.segments)
    return replace(passage, segments=segments)


def _home(windows: Sequence[Window], picture: Picture) -> int:
    span = Segment("", picture.start_s, picture.end_s)
    return next(iter(distribute(windows, (span,))))


def _has_tokens(tokens: Mapping[Modality, TokenEmbeddings], modality: Modality) -> bool:
    return modality in tokens and bool(len(tokens[modality].vectors))
