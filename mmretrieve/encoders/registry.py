"""Preset name -> encoder."""

from __future__ import annotations

from mmretrieve.encoders.base import Encoder
from mmretrieve.errors import MissingExtraError


def load_encoder(preset: str, threads: int = 1) -> Encoder:
    """The encoder of a preset; its weights are read at the first use.

    Raises:
        MissingExtraError: the preset is not part of this version.
    """
    if preset == "lite":
        from mmretrieve.encoders.lite import LiteEncoder

        return LiteEncoder(threads)
    raise MissingExtraError(
        f"preset {preset!r} has no encoder in this version: use --preset lite, which needs nothing "
        "but this package"
    )
