"""Rows of the index as the rest of the program sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmretrieve.datatypes import Fact as Fact
from mmretrieve.datatypes import Modality, Passage, Probe, TokenEmbeddings


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
class VideoEntry:
    """Everything that is written for one video."""

    video: VideoRecord
    passages: tuple[tuple[Passage, TokenEmbeddings], ...]
    thumbnails: tuple[Thumbnail, ...]
