"""What is said in a video: subtitles beside it, a subtitle track in it, else recognition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmretrieve.config import SpeechSettings
from mmretrieve.datatypes import Probe, Segment, Sound
from mmretrieve.errors import MediaError, SidecarError, UsageError
from mmretrieve.indexers.languages import language_code
from mmretrieve.indexers.recognition import RATE, Recognizer, Transcript
from mmretrieve.indexers.sidecars import Sidecars
from mmretrieve.indexers.subtitles import (
    EmbeddedTrack,
    is_transcript,
    read_embedded,
    read_subtitles,
)
from mmretrieve.indexers.warn import Warn

NO_SOURCE = "none"
_UNHEARD_S = 5.0


@dataclass(frozen=True, slots=True)
class SpeechTrack:
    """What was said. ``source`` is ``sidecar:talk.en.srt``, ``stream:2``, ``asr:tiny.en`` or
    ``none``; ``language`` a two-letter code where it is known."""

    segments: tuple[Segment, ...] = ()
    source: str = NO_SOURCE
    language: str | None = None


class SpeechReader:
    """Reads the speech of many videos with one model. Safe to share between threads."""

    def __init__(self, settings: SpeechSettings, threads: int = 2) -> None:
        """Loads nothing yet.

        Raises:
            UsageError: ``settings.language`` is no language.
        """
        self._settings = settings
        self._language = language_code(settings.language)
        if settings.language and self._language is None:
            raise UsageError(
                f"speech language {settings.language!r} is not known; expected an ISO 639-1 code "
                "such as en, de or ja"
            )
        self._recognizer = Recognizer(settings.model, self._language, threads)

    def read(self, path: Path, probe: Probe, sidecars: Sidecars, warn: Warn) -> SpeechTrack:
        """The best account of what is said in a video; empty when nobody speaks.

        A subtitle file that cannot be used is reported through ``warn`` and the next source is
        tried. An existing but empty subtitle file counts as such a file too.

        Raises:
            WeightsError: recognition is needed and its model cannot be loaded.
            UsageError: the model does not know the language asked for.
            MediaError: the video cannot be opened.
        """
        track = self.beside(probe, sidecars, warn)
        return track if track is not None else self.hear(path, probe, warn)

    def beside(self, probe: Probe, sidecars: Sidecars, warn: Warn) -> SpeechTrack | None:
        """What files beside a video say; None where no file there can be used. See :meth:`read`."""
        if not self._settings.enabled:
            return SpeechTrack()
        return self._from_sidecars(probe, sidecars, warn)

    def hear(self, path: Path, probe: Probe, warn: Warn) -> SpeechTrack:
        """What the file itself says, whatever lies beside it. See :meth:`read`."""
        track: SpeechTrack | None = None
        if self._settings.enabled and probe.n_subtitle_streams:
            track = self._from_streams(path, probe, warn)
        listens = self._settings.enabled and self._settings.model != "off"
        if track is None and listens and probe.has_audio:
            track = self._recognize(path, warn)
        return track or SpeechTrack()

    def _from_sidecars(self, probe: Probe, sidecars: Sidecars, warn: Warn) -> SpeechTrack | None:
        spoken = [file for file in sidecars.subtitles if not file.forced]
        if self._language is not None:
            spoken.sort(key=lambda file: file.language != self._language)
        files = [(file.path, file.language) for file in spoken]
        if sidecars.data is not None and is_transcript(sidecars.data):
            files.append((sidecars.data, None))
        for path, language in files:
            try:
                segments = read_subtitles(path, probe.duration_s)
            except SidecarError as error:
                warn(str(error))
                continue
            if segments:
                return SpeechTrack(segments, f"sidecar:{path.name}", language)
            warn(f"{path.name}: no line of it falls into the {probe.duration_s:.0f} s of the video")
        return None

    def _from_streams(self, path: Path, probe: Probe, warn: Warn) -> SpeechTrack | None:
        tracks = [t for t in read_embedded(path, probe.duration_s, warn) if t.segments]
        tracks = [track for track in tracks if not track.forced]
        if not tracks:
            return None
        best = min(tracks, key=self._preference)
        return SpeechTrack(best.segments, f"stream:{best.stream}", language_code(best.language))

    def _preference(self, track: EmbeddedTrack) -> tuple[int, int]:
        """Lower is better: the language asked for, then English, then the order in the file."""
        code = language_code(track.language)
        if self._language is not None and code == self._language:
            return 0, track.stream
        return (1 if code == "en" else 2), track.stream

    def _recognize(self, path: Path, warn: Warn) -> SpeechTrack | None:
        name = self._recognizer.name
        stream, tagged = _choose_audio(path, self._language)
        spoken = self._language or tagged
        if spoken not in (None, "en") and not self._recognizer.is_multilingual():
            warn(f"{path.name}: speech in {spoken!r} skipped, {name} knows English only; {_ADVICE}")
            return None
        try:
            heard = self._recognizer.transcribe(_audio(path, stream, warn))
        except MediaError as error:
            warn(f"{path.name}: no speech read: {error}")
            return None
        _report(path, name, heard, warn)
        return (
            SpeechTrack(heard.segments, f"asr:{name}", heard.language) if heard.segments else None
        )


_ADVICE = "name a multilingual model such as 'small'"


def _report(path: Path, name: str, heard: Transcript, warn: Warn) -> None:
    if heard.rejected_s > max(_UNHEARD_S, heard.heard_s / 2):
        warn(
            f"{path.name}: {heard.rejected_s:.0f} s of {heard.heard_s:.0f} s with a voice were not "
            f"understood by {name} and left out; if it is not English, {_ADVICE}"
        )


def _choose_audio(path: Path, wanted: str | None) -> tuple[int | None, str | None]:
    """The audio stream to listen to (``None``: the player's choice) and its language tag."""
    from mmretrieve.indexers.media import best_audio, open_media

    with open_media(path) as container:
        tags = {s.index: language_code(s.metadata.get("language")) for s in container.streams.audio}
        best = best_audio(container)
        default = best.index if best is not None else None
        if default is None or wanted is None or tags[default] == wanted:
            return None, tags.get(default) if default is not None else None
        playable: Sequence[Any] = container.streams.audio
        matching = [s.index for s in playable if s.codec_context and tags[s.index] == wanted]
        return (matching[0], wanted) if matching else (None, tags[default])


def _audio(path: Path, stream: int | None, warn: Warn) -> Iterator[Sound]:
    from mmretrieve.indexers import media

    if stream is None:
        yield from media.iter_audio(path, RATE, warn)
    else:
        yield from _stream_audio(path, stream)


def _stream_audio(path: Path, index: int) -> Iterator[Sound]:
    """Mono sound of one given stream, a chunk a frame, up to the first damage."""
    import av

    from mmretrieve.indexers.media import open_media, origin_s

    with open_media(path) as container:
        origin, next_s = origin_s(container), 0.0
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        frames: Iterator[Any] = container.decode(container.streams[index])
        while True:
            try:
                frame = next(frames, None)
            except MemoryError:
                raise
            except (av.FFmpegError, OSError):
                return
            if frame is None:
                return
            if frame.pts is not None:
                next_s = float(frame.pts * frame.time_base - origin)
            frame.pts = None
            for piece in resampler.resample(frame):
                samples = np.asarray(piece.to_ndarray(), dtype=np.float32).reshape(-1)
                early = min(len(samples), max(0, round(-next_s * RATE)))
                yield Sound(next_s + early / RATE, samples[early:])
                next_s += len(samples) / RATE
