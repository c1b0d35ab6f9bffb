"""What an index holds of each modality of each video."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.engine import Engine
from mmretrieve.search.lines import Line

MOST_PICTURES = 10
"""As many frames as CLaMR looks at."""


@dataclass(frozen=True, slots=True)
class Content:
    """One modality of one video. ``texts``: its lines in the order of time, each once; for frames the
    labels of keyframes, where there are any. ``times``: where its keyframes are, in seconds."""

    video_id: str
    modality: Modality
    texts: tuple[str, ...]
    times: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    @property
    def digest(self) -> str:
        """Hex digits that change with the content."""
        told = repr((self.video_id, self.modality.value, self.texts, self.times))
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def contents(engine: Engine, modalities: Sequence[Modality] = MODALITIES) -> tuple[Content, ...]:
    """By video id, then in the order of modalities; what a video lacks is not there."""
    found: dict[tuple[str, Modality], list[Line]] = {}
    for line in engine.everything().lines(MODALITIES):
        if line.modality in modalities:
            found.setdefault((line.video_id, line.modality), []).append(line)
    ordered = sorted(found.items(), key=lambda item: (item[0][0], MODALITIES.index(item[0][1])))
    return tuple(_content(key, lines) for key, lines in ordered)


def spread(times: Sequence[float], most: int) -> tuple[float, ...]:
    """At most ``most`` of them, evenly."""
    if len(times) <= most:
        return tuple(times)
    return tuple(times[(2 * i + 1) * len(times) // (2 * most)] for i in range(most))


def pictures(engine: Engine, content: Content, most: int = MOST_PICTURES) -> Iterator[bytes]:
    """JPEGs of keyframes."""
    for time_s in spread(content.times, most):
        picture = engine.thumbnail(content.video_id, time_s)
        if picture is not None:
            yield picture


def clean(text: str, most_characters: int) -> str:
    """One line without control characters, cut at a word where it is too long.

    What a model or a video says goes to files, terminals and search: it must not bring escape
    sequences, directions of writing or half a character.
    """
    readable = text.encode("utf-8", "ignore").decode("utf-8")
    kept = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in readable)
    line = " ".join(kept.split())
    if len(line) <= most_characters:
        return line
    cut = line[: most_characters + 1].rpartition(" ")[0]
    return cut or line[:most_characters]


def _content(key: tuple[str, Modality], lines: Sequence[Line]) -> Content:
    ordered = sorted(lines, key=lambda li: li.start_s if li.start_s is not None else -1.0)
    texts = dict.fromkeys(" ".join(li.text.split()) for li in ordered if li.text.strip())
    frames = key[1] is Modality.FRAMES
    times = dict.fromkeys(li.start_s for li in ordered if frames and li.start_s is not None)
    return Content(*key, tuple(texts), tuple(times))
