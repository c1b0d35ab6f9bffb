"""Indexes and clips that more than one integration test uses. Nothing here is faked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.faults.library import quick_encoder
from mmretrieve import Engine
from mmretrieve.config import Settings, SpeechSettings
from mmretrieve.demo import clips_folder
from tests import clips

MakeClip = Callable[..., Path]

QUIET = Settings(speech=SpeechSettings(model="off"))
"""Subtitles are read, sound is not listened to: for tests that are not about speech recognition."""


def small_clip(path: Path, seed: int, seconds: float = 2.0, said: str | None = None) -> Path:
    """A silent clip of one scene, 160 x 96; ``said`` becomes a subtitle file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clips.write_video(path, (clips.scene(i, seed, 160, 96) for i in range(int(seconds * 12))))
    if said is not None:
        subtitle(path.with_suffix(".srt"), said)
    return path


def subtitle(path: Path, said: str, start_s: int = 0, end_s: int = 2) -> Path:
    """A subtitle file of one line."""
    path.write_text(f"1\n00:00:{start_s:02},000 --> 00:00:{end_s:02},000\n{said}\n", "utf-8")
    return path


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    return small_clip


@pytest.fixture(scope="session")
def make_subtitle() -> MakeClip:
    return subtitle


@pytest.fixture(scope="session")
def quiet_settings() -> Settings:
    return QUIET


@pytest.fixture
def words_alone() -> Iterator[None]:
    """Engines of this process embed by words, at once: for tests of what an index stores."""
    with quick_encoder():
        yield


@pytest.fixture(autouse=True)
def _no_index_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMRETRIEVE_INDEX", raising=False)


@pytest.fixture(scope="session")
def demo_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the demo clips. Copy it to change it."""
    folder = tmp_path_factory.mktemp("demo") / "index"
    with Engine.create(folder) as engine:
        report = engine.index([clips_folder()])
    assert all(result.error is None for result in report.results)
    return folder


@pytest.fixture(scope="session")
def demo(demo_index: Path) -> Iterator[Engine]:
    """The opened index of the demo clips, to read from."""
    with Engine.open(demo_index) as engine:
        yield engine
