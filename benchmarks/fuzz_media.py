"""Targets of ``fuzz`` that decode: containers in worker processes, pictures of documents, and what a
worker that was taken over might send."""

from __future__ import annotations

import io
import json
import struct
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np

from benchmarks.fuzz_mutate import mutate
from benchmarks.fuzz_target import WrongError, check_segments
from mmretrieve.config import LimitSettings, Settings
from mmretrieve.datatypes import Keyframe, Probe, Segment
from mmretrieve.demo import clips_folder
from mmretrieve.documents import Picture
from mmretrieve.errors import InputError
from mmretrieve.indexers.metadata import VideoMetadata
from mmretrieve.indexers.reading import Reading
from mmretrieve.indexers.speech import SpeechTrack
from mmretrieve.indexers.visual import VisualPassage
from mmretrieve.isolation import records, wire
from mmretrieve.isolation.pool import IsolatedReader

MEMORY_MB = 1536
TIME_FLOOR_S, TIME_FACTOR = 20.0, 2.0
LIMITS = LimitSettings(MEMORY_MB, TIME_FLOOR_S, TIME_FACTOR, time_cap_s=120.0)
_CLIP_S = 1.5
_SIDE_PX = 96
_FPS = 8
_SPOKEN, _SILENT = clips_folder() / "podcast_012.mp4", clips_folder() / "GX010115.mp4"
"""The recogniser of speech takes a second for each clip with a voice in it: one seed has one."""
_KINDS = (
    ("a.mp4", "libx264", "aac"), ("b.mkv", "libx264", "flac"), ("c.webm", "libvpx", "libopus"),
    ("d.avi", "mpeg4", "libmp3lame"), ("e.ts", "mpeg2video", "mp2"), ("f.mov", "mjpeg", "pcm_s16le"),
    ("g.flv", "flv", "libmp3lame"), ("h.ogg", None, "libopus"), ("i.wav", None, "pcm_s16le"),
    ("j.mp3", None, "libmp3lame"), ("k.mp4", "mpeg4", None), ("l.mkv", "libx265", None),
)  # fmt: skip
"""Small containers that are made of a demo clip: name, codec of pictures, codec of sound."""


class _Ear:
    """Checks what a file is said to hold."""

    def __init__(self) -> None:
        self.n_passages = 0

    def probed(self, probe: Probe) -> None:
        if not 0 <= probe.duration_s < 1e8:
            raise WrongError(f"a duration of {probe.duration_s}")

    def seen(self, passage: VisualPassage) -> None:
        self.n_passages += 1
        check_segments(passage.ocr)
        if not 0 <= passage.start_s <= passage.end_s:
            raise WrongError(f"a passage from {passage.start_s} to {passage.end_s}")

    def warn(self, message: str) -> None:
        """Damage is expected."""


class Containers:
    """Small clips in many containers, and the demo clips themselves, read by worker processes."""

    name = "containers"
    weight = 0.0

    def prepare(self, folder: Path) -> None:
        self._folder = folder
        self._small = [(name, _made(folder / f"seed-{name}", *kinds)) for name, *kinds in _KINDS]
        whole = [p for p in sorted(clips_folder().iterdir()) if p.suffix in (".mp4", ".webm")]
        self._whole = [(p.name, p.read_bytes()) for p in whole if p.stat().st_size < 120_000]
        self.reader = IsolatedReader(Settings(limits=LIMITS))
        self.longest_s = 0.0

    def make(self, rng: Random) -> bytes:
        """The first byte says which suffix the file gets."""
        chosen = self._whole if rng.random() < 0.01 else self._small
        at = rng.randrange(len(chosen)) or rng.randrange(len(chosen))  # the spoken one is slow
        others = [data for _, data in chosen]
        suffix = Path(chosen[at][0]).suffix
        data = mutate(chosen[at][1], others, rng, text=False)
        if rng.random() < 0.02:
            return b"?" + self._playlist(rng)
        return bytes([_SUFFIXES.index(suffix)]) + data

    def feed(self, data: bytes) -> str:
        suffix = _SUFFIXES[data[0]] if data[0] < len(_SUFFIXES) else ".mp4"
        path = self._folder / f"input{suffix}"
        path.write_bytes(data[1:])
        ear, start = _Ear(), time.monotonic()
        try:
            reading = self.reader.read(path, ear)
        except InputError as error:
            return type(error).__name__
        finally:
            self.longest_s = max(self.longest_s, time.monotonic() - start)
        check_segments(reading.track.segments)
        check_segments(reading.metadata.segments)
        if data[:1] == b"?":
            raise WrongError("a play list was followed")
        return "read"

    def close(self) -> None:
        """End the workers."""
        self.reader.close()

    def _playlist(self, rng: Random) -> bytes:
        """A list of other files under the name of a video."""
        other = str(self._folder / "seed-a.mp4").encode()
        return rng.choice(
            (
                b"ffconcat version 1.0\nfile '" + other + b"'\n",
                b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n" + other + b"\n#EXT-X-ENDLIST\n",
                b"[playlist]\nFile1=" + other + b"\nNumberOfEntries=1\n",
                b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nm=video 5004 RTP/AVP 96\r\n",
            )
        )


_SUFFIXES = sorted({Path(name).suffix for name, *_ in _KINDS} | {".mp4", ".webm"})


def _made(path: Path, pictures: str | None, sound: str | None) -> bytes:
    """A second and a half of a demo clip, small, in another container."""
    source = _SPOKEN if path.name.endswith("a.mp4") else _SILENT
    with av.open(str(path), "w") as made:
        made.metadata.update({"title": "A clip", "comment": "made from the demo"})
        # Both before the first packet, which writes the header.
        seen: Any = made.add_stream(pictures, rate=_FPS) if pictures is not None else None
        rate = 48_000 if sound == "libopus" else 44_100
        heard: Any = made.add_stream(sound, rate=rate, layout="mono") if sound is not None else None
        if seen is not None:
            seen.width = seen.height = _SIDE_PX
            seen.pix_fmt = "yuvj420p" if pictures == "mjpeg" else "yuv420p"
            made.mux([p for frame in _pictures(source, seen.pix_fmt) for p in seen.encode(frame)])
            made.mux(seen.encode())
        if heard is not None:
            made.mux([p for frame in _sound(source, heard, rate) for p in heard.encode(frame)])
            made.mux(heard.encode())
    return path.read_bytes()


def _pictures(source: Path, layout: str) -> Iterator[av.VideoFrame]:
    with av.open(str(source)) as given:
        frames = given.decode(video=0)
        every = max(1, int((given.streams.video[0].average_rate or _FPS) // _FPS))
        for at, frame in enumerate(islice(frames, 0, int(_CLIP_S * _FPS) * every, every)):
            small = frame.reformat(_SIDE_PX, _SIDE_PX, layout)
            small.pts, small.time_base = at, Fraction(1, _FPS)
            yield small


def _sound(source: Path, stream: Any, rate: int) -> Iterator[av.AudioFrame]:
    resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or 1024)
    at = 0
    with av.open(str(source)) as given:
        for frame in given.decode(audio=0):
            if frame.time is not None and frame.time > _CLIP_S:
                return
            for piece in resampler.resample(frame):
                piece.pts, piece.time_base = at, Fraction(1, rate)
                at += piece.samples
                yield piece


class Pictures:
    """Picture files that documents bring; decoded by the engine itself."""

    name = "pictures of documents"
    weight = 2.0

    def prepare(self, folder: Path) -> None:
        from PIL import Image

        self._path = folder / "picture"
        drawn = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
        self._seeds = []
        for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
            buffer = io.BytesIO()
            Image.fromarray(drawn).save(buffer, kind)
            self._seeds.append(buffer.getvalue())

    def make(self, rng: Random) -> bytes:
        return mutate(rng.choice(self._seeds), self._seeds, rng, text=False)

    def feed(self, data: bytes) -> str:
        self._path.write_bytes(data)
        try:
            pixels = Picture(self._path).pixels()
        except InputError:
            return "refused"
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise WrongError(f"pixels {pixels.shape} {pixels.dtype}")
        return "read"

    def close(self) -> None:
        """Nothing is held."""


class Answers:
    """Messages as a worker sends them, altered: nothing but records comes out, or a named error."""

    name = "answers of a worker"
    weight = 8.0

    def prepare(self, folder: Path) -> None:
        lines = (Segment("a line", 0.5, 2.0, 0.9, (0.1, 0.1, 0.9, 0.2)),)
        keyframe = Keyframe(1.0, 0.0, 4.0, np.zeros((4, 6, 3), np.uint8))
        passage = records.plain_passage(VisualPassage(0, 0.0, 4.0, (keyframe,), lines))
        self._probe = Probe(4.0, "mp4", 1000, 64, 48, 25.0, "h264", "aac", tags={"title": "t"})
        about = VideoMetadata("t", (Segment("t", field="title"),), {"tags": ("a",), "n": 1.5})
        reading = Reading(self._probe, about, SpeechTrack(lines, "asr:tiny.en", "en"))
        self._seeds = [
            b"".join(wire.encode("probe", records.plain_probe(self._probe))),
            b"".join(wire.encode("passage", *passage)),
            b"".join(wire.encode("reading", records.plain_reading(reading))),
            b"".join(wire.encode("failed", {"error": "MediaError", "text": "broken"})),
        ]

    def make(self, rng: Random) -> bytes:
        chosen = rng.choice(self._seeds)
        data = mutate(chosen, self._seeds, rng, text=rng.random() < 0.5)
        if rng.random() < 0.4:
            size = struct.unpack("<I", chosen[:4])[0]
            data = (
                chosen[:4] + mutate(chosen[4 : 4 + size], (), rng, text=True) + chosen[4 + size :]
            )
        if rng.random() < 0.8 and len(data) > 4:
            # With the right size, or all but few would end at it.
            end = data.rfind(b"}") + 1
            data = struct.pack("<I", max(0, end - 4)) + data[4:]
        return data

    def feed(self, data: bytes) -> str:
        stream = io.BytesIO(data)
        try:
            message = wire.read(lambda n: _exactly(stream, n))
            if message.kind == "passage":
                check_segments(records.read_passage(message.body, message.blobs).ocr)
            elif message.kind == "reading":
                reading = records.read_reading(message.body, self._probe)
                json.dumps(dict(reading.metadata.facts), allow_nan=False)
            elif message.kind == "probe":
                json.dumps(records.plain_probe(records.read_probe(message.body)), allow_nan=False)
        except (wire.WireError, records.MalformedError, EOFError) as error:
            return type(error).__name__
        return "taken"

    def close(self) -> None:
        """Nothing is held."""


def _exactly(stream: io.BytesIO, n_bytes: int) -> bytes:
    data = stream.read(n_bytes)
    if len(data) < n_bytes:
        raise EOFError
    return data
