"""Draw, speak and encode the clips of ``mmretrieve demo``.

::

    apt-get install flite fonts-dejavu-core   # the voices (CMU Flite) and the letters
    python -m benchmarks.make_demo_clips

Everything in the clips is made here: pictures by NumPy and Pillow, speech by Flite, tones by NumPy.
The same versions of these tools give the same files again.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import demo_pictures as pictures
from benchmarks import demo_screens as screens
from mmretrieve.demo import clips_folder

FPS = 10
RATE_HZ = 16000
Sound = NDArray[np.floating[Any]]
Draw = Callable[[float], Image.Image]

PODCAST = (
    (
        "Bread rises because the yeast in the dough eats sugar and makes gas.",
        "The dough keeps that gas in thousands of bubbles, so the loaf grows in a warm kitchen.",
    ),
    (
        "Now to the ocean. The tides come and go because the moon pulls on the water.",
        "When the sun and the moon stand in one line, the high tide is higher than usual.",
    ),
    (
        "Roman builders knew that a stone arch needs no cement.",
        "The weight of the bridge presses the stones together and keeps them in place.",
    ),
    (
        "And last, honey bees. A bee that found flowers dances in the hive.",
        "The direction of the dance tells the other bees where to fly.",
    ),
)
SPIDER = (
    "The garden spider makes a new web every night.",
    "For its weight, that thin thread is stronger than a rope of steel.",
)
SUBTITLES = (
    (1, 5, "My grandfather repaired watches for forty years."),
    (5, 10, "He taught me to open the case and clean the tiny gears with a brush."),
    (12, 16, "On the other bench we sharpen kitchen knives."),
    (16, 21, "Hold the blade at twenty degrees and draw it over the wet stone."),
)
NIGHT_TRAIN = {
    "id": "clip_0007",
    "title": "Night train from Lisbon to Madrid",
    "description": "A sleeper compartment, twelve hours on the rails across the Spanish border.",
    "uploader": "Slow Travel Diary",
    "upload_date": "20240518",
    "tags": ["railway", "overnight journey", "Portugal", "Spain"],
    "categories": ["Travel"],
    "chapters": [
        {"start_time": 0.0, "end_time": 5.0, "title": "Departure from Santa Apolonia station"},
        {"start_time": 5.0, "end_time": 10.0, "title": "Breakfast in the dining car"},
    ],
}


@dataclass(frozen=True, slots=True)
class Clip:
    """One file: what is drawn, what is heard (none: no audio stream), container tags."""

    name: str
    duration_s: float
    draw: Draw
    sound: Sound | None = None
    tags: dict[str, str] = field(default_factory=dict)
    codecs: tuple[str, str] = ("libx264", "aac")


def speak(text: str, voice: str) -> Sound:
    """The sentence, spoken by Flite: ``(n,)`` float32 at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        with wave.open(str(path)) as file:
            if file.getframerate() != RATE_HZ:
                raise SystemExit(f"voice {voice}: {file.getframerate()} Hz, expected {RATE_HZ}")
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return samples.astype(np.float32) / 32768


def silence(duration_s: float) -> Sound:
    """Zeros."""
    return np.zeros(round(duration_s * RATE_HZ), np.float32)


def talk(parts: tuple[tuple[str, ...], ...], voice: str, label: str) -> Sound:
    """Sentences with pauses, longer ones between parts; prints when each part starts and ends."""
    pieces = [silence(0.6)]
    for i, part in enumerate(parts):
        start_s = sum(map(len, pieces)) / RATE_HZ
        for sentence in part:
            pieces += [speak(sentence, voice), silence(0.35)]
        end_s = sum(map(len, pieces)) / RATE_HZ
        print(f"  {label} part {i + 1}: {start_s:.1f} to {end_s:.1f} s")
        pieces.append(silence(0.9))
    return np.concatenate(pieces)


def music(duration_s: float) -> Sound:
    """A slow music box."""
    notes = (60, 64, 67, 72, 71, 67, 64, 62, 57, 60, 64, 69, 67, 64, 60, 55)
    out = silence(duration_s + 2)
    seconds = np.arange(2 * RATE_HZ, dtype=np.float32) / RATE_HZ
    for i in range(int(duration_s / 0.5)):
        pitch = 440 * 2 ** ((notes[i % len(notes)] - 57) / 12)
        tone = np.sin(2 * math.pi * pitch * seconds) + 0.3 * np.sin(6 * math.pi * pitch * seconds)
        at = i * RATE_HZ // 2
        out[at : at + len(tone)] += 0.16 * tone * np.exp(-3 * seconds)
    return out[: round(duration_s * RATE_HZ)]


def ticking(duration_s: float) -> Sound:
    """A clock: one click a second."""
    out = silence(duration_s)
    seconds = np.arange(RATE_HZ // 20, dtype=np.float32) / RATE_HZ
    click = 0.4 * np.sin(2 * math.pi * 2600 * seconds) * np.exp(-160 * seconds)
    for second in range(int(duration_s)):
        out[second * RATE_HZ : second * RATE_HZ + len(click)] = click * (1 if second % 2 else 0.7)
    return out


def loudness(sound: Sound) -> NDArray[np.float32]:
    """Root mean square of every video frame, scaled to 1."""
    step = RATE_HZ // FPS
    frames = sound[: len(sound) // step * step].reshape(-1, step)
    level = np.sqrt((frames**2).mean(1))
    return np.asarray(level / level.max(), np.float32)


def sequence(*scenes: tuple[float, Draw]) -> Draw:
    """Scenes one after the other, given as (start in seconds, scene); each has its own clock."""

    def draw(t: float) -> Image.Image:
        start_s, scene = [s for s in scenes if s[0] <= t][-1]
        return scene(t - start_s)

    return draw


def clips() -> tuple[Clip, ...]:
    """All clips of the demo."""
    podcast, spider = talk(PODCAST, "slt", "podcast_012"), talk((SPIDER,), "rms", "IMG_2201")
    levels = loudness(podcast)
    ball_then_light = sequence((0, pictures.soccer_ball), (6, pictures.traffic_light))
    scenes = sequence((0, pictures.daisy), (6, pictures.candle), (12, pictures.snow_mountain))
    return (
        Clip(
            "podcast_012.mp4",
            len(podcast) / RATE_HZ,
            lambda t: screens.bars(t, levels, FPS),
            podcast,
        ),
        Clip("screen_0931.mp4", 24, screens.terminal),
        Clip("lecture_05.mp4", 24, screens.slide, silence(24)),
        Clip("GX010114.mp4", 18, scenes),
        Clip("GX010115.mp4", 10, pictures.balloon, music(10)),
        Clip("VID_0611.webm", 16, ball_then_light, music(16), {}, ("libvpx-vp9", "libopus")),
        Clip("clip_0007.mp4", 10, screens.drifting_colours),
        Clip("MOV_0044.mp4", 22, pictures.wall_clock, ticking(22), {"title": "Repair cafe"}),
        Clip("nature/IMG_2201.mp4", len(spider) / RATE_HZ, pictures.spider_web, spider),
    )


def write(clip: Clip, folder: Path) -> Path:
    """Encode one clip."""
    path = folder / clip.name
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"fflags": "+bitexact"}
    if path.suffix == ".mp4":
        options["movflags"] = "+faststart"
    with av.open(str(path), "w", options=options) as container:
        container.metadata.update(clip.tags)
        video = _video_stream(container, clip.codecs[0])
        audio = None if clip.sound is None else _audio_stream(container, clip.codecs[1])
        for number in range(round(clip.duration_s * FPS)):
            frame = av.VideoFrame.from_ndarray(pictures.finish(clip.draw(number / FPS)), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and clip.sound is not None:
            _write_sound(container, audio, clip.sound)
    return path


def _video_stream(container: Any, codec: str) -> Any:
    stream = container.add_stream(codec, rate=FPS)
    stream.width, stream.height = pictures.WIDTH // 2, pictures.HEIGHT // 2
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    if codec == "libx264":
        stream.options = {"crf": "29", "preset": "veryslow", "g": "50"}
    else:
        stream.options = {"crf": "42", "b": "0", "cpu-used": "2", "g": "50"}
    return stream


def _audio_stream(container: Any, codec: str) -> Any:
    rate_hz = 48000 if codec == "libopus" else RATE_HZ
    stream = container.add_stream(codec, rate=rate_hz, layout="mono")
    stream.bit_rate = 32000
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    return stream


def _write_sound(container: Any, stream: Any, sound: Sound) -> None:
    samples = (np.clip(sound, -1, 1) * 32767).astype(np.int16)[None]
    frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
    resampler = av.AudioResampler(
        stream.codec_context.format or "fltp", "mono", stream.rate, stream.codec_context.frame_size
    )
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(piece))
    container.mux(stream.encode(None))


def _subtitles() -> str:
    def clock(seconds: int) -> str:
        return f"00:00:{seconds:02d},000"

    blocks = [
        f"{number}\n{clock(start)} --> {clock(end)}\n{text}\n"
        for number, (start, end, text) in enumerate(SUBTITLES, 1)
    ]
    return "\n".join(blocks)


def measure(path: Path) -> str:
    """Decode every stream of a file to its end; name, size, seconds and frames as text."""
    with av.open(str(path)) as container:
        duration_s = (container.duration or 0) / av.time_base
        codecs = "+".join(s.codec_context.name for s in container.streams)
        n_frames = sum(1 for _ in container.decode(video=0))
    with av.open(str(path)) as container:
        n_samples = (
            sum(f.samples for f in container.decode(audio=0)) if container.streams.audio else 0
        )
    return (
        f"{path.name}: {path.stat().st_size / 1000:.0f} kB, {duration_s:.1f} s, {codecs}, "
        f"{n_frames} frames, {n_samples} samples"
    )


def main() -> None:
    """Make all clips and their sidecars."""
    parser = argparse.ArgumentParser(description="Make the clips of `mmretrieve demo`.")
    parser.add_argument("--out", type=Path, default=clips_folder())
    out: Path = parser.parse_args().out
    for clip in clips():
        print(measure(write(clip, out)))
    (out / "MOV_0044.srt").write_text(_subtitles(), encoding="utf-8")
    (out / "clip_0007.info.json").write_text(
        json.dumps(NIGHT_TRAIN, indent=2) + "\n", encoding="utf-8"
    )
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"all together: {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
