"""Search videos by what is seen, said, written on screen and known about them, in one score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmretrieve.config import Settings
from mmretrieve.datatypes import (
    Aggregation,
    ConfidenceLabel,
    Evidence,
    Filter,
    GroupBy,
    Hit,
    Modality,
    Moment,
    SearchResult,
)
from mmretrieve.errors import MmretrieveError

if TYPE_CHECKING:
    from mmretrieve.documents import Document
    from mmretrieve.engine import Engine
    from mmretrieve.scoring.aggregation import Scoring

__all__ = [
    "Aggregation",
    "ConfidenceLabel",
    "Document",
    "Engine",
    "Evidence",
    "Filter",
    "GroupBy",
    "Hit",
    "MmretrieveError",
    "Modality",
    "Moment",
    "Scoring",
    "SearchResult",
    "Settings",
]

__version__ = "0.1.0"

_LAZY = {
    "Document": "mmretrieve.documents",
    "Engine": "mmretrieve.engine",
    "Scoring": "mmretrieve.scoring.aggregation",
}


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is first used."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
