"""Preset name -> encoder: those of this package, and those that installed packages add.

A package adds one by an entry point in the group ``mmretrieve.encoders``::

    [project.entry-points."mmretrieve.encoders"]
    mine = "my_package.encoder:make"

``make(settings: EncoderSettings) -> Encoder`` must be cheap: weights are read at the first use.
"""

from __future__ import annotations

from collections import Counter
from importlib.metadata import EntryPoint, entry_points

from mmretrieve.config import ENCODER_GROUP, PRESETS, EncoderSettings, known_presets
from mmretrieve.encoders.base import Encoder
from mmretrieve.errors import EncoderPluginError, UsageError

_METHODS = ("dim", "dims", "spaces", "fingerprints", "query", "texts", "frames")


def load_encoder(preset: str, settings: EncoderSettings | None = None, threads: int = 1) -> Encoder:
    """The encoder of a preset; its weights are read at the first use. ``threads``: of one run of a
    model of ``lite``.

    Raises:
        UsageError: no such preset.
        MissingExtraError: a package that the preset needs is not installed.
        EncoderPluginError: the package that adds the preset cannot be used.
    """
    chosen = settings or EncoderSettings()
    if preset == "lite":
        from mmretrieve.encoders.lite import LiteEncoder

        return LiteEncoder(threads)
    if preset == "clip":
        from mmretrieve.encoders.clip import ClipEncoder

        return ClipEncoder(chosen, threads)
    if preset == "clamr":
        from mmretrieve.encoders.clamr import ClamrEncoder

        return ClamrEncoder(chosen)
    return _added(preset, chosen)


def check_names() -> None:
    """Make sure that every preset means one thing. Not done where only the presets of this package
    are used for searching: reading what is installed takes longer than a search.

    Raises:
        EncoderPluginError: two packages add the same name, or one takes a name of this package.
    """
    points = list(entry_points(group=ENCODER_GROUP))
    counts = Counter(point.name for point in points)
    for point in points:
        if point.name in PRESETS or counts[point.name] > 1:
            owners = sorted(_owner(p) for p in points if p.name == point.name)
            owners = ["mmretrieve", *owners] if point.name in PRESETS else owners
            raise EncoderPluginError(
                f"preset {point.name!r} is offered by {' and '.join(owners)}: uninstall all but one "
                f"(pip uninstall {_owner(point)})"
            )


def _added(preset: str, settings: EncoderSettings) -> Encoder:
    points = [p for p in entry_points(group=ENCODER_GROUP) if p.name == preset]
    if not points:
        raise UsageError(f"unknown preset {preset!r}: expected one of {', '.join(known_presets())}")
    check_names()
    (point,) = points
    try:
        encoder = point.load()(settings)
    except Exception as error:  # another package's code can raise anything
        raise EncoderPluginError(
            f"preset {preset!r} of {_owner(point)} ({point.value}) cannot be used: "
            f"{type(error).__name__}: {error}; update or uninstall {_owner(point)}"
        ) from error
    lacking = sorted(set(_METHODS) - set(dir(encoder)))
    if lacking:
        raise EncoderPluginError(
            f"preset {preset!r} of {_owner(point)} ({point.value}) is no encoder, it has no "
            f"{', '.join(lacking)}: expected what mmretrieve.encoders.base.Encoder says"
        )
    made: Encoder = encoder
    return made


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
