"""Everything that one file tells, before anything is embedded: facts, names, pictures, sound.

This is the part of indexing that touches the bytes of strangers. It may run in a process of its own
(:mod:`mmretrieve.isolation`), so what it takes and gives are plain records and arrays.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mmretrieve.errors import InputError, MediaError
from mmretrieve.indexers.metadata import VideoMetadata, read_metadata
from mmretrieve.indexers.sidecars import find_sidecars
from mmretrieve.indexers.speech import SpeechReader, SpeechTrack
from mmretrieve.indexers.warn import Warn
from mmretrieve.reports import Stage

if TYPE_CHECKING:
    from mmretrieve.config import Settings
    from mmretrieve.datatypes import Probe, Sound
    from mmretrieve.indexers.hearing import Span
    from mmretrieve.indexers.ocr import OcrReader
    from mmretrieve.indexers.sidecars import Sidecars
    from mmretrieve.indexers.visual import VisualPassage


class Listener(Protocol):
    """Who is told what a file holds while it is read. Warnings may come from another thread."""

    def probed(self, probe: Probe) -> None: ...

    def seen(self, passage: VisualPassage) -> None: ...

    def warn(self, message: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be read anew. ``pictures``: passages of pictures are told, with the lines of text on
    them if ``written``; ``heard``: what the file itself is known to say, so that nobody listens."""

    pictures: bool = True
    written: bool = True
    heard: SpeechTrack | None = None


EVERYTHING = Wanted()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file holds besides its pictures, and the seconds that each stage took. ``heard`` is what the
    file itself says, None where files beside it were enough or it was known; the warnings are those
    told of pictures, and while listening. ``whole`` is false where the pictures cannot be decoded."""

    probe: Probe
    metadata: VideoMetadata
    track: SpeechTrack
    seconds: Mapping[Stage, float] = field(default_factory=dict)
    heard: SpeechTrack | None = None
    seen_warnings: tuple[str, ...] = ()
    heard_warnings: tuple[str, ...] = ()
    whole: bool = True


class Reader(Protocol):
    """Reads one file at a time a thread."""

    def read(self, path: Path, listener: Listener, wanted: Wanted = EVERYTHING) -> Reading:
        """Read a file; ``listener`` is told of its facts, then of its passages in order.

        Raises:
            InputError: nothing in the file can be decoded.
            SetupError: a model or an extra is missing; no other file would fare better.
        """
        ...

    def hear(
        self, path: Path, probe: Probe, spans: Sequence[Span], warn: Warn
    ) -> Iterator[Sound | None]:
        """The sound of stretches of a file; see :func:`mmretrieve.indexers.hearing.hear`.

        Raises:
            InputError: the file went over a bound.
        """
        ...

    def warm_up(self, n_readers: int) -> None:
        """Get ready to read so many files at once, without waiting for it."""
        ...

    def close(self) -> None:
        """End what is under way."""
        ...


class FileReader:
    """Reads files in this process; may be shared by threads.

    Args:
        settings: what is read, and how.
        jobs: files that are read at once.
    """

    def __init__(self, settings: Settings, jobs: int = 1) -> None:
        self._settings = settings
        self._speech = SpeechReader(settings.speech, threads=1)
        self._ocr: OcrReader | None = None
        if settings.ocr.enabled and settings.visual.enabled:
            from mmretrieve.indexers.ocr import OcrReader

            self._ocr = OcrReader(threads=1, settings=settings.ocr)
        self._listeners = ThreadPoolExecutor(jobs, thread_name_prefix="speech")

    def warm_up(self, n_readers: int) -> None:
        """Nothing: models are loaded at their first use."""

    def close(self) -> None:
        """Stop the threads that listen to speech."""
        self._listeners.shutdown(cancel_futures=True)

    def read(self, path: Path, listener: Listener, wanted: Wanted = EVERYTHING) -> Reading:
        """See :class:`Reader`."""
        from mmretrieve.indexers.media import probe as probe_media

        probe = probe_media(path)
        listener.probed(probe)
        sidecars = find_sidecars(path, self._settings.speech.language)
        metadata = read_metadata(path, probe, sidecars, listener.warn)
        listening = self._listeners.submit(
            self._listen, path, probe, sidecars, listener.warn, wanted.heard
        )
        seconds: dict[Stage, float] = {}
        noted, whole = _Noted(listener.warn), True
        try:
            if wanted.pictures:
                seconds[Stage.VISUAL] = self._watch(path, probe, listener, noted, wanted.written)
        except MediaError as error:
            if not listening.result().track.segments:
                raise
            noted(f"pictures cannot be decoded, indexed by its sound: {error}")
            whole = False
        except BaseException:
            listening.cancel()
            raise
        said = listening.result()
        seconds[Stage.SPEECH] = said.took_s
        return Reading(
            probe, metadata, said.track, seconds, said.heard, noted.all(), said.warnings, whole
        )

    def hear(
        self, path: Path, probe: Probe, spans: Sequence[Span], warn: Warn
    ) -> Iterator[Sound | None]:
        """See :class:`Reader`."""
        from mmretrieve.indexers.hearing import hear

        return hear(path, spans, warn)

    def _listen(
        self, path: Path, probe: Probe, sidecars: Sidecars, warn: Warn, known: SpeechTrack | None
    ) -> _Said:
        start, noted = time.perf_counter(), _Noted(warn)
        heard: SpeechTrack | None = None
        try:
            track = self._speech.beside(probe, sidecars, warn)
            if track is None:
                heard = None if known is not None else self._speech.hear(path, probe, noted)
                track = known or heard or SpeechTrack()
        except InputError as error:
            noted(f"speech left out: {error}")
            track = SpeechTrack()
        return _Said(track, heard, noted.all(), time.perf_counter() - start)

    def _watch(
        self, path: Path, probe: Probe, listener: Listener, warn: Warn, written: bool
    ) -> float:
        """Tell of the passages; returns the seconds that making them took."""
        settings, spent_s = self._settings, 0.0
        if not probe.has_video or not settings.visual.enabled:
            return spent_s
        from mmretrieve.indexers.visual import iter_visual

        passages = iter_visual(
            path, probe, settings.visual, settings.passages, self._ocr if written else None, warn
        )
        while True:
            start = time.perf_counter()
            passage = next(passages, None)
            spent_s += time.perf_counter() - start
            if passage is None:
                return spent_s
            listener.seen(passage)


@dataclass(frozen=True, slots=True)
class _Said:
    track: SpeechTrack
    heard: SpeechTrack | None
    warnings: tuple[str, ...]
    took_s: float


class _Noted:
    """Passes warnings on and remembers them."""

    def __init__(self, warn: Warn) -> None:
        self._warn = warn
        self._messages: list[str] = []

    def __call__(self, message: str) -> None:
        self._messages.append(message)
        self._warn(message)

    def all(self) -> tuple[str, ...]:
        return tuple(self._messages)
