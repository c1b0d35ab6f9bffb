"""What the result of each stage of indexing depends on, as one key a stage.

A changed setting changes the keys of the stages that it touches, and no others; so do other weights.
What lies beside a video has no key here: its signature is kept by itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from mmretrieve.config import Settings

READING = 1
"""Raised when the program reads pictures, text or sound in another way, so that it is done again."""


class StageKey(StrEnum):
    """What can be used again by itself."""

    PICTURES = "pictures"
    """Which frames stand for a video, and its passages."""
    FRAMES = "frames"
    """Their tokens."""
    WRITTEN = "written"
    """Text on screen, as recognised."""
    HEARD = "heard"
    """Speech in the file itself, as recognised."""
    BESIDE = "beside"
    """Which files beside the video are read for what is said."""
    TEXT = "text"
    """Tokens of all text."""
    SOUND = "sound"
    """Tokens of sound itself; without a key for encoders that do not hear."""


def stage_keys(
    settings: Settings, fingerprints: Mapping[str, str], hears_s: float = 0.0
) -> dict[str, str]:
    """Stage -> digest of what its result depends on besides the bytes of the file. ``fingerprints``: of
    the encoder's weights; ``hears_s``: seconds of a passage's sound that it takes."""
    pictures = {
        "reading": READING,
        "visual": dataclasses.asdict(settings.visual),
        "passages": dataclasses.asdict(settings.passages),
    }
    encoder = {"preset": settings.preset, "weights": dict(fingerprints)}
    parts: dict[StageKey, dict[str, Any]] = {
        StageKey.PICTURES: pictures,
        StageKey.FRAMES: {"pictures": pictures, "encoder": encoder},
        StageKey.WRITTEN: {"pictures": pictures, "ocr": dataclasses.asdict(settings.ocr)},
        StageKey.HEARD: {"reading": READING, "speech": dataclasses.asdict(settings.speech)},
        StageKey.BESIDE: {"enabled": settings.speech.enabled, "language": settings.speech.language},
        StageKey.TEXT: {"encoder": encoder},
    }
    if hears_s:
        parts[StageKey.SOUND] = {"reading": READING, "seconds": hears_s}
    return {stage.value: _digest(content) for stage, content in parts.items()}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
