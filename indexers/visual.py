"""Pictures and on-screen text of a video, passage by passage, in one pass over the file.

Decoding, shots, picks, text and passages are chained generators: whatever the length of the file,
no more than one passage of pictures is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmretrieve.datatypes import Keyframe, Segment, TracePoint
from mmretrieve.indexers.keyframes import NEAR_DUPLICATE, KeyframeChooser, Pick, keyframes
from mmretrieve.indexers.media import iter_frames
from mmretrieve.indexers.shots import ShotDetector
from mmretrieve.indexers.texttrack import TextTracker
from mmretrieve.indexers.trace import Tracer

if TYPE_CHECKING:
    from mmretrieve.config import PassageSettings, VisualSettings
    from mmretrieve.datatypes import Probe
    from mmretrieve.indexers.ocr import OcrReader

_SHORT_S = 12.0
_NEAR_DUPLICATE_SHORT = 0.03


@dataclass(frozen=True, slots=True)
class VisualPassage:
    """What is seen and written from ``start_s`` to ``end_s``. Keyframes are at most 288 px on
    their shorter side; every line of text is in ``ocr`` once, with times inside the passage. The traces
    of all passages, one after the other, are that of the video."""

    number: int
    start_s: float
    end_s: float
    keyframes: tuple[Keyframe, ...]
    ocr: tuple[Segment, ...]
    trace: tuple[TracePoint, ...] = ()


def iter_visual(
    path: Path,
    probe: Probe,
    visual: VisualSettings,
    passages: PassageSettings,
    ocr: OcrReader | None,
    warn: Callable[[str], None],
) -> Iterator[VisualPassage]:
    """Yield the passages of a video in order, without gaps, from 0 to its end.

    Args:
        path: the file.
        probe: its facts.
        visual: sampling of frames and choice of keyframes.
        passages: lengths of passages.
        ocr: reader of on-screen text; ``None`` leaves it out.
        warn: told of damage that was worked around.

    Raises:
        MediaError: no video in the file, or nothing of it can be decoded.
    """
    tracer = Tracer(probe.duration_s)
    frames = tracer.watch(iter_frames(path, visual.analysis_fps, warn))
    shot_frames = ShotDetector(visual.min_shot_s).detect(frames)
    chooser = KeyframeChooser(visual, probe.duration_s, warn)
    tracker = TextTracker(ocr) if ocr is not None else None
    short = 0 < probe.duration_s < _SHORT_S
    near_duplicate = _NEAR_DUPLICATE_SHORT if short else NEAR_DUPLICATE
    packs = _pack(chooser.choose(shot_frames), passages, tracker)
    for number, packed in enumerate(packs):
        start_s, end_s = packed[0].start_s, packed[-1].end_s
        lines = tracker.lines(start_s, end_s) if tracker is not None else ()
        kept = keyframes(packed, near_duplicate)
        yield VisualPassage(number, start_s, end_s, kept, lines, tracer.take())
        if tracker is not None:
            tracker.forget(end_s)


def _pack(
    picks: Iterator[Pick], settings: PassageSettings, tracker: TextTracker | None
) -> Iterator[list[Pick]]:
    """Group picks into passages: whole shots up to about ``target_s``; past ``max_s`` a cut is
    made wherever a pick ends."""
    held: list[Pick] = []
    for pick in picks:
        if held and pick.end_s - held[0].start_s > settings.max_s:
            at = _best_cut(held, settings)
            yield held[:at]
            held = held[at:]
        if held and pick.starts_shot and _is_full(held, settings):
            yield held
            held = []
        held.append(pick)
        if tracker is not None:
            tracker.observe(pick)
    if held:
        yield held


def _is_full(held: list[Pick], settings: PassageSettings) -> bool:
    return held[-1].end_s - held[0].start_s >= settings.target_s


def _best_cut(held: list[Pick], settings: PassageSettings) -> int:
    """How many picks the passage takes: up to the shot boundary nearest to ``target_s``, if one
    leaves at least ``min_s``, else all of them."""
    start_s = held[0].start_s
    cuts = [
        at
        for at, pick in enumerate(held)
        if at > 0 and pick.starts_shot and pick.start_s - start_s >= settings.min_s
    ]
    nearest = min(
        cuts, key=lambda at: abs(held[at].start_s - start_s - settings.target_s), default=0
    )
    return nearest or len(held)
