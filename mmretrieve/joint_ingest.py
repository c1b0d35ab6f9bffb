"""Passages for encoders that read all modalities of a passage in one context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mmretrieve.datatypes import (
    METADATA_PASSAGE,
    Keyframe,
    Modality,
    Passage,
    Segment,
)
from mmretrieve.encoders.base import JointContent, JointEncoder, JointTokens
from mmretrieve.errors import StoppedError
from mmretrieve.indexers.windows import Window
from mmretrieve.lifecycle.reuse import Part

TOGETHER = 8
"""Passages given to the encoder at once, which can then put those of like length in one run."""

_IN_TIME = (Modality.FRAMES, Modality.OCR, Modality.SPEECH)
_SOURCES = {Modality.FRAMES: "keyframes", Modality.METADATA: "metadata"}


@dataclass(frozen=True, slots=True)
class JointPassage:
    """A window of a video and what is in it."""

    window: Window
    keyframes: tuple[Keyframe, ...]
    lines: tuple[Segment, ...]
    spoken: tuple[Segment, ...]

    def content(self) -> JointContent:
        texts = {Modality.OCR: self.lines, Modality.SPEECH: self.spoken}
        return JointContent(
            self.keyframes, texts, start_s=self.window.start_s, end_s=self.window.end_s
        )


def joint_parts(
    encoder: JointEncoder,
    passages: Sequence[JointPassage],
    metadata: tuple[Segment, ...],
    sources: Mapping[Modality, str],
    goes_on: Callable[[], bool],
) -> Iterator[Part]:
    """The parts of a video, a passage's modalities in one context. Its metadata is read beside
    pictures of the whole video, of which no token is kept: they are there in the passages.

    Raises:
        StoppedError: ``goes_on`` says no.
    """
    for start in range(0, len(passages), TOGETHER):
        if not goes_on():
            raise StoppedError("the run was stopped")
        group = passages[start : start + TOGETHER]
        contents = [passage.content() for passage in group]
        for passage, content, made in zip(group, contents, encoder.joint(contents), strict=True):
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
