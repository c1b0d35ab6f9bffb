from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mmretrieve.datatypes import Probe
from mmretrieve.indexers.media import probe
from mmretrieve.indexers.metadata import MAX_DESCRIPTION_CHARS, VideoMetadata, read_metadata
from mmretrieve.indexers.names import folder_words, iso_date, name_date, name_words, shorten_urls
from mmretrieve.indexers.sidecars import find_sidecars

_MS = Fraction(1, 1000)
INFO: dict[str, Any] = {
    "title": "How to bake bread",
    "description": "A short class.\n\nRecipe: https://www.example.org/blog/rye-bread?utm=1\n" * 2,
    "tags": ["bread", "baking", "bread"],
    "categories": ["Howto & Style"],
    "channel": "Kitchen Lab",
    "upload_date": "20240501",
    "webpage_url": "https://example.org/watch?v=1",
    "language": "en-US",
    "view_count": 1200,
    "like_count": None,
    "is_live": False,
    "formats": [{"url": "https://x"}],
    "thumbnail": "https://example.org/t.jpg",
    "_version": {"version": "1"},
    "chapters": [
        {"start_time": 0.0, "end_time": 4.0, "title": "Dough"},
        {"start_time": 4.0, "end_time": 900, "title": "Oven"},
        {"start_time": 50.0, "end_time": 60, "title": "after the end"},
        {"start_time": 1, "end_time": 2, "title": "Chapter 1"},
        {"start_time": None, "title": "no time"},
        "not an object",
    ],
}


def read(
    path: Path, tags: dict[str, str] | None = None, warnings: list[str] | None = None
) -> VideoMetadata:
    facts = Probe(duration_s=10.0, container="mp4", size_bytes=1, tags=tags or {})
    warn = (warnings if warnings is not None else []).append
    return read_metadata(path, facts, find_sidecars(path), warn)


def by_field(found: VideoMetadata, name: str) -> list[str]:
    return [s.text for s in found.segments if s.field == name]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "Cooking class" / "bread_01.mp4"
    path.parent.mkdir()
    path.touch()
    return path


def beside(video: Path, suffix: str, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (video.parent / (video.stem + suffix)).write_text(text, encoding="utf-8")


def test_info_json(video: Path) -> None:
    beside(video, ".info.json", INFO)
    found = read(video)
    assert found.title == "How to bake bread"
    assert by_field(found, "title") == ["How to bake bread"]
    assert by_field(found, "file_name") == ["bread 01"]
    assert by_field(found, "description") == [
        "A short class.",
        "Recipe: example.org blog rye bread",
    ]
    assert by_field(found, "tags") == ["bread, baking"]
    assert by_field(found, "channel") == ["Kitchen Lab"]
    assert by_field(found, "folder") == ["Cooking class"]
    chapters = [(s.text, s.start_s, s.end_s) for s in found.segments if s.field == "chapter"]
    assert chapters == [("Dough", 0.0, 4.0), ("Oven", 4.0, 10.0)]
    assert found.facts == {
        "date": "2024-05-01",
        "upload_date": "2024-05-01",
        "language": "en",
        "channel": "Kitchen Lab",
        "tags": ("bread", "baking"),
        "categories": ("Howto & Style",),
        "url": "https://example.org/watch?v=1",
        "view_count": 1200.0,
        "is_live": "false",
    }


@pytest.mark.parametrize(
    "content",
    ["{", "[" * 100_000, "[1]", "null", '"x"', '{"title": 1e999, "n": ' + "9" * 5000 + "}"],
)
def test_an_unusable_info_json_is_a_warning(video: Path, content: Any) -> None:
    beside(video, ".info.json", content)
    warnings: list[str] = []
    found = read(video, {"artist": "Ada"}, warnings)
    assert found.title == "bread 01" and by_field(found, "artist") == ["Ada"]
    assert len(warnings) == 1 and "bread_01.info.json" in warnings[0]


def test_a_gigantic_info_json_is_a_warning(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmretrieve.indexers.subtitles.MAX_FILE_BYTES", 10)
    beside(video, ".info.json", '{"title": "' + "x" * 20_000_001 + '"}')
    warnings: list[str] = []
    assert read(video, {}, warnings).title == "bread 01"
    assert "larger than 20 MB" in warnings[0]


@pytest.mark.parametrize("value", [None, 7, ["a"], {"a": 1}, True, "", "\ud800", "a\0b", [[[]]]])
def test_fields_of_any_type_are_survived(video: Path, value: Any) -> None:
    odd = {name: value for name in INFO}
    odd["nested"] = {"a": [value]}
    beside(video, ".info.json", odd)
    found = read(video)
    assert found.title
    for segment in found.segments:
        assert segment.text.encode("utf-8") and "\0" not in segment.text
    for name, fact in found.facts.items():
        assert isinstance(fact, str | float | tuple), name


def test_plain_json_describes_and_a_transcript_does_not(video: Path) -> None:
    beside(video, ".json", {"title": "Rye bread", "description": "With seeds"})
    assert read(video).title == "Rye bread"
    beside(video, ".json", {"segments": [{"start": 0, "end": 1, "text": "Hello"}], "title": "no"})
    assert read(video).title == "bread 01"


def test_text_files(video: Path) -> None:
    beside(video, ".description", "From the uploader")
    beside(video, ".md", "# Notes\n\n- about [rye](https://example.org/x) *bread*\n")
    found = read(video)
    assert by_field(found, "description") == ["From the uploader"]
    assert by_field(found, "notes") == ["Notes", "about rye bread"]


def test_long_descriptions_are_cut_and_bounded(video: Path) -> None:
    beside(video, ".description", ("word " * 50 + ". ") * 2000 + "x" * 5000)
    parts = by_field(read(video), "description")
    assert all(0 < len(part) <= 400 for part in parts)
    assert sum(map(len, parts)) <= MAX_DESCRIPTION_CHARS + 400


def test_hostile_markdown_is_quick(video: Path) -> None:
    beside(video, ".md", "[" * 200_000 + "](" * 100_000)
    read(video)


def test_tags_of_the_container(video: Path) -> None:
    tags = {
        "title": "Harbour at dawn", "artist": "Ada", "comment": "Taken from the pier",
        "location": "+53.5+9.9/", "encoder": "Lavf58.20.100", "handler_name": "VideoHandler",
        "major_brand": "isom", "vendor_id": "[0][0]", "creation_time": "2021-10-26T21:02:20Z",
        "make": "Canon", "language": "deu", "copyright": "Created with HandBrake",
    }  # fmt: skip
    found = read(video, tags)
    assert found.title == "Harbour at dawn"
    fields = {s.field: s.text for s in found.segments}
    assert fields == {
        "title": "Harbour at dawn", "file_name": "bread 01", "artist": "Ada",
        "comment": "Taken from the pier", "location": "+53.5+9.9/", "folder": "Cooking class",
    }  # fmt: skip
    assert found.facts == {
        "artist": "Ada", "location": "+53.5+9.9/", "make": "Canon", "date": "2021-10-26",
        "language": "de",
    }  # fmt: skip


@pytest.mark.parametrize("title", ["Video", "GPAC ISO Video Handler", "Track 1", "  ", "-"])
def test_titles_that_say_nothing(video: Path, title: str) -> None:
    assert read(video, {"title": title}).title == "bread 01"


def test_chapters_of_the_container(tmp_path: Path) -> None:
    path = tmp_path / "talk.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        out.set_chapters(
            [
                {"id": 1, "start": 0, "end": 1000, "time_base": _MS,
                 "metadata": {"title": "Opening"}},
                {"id": 2, "start": 1000, "end": 2000, "time_base": _MS,
                 "metadata": {"title": "Chapter 2"}},
            ]
        )  # fmt: skip
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    found = read_metadata(path, probe(path), find_sidecars(path), lambda text: None)
    chapters = [(s.text, s.start_s, s.end_s) for s in found.segments if s.field == "chapter"]
    assert chapters == [("Opening", 0.0, 1.0)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("html5rocks_go-to-column", "html5rocks go to column"),
        ("My.Talk.1080p.x264 [dQw4w9WgXcQ]", "My Talk"),
        ("Never Gonna Give You Up-dQw4w9WgXcQ", "Never Gonna Give You Up"),
        ("The.Film.1999.720p.BluRay.x264", "The Film 1999"),
        ("simpl_vp9_webrtc_3", "simpl vp9 webrtc 3"),
        ("VID_20240501_123456", "2024-05-01"),
        ("2024-05-01 Team meeting", "2024-05-01 Team meeting"),
        ("myHolidayVideo2023", "my Holiday Video 2023"),
        ("iPhone", "iPhone"),
        ("IMG_1234", "IMG 1234"),
        ('It\'s "quoted"\nname', 'It\'s "quoted" name'),
        ("🎉 Party_time", "🎉 Party time"),
        ("foo (1280x720) (Official Video)", "foo Official Video"),
        ("1080p", "1080p"),
        ("...", "..."),
        ("bad\udcff byte", "bad\ufffd byte"),
    ],
)
def test_words_of_file_names(name: str, words: str) -> None:
    assert name_words(name) == words


def test_dates() -> None:
    assert iso_date("20240501") == iso_date("2024-05-01T10:00:00Z") == "2024-05-01"
    assert iso_date("1970-01-01") is iso_date("20241350") is iso_date("soon") is None
    assert name_date("trip 2023-12-24 b") == "2023-12-24"
    assert name_date("120231224") is None


def test_folders_and_addresses() -> None:
    assert folder_words("Downloads") == folder_words("2024") == folder_words("tmp") == ""
    assert folder_words("holiday_in_Rome") == "holiday in Rome"
    assert shorten_urls("at https://youtu.be/dQw4w9WgXcQ.") == "at youtu.be"
    assert shorten_urls("http://[::1") == ""
