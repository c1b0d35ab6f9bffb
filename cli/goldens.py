"""Proof that the encoders work here: known inputs have to give known, different vectors.

A runtime that silently computes something else (a wrong kernel, a damaged file, weights of another
version) is told from a sound one by numbers, not by shapes. When the weights change on purpose,
``python -m mmretrieve.cli.goldens`` prints the numbers to put here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmretrieve.kernels.base import Kernels

    Array = NDArray[np.float32]

TEXTS = ("a red car on a wet road", "how bees dance to tell where food is")
LEAST_COSINE = 0.95
MOST_LIKENESS_OFF = 0.05
"""Quantised kernels differ between processors, by a few hundredths at most."""
LEAST_DIFFERENCE = 0.02
_SHOWN_DIMENSIONS = 12


@dataclass(frozen=True, slots=True)
class Measured:
    """What an encoder gave for two inputs. ``norms``: smallest and largest length of a token;
    ``likeness``: mean over the first input's tokens of the best cosine with the second's;
    ``heads``: the first numbers of the first token of each input."""

    norms: tuple[float, float]
    likeness: float
    heads: tuple[tuple[float, ...], tuple[float, ...]]


TEXT_GOLDEN = Measured(
    (1.0, 1.0), 0.4669, (
        (-0.6254, 0.3346, -0.107, 0.0537, -0.2476, 0.0911,
         0.0275, 0.0102, 0.022, 0.0971, 0.0014, -0.1026),
        (-0.7025, 0.1956, 0.0543, 0.1132, 0.0627, -0.0374,
         0.1485, -0.0664, 0.0749, 0.0368, 0.0515, -0.005),
    ),
)  # fmt: skip
FRAME_GOLDEN = Measured(
    (1.0, 1.0), 0.5089, (
        (-0.0994, 0.0486, -0.0458, -0.1682, 0.0332, -0.1116,
         -0.0553, 0.0095, -0.0671, 0.0836, 0.1252, -0.1754),
        (-0.1355, -0.0743, 0.0532, -0.2501, 0.0362, 0.0101,
         -0.1104, 0.0337, -0.1034, 0.1173, -0.0275, -0.2712),
    ),
)  # fmt: skip


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


def kernels_agree(kernels: Kernels) -> bool:
    """Whether similarities of a small index, their maxima, their nearest rows and the best of them are
    those of NumPy: integer products to the last bit."""
    import numpy as np

    from mmretrieve.kernels.plain import PlainKernels

    plain = PlainKernels()
    vectors = np.sin(np.arange(600 * 100, dtype=np.float32)).reshape(600, 100)
    tokens, query = plain.quantize(vectors), plain.quantize(vectors[::19])
    begin, count = np.arange(0, 600, 10), np.full(60, 10, np.int32)
    wanted = plain.maxima(tokens, begin, count, query)
    best = np.ascontiguousarray(wanted.max(axis=1))
    mine = kernels.quantize(vectors)
    pairs = (
        (mine.values, tokens.values),
        (kernels.dots(mine, query), plain.dots(tokens, query)),
        (kernels.maxima(mine, begin, count, query), wanted),
        (kernels.assign(mine, query)[0], plain.assign(tokens, query)[0]),
        (kernels.select(best, 7), plain.select(best, 7)),
    )
    return all(np.array_equal(found, expected) for found, expected in pairs)


def faults(measured: Measured, golden: Measured) -> list[str]:
    """What is wrong with an encoder, in words; empty when it is sound."""
    found = []
    if not all(abs(norm - 1) <= 1e-3 for norm in measured.norms):
        found.append(
            f"vectors are not of unit length ({measured.norms[0]:.3f} to {measured.norms[1]:.3f})"
        )
    if measured.likeness > 1 - LEAST_DIFFERENCE:
        found.append("different inputs give the same vectors")
    likest = min(_cosine(*pair) for pair in zip(measured.heads, golden.heads, strict=True))
    off = abs(measured.likeness - golden.likeness)
    # Written so that NaN is a fault, too.
    if not (likest >= LEAST_COSINE and off <= MOST_LIKENESS_OFF):
        found.append(
            f"vectors are not the expected ones (cosine {likest:.2f}, likeness off {off:.2f})"
        )
    return found


def _measure(first: Array, second: Array) -> Measured:
    import numpy as np

    norms = np.linalg.norm(np.concatenate([first, second]), axis=1)
    return Measured(
        norms=(float(norms.min()), float(norms.max())),
        likeness=float((first @ second.T).max(axis=1).mean()),
        heads=(_head(first), _head(second)),
    )


def _head(vectors: Array) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in vectors[0, :_SHOWN_DIMENSIONS])


def _cosine(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    dot = sum(a * b for a, b in zip(first, second, strict=True))
    return dot / max(math.hypot(*first) * math.hypot(*second), 1e-12)


if __name__ == "__main__":
    print(measure_texts(), measure_frames(), sep="\n")
