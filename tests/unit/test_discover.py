from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mmretrieve.errors import UsageError
from mmretrieve.indexers.discover import discover


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(root: Path, *globs: str) -> list[str]:
    return [f.path.relative_to(root).as_posix() for f in discover([root], globs)]


def test_recursive_sorted_and_only_media(tmp_path: Path) -> None:
    make(tmp_path, "b.mp4", "a.MKV", "sub/deep/c.webm", "sub/a.opus", "notes.txt", "z.jpg")
    assert names(tmp_path) == ["a.MKV", "b.mp4", "sub/a.opus", "sub/deep/c.webm"]


def test_size_and_time_are_those_of_the_file(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4")
    os.utime(tmp_path / "a.mp4", ns=(5, 7))
    (found,) = discover([tmp_path])
    assert (found.path, found.size_bytes, found.mtime_ns) == (tmp_path / "a.mp4", 1, 7)


def test_hidden_and_unfinished_files_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, ".mmretrieve/a.mp4", ".git/b.mp4", ".hidden.mp4", "a.mp4.part", "~b.mp4")
    make(tmp_path, "c.mp4.crdownload", "d.mp4.ytdl", "ok.mp4")
    assert names(tmp_path) == ["ok.mp4"]


def test_a_file_named_itself_is_taken(tmp_path: Path) -> None:
    make(tmp_path, "strange.bin", ".hidden.mp4")
    given = [tmp_path / "strange.bin", tmp_path / ".hidden.mp4", tmp_path / "strange.bin"]
    assert [f.path for f in discover(given)] == given[:2]


def test_overlapping_paths_give_each_file_once(tmp_path: Path) -> None:
    make(tmp_path, "sub/a.mp4")
    given = [tmp_path / "sub" / "a.mp4", tmp_path, tmp_path / "sub"]
    assert [f.path for f in discover(given)] == [tmp_path / "sub" / "a.mp4"]


def test_exclude_globs_match_names_and_paths(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "raw/b.mp4", "raw/keep/c.mp4", "x/raw2.mp4", "x/d.mp4")
    assert names(tmp_path, "raw/") == ["a.mp4", "x/d.mp4", "x/raw2.mp4"]
    assert names(tmp_path, "x/*", "raw/b*") == ["a.mp4", "raw/keep/c.mp4"]


def test_links_inside_are_followed_once_and_links_outside_reported(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    make(root, "sub/a.mp4")
    make(outside, "b.mp4")
    (root / "sub" / "loop").symlink_to(root)
    (root / "self.mp4").symlink_to(root / "self.mp4")
    (root / "out").symlink_to(outside)
    (root / "out.mp4").symlink_to(outside / "b.mp4")
    (root / "gone.mp4").symlink_to(root / "absent.mp4")
    warnings: list[str] = []
    assert [f.path for f in discover([root], (), warnings.append)] == [root / "sub" / "a.mp4"]
    assert sum("leads out of root" in text for text in warnings) == 2
    assert sum("cannot be read" in text for text in warnings) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser can read every folder")
def test_an_unreadable_folder_is_a_warning(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "locked/b.mp4")
    (tmp_path / "locked").chmod(0)
    warnings: list[str] = []
    found = [f.path.name for f in discover([tmp_path], (), warnings.append)]
    (tmp_path / "locked").chmod(0o700)
    assert found == ["a.mp4"] and "locked" in warnings[0]


def test_a_folder_that_fails_to_list_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.mp4", "locked/b.mp4")
    real = Path.iterdir

    def iterdir(path: Path) -> Any:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    warnings: list[str] = []
    assert [f.path.name for f in discover([tmp_path], (), warnings.append)] == ["a.mp4"]
    assert warnings == [f"{tmp_path / 'locked'}: cannot be read (Permission denied); skipped"]


def test_what_does_not_exist_is_refused_before_anything_is_found(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4")
    with pytest.raises(UsageError, match="absent"):
        discover([tmp_path, tmp_path / "absent"])


def test_pipes_and_folders_with_media_names(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    warnings: list[str] = []
    assert list(discover([tmp_path, tmp_path / "pipe.mp4"], (), warnings.append)) == []
    assert "no regular file" in warnings[0]


def test_typescript_is_no_transport_stream(tmp_path: Path) -> None:
    (tmp_path / "code.ts").write_text("export const G = 1;\n" * 100)
    (tmp_path / "video.ts").write_bytes((b"G" + bytes(187)) * 10)
    assert names(tmp_path) == ["video.ts"]


def test_odd_names(tmp_path: Path) -> None:
    odd = ["a 'quoted' \"name\".mp4", "new\nline.mp4", "🎉 emoji.mp4", "-rf.mp4"]
    make(tmp_path, *odd)
    assert names(tmp_path) == sorted(odd)
