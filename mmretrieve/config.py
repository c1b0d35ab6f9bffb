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
"""The presets of this package; installed packages can add others (:data:`ENCODER_GROUP`)."""

ENCODER_GROUP = "mmretrieve.encoders"
"""Entry-point group of further presets: name -> ``callable(EncoderSettings) -> Encoder``."""
_NOT_CONTENT = ("jobs", "encoder", "limits", "log_file")
"""Settings that leave the tokens of a video as they are."""


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
class EncoderSettings:
    """Which weights a preset's encoder uses; ``lite`` needs none of these.

    They are no part of :attr:`Settings.content_key`: an index knows its weights by their checksums,
    so that a folder can be moved, and opened with another precision or on another device.
    """

    weights: str | None = None
    """A folder, a file, a hub id that was fetched before, or (``clip``) a pretrained tag."""
    model: str | None = None
    """``clip``: name of an open_clip model. ``clamr``: a backbone, in place of the one that the
    adapter names."""
    text: str | None = None
    """``clip``: folder of a ColBERT-type text encoder, in place of the default one."""
    precision: str = "auto"
    """``float32``, ``bfloat16``, or ``nf4`` (four bits, for ``clamr``)."""
    device: str = "auto"
    """``cpu``, ``cuda`` or ``cuda:1``; ``auto`` is a GPU where there is one."""


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
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    jobs: int = 2
    log_file: str = ""
    """Where the log is kept: a path, ``off``, or nothing for ``log.jsonl`` in the index."""

    def __post_init__(self) -> None:
        """Reject an unknown preset.

        Raises:
            UsageError: neither one of :data:`PRESETS` nor one that an installed package adds.
        """
        if self.preset not in PRESETS and self.preset not in (known := known_presets()):
            raise UsageError(f"unknown preset {self.preset!r}: expected one of {', '.join(known)}")

    @property
    def content_key(self) -> str:
        """Hex digest of the settings that change the tokens of a video."""
        content = {k: v for k, v in dataclasses.asdict(self).items() if k not in _NOT_CONTENT}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def to_toml(self) -> str:
        """The settings as TOML, one table per group."""
        tables = dataclasses.asdict(self)
        if self.encoder == EncoderSettings():  # as before there were any: older programs read it
            del tables["encoder"]
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


_GROUPS: dict[str, type[Any]] = {
    "visual": VisualSettings,
    "passages": PassageSettings,
    "speech": SpeechSettings,
    "ocr": OcrSettings,
    "encoder": EncoderSettings,
    "limits": LimitSettings,
}


def known_presets() -> tuple[str, ...]:
    """The presets of this package, then those that installed packages add."""
    from importlib.metadata import entry_points

    added = {point.name for point in entry_points(group=ENCODER_GROUP)}
    return (*PRESETS, *sorted(added - set(PRESETS)))


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
