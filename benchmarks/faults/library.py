"""Small documents, and engines that embed them by their words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np

from benchmarks.faults.words import WordEncoder
from mmretrieve.datatypes import Modality, Segment
from mmretrieve.documents import Document, Picture

QUERIES = ("bread rises slowly", "tides of the moon", "a watch and its gears", "ferry at dawn")
_TEXT = (
    "bread dough rises slowly yeast oven tides moon ocean pull watch gears spring ferry harbour dawn "
    "bees pollen orchard storm penguin orchestra overture candle balloon mountain snow train night"
)
_WORDS = tuple(_TEXT.split())


@contextmanager
def quick_encoder() -> Iterator[None]:
    """Engines of this process embed by words."""
    with (
        mock.patch("mmretrieve.engine.load_encoder", lambda *_: WordEncoder()),
        mock.patch("mmretrieve.index_facts.load_encoder", lambda *_: WordEncoder()),
    ):
        yield


def documents(first: int, last: int, edition: int = 0) -> list[Document]:
    """Documents of a few passages in every modality."""
    return [_document(number, edition) for number in range(first, last)]


def _document(number: int, edition: int) -> Document:
    rng = np.random.default_rng([number, edition])
    said = [Segment(" ".join(rng.choice(_WORDS, 6)), 12.0 * i, 12.0 * i + 11) for i in range(4)]
    shown = [Segment(" ".join(rng.choice(_WORDS, 3)), 1.0, 4.0)]
    pixels = rng.integers(0, 255, (12, 16, 3), np.uint8)
    return Document(
        f"doc-{number:03}",
        title=" ".join(rng.choice(_WORDS, 2)),
        segments={Modality.SPEECH: said, Modality.OCR: shown},
        pictures=(Picture(pixels, 2.0, 9.0),),
        facts={"edition": edition},
    )
