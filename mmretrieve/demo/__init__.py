"""Nine small clips that come with the package, and what to ask them.

All are drawn, spoken and encoded by ``benchmarks/make_demo_clips.py``; their file names say nothing
on purpose, so that a hit has to come from what is in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmretrieve.datatypes import Modality

__all__ = ["QUERIES", "UNANSWERABLE", "DemoQuery", "clips_folder"]


@dataclass(frozen=True, slots=True)
class DemoQuery:
    """A query with its known answer.

    ``modality`` is the one that holds the answer, ``file`` its path below :func:`clips_folder`,
    ``window_s`` where the answer lies (start, end), or ``None`` when all of the video is meant.
    """

    text: str
    modality: Modality
    file: str
    window_s: tuple[float, float] | None = None


QUERIES: tuple[DemoQuery, ...] = (
    DemoQuery("why does bread rise", Modality.SPEECH, "podcast_012.mp4", (0.0, 11.0)),
    DemoQuery("what causes the tides", Modality.SPEECH, "podcast_012.mp4", (10.5, 21.0)),
    DemoQuery(
        "how bees tell each other where to fly", Modality.SPEECH, "podcast_012.mp4", (29.5, 39.0)
    ),
    DemoQuery("cleaning the gears of a watch", Modality.SPEECH, "MOV_0044.mp4", (0.5, 10.5)),
    DemoQuery("permission denied publickey", Modality.OCR, "screen_0931.mp4", (3.0, 24.0)),
    DemoQuery("no space left on device", Modality.OCR, "screen_0931.mp4", (20.0, 24.0)),
    DemoQuery("the 3-2-1 backup rule", Modality.OCR, "lecture_05.mp4", (12.0, 18.0)),
    DemoQuery("a soccer ball on the grass", Modality.FRAMES, "VID_0611.webm", (0.0, 6.0)),
    DemoQuery("a burning candle", Modality.FRAMES, "GX010114.mp4", (6.0, 12.0)),
    DemoQuery("snow covered mountains", Modality.FRAMES, "GX010114.mp4", (12.0, 18.0)),
    DemoQuery("hot air balloon in the sky", Modality.FRAMES, "GX010115.mp4"),
    DemoQuery("overnight train from Lisbon to Madrid", Modality.METADATA, "clip_0007.mp4"),
)

UNANSWERABLE = "quarterly results of the shipping company"
"""Nothing in the clips answers this."""


def clips_folder() -> Path:
    """The folder with the clips and the files beside them."""
    return Path(__file__).parent / "clips"
