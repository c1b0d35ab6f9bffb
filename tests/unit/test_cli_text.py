from __future__ import annotations

import contextlib
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmretrieve.cli.text import clean, escape_json, plural, shown_path, size
from mmretrieve.cli.times import clock, clock_range, parse_time, took
from mmretrieve.errors import UsageError

_OVERRIDES = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("75.5", 75.5),
        ("0", 0.0),
        ("5.", 5.0),
        ("1:15", 75.0),
        ("90:00", 5400.0),
        ("00:01:15.250", 75.25),
        ("2:00:00", 7200.0),
        (" 1:05 ", 65.0),
    ],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "1:60",
        "1:75",
        "1:60:00",
        "-5",
        "1:2:3:4",
        ":5",
        "5:",
        "1e3",
        "nan",
        "inf",
        "٣",
        "1,5",
        "9" * 400,
        "9" * 400 + ":00",
        "1:30\n2",
    ],
)
def test_other_times_are_usage_errors(text: str) -> None:
    with pytest.raises(UsageError, match="time"):
        parse_time(text)


@given(st.floats(0, 1e6))
def test_a_clock_reads_back_as_the_second_it_lies_in(seconds: float) -> None:
    assert parse_time(clock(seconds)) == int(seconds)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59_999))
def test_all_spellings_of_a_time_agree(hours: int, minutes: int, milliseconds: int) -> None:
    seconds = milliseconds / 1000
    total = hours * 3600 + minutes * 60 + seconds
    assert parse_time(f"{hours:02}:{minutes:02}:{seconds:06.3f}") == pytest.approx(total)
    assert parse_time(f"{hours * 60 + minutes}:{seconds:06.3f}") == pytest.approx(total)
    assert parse_time(f"{total:.3f}") == pytest.approx(total)


@given(st.text())
def test_any_text_is_a_time_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_time(text) >= 0


def test_ranges_and_durations() -> None:
    assert clock_range(8.2, 15.9) == "00:08-00:15"
    assert clock_range(8.0, None) == "00:08"
    assert clock_range(None, None) == "whole video"
    assert clock(3725) == "1:02:05"
    assert [took(s) for s in (0.42, 59.6, 185, 7800)] == [
        "0.4 s",
        "1 min 00 s",
        "3 min 05 s",
        "2 h 10 min",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x1b\\x", "x"),
        ("\x9b2Jgone", "gone"),
        ("a\x00b\x08c\x7fd\x85e", "abcd e"),
        ("two\nlines\tand\r\nmore", "two lines and more"),
        ("evil\u202egpj.exe", "evilgpj.exe"),
        ("\u2066x\u2069\u200f\ufeff", "x"),
        ("a\u2028b", "a b"),
        ("\udcff", "\ufffd"),
        ("[bold]not markup[/bold] :smile:", "[bold]not markup[/bold] :smile:"),
        ("👩‍👩‍👧 ünï", "👩‍👩‍👧 ünï"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text())
def test_clean_leaves_nothing_that_steers_a_terminal(text: str) -> None:
    shown = clean(text)
    assert not {c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}
    assert not {c for c in shown if unicodedata.bidirectional(c) in _OVERRIDES}
    assert clean(shown) == shown


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_escaped_json_is_safe_and_loses_nothing(text: str) -> None:
    document = escape_json(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(document)["text"] == text
    assert not {c for c in document if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}
    assert not {c for c in document if unicodedata.bidirectional(c) in _OVERRIDES}


def test_paths_are_relative_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(str(tmp_path / "a" / "b.mp4")) == "a/b.mp4"
    assert shown_path("/elsewhere/b\x1b[2J.mp4") == "/elsewhere/b.mp4"
    assert shown_path("s3://bucket/b.mp4") == "s3://bucket/b.mp4"


def test_sizes_and_counts() -> None:
    assert [size(n) for n in (0, 999, 1500, 250_000, 71_200_000_000)] == [
        "0 B", "999 B", "1.5 kB", "250 kB", "71.2 GB",
    ]  # fmt: skip
    assert (plural(1, "video"), plural(2000, "video")) == ("1 video", "2,000 videos")
