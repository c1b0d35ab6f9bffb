"""Frozen settings, their presets and their TOML form.

Settings are passed in and never changed by the engine. What is stored with an index is the part
that decides what its tokens are (:attr:`Settings.content_key`); how fast they are made is not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmretrieve.errors import UsageError

PRESETS = ("lite", "clip", "clamr")


@dataclass(frozen=True, slots=True)
class VisualSettings:
    """How frames are sampled, cut into shots and kept. All times in seconds of video."""

    enabled: bool = True
    analysis_fps: float = 6.0
    """Frames looked at per second of video for cuts and keyframes."""
    keyframe_every_s: float = 4.0
    """A shot longer than this gets a further keyframe, unless nothing changed."""
    min_shot_s: float = 0.6
    max_keyframes: int = 3600
    """Hard bound for one file; past it keyframes are spread thinner and a warning says so."""


@dataclass(frozen=True, slots=True)
class PassageSettings:
    """Passages are whole shots packed up to about ``target_s``; a longer shot is cut."""

    min_s: float = 8.0
    target_s: float = 20.0
    max_s: float = 30.0


@dataclass(frozen=True, slots=True)
class SpeechSettings:
    """Speech recognition; existing subtitles always come first."""

    enabled: bool = True
    model: str = "tiny.en"
    """``tiny.en`` (installed by pip), any faster-whisper model name, a folder, or ``off``."""
    language: str | None = None
    """ISO 639-1 code to force; ``None`` lets the model decide where it can."""


@dataclass(frozen=True, slots=True)
class OcrSettings:
    """On-screen text recognition."""

    enabled: bool = True
    min_confidence: float = 0.6
    max_side_px: int = 1280
    """Keyframes larger than this are scaled down before text is looked for."""


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What reading one file may take, in a process of its own; past it the file is given up."""

    memory_mb: int = 4096
    """Memory of a process that reads videos, its models included."""
    time_floor_s: float = 300.0
    """Every file may take so long, ..."""
    time_factor: float = 30.0
    """... and so many seconds more for each second of media, ..."""
    time_cap_s: float = 86_400.0
    """... but never longer than this."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides what an index holds, plus how many files are worked on at once."""

    preset: str = "lite"
    visual: VisualSettings = field(default_factory=VisualSettings)
    passages: PassageSettings = field(default_factory=PassageSettings)
    speech: SpeechSettings = field(default_factory=SpeechSettings)
    ocr: OcrSettings = field(default_factory=OcrSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    jobs: int = 2

    def __post_init__(self) -> None:
        """Reject an unknown preset.

        Raises:
            UsageError: ``preset`` is none of :data:`PRESETS`.
        """
        if self.preset not in PRESETS:
            raise UsageError(
                f"unknown preset {self.preset!r}: expected one of {', '.join(PRESETS)}"
            )

    @property
    def content_key(self) -> str:
        """Hex digest of the settings that change the tokens of a video."""
        content = {k: v for k, v in dataclasses.asdict(self).items() if k not in _HOW_NOT_WHAT}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def to_toml(self) -> str:
        """The settings as TOML, one table per group."""
        tables = dataclasses.asdict(self)
        flat = {k: v for k, v in tables.items() if not isinstance(v, dict)}
        lines = [f"{k} = {json.dumps(v)}" for k, v in flat.items()]
        for name, table in tables.items():
            if isinstance(table, dict):
                lines += ["", f"[{name}]"]
                lines += [f"{k} = {json.dumps(v)}" for k, v in table.items() if v is not None]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str) -> Settings:
        """Read settings; what is not named keeps its default.

        Raises:
            UsageError: not TOML, or a name that is no setting.
        """
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"settings are not valid TOML: {error}") from error
        values: dict[str, Any] = {name: _read(name, value) for name, value in data.items()}
        return cls(**values)

    @classmethod
    def from_file(cls, path: Path) -> Settings:
        """Read settings from a TOML file."""
        return cls.from_toml(path.read_text(encoding="utf-8"))


_HOW_NOT_WHAT = ("jobs", "limits")
"""Settings that change no token."""

_GROUPS: dict[str, type[Any]] = {
    "visual": VisualSettings,
    "passages": PassageSettings,
    "speech": SpeechSettings,
    "ocr": OcrSettings,
    "limits": LimitSettings,
}


def _read(name: str, value: object) -> object:
    if name not in {f.name for f in dataclasses.fields(Settings)}:
        raise UsageError(
            f"unknown setting {name!r}: expected one of preset, jobs, {', '.join(_GROUPS)}"
        )
    if name not in _GROUPS:
        _check(repr(name), value, 2 if name == "jobs" else "")
        return value
    if not isinstance(value, dict):
        raise UsageError(f"setting {name!r} must be a table, got {value!r}")
    group = _GROUPS[name]
    unknown = set(value) - {f.name for f in dataclasses.fields(group)}
    if unknown:
        raise UsageError(f"unknown setting in [{name}]: {', '.join(sorted(unknown))}")
    defaults = group()
    for key, given in value.items():
        _check(f"{key!r} in [{name}]", given, getattr(defaults, key))
    return group(**value)


def _check(name: str, given: object, default: object) -> None:
    """Make sure that a value is of the kind of its default.

    Raises:
        UsageError: it is not, or no finite number.
    """
    kinds = {bool: (bool,), int: (int,), float: (int, float)}.get(type(default), (str,))
    if type(given) not in kinds or (isinstance(given, float) and not math.isfinite(given)):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}
        raise UsageError(
            f"setting {name} must be {wanted.get(type(default), 'a text')}, got {given!r}"
        )
