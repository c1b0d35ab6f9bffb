"""Passages for encoders that read all modalities of a passage in one context."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmretrieve.datatypes import (
    METADATA_PASSAGE,
    Keyframe,
    Modality,
    Passage,
    Segment,
    Sound,
)
from mmretrieve.encoders.base import JointContent, JointEncoder, JointTokens
from mmretrieve.errors import StoppedError
from mmretrieve.indexers.windows import Window, cover, extend
from mmretrieve.lifecycle.reuse import Part

if TYPE_CHECKING:
    from pathlib import Path

    from mmretrieve.config import PassageSettings
    from mmretrieve.datatypes import Probe
    from mmretrieve.indexers.hearing import Span
    from mmretrieve.indexers.reading import Reader, Reading
    from mmretrieve.indexers.warn import Warn

TOGETHER = 8
"""Passages given to the encoder at once, which can then put those of like length in one run."""

_IN_TIME = (Modality.FRAMES, Modality.OCR, Modality.SPEECH, Modality.AUDIO)
_SOURCES = {
    Modality.FRAMES: "keyframes",
    Modality.METADATA: "metadata",
    Modality.AUDIO: "sound",
}


@dataclass(frozen=True, slots=True)
class JointPassage:
    """A window of a video and what is in it."""

    window: Window
    keyframes: tuple[Keyframe, ...]
    lines: tuple[Segment, ...]
    spoken: tuple[Segment, ...]

    def content(self, sound: Sound | None) -> JointContent:
        """What the encoder reads."""
        texts = {Modality.OCR: self.lines, Modality.SPEECH: self.spoken}
        start_s, end_s = self.window.start_s, self.window.end_s
        return JointContent(self.keyframes, texts, start_s, end_s, sound)


def joint_windows(
    seen: Sequence[Window], reading: Reading, settings: PassageSettings, *, hears: bool
) -> tuple[Window, ...]:
    """The passages of a video: those of its pictures, and further ones for what is said after them or, for
    an encoder that hears, for all sound that goes on."""
    said = reading.track.segments
    if not hears:
        return extend(seen, said, settings)
    end_s = max([reading.probe.duration_s, *(s.end_s or 0.0 for s in said)])
    return cover(seen, end_s, settings)


def sounds_of(
    reader: Reader, path: Path, probe: Probe, spans: Sequence[Span], warn: Warn
) -> Generator[Sound | None]:
    """The sound of each of ``spans``, read as it is asked for; a file is opened only if there are any."""
    if spans:
        yield from reader.hear(path, probe, spans, warn)


def joint_parts(
    encoder: JointEncoder,
    passages: Sequence[JointPassage],
    metadata: tuple[Segment, ...],
    sources: Mapping[Modality, str],
    sounds: Iterator[Sound | None],
    goes_on: Callable[[], bool],
) -> Iterator[Part]:
    """The parts of a video, a passage's modalities in one context. Its metadata is read beside
    pictures of the whole video, of which no token is kept: they are there in the passages. ``sounds``:
    of each passage, which is asked for when its turn comes.

    Raises:
        StoppedError: ``goes_on`` says no.
    """
    for start in range(0, len(passages), TOGETHER):
        if not goes_on():
            raise StoppedError("the run was stopped")
        group = passages[start : start + TOGETHER]
        found = [(p, p.content(next(sounds, None))) for p in group]
        found = [(passage, content) for passage, content in found if not content.is_empty]
        made_of = encoder.joint([content for _, content in found])
        for (passage, content), made in zip(found, made_of, strict=True):
            number = passage.window.number
            yield from parts_of(content, made, number, {**_SOURCES, **sources})
    keyframes = tuple(k for passage in passages for k in passage.keyframes)
    yield from about(encoder, keyframes, metadata, _SOURCES[Modality.METADATA])


def parts_of(
    content: JointContent, made: JointTokens, number: int, sources: Mapping[Modality, str]
) -> Iterator[Part]:
    """One part for each modality in time that has tokens."""
    for modality in _IN_TIME:
        tokens = made.tokens.get(modality)
        if tokens is not None and len(tokens.vectors):
            segments = made.regions.get(modality) or tuple(content.texts[modality])
            source = sources[modality]
            passage = Passage(number, modality, content.start_s, content.end_s, segments, source)
            yield passage, tokens


def about(
    encoder: JointEncoder,
    keyframes: tuple[Keyframe, ...],
    metadata: tuple[Segment, ...],
    source: str,
) -> Iterator[Part]:
    """The part without times, or none."""
    if not any(segment.text.strip() for segment in metadata):
        return
    (made,) = encoder.joint([JointContent(keyframes, {Modality.METADATA: metadata})])
    tokens = made.tokens.get(Modality.METADATA)
    if tokens is not None and len(tokens.vectors):
        passage = Passage(METADATA_PASSAGE, Modality.METADATA, None, None, metadata, source)
        yield passage, tokens
