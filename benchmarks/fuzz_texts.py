"""Targets of ``fuzz`` that read text beside videos: subtitles, transcripts, descriptions, names, filters,
and what is shown of all that."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from benchmarks.fuzz_mutate import mutate
from benchmarks.fuzz_target import Target, WrongError, check_segments, check_shown, check_text
from mmretrieve.cli.render_lines import csv_text
from mmretrieve.cli.text import clean, escape_json
from mmretrieve.datatypes import Probe
from mmretrieve.demo import clips_folder
from mmretrieve.errors import SidecarError, UsageError
from mmretrieve.indexers.metadata import read_metadata
from mmretrieve.indexers.names import folder_words, name_date, name_words
from mmretrieve.indexers.reading import Reading
from mmretrieve.indexers.sidecars import Sidecars, find_sidecars
from mmretrieve.indexers.speech import SpeechTrack
from mmretrieve.indexers.subtitles import is_transcript, read_subtitles
from mmretrieve.isolation.records import plain_reading, read_reading
from mmretrieve.isolation.wire import encode, read
from mmretrieve.search.filters import holds, matches, parse_condition
from mmretrieve.storage.records import VideoRecord

_VTT = """WEBVTT - a title

NOTE nothing

STYLE
::cue { color: red }

intro
00:00:01.000 --> 00:00:03.500 align:start position:0%
<v Ann>The baker<00:00:02.000><c> kneads</c> the dough

00:00:03.500 --> 00:00:06.000
- before sunrise &amp; after
- \u266a [Music] \u266a
"""
_ASS = """[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20
[Fonts]
fontname: a.ttf
M<F*%!!!!"$!!!E
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:03.50,Default,,0,0,0,,{\\i1}The baker{\\i0} kneads\\Nthe dough
Dialogue: 0,0:00:04.00,0:00:06.50,Default,,0,0,0,,{\\p1}m 0 0 l 100 0{\\p0}before sunrise
"""
_SAID = {
    "segments": [
        {
            "start": 0.5, "end": 3.2, "text": " The baker kneads the dough.",
            "words": [
                {"word": "The", "start": 0.5, "end": 0.7, "score": 0.9},
                {"word": "baker", "start": 0.8, "end": 1.2, "score": 0.8},
                {"word": "14", "score": 0.1},
            ],
        },
        {"timestamp": [3.5, 5.0], "text": "before sunrise"},
        {"offsets": {"from": 5000, "to": 6200}, "text": "and after"},
    ],
    "language": "en",
}  # fmt: skip
_DURATION_S = 20.0


class Mutated:
    """Inputs made of seeds, which a subclass reads from its own file."""

    name = ""
    weight = 1.0
    text = True
    seeds: tuple[bytes, ...] = ()

    def prepare(self, folder: Path) -> None:
        self.folder = folder

    def make(self, rng: Random) -> bytes:
        return mutate(rng.choice(self.seeds), self.seeds, rng, self.text)

    def feed(self, data: bytes) -> str:
        """What became of an input."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""

    def _written(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path


class Subtitles(Mutated):
    """Subtitle files of one kind."""

    weight = 6.0

    def __init__(self, suffix: str, seed: str) -> None:
        self.name = f"subtitles {suffix}"
        self._file = f"talk.{suffix}"
        self.seeds = (seed.encode(), seed.replace("\n", "\r\n").encode(), seed.encode("utf-16"))

    def feed(self, data: bytes) -> str:
        path = self._written(self._file, data)
        try:
            segments = read_subtitles(path, _DURATION_S)
        except SidecarError:
            return "refused"
        check_segments(segments)
        if any((s.end_s or 0.0) > _DURATION_S for s in segments):
            raise WrongError("a line after the end of the video")
        return "read" if segments else "empty"


class Description(Mutated):
    """``talk.info.json``, and the tags of a container."""

    name = "info.json"
    weight = 8.0

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        made = {
            "title": "A talk", "description": "First line.\nhttps://example.org/a-b", "tags": ["a", "b"],
            "chapters": [{"start_time": 0.0, "end_time": 9.5, "title": "Intro"}], "duration": 20,
            "upload_date": "20240131", "channel": "Lab", "categories": ["Science"], "like_count": 12,
            "webpage_url": "https://example.org/v", "language": "en", "series": "S", "is_live": False,
        }  # fmt: skip
        found = [p.read_bytes() for p in sorted(clips_folder().rglob("*.info.json"))]
        self.seeds = (json.dumps(made).encode(), json.dumps(made, indent=2).encode(), *found)

    def feed(self, data: bytes) -> str:
        told: list[str] = []
        info = self._written("talk.info.json", data)
        probe = Probe(
            _DURATION_S, "mp4", 1000, tags={"title": data[:300].decode("utf-8", "replace")}
        )
        video = self.folder / "talk.mp4"
        metadata = read_metadata(video, probe, Sidecars(info=info), told.append)
        check_segments(metadata.segments)
        for name, fact in metadata.facts.items():
            check_text(name)
            check_text(str(fact))
        reading = Reading(probe, metadata, SpeechTrack())
        pieces = b"".join(encode("reading", plain_reading(reading)))
        if read_reading(_message(pieces), probe).metadata != metadata:
            raise WrongError("changed by its way through the pipe")
        return "refused" if told else "read"


def _message(data: bytes) -> dict[str, object]:
    at = 0

    def take(n_bytes: int) -> bytes:
        nonlocal at
        at += n_bytes
        return data[at - n_bytes : at]

    return read(take).body


class Transcript(Subtitles):
    """WhisperX, Whisper, whisper.cpp and Hugging Face transcripts."""

    def __init__(self) -> None:
        super().__init__("json", json.dumps(_SAID))
        self.name = "transcript json"
        self.seeds += (json.dumps(_SAID["segments"]).encode(), json.dumps(_SAID, indent=1).encode())

    def feed(self, data: bytes) -> str:
        outcome = super().feed(data)
        is_transcript(self.folder / "talk.json")
        return outcome


class Names(Mutated):
    """Names of files, folders and what lies beside."""

    name = "file names"
    weight = 5.0
    seeds = (
        b"My.Talk.1080p.x264 [dQw4w9WgXcQ]", b"VID_20240131_120000", b"talk.en.forced", b"a-b_c.d e",
        b"\xc3\x9cber \xe4\xb8\x96\xe7\x95\x8c 2024-01-31", b"html5rocks_go-to-column",
    )  # fmt: skip

    def feed(self, data: bytes) -> str:
        name = (
            data[:250].replace(b"/", b"_").replace(b"\0", b"_").decode("utf-8", "surrogateescape")
        )
        for words in (name_words(name), folder_words(name), name_date(name) or ""):
            check_text(words)
        find_sidecars(self.folder / (name or "x"))
        return "read"


class Shown(Mutated):
    """Text on its way to a terminal, a spreadsheet and JSON."""

    name = "shown text"
    weight = 6.0
    seeds = (
        b"plain", b"\x1b[31mred\x1b[0m", b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", b"[bold]b[/bold]",
        "\u202egnp.exe \u2066x\u2069".encode(), b"\xc2\x9b2J\xc2\x9d0;t\xc2\x9c", b"=1+1", b"a\r\nb\x08\x7f",
    )  # fmt: skip

    def feed(self, data: bytes) -> str:
        text = data.decode("utf-8", "surrogateescape")
        check_shown(clean(text))
        cell = csv_text(text)
        check_shown(cell)
        if cell.startswith(("=", "+", "-", "@")):
            raise WrongError(f"a formula: {cell[:20]!r}")
        document = escape_json(json.dumps(text, ensure_ascii=False))
        check_shown(document)
        if json.loads(document) != text:
            raise WrongError("JSON says something else")
        return "shown"


class Filters(Mutated):
    """``--where`` and ``--video``: conditions on facts that strangers wrote."""

    name = "filters"
    weight = 4.0
    seeds = (
        b"channel=NASA", b"duration_s>=60", b"tags~x' OR '1'='1", b"date!=2024", b"*.mp4", b"[a-z]*",
        b"width<1e999", b"video_id=; DROP TABLE videos",
    )  # fmt: skip
    video = VideoRecord(
        "0" * 32,
        "r",
        "/v/talk.mp4",
        "A talk",
        20.0,
        Probe(20.0, "mp4", 1),
        {"tags": ("a", "b"), "n": 3.5},
    )

    def feed(self, data: bytes) -> str:
        text = data[:2_000].decode("utf-8", "replace")
        matches(self.video.video_id, self.video.path, text[:200])
        try:
            name, value = parse_condition(text)
            holds(self.video, self.video.path, name, value)
        except UsageError:
            return "refused"
        return "asked"


def text_targets() -> list[Target]:
    """One of each."""
    srt = next(iter(sorted(clips_folder().rglob("*.srt")))).read_text(encoding="utf-8")
    subtitles = (Subtitles("srt", srt), Subtitles("vtt", _VTT), Subtitles("ass", _ASS))
    return [*subtitles, Transcript(), Description(), Names(), Shown(), Filters()]
