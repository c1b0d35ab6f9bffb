"""Many sequences in runs of like length; what does not fit into memory is tried in halves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmretrieve.errors import SetupError

if TYPE_CHECKING:
    from mmretrieve.models.clamr import Clamr
    from mmretrieve.models.protocol import TokenBatch
    from mmretrieve.models.turns import Turn

Run = Callable[[Sequence["Turn"]], "TokenBatch"]

MAX_BATCH_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class TokenRows:
    """One sequence without pads. ``vectors``: ``(t, dim)`` float32; ``modality``: ``(t,)`` int64."""

    vectors: NDArray[np.float32]
    modality: NDArray[np.int64]


def in_batches(
    model: Clamr, turns: Sequence[Turn], max_tokens: int = MAX_BATCH_TOKENS
) -> list[TokenRows]:
    """The tokens of many sequences, in their order, without gradients. ``max_tokens``: of a run,
    pads included.

    Raises:
        SetupError: a single sequence does not fit into the device's memory.
    """
    import torch

    with torch.inference_mode():
        return run_batches(model, turns, max_tokens, torch.OutOfMemoryError, torch.cuda.empty_cache)


def run_batches(
    run: Run,
    turns: Sequence[Turn],
    max_tokens: int,
    too_big: type[Exception],
    let_go: Callable[[], None],
) -> list[TokenRows]:
    """:func:`in_batches` with what runs a batch, what it raises when memory runs out, and what
    frees memory before the next try."""
    out: dict[int, TokenRows] = {}
    waiting = groups([len(turn) for turn in turns], max_tokens)
    while waiting:
        group = waiting.pop(0)
        try:
            batch = run([turns[i] for i in group])
        except too_big as error:
            if len(group) == 1:
                raise SetupError(
                    f"a sequence of {len(turns[group[0]])} tokens does not fit into memory ({error}): "
                    "use a lower precision (bfloat16 or nf4) or another device"
                ) from error
            let_go()
            middle = len(group) // 2
            waiting[:0] = [group[:middle], group[middle:]]
            continue
        for row, index in enumerate(group):
            mask = batch.mask[row]
            out[index] = TokenRows(
                batch.vectors[row][mask].float().cpu().numpy(),
                batch.modality[row][mask].cpu().numpy(),
            )
    return [out[i] for i in range(len(turns))]


def groups(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices in groups of like length, the longest first, so that what runs out of memory does so
    at once; a group's size times its longest is at most ``max_tokens`` (or it is one alone)."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    out: list[list[int]] = []
    for index in order:
        if out and (len(out[-1]) + 1) * lengths[out[-1][0]] <= max_tokens:
            out[-1].append(index)
        else:
            out.append([index])
    return out
