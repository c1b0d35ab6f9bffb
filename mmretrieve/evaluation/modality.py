"""Does the right modality answer? CLaMR's extra measures (arXiv 2506.06144).

For each query: its *target*, the modality that it asks for, and its *winners*, for every query token
the modality whose token scored best in the relevant video.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmretrieve.datatypes import COMMON, MODALITIES, Modality

TARGETS: Mapping[str, Modality] = {
    **{modality.value: modality for modality in MODALITIES},
    "video": Modality.FRAMES,
    "asr": Modality.SPEECH,
    "description": Modality.METADATA,
}
"""Query type -> target; the last three are the words of CLaMR's data."""


@dataclass(frozen=True, slots=True)
class ModalityReport:
    """``accuracy``: share of queries whose target wins most tokens (ties go to the first modality in
    the order of columns); ``any_accuracy``: whose target wins a token. ``precision``, ``recall``,
    ``f1``: macro averages over the modalities that are a target or won a query, 0 where undefined.
    ``distribution``: share of all tokens that each modality wins. ``confusion``: a row a target, a
    column the modality that won most tokens. ``n_undecided`` queries, where no token matched
    anything, count as wrong. All NaN or 0 without queries."""

    n_queries: int
    n_undecided: int
    accuracy: float
    any_accuracy: float
    precision: float
    recall: float
    f1: float
    distribution: Mapping[Modality, float]
    confusion: Mapping[Modality, Mapping[Modality, int]]

    @property
    def shown(self) -> tuple[Modality, ...]:
        """The columns of a table: sound only where a query asks for it or it wins a token."""
        return tuple(
            m for m in MODALITIES
            if m in COMMON or self.distribution[m] or any(self.confusion[m].values())
        )  # fmt: skip


def modality_report(
    targets: Sequence[Modality], winners: Sequence[Sequence[Modality]]
) -> ModalityReport:
    """All measures; ``winners`` holds one modality a query token for every query.

    Raises:
        ValueError: not as many lists of winners as targets.
    """
    if len(targets) != len(winners):
        raise ValueError(f"expected winners for {len(targets)} queries, got {len(winners)}")
    chosen = [winner(won) for won in winners]
    confusion = {row: dict.fromkeys(MODALITIES, 0) for row in MODALITIES}
    for target, won in zip(targets, chosen, strict=True):
        if won is not None:
            confusion[target][won] += 1
    n = len(targets)
    some = sum(t in won for t, won in zip(targets, winners, strict=True))
    precision, recall, f1 = _macro(targets, confusion)
    tokens = Counter(modality for won in winners for modality in won)
    return ModalityReport(
        n_queries=n,
        n_undecided=chosen.count(None),
        accuracy=sum(confusion[m][m] for m in MODALITIES) / n if n else math.nan,
        any_accuracy=some / n if n else math.nan,
        precision=precision,
        recall=recall,
        f1=f1,
        distribution={m: tokens[m] / max(tokens.total(), 1) for m in MODALITIES},
        confusion=confusion,
    )


def winner(won: Sequence[Modality]) -> Modality | None:
    """The modality that wins most tokens; None where none does."""
    return max(MODALITIES, key=lambda m: won.count(m)) if won else None


def _macro(
    targets: Sequence[Modality], confusion: Mapping[Modality, Mapping[Modality, int]]
) -> tuple[float, float, float]:
    """Macro precision, recall and F1 (the mean of the F1 of each modality)."""
    rows = []
    for modality in MODALITIES:
        right = confusion[modality][modality]
        n_target = list(targets).count(modality)
        n_chosen = sum(confusion[row][modality] for row in MODALITIES)
        if n_target or n_chosen:
            rows.append(
                (
                    right / n_chosen if n_chosen else 0.0,
                    right / n_target if n_target else 0.0,
                    2 * right / (n_target + n_chosen),
                )
            )
    if not rows:
        return math.nan, math.nan, math.nan
    precision, recall, f1 = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    return precision, recall, f1
