"""Everything that one evaluation found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmretrieve.evaluation.experiment import Comparison
from mmretrieve.evaluation.importance import Importance
from mmretrieve.evaluation.intervals import Difference
from mmretrieve.evaluation.modality import ModalityReport
from mmretrieve.evaluation.probes import Probe


@dataclass(frozen=True, slots=True)
class Drop:
    """One ranking under one probe, by one measure: means of the clean and of the changed run, their
    difference (changed minus clean), and how many documents' modalities, documents or queries were
    changed."""

    probe: Probe
    name: str
    measure: str
    clean: float
    changed: float
    difference: Difference
    n_changed: int


@dataclass(frozen=True, slots=True)
class Results:
    """``modalities``: run -> its winning modalities; the rest where it was asked for, or where the
    queries allow it."""

    comparison: Comparison
    modalities: Mapping[str, ModalityReport] = field(default_factory=dict)
    moments: Comparison | None = None
    importance: Importance | None = None
    drops: tuple[Drop, ...] = ()
    notes: tuple[str, ...] = ()
