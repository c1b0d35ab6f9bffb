"""Whatever happens to a library, its index ends as if it had been made from the last state at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmretrieve import Engine
from mmretrieve.config import OcrSettings, Settings, SpeechSettings
from mmretrieve.datatypes import Modality
from mmretrieve.encoders.lite import LiteEncoder
from mmretrieve.encoders.text import RECIPE, TextEncoder
from mmretrieve.errors import IndexNotFoundError, PresetMismatchError, PruneRefusedError, UsageError
from mmretrieve.indexers.reading import Wanted
from mmretrieve.indexers.speech import SpeechReader
from mmretrieve.ingest import Ingestor
from mmretrieve.lifecycle.keys import StageKey
from mmretrieve.lifecycle.reuse import Reuse
from mmretrieve.reports import FileResult, IndexReport, Outcome, Stage
from mmretrieve.storage.records import Extraction
from tests import clips
from tests.integration.conftest import subtitle
from tests.library_content import answers, content, tokens_of

QUERIES = ("penguins in a storm", "opening hours", "a white square", "harbour")
SPEECH = Path(__file__).parents[1] / "data" / "speech_hello.flac"


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six clips: three scenes, and three pages with words on them."""
    folder = tmp_path_factory.mktemp("stock")
    out = []
    for i in range(3):
        path = folder / f"scene{i}.mp4"
        out.append(clips.write_video(path, (clips.scene(n, i, 160, 96) for n in range(12))))
        lines = [(("opening hours", "harbour tours", "lost and found")[i], 20, 20, 26)]
        pictures = [clips.page(lines, 240, 96)] * 12
        out.append(clips.write_video(folder / f"page{i}.mp4", pictures))
    return out


class _Library:
    """A folder to which random things happen."""

    def __init__(self, root: Path, stock: list[Path], seed: int) -> None:
        self.root, self.stock, self.rng = root, stock, np.random.default_rng(seed)
        root.mkdir(parents=True)
        shutil.copyfile(stock[0], root / "stays.mp4")
        self.settings = Settings(speech=SpeechSettings(model="off"), jobs=2)
        self.number = 0

    def step(self) -> str:
        """One thing; its name."""
        actions = (
            self.add, self.add, self.delete, self.rename, self.move, self.overwrite, self.copy, self.say,
            self.say, self.unsay, self.describe, self.undescribe, self.set_ocr, self.set_speech,
        )  # fmt: skip
        action = actions[int(self.rng.integers(len(actions)))]
        action()
        return action.__name__

    def one(self) -> Path | None:
        found = sorted(p for p in self.root.rglob("*.mp4") if p.name != "stays.mp4")
        return found[int(self.rng.integers(len(found)))] if found else None

    def new(self, folder: str = "") -> Path:
        self.number += 1
        path = self.root / folder / f"clip {self.number}.mp4"
        path.parent.mkdir(exist_ok=True)
        return path

    def add(self) -> None:
        shutil.copyfile(self.stock[int(self.rng.integers(len(self.stock)))], self.new())

    def delete(self) -> None:
        if (path := self.one()) is not None:
            path.unlink()

    def rename(self) -> None:
        if (path := self.one()) is not None:
            path.rename(self.new())

    def move(self) -> None:
        if (path := self.one()) is not None:
            target = self.new("elsewhere")
            path.rename(target)
            if (beside := path.with_suffix(".srt")).exists():
                beside.rename(target.with_suffix(".srt"))

    def overwrite(self) -> None:
        if (path := self.one()) is not None:
            shutil.copyfile(self.stock[int(self.rng.integers(len(self.stock)))], path)

    def copy(self) -> None:
        if (path := self.one()) is not None:
            shutil.copyfile(path, self.new("copies"))

    def say(self) -> None:
        if (path := self.one()) is not None:
            said = ("Penguins huddle against the storm.", "The ferry leaves at noon.", "Bread.")
            subtitle(path.with_suffix(".srt"), said[int(self.rng.integers(3))], 0, 1)

    def unsay(self) -> None:
        if (path := self.one()) is not None:
            path.with_suffix(".srt").unlink(missing_ok=True)

    def describe(self) -> None:
        if (path := self.one()) is not None:
            about = {"title": f"harbour view {int(self.rng.integers(9))}", "tags": ["sea"]}
            path.with_suffix(".info.json").write_text(json.dumps(about))

    def undescribe(self) -> None:
        if (path := self.one()) is not None:
            path.with_suffix(".info.json").unlink(missing_ok=True)

    def set_ocr(self) -> None:
        options = (OcrSettings(False), OcrSettings(), OcrSettings(min_confidence=0.9))
        self.settings = replace(self.settings, ocr=options[int(self.rng.integers(3))])

    def set_speech(self) -> None:
        speech = replace(self.settings.speech, enabled=not self.settings.speech.enabled)
        self.settings = replace(self.settings, speech=speech)


@pytest.mark.parametrize("seed", range(4))
def test_any_history_ends_as_indexing_from_scratch_does(
    tmp_path: Path, stock: list[Path], seed: int
) -> None:
    library = _Library(tmp_path / "library", stock, seed)
    history: list[str] = []
    for _ in range(4):
        for _ in range(4):
            history.append(library.step())
        with Engine.create(tmp_path / "index", library.settings) as engine:
            report = engine.index([library.root], prune=True)
        history.append("index")
        assert report.count(Outcome.FAILED) == 0, history
    with Engine.create(tmp_path / "scratch", library.settings) as scratch:
        scratch.index([library.root])
        wanted, said = content(scratch), answers(scratch, QUERIES)
    with Engine.open(tmp_path / "index") as engine:
        again = engine.index([library.root], prune=True)
        assert {r.outcome for r in again.results} == {Outcome.UNCHANGED}, history
        found = content(engine)
        assert found.keys() == wanted.keys(), history
        for key in wanted:
            assert found[key] == wanted[key], (history, key)
        assert answers(engine, QUERIES) == said, history


@pytest.fixture
def library(tmp_path: Path, stock: list[Path]) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copyfile(stock[0], folder / "scene.mp4")
    shutil.copyfile(stock[1], folder / "page.mp4")
    return folder


def result_of(report: IndexReport, name: str) -> FileResult:
    return next(r for r in report.results if Path(r.path).name == name)


def test_subtitles_that_come_later_leave_pictures_alone(
    tmp_path: Path, library: Path, quiet_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.create(tmp_path / "index", quiet_settings)
    engine.index([library])
    pictures = tokens_of(engine, library / "page.mp4", "frames")
    subtitle(library / "page.srt", "Penguins huddle.", 0, 1)
    monkeypatch.setattr("mmretrieve.indexers.visual.iter_visual", _never)
    report = engine.index([library])
    done = result_of(report, "page.mp4")
    assert (done.outcome, done.reason) == (Outcome.INDEXED, "files beside it changed")
    assert result_of(report, "scene.mp4").outcome is Outcome.UNCHANGED
    assert done.n_tokens[Modality.SPEECH] > 0 and done.n_tokens[Modality.OCR] > 0
    assert tokens_of(engine, library / "page.mp4", "frames") == pictures
    (library / "page.srt").unlink()
    report = engine.index([library])
    assert Modality.SPEECH not in result_of(report, "page.mp4").n_tokens


def _never(*_: object, **__: object) -> None:
    raise AssertionError("this was not to be done again")


def test_speech_is_not_listened_to_again_for_what_does_not_concern_it(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(SPEECH, library / "hello.flac")
    settings = Settings(jobs=1)
    with Engine.create(tmp_path / "index", settings) as engine:
        said = result_of(engine.index([library]), "hello.flac").n_tokens[Modality.SPEECH]
    monkeypatch.setattr(SpeechReader, "hear", _never)
    settings = replace(settings, ocr=OcrSettings(enabled=False))
    with Engine.create(tmp_path / "index", settings) as engine:
        done = result_of(engine.index([library]), "hello.flac")
        assert done.n_tokens[Modality.SPEECH] == said
        assert done.reason == "how text on screen is read changed"
        subtitle(library / "hello.srt", "Something else is said here.", 0, 1)
        engine.index([library])
        assert engine.matching(["hello.flac"])[0].sources[Modality.SPEECH] == "sidecar:hello.srt"
        (library / "hello.srt").unlink()
        engine.index([library])
        assert engine.matching(["hello.flac"])[0].sources[Modality.SPEECH] == "asr:tiny.en"


def test_text_that_is_wanted_again_does_not_embed_pictures_again(
    tmp_path: Path, library: Path, quiet_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = replace(quiet_settings, ocr=OcrSettings(enabled=False))
    with Engine.create(tmp_path / "index", without) as engine:
        engine.index([library])
        monkeypatch.setattr(type(engine._encoder), "frames", _never)
    with Engine.create(tmp_path / "index", quiet_settings) as engine:
        report = engine.index([library])
        assert result_of(report, "page.mp4").n_tokens[Modality.OCR] > 0
        assert Stage.VISUAL in result_of(report, "page.mp4").stage_s
        monkeypatch.setattr("mmretrieve.indexers.visual.iter_visual", _never)
    with Engine.create(tmp_path / "index", without) as engine:
        assert Modality.OCR not in result_of(engine.index([library]), "page.mp4").n_tokens


def test_a_dry_run_says_what_and_why_and_is_right(
    tmp_path: Path, library: Path, stock: list[Path], quiet_settings: Settings
) -> None:
    engine = Engine.create(tmp_path / "index", quiet_settings)
    engine.index([library])
    (library / "page.mp4").rename(library / "sheet.mp4")
    subtitle(library / "scene.srt", "Penguins.", 0, 1)
    shutil.copyfile(stock[2], library / "new.mp4")
    shutil.copyfile(stock[2], library / "twin.mp4")
    before = content(engine)
    dry = {
        Path(r.path).name: (r.outcome, r.reason)
        for r in engine.index([library], dry_run=True).results
    }
    assert content(engine) == before
    real = {Path(r.path).name: (r.outcome, r.reason) for r in engine.index([library]).results}
    assert dry["new.mp4"] == (Outcome.INDEXED, "new file") == real["new.mp4"]
    assert dry["scene.mp4"] == (Outcome.INDEXED, "files beside it changed") == real["scene.mp4"]
    told = f"known as {library / 'page.mp4'}"
    assert dry["sheet.mp4"] == (Outcome.MOVED, told) == real["sheet.mp4"]


def test_prune_refuses_an_empty_folder_and_does_nothing(
    tmp_path: Path, library: Path, quiet_settings: Settings
) -> None:
    engine = Engine.create(tmp_path / "index", quiet_settings)
    engine.index([library])
    kept = content(engine)
    away = library.rename(tmp_path / "unplugged")
    library.mkdir()
    for dry_run in (True, False):
        with pytest.raises(PruneRefusedError, match="is its disk mounted"):
            engine.index([library], prune=True, dry_run=dry_run)
    assert content(engine) == kept
    library.rmdir()
    away.rename(library)
    assert engine.index([library], prune=True).count(Outcome.UNCHANGED) == 2


def test_a_failed_file_is_tried_again_only_when_asked(
    tmp_path: Path, library: Path, quiet_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (library / "bad.mp4").write_bytes(b"broken" * 100)
    engine = Engine.create(tmp_path / "index", quiet_settings)
    engine.index([library])
    tried: list[Path] = []
    ingest: Callable[..., object] = Ingestor.ingest

    def counted(self: Ingestor, path: Path, *given: object, **named: object) -> object:
        tried.append(path)
        return ingest(self, path, *given, **named)

    monkeypatch.setattr(Ingestor, "ingest", counted)
    assert result_of(engine.index([library]), "bad.mp4").outcome is Outcome.SKIPPED
    assert tried == []
    again = result_of(engine.index([library], retry_failed=True), "bad.mp4")
    assert (again.outcome, again.reason) == (Outcome.FAILED, "failed before")
    assert tried == [library / "bad.mp4"]


def test_an_index_without_extractions_is_read_anew_only_where_something_changed(
    tmp_path: Path, library: Path, quiet_settings: Settings
) -> None:
    """As an older version left it."""
    engine = Engine.create(tmp_path / "index", quiet_settings)
    engine.index([library])
    shutil.rmtree(engine.folder / "lance" / "extractions.lance")
    assert engine.index([library]).count(Outcome.UNCHANGED) == 2
    subtitle(library / "page.srt", "Penguins.", 0, 1)
    report = engine.index([library])
    assert result_of(report, "page.mp4").stage_s[Stage.VISUAL] > 0
    assert result_of(report, "scene.mp4").outcome is Outcome.UNCHANGED
    assert engine.index([library]).count(Outcome.UNCHANGED) == 2


def test_stages_name_what_they_depend_on(quiet_settings: Settings) -> None:
    from mmretrieve.lifecycle.keys import stage_keys

    base = stage_keys(quiet_settings, {"text": "a"})

    def changed(settings: Settings, weights: str = "a") -> set[str]:
        other = stage_keys(settings, {"text": weights})
        return {stage for stage in base if other[stage] != base[stage]}

    s, k = quiet_settings, StageKey
    assert changed(replace(s, jobs=7)) == set()
    assert changed(replace(s, ocr=OcrSettings(min_confidence=0.9))) == {k.WRITTEN}
    assert changed(replace(s, speech=SpeechSettings(model="small"))) == {k.HEARD}
    assert changed(replace(s, speech=replace(s.speech, language="de"))) == {k.HEARD, k.BESIDE}
    fewer = replace(s, visual=replace(s.visual, analysis_fps=2.0))
    assert changed(fewer) == {k.PICTURES, k.FRAMES, k.WRITTEN}
    assert changed(s, "b") == {k.FRAMES, k.TEXT}
    assert Extraction("").keys == {}


def test_new_weights_need_no_new_reading(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index under other weights that reuses one is equal to an index made from the files."""
    shutil.copyfile(SPEECH, library / "hello.flac")
    told = (
        "The harbour opens at six in the morning every day. Then the ferries leave for the islands."
    )
    subtitle(library / "scene.srt", told, 0, 1)
    settings = Settings(jobs=1)
    with Engine.create(tmp_path / "old", settings) as engine:
        engine.index([library])
        before = content(engine)

    def lines_alone(*_: object) -> LiteEncoder:
        return LiteEncoder(text=TextEncoder(wide=0.0))

    rule = {**LiteEncoder().fingerprints(), RECIPE: "0" * 64}
    monkeypatch.setattr(LiteEncoder, "fingerprints", lambda _: rule)
    for module in ("engine", "index_facts"):
        monkeypatch.setattr(f"mmretrieve.{module}.load_encoder", lines_alone)
    with pytest.raises(PresetMismatchError, match="--reuse"):
        Engine.open(tmp_path / "old").index([library])
    with Engine.create(tmp_path / "scratch", settings) as engine:
        engine.index([library])
        wanted = content(engine)
    read: list[Wanted] = []

    def wanted_of(ingestor: Ingestor, reuse: Reuse) -> Wanted:
        read.append(decide(ingestor, reuse))
        return read[-1]

    decide = Ingestor._wanted
    monkeypatch.setattr(Ingestor, "_wanted", wanted_of)
    with Engine.create(tmp_path / "new", settings, reuse=tmp_path / "old") as engine:
        report = engine.index([library])
        assert content(engine) == wanted != before
    assert len(read) == 3
    assert not any(w.written for w in read)
    assert len([w for w in read if w.heard is not None and w.heard.segments]) == 1
    assert {r.reason for r in report.results} == {"new file; read before, for another index"}
    assert result_of(report, "page.mp4").n_tokens[Modality.OCR] > 0


def test_what_cannot_be_reused_is_refused(tmp_path: Path, library: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        Engine.create(tmp_path / "index", reuse=tmp_path)
    with Engine.create(tmp_path / "index") as engine:
        engine.index([library / "scene.mp4"])
    with pytest.raises(UsageError, match="written to"):
        Engine.create(tmp_path / "index", reuse=tmp_path / "index")
