"""Rows of the index as the rest of the program sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmretrieve.datatypes import Fact as Fact
from mmretrieve.datatypes import Modality, Passage, Probe, Segment, TokenEmbeddings, TracePoint


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One indexed video. ``video_id`` is the fingerprint of its bytes, ``revision`` names the one
    extraction whose passages are valid. ``facts`` are what ``--where`` can ask for; ``sources``
    says for each modality that has tokens where they came from."""

    video_id: str
    revision: str
    path: str
    title: str
    duration_s: float
    probe: Probe
    facts: Mapping[str, Fact] = field(default_factory=dict)
    sources: Mapping[Modality, str] = field(default_factory=dict)
    n_tokens: Mapping[Modality, int] = field(default_factory=dict)
    settings_key: str = ""
    warnings: tuple[str, ...] = ()
    indexed_at: str = ""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What the index knows about a path: the state in which it was last looked at, and what came
    of it (``video_id``, or ``error``)."""

    path: str
    size_bytes: int
    mtime_ns: int
    sidecars: str
    settings_key: str
    video_id: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small JPEG picture of a keyframe."""

    time_s: float
    passage: int
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said as the file itself tells it: by a subtitle track in it, or recognised. Files beside
    it do not count. ``warnings`` are what was told while it was read."""

    segments: tuple[Segment, ...] = ()
    source: str = ""
    language: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the pictures gave. ``windows``: start and end of each passage of pictures in seconds, before
    speech adds any; ``lines``: what is written in each, empty if text was not read; ``warnings``: told
    while pictures were read; ``trace``: coarse pictures over time."""

    windows: tuple[tuple[float, float], ...] = ()
    lines: tuple[tuple[Segment, ...], ...] = ()
    warnings: tuple[str, ...] = ()
    trace: tuple[TracePoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was read from a video, kept so that a change re-does only what depends on it. ``sidecars`` is
    the signature of the files beside it, ``keys`` maps a stage (see :mod:`mmretrieve.lifecycle.keys`)
    to what its result depends on; a stage that is not named there has no result to use again."""

    sidecars: str
    keys: Mapping[str, str] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    heard: Heard = field(default_factory=Heard)


@dataclass(frozen=True, slots=True)
class VideoEntry:
    """Everything that is written for one video. A document given as content has no ``extraction``."""

    video: VideoRecord
    passages: tuple[tuple[Passage, TokenEmbeddings], ...]
    thumbnails: tuple[Thumbnail, ...]
    extraction: Extraction | None = None
