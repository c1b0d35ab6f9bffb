"""Proof that the encoders work here: known inputs have to give known, different vectors.

A runtime that silently computes something else (a wrong kernel, a damaged file, weights of another
version) is told from a sound one by numbers, not by shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

TEXTS = ("a red car on a wet road", "how bees dance to tell where food is")
TOLERANCE = 0.05
"""Quantised kernels differ between processors by up to about a hundredth."""
LEAST_DIFFERENCE = 0.02


@dataclass(frozen=True, slots=True)
class Measured:
    """What an encoder gave for two inputs. ``norms``: smallest and largest length of a token;
    ``likeness``: mean over the first input's tokens of the best cosine with the second's;
    ``head``: the first four numbers of the first token of each input."""

    norms: tuple[float, float]
    likeness: float
    head: tuple[tuple[float, ...], tuple[float, ...]]


def measure_texts() -> Measured:
    """Embed two texts."""
    from mmretrieve.encoders.text import TextEncoder

    encoder = TextEncoder()
    return _measure(*(encoder.encode(text).vectors for text in TEXTS))


def measure_frames() -> Measured:
    """Embed two drawn pictures."""
    from mmretrieve.encoders.frames import FrameEncoder

    first, second = FrameEncoder().encode(pictures())
    return _measure(first.vectors, second.vectors)


def pictures() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A disc on a gradient, and a chequered board; ``(260, 260, 3)`` uint8."""
    import numpy as np

    y, x = np.mgrid[0:260, 0:260]
    disc = (x - 130) ** 2 + (y - 130) ** 2 < 80**2
    shade = (x * 255 // 259).astype(np.uint8)
    first = np.stack([np.where(disc, 230, shade), np.where(disc, 60, 90), shade], axis=2)
    board = (((x // 26 + y // 26) % 2) * 200 + 30).astype(np.uint8)
    second = np.repeat(board[:, :, None], 3, axis=2)
    return first.astype(np.uint8), second


def faults(measured: Measured, golden: Measured) -> list[str]:
    """What is wrong with an encoder, in words; empty when it is sound."""
    found = []
    if max(abs(norm - 1) for norm in measured.norms) > 1e-3:
        found.append(f"vectors are not of unit length ({measured.norms[0]:.3f} and more)")
    if measured.likeness > 1 - LEAST_DIFFERENCE:
        found.append("different inputs give the same vectors")
    off = max(
        abs(got - expected)
        for mine, theirs in zip(
            (*measured.head, (measured.likeness,)), (*golden.head, (golden.likeness,)), strict=True
        )
        for got, expected in zip(mine, theirs, strict=True)
    )
    if not off <= TOLERANCE:
        found.append(f"vectors are off by {off:.3f} from what they should be")
    return found


def _measure(first: Array, second: Array) -> Measured:
    import numpy as np

    norms = np.linalg.norm(np.concatenate([first, second]), axis=1)
    return Measured(
        norms=(float(norms.min()), float(norms.max())),
        likeness=float((first @ second.T).max(axis=1).mean()),
        head=(_head(first), _head(second)),
    )


def _head(vectors: Array) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in vectors[0, :4])
