from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmretrieve.errors import SidecarError
from mmretrieve.indexers import captions, subtitles
from mmretrieve.indexers.captions import Cue, Word, clean, mend, split_words
from mmretrieve.indexers.subtitles import decode_text, is_transcript, read_subtitles

SRT = "1\n00:00:01,000 --> 00:00:02,500\nHello there\n\n2\n00:00:03,000 --> 00:00:04,000\nBye\n"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(path: Path, duration_s: float | None = None) -> list[str]:
    return [segment.text for segment in read_subtitles(path, duration_s)]


def test_srt_times_and_text(tmp_path: Path) -> None:
    first, second = read_subtitles(write(tmp_path, "a.srt", SRT))
    assert (first.text, first.start_s, first.end_s) == ("Hello there", 1.0, 2.5)
    assert (second.text, second.start_s, second.end_s) == ("Bye", 3.0, 4.0)


def test_srt_without_numbers_or_blank_lines_and_with_blank_lines_inside(tmp_path: Path) -> None:
    loose = "00:01,5 --> 00:02.5\nOne\n00:00:03,000 --> 00:00:04,000\nTwo\n\nstill two\n\n7\n"
    loose += "0:00:05,000-->0:00:06,000\n42\n"
    segments = read_subtitles(write(tmp_path, "a.srt", loose))
    assert [s.text for s in segments] == ["One", "Two still two", "42"]
    assert segments[0].start_s == 1.5


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_encodings_and_line_ends(tmp_path: Path, encoding: str, ending: str) -> None:
    text = SRT.replace("Hello there", "Žluťoučký 猫 é").replace("\n", ending)
    data = text.encode(encoding)
    assert texts(write(tmp_path, "a.srt", data))[0] == "Žluťoučký 猫 é"


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("cp1252", "Señor, él dijo que la niña está aquí."),
        ("cp1252", "Ça va très bien, à bientôt."),
        ("cp1252", "Größe, süß, Äpfel und Öl"),
        ("cp1250", "Dzień dobry, jak się masz? Proszę bardzo, źle, łąka."),
        ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy. Děkuji."),
        ("cp1250", "Jó napot, hogy vagy? Köszönöm, őszi idő, fű."),
        ("cp1251", "Привет, как дела? Сегодня хорошая погода."),
        ("cp932", "こんにちは。今日は天気がいいですね。"),
        ("gb18030", "今天天气很好，我们去公园。"),  # noqa: RUF001 - Chinese punctuation
        ("cp949", "안녕하세요. 오늘 날씨가 좋네요."),
    ],
)
def test_legacy_encodings(encoding: str, line: str) -> None:
    assert decode_text("\n".join([SRT, line, line, line]).encode(encoding)).endswith(line)


def test_mostly_utf8_with_a_broken_byte_stays_utf8() -> None:
    text = "Der Bär läuft über die Straße. " * 20
    assert decode_text(text.encode() + b"\xff").startswith(text)


YOUTUBE = """WEBVTT
Kind: captions

STYLE
::cue { color: red }

00:00:00.160 --> 00:00:02.149 align:start position:0%
@
hello<00:00:00.480><c> and</c><00:00:00.719><c> welcome</c>

00:00:02.149 --> 00:00:02.159 align:start position:0%
hello and welcome
@

00:00:02.159 --> 00:00:04.000 align:start position:0%
hello and welcome
to<00:00:02.500><c> the</c><c> show</c>

00:00:04.000 --> 00:00:04.010 align:start position:0%
to the show
@

NOTE a comment
of two lines

cue name
00:05.000 --> 00:06.000 line:80%
<v Roger>Tom &amp; Jerry &lt;3</v>
""".replace("@", " ")


def test_rolling_captions_are_told_once(tmp_path: Path) -> None:
    segments = read_subtitles(write(tmp_path, "a.vtt", YOUTUBE))
    assert [(s.text, s.start_s, s.end_s) for s in segments] == [
        ("hello and welcome", 0.16, 2.159),
        ("to the show", 2.159, 4.01),
        ("Tom & Jerry <3", 5.0, 6.0),
    ]


def test_a_line_repeated_later_is_kept(tmp_path: Path) -> None:
    again = "00:01.000 --> 00:02.000\nNo.\n\n00:09.000 --> 00:10.000\nNo.\n"
    assert texts(write(tmp_path, "a.vtt", "WEBVTT\n\n" + again)) == ["No.", "No."]


def test_growing_captions_become_one_line() -> None:
    cues = [Cue(0, 1, ("we",)), Cue(1, 2, ("we are",)), Cue(2, 3, ("we are here",))]
    assert mend(cues, None) == [Cue(0, 3, ("we are here",))]


def test_ass_commands_drawings_and_comments_are_not_speech(tmp_path: Path) -> None:
    events = [
        r"Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\an8\i1}Up{\i0} here\Nand\hthere",
        r"Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,{\p1}m 0 0 l 100 0 100 100{\p0}",
        r"Dialogue: 0,broken,0:00:04.00,Default,,0,0,0,,no time",
        r"Comment: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,not shown",
    ]
    head = "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
    head += "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    assert texts(write(tmp_path, "a.ass", head + "\n".join(events))) == ["Up here and there"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("<i>soft</i> <font color='red'>red</font>", "soft red"),
        (r"{\an8}top", "top"),
        ("&amp;lt; 1 &lt; 2", "&lt; 1 < 2"),
        ("♪ la la ♪", "la la"),
        ("[Music]", ""),
        (">> You there", "You there"),
        ("- Yes", "Yes"),
        ("a < b and c > d", "a < b and c > d"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
    ],
)
def test_markup_is_removed(raw: str, expected: Any) -> None:
    assert " ".join(clean([raw])) == expected


def test_insane_times_are_mended_or_dropped() -> None:
    cues = [
        Cue(-5, -1, ("before",)),
        Cue(-1, 2, ("cut at zero",)),
        Cue(5, 3, ("end before start",)),
        Cue(5.5, 6, ("next",)),
        Cue(9, 99, ("cut at the end",)),
        Cue(10, 12, ("after the end",)),
    ]
    mended = [(c.text, c.start_s, c.end_s) for c in mend(cues, 10)]
    assert mended == [
        ("cut at zero", 0.0, 2),
        ("end before start", 5, 5.5),
        ("next", 5.5, 6),
        ("cut at the end", 9, 10),
    ]


@pytest.mark.parametrize(
    "data",
    [
        {"segments": [{"start": 1.0, "end": 2.0, "text": " Hi "}]},
        [{"start": "1.0", "end": 2.0, "text": "Hi"}],
        {"transcription": [{"offsets": {"from": 1000, "to": 2000}, "text": "Hi"}]},
        {
            "chunks": [
                {"timestamp": [1.0, 2.0], "text": "Hi"},
                {"timestamp": [None, 1], "text": "x"},
            ]
        },
        {"segments": [{"start": 1, "end": 2, "text": "Hi"}, {"start": float("nan"), "text": "x"}]},
    ],
)
def test_json_transcripts(tmp_path: Path, data: Any) -> None:
    path = write(tmp_path, "a.json", json.dumps(data))
    assert [(s.text, s.start_s, s.end_s) for s in read_subtitles(path)] == [("Hi", 1.0, 2.0)]
    assert is_transcript(path)


def test_long_whisperx_segments_are_cut_at_words(tmp_path: Path) -> None:
    words = [{"word": f"w{i}", "start": i, "end": i + 0.5} for i in range(30)]
    words[9] = {"word": "w9."}  # no times, as WhisperX writes numbers
    row = {"start": 0, "end": 30, "text": "...", "words": words}
    segments = read_subtitles(write(tmp_path, "a.json", json.dumps({"segments": [row]})))
    assert " ".join(s.text for s in segments).split() == [w["word"] for w in words]
    assert all(s.start_s is not None and s.end_s is not None for s in segments)
    assert max((s.end_s or 0) - (s.start_s or 0) for s in segments) <= 10
    assert segments[0].text.endswith("w9.")


def test_description_json_is_no_transcript(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", '{"title": "A talk"}')
    assert not is_transcript(path)
    with pytest.raises(SidecarError, match=r"a\.json.*expected .*segments"):
        read_subtitles(path)


@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.ass", "a.json"])
@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"no times here"])
def test_what_is_no_subtitle_file_is_named(tmp_path: Path, name: str, content: Any) -> None:
    with pytest.raises(SidecarError, match=r"a\."):
        read_subtitles(write(tmp_path, name, content))


def test_size_and_number_of_lines_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "a.srt", SRT)
    monkeypatch.setattr(subtitles, "MAX_CUES", 1)
    assert texts(path) == ["Hello there"]
    long = write(tmp_path, "b.srt", "00:01.0 --> 00:02.0\n" + "x" * 100_000)
    assert len(texts(long)[0]) == captions.MAX_LINE_CHARS
    with pytest.raises(SidecarError, match="larger than"):
        subtitles.read_text(path, max_bytes=10)
    with pytest.raises(SidecarError, match="cannot be read"):
        subtitles.read_text(tmp_path / "absent.srt")


def test_hostile_files_are_quick(tmp_path: Path) -> None:
    cue = "00:00:01,000 --> 00:00:02,000\n"
    started = time.monotonic()
    for name, content in {
        "tags.srt": cue + "<" * 1_000_000,
        "braces.srt": (cue + r"{\p1" * 1000 + "\n") * 200,
        "lines.vtt": "WEBVTT\n\n" + cue + "a\n" * 500_000,
        "same.srt": (cue + "line\nother\n\n") * 20_000,
    }.items():
        assert len(read_subtitles(write(tmp_path, name, content))) <= 1, name
    assert time.monotonic() - started < 30


def test_deep_json_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(SidecarError, match="JSON"):
        read_subtitles(write(tmp_path, "a.json", "[" * 200_000))


def test_words_are_cut_at_sentences_and_pauses() -> None:
    raw = [("One", 0), ("two.", 1), ("Three", 2), ("four", 6), ("five", 6.5)]
    words = [Word(" " + text, at, at + 0.4, 0.5) for text, at in raw]
    segments = list(split_words(words))
    assert [s.text for s in segments] == ["One two.", "Three", "four five"]
    assert (segments[0].start_s, segments[0].end_s, segments[0].confidence) == (0, 1.4, 0.5)


CLOCK = st.builds(
    "{:02d}:{:02d}:{:02d},{:03d}".format, *[st.integers(0, 99)] * 3, st.integers(0, 999)
)
BLOCK = st.builds("{} --> {}\n{}\n\n".format, CLOCK, CLOCK, st.text(max_size=60))


@settings(max_examples=150, deadline=None)
@given(
    blocks=st.lists(st.one_of(BLOCK, st.text(max_size=60)), max_size=12),
    head=st.sampled_from(["", "WEBVTT\n\n", "[Script Info]\n[Events]\n"]),
    suffix=st.sampled_from([".srt", ".vtt", ".ass", ".ssa", ".json"]),
    duration_s=st.none() | st.floats(0, 1e5),
)
def test_any_text_gives_sane_segments_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory,
    blocks: list[str],
    head: str,
    suffix: str,
    duration_s: float | None,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_text(head + "".join(blocks), encoding="utf-8", errors="surrogatepass")
    check(path, duration_s)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=400), suffix=st.sampled_from([".srt", ".vtt", ".ass", ".json"]))
def test_any_bytes_give_sane_segments_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, data: Any, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"bytes{suffix}"
    path.write_bytes(data)
    check(path, None)


SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ROW = st.dictionaries(
    st.sampled_from(["start", "end", "text", "words", "offsets", "timestamp"]),
    st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3), max_leaves=4),
)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(ROW, max_size=5))
def test_any_json_gives_sane_segments_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.json"
    path.write_text(json.dumps({"segments": rows}))
    check(path, 60.0)


def check(path: Path, duration_s: float | None) -> None:
    try:
        segments = read_subtitles(path, duration_s)
    except SidecarError as error:
        assert path.name in str(error)
        return
    starts = [s.start_s for s in segments if s.start_s is not None]
    assert len(starts) == len(segments)
    for segment in segments:
        assert segment.text.strip() and segment.text.encode("utf-8")
        assert segment.start_s is not None and segment.end_s is not None
        assert 0 <= segment.start_s <= segment.end_s <= (duration_s or float("inf"))
