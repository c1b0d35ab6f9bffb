"""The clips of the demo can be read, are small, and hold what the demo queries say."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmretrieve.datatypes import COMMON
from mmretrieve.demo import QUERIES, DemoQuery, clips_folder

SIZE_BAR_BYTES = 2_500_000
MEDIA = {".mp4", ".webm"}


def media_files() -> list[Path]:
    return sorted(path for path in clips_folder().rglob("*") if path.suffix in MEDIA)


def test_clips_are_small() -> None:
    files = [path for path in clips_folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < SIZE_BAR_BYTES


def test_every_modality_is_asked_for() -> None:
    assert {query.modality for query in QUERIES} == set(COMMON)


@pytest.mark.parametrize("path", media_files(), ids=lambda path: path.name)
def test_clip_decodes_to_its_end(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        duration_s = (container.duration or 0) / 1_000_000
        last_s = max(frame.time or 0.0 for frame in container.decode(video=0))
    assert 6 <= duration_s <= 45
    assert last_s == pytest.approx(duration_s, abs=0.35)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.text)
def test_answer_lies_inside_its_file(query: DemoQuery) -> None:
    import av

    path = clips_folder() / query.file
    assert path in media_files()
    if query.window_s is not None:
        with av.open(str(path)) as container:
            duration_s = (container.duration or 0) / 1_000_000
        assert 0 <= query.window_s[0] < query.window_s[1] <= duration_s + 0.1
