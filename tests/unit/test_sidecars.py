from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmretrieve.indexers.languages import language_code
from mmretrieve.indexers.sidecars import find_sidecars, signature


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ["talk.mp4", "talk.part2.mp4", "talking.mp4"]:
        (tmp_path / name).touch()
    return tmp_path


def add(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("x")


def subtitle_names(video: Path, language: str | None = None) -> list[str]:
    return [file.path.name for file in find_sidecars(video, language).subtitles]


def test_what_belongs_to_a_video(folder: Path) -> None:
    add(folder, "talk.srt", "talk.en.srt", "talk.en-US.vtt", "talk.mp4.srt", "talk.English.SRT")
    add(folder, "talk.info.json", "talk.json", "talk.txt", "talk.md", "talk.description")
    found = find_sidecars(folder / "talk.mp4")
    assert {f.path.name for f in found.subtitles} == {
        "talk.srt", "talk.en.srt", "talk.en-US.vtt", "talk.mp4.srt", "talk.English.SRT",
    }  # fmt: skip
    assert found.info == folder / "talk.info.json"
    assert found.data == folder / "talk.json"
    assert [p.name for p in found.texts] == ["talk.description", "talk.txt", "talk.md"]
    assert len(found.paths) == 10


def test_what_belongs_to_another_or_to_nobody(folder: Path) -> None:
    add(folder, "talk.part2.srt", "talking.srt", "talk.raw.srt", "talk.live_chat.json", "talkx.txt")
    add(folder, "talk.jpg", "talk.en.txt", "talk.part2.info.json", "other.srt")
    assert find_sidecars(folder / "talk.mp4").paths == ()
    assert subtitle_names(folder / "talk.part2.mp4") == ["talk.part2.srt"]


def test_order_of_preference(folder: Path) -> None:
    add(folder, "talk.de.srt", "talk.en.auto.srt", "talk.en.vtt", "talk.fr-orig.vtt", "talk.fr.vtt")
    add(folder, "talk.en.forced.srt", "talk.ja.srt")
    assert subtitle_names(folder / "talk.mp4") == [
        "talk.en.vtt",
        "talk.en.auto.srt",
        "talk.de.srt",
        "talk.ja.srt",
        "talk.fr.vtt",
        "talk.fr-orig.vtt",
        "talk.en.forced.srt",
    ]
    assert subtitle_names(folder / "talk.mp4", "fr")[:2] == ["talk.fr.vtt", "talk.fr-orig.vtt"]
    assert subtitle_names(folder / "talk.mp4", "ja")[0] == "talk.ja.srt"
    add(folder, "talk.srt")
    assert subtitle_names(folder / "talk.mp4")[0] == "talk.srt"


def test_hi_is_hindi_alone_and_hearing_impaired_after_a_language(folder: Path) -> None:
    add(folder, "talk.hi.srt", "talk.en.hi.srt")
    found = {f.path.name: f.language for f in find_sidecars(folder / "talk.mp4").subtitles}
    assert found == {"talk.hi.srt": "hi", "talk.en.hi.srt": "en"}


def test_only_regular_files_inside_the_root(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.srt"
    outside.write_text("x")
    (folder / "talk.srt").symlink_to(outside)
    (folder / "talk.de.srt").symlink_to(folder / "talk.de.srt")
    (folder / "talk.fr.srt").mkdir()
    os.mkfifo(folder / "talk.txt")
    add(folder, "real.srt")
    (folder / "talk.en.srt").symlink_to(folder / "real.srt")
    assert subtitle_names(folder / "talk.mp4") == ["talk.en.srt"]
    root = outside.parent.parent
    with_root = find_sidecars(folder / "talk.mp4", root=root).subtitles
    assert {f.path.name for f in with_root} == {"talk.en.srt", "talk.srt"}


def test_a_folder_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    assert find_sidecars(tmp_path / "absent" / "talk.mp4").paths == ()


def test_signature_changes_with_any_file(folder: Path) -> None:
    add(folder, "talk.srt", "talk.txt")
    paths = [folder / "talk.srt", folder / "talk.txt"]
    before = signature(paths)
    assert before == signature(reversed(paths)) and len(before) == 16
    os.utime(folder / "talk.srt", ns=(1, 1))
    touched = signature(paths)
    (folder / "talk.txt").unlink()
    assert len({before, touched, signature(paths), signature(paths[:1]), signature([])}) == 5


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("en", "en"), ("en-US", "en"), ("pt_BR", "pt"), ("ger", "de"), ("jpn", "ja"),
        ("English", "en"), ("zh-Hans", "zh"), ("und", None), ("", None), (None, None),
        ("raw", None), ("en-!", None),
    ],
)  # fmt: skip
def test_language_tags(tag: str | None, code: str | None) -> None:
    assert language_code(tag) == code
