"""Bad files, bad folders, bad questions: nothing stops a run, everything is told by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from mmretrieve import Engine
from mmretrieve.config import OcrSettings, Settings
from mmretrieve.datatypes import Filter, GroupBy, Modality
from mmretrieve.errors import (
    IndexFormatError,
    IndexNotFoundError,
    MissingExtraError,
    MmretrieveError,
    PresetMismatchError,
    UsageError,
)
from mmretrieve.reports import FileResult, IndexReport, Outcome
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.search.filters import parse_condition
from mmretrieve.storage.atomic import sealed_json, unsealed
from tests import clips

ODD_NAME = 'it\'s "odd"\nand 🎈 (1).mp4'
IS_ROOT = os.geteuid() == 0
SPOKEN = Path(__file__).parents[1] / "data" / "speech_hello.flac"

FAILS = {
    "cut_off.mp4": "cannot be opened as media",
    "empty.mp4": "empty (0 bytes)",
    "text.mp4": "cannot be opened as media",
    "no_pictures.mp4": "not one frame could be decoded",
}
"""File -> part of the message."""


@dataclass(frozen=True)
class Library:
    videos: Path
    index: Path
    report: IndexReport

    def result(self, name: str) -> FileResult:
        return next(r for r in self.report.results if Path(r.path).name == name)


def _write_sound(path: Path, seconds: float) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        wave = (0.3 * np.sin(np.arange(int(seconds * 16_000)) * 0.2)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _no_pictures(whole: bytes) -> bytes:
    """All picture data overwritten, the index of the file left alone."""
    start = whole.index(b"mdat") + 4
    end = whole.index(b"moov") - 4
    return whole[:start] + b"\xff" * (end - start) + whole[end:]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, make_clip: Callable[..., Path]) -> Library:
    folder = tmp_path_factory.mktemp("bad")
    videos = folder / "videos"
    good = make_clip(videos / "good.mp4", 1, said="The ferry leaves the harbour at dawn.")
    whole = good.read_bytes()
    (videos / "cut_off.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "empty.mp4").touch()
    (videos / "text.mp4").write_text("This is a letter and no video.\n" * 50, "utf-8")
    (videos / "no_pictures.mp4").write_bytes(_no_pictures(whole))
    _write_sound(videos / "sound.mp4", 2.0)
    (videos / "spoken.flac").write_bytes(SPOKEN.read_bytes())
    long = make_clip(videos / "damaged_end.mkv", 2, seconds=6)
    long.write_bytes(long.read_bytes()[: long.stat().st_size // 2])
    clips.write_video(videos / "one_frame.mp4", [clips.scene(0, 3, 160, 96)])
    clips.write_video(videos / "tiny.mkv", [np.full((4, 4, 3), i, np.uint8) for i in range(12)])
    huge = np.kron(clips.scene(0, 4, 64, 64), np.ones((128, 128, 1), np.uint8))
    clips.write_video(videos / "huge.mkv", [huge])
    make_clip(videos / "bad_subtitle.mp4", 5)
    (videos / "bad_subtitle.srt").write_bytes(b"no times in here\n" * 20)
    make_clip(videos / "binary_subtitle.mp4", 6)
    (videos / "binary_subtitle.srt").write_bytes(bytes(range(256)) * 20)
    make_clip(videos / "western.mp4", 7)
    (videos / "western.srt").write_bytes(
        "1\n00:00:00,000 --> 00:00:02,000\nLe café près de la forêt était fermé\n".encode("cp1252")
    )
    make_clip(videos / "wide.mp4", 8)
    (videos / "wide.srt").write_bytes(
        "1\n00:00:00,000 --> 00:00:02,000\nThe lighthouse keeper naïvely waited\n".encode("utf-16")
    )
    make_clip(videos / "bad_info.mp4", 9)
    (videos / "bad_info.info.json").write_text('{"title": "half a', "utf-8")
    make_clip(videos / "lone_surrogate.mp4", 10)
    (videos / "lone_surrogate.info.json").write_text(
        '{"title": "Penguins \\ud83d dancing", "tags": ["ice\\udc00"], "channel": "\\ud800"}',
        "utf-8",
    )
    make_clip(videos / ODD_NAME, 11)
    (videos / "loop_a.mp4").symlink_to(videos / "loop_b.mp4")
    (videos / "loop_b.mp4").symlink_to(videos / "loop_a.mp4")
    (videos / "again").symlink_to(videos, target_is_directory=True)
    if not IS_ROOT:
        make_clip(videos / "locked.mp4", 12).chmod(0)
    with Engine.create(folder / "index") as engine:
        report = engine.index([videos])
    return Library(videos, folder / "index", report)


@pytest.fixture
def engine(library: Library) -> Engine:
    return Engine.open(library.index)


def test_bad_files_fail_by_name_with_a_reason(library: Library) -> None:
    failed = {Path(r.path).name: r.error for r in library.report.results if r.error is not None}
    expected = {**FAILS} if IS_ROOT else {**FAILS, "locked.mp4": "cannot be read"}
    assert set(failed) == set(expected)
    for name, part in expected.items():
        assert part in failed[name], failed[name]
        assert name in failed[name]
    assert not library.report.interrupted


def test_all_others_are_indexed(library: Library) -> None:
    indexed = {Path(r.path).name for r in library.report.results if r.outcome is Outcome.INDEXED}
    assert indexed == {
        "good.mp4", "sound.mp4", "spoken.flac", "damaged_end.mkv", "one_frame.mp4", "tiny.mkv",
        "huge.mkv", "bad_subtitle.mp4", "binary_subtitle.mp4", "western.mp4", "wide.mp4",
        "bad_info.mp4", "lone_surrogate.mp4", ODD_NAME,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("damaged_end.mkv", "cut short"),
        ("bad_subtitle.mp4", "bad_subtitle.srt: holds no timed lines"),
        ("binary_subtitle.mp4", "binary_subtitle.srt"),
        ("bad_info.mp4", "bad_info.info.json"),
    ],
)
def test_what_is_half_bad_is_indexed_with_a_warning(
    library: Library, engine: Engine, name: str, told: str
) -> None:
    assert any(told in warning for warning in library.result(name).warnings)
    stored = next(v for v in engine.videos() if Path(v.path).name == name)
    assert stored.warnings == library.result(name).warnings


def test_good_files_have_no_warnings(library: Library) -> None:
    for name in ("good.mp4", "western.mp4", "wide.mp4", "one_frame.mp4", "tiny.mkv", ODD_NAME):
        assert library.result(name).warnings == (), name


def test_links_in_circles_are_told_and_followed_once(library: Library) -> None:
    told = " ".join(library.report.warnings)
    assert "loop_a.mp4" in told and "loop_b.mp4" in told
    assert not [r for r in library.report.results if "/again/" in r.path]


def test_every_indexed_video_can_be_found(library: Library, engine: Engine) -> None:
    for video in engine.videos():
        glob = Filter(video_glob=video.video_id)
        found = engine.search("harbour", filter=glob, group_by=GroupBy.VIDEO, thumbnails=True)
        assert [hit.video.path for hit in found.hits] == [video.path]
        has_pictures = Path(video.path).name not in ("sound.mp4", "spoken.flac")
        assert (found.hits[0].thumbnail is not None) == has_pictures, video.path


@pytest.mark.parametrize(
    ("query", "name", "modality"),
    [
        ("ferry leaving the harbour", "good.mp4", Modality.SPEECH),
        ("lighthouse keeper", "wide.mp4", Modality.SPEECH),
        ("café près de la forêt", "western.mp4", Modality.SPEECH),
        ("penguins dancing", "lone_surrogate.mp4", Modality.METADATA),
    ],
)
def test_what_was_read_is_right(engine: Engine, query: str, name: str, modality: Modality) -> None:
    hit = engine.search(query, k=1).hits[0]
    assert Path(hit.video.path).name == name
    assert max(hit.evidence, key=lambda e: e.contribution).modality is modality
    if name == "western.mp4":
        assert any("café près de la forêt" in e.text for e in hit.evidence)


def test_failures_are_kept_and_tried_again_only_when_asked(
    library: Library, engine: Engine
) -> None:
    expected = {*FAILS} if IS_ROOT else {*FAILS, "locked.mp4"}
    assert {Path(f.path).name for f in engine.info().failures} == expected
    again = engine.index([library.videos])
    assert again.count(Outcome.SKIPPED) == len(expected)
    assert again.count(Outcome.UNCHANGED) == len(again.results) - len(expected)
    assert all(r.error for r in again.results if r.outcome is Outcome.SKIPPED)
    tried = engine.index([library.videos], retry_failed=True)
    assert {Path(r.path).name for r in tried.results if r.outcome is Outcome.FAILED} == expected
    assert tried.count(Outcome.INDEXED) == 0


def test_a_name_that_is_no_unicode_is_told_and_stops_nothing(
    tmp_path: Path, make_clip: Callable[..., Path], quiet_settings: Settings
) -> None:
    make_clip(tmp_path / "v" / "a.mp4", 1)
    odd = tmp_path / "v" / os.fsdecode(b"caf\xe9.mp4")
    try:
        make_clip(tmp_path / "v" / "b.mp4", 2).rename(odd)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    engine = Engine.create(tmp_path / "ix", quiet_settings)
    report = engine.index([tmp_path / "v"])
    assert [Path(v.path).name for v in engine.videos()] == ["a.mp4"]
    failed = next(r for r in report.results if r.outcome is Outcome.FAILED)
    assert "UTF-8" in (failed.error or "")
    failed.path.encode()  # can be printed and stored


def test_an_empty_folder_is_an_empty_index(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with Engine.create(tmp_path / "ix") as engine:
        assert engine.search("before anything was indexed").hits == ()
        report = engine.index([tmp_path / "nothing"])
        assert report.results == ()
        result = engine.search("anything at all")
        assert (result.hits, result.no_good_match) == ((), True)
        assert engine.search("anything", group_by=GroupBy.VIDEO).hits == ()
        assert engine.videos() == ()
        assert engine.info().n_videos == 0
        with pytest.raises(UsageError, match="no video"):
            engine.explain("anything", "a.mp4")


def test_an_index_whose_videos_were_all_removed_answers(
    tmp_path: Path, make_clip: Callable[..., Path], quiet_settings: Settings
) -> None:
    make_clip(tmp_path / "v" / "a.mp4", 1)
    with Engine.create(tmp_path / "ix", quiet_settings) as engine:
        engine.index([tmp_path / "v"])
        assert len(engine.remove(["a.mp4"])) == 1
        result = engine.search("a", group_by=GroupBy.VIDEO, filter=Filter(phrase="a"))
        assert (result.hits, result.no_good_match) == ((), True)
        assert engine.info().n_passages == 0


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with Engine.create(tmp_path / "ix") as engine, pytest.raises(UsageError, match="nowhere"):
        engine.index([tmp_path / "nowhere"])


def test_an_index_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(IndexFormatError, match="is a file"):
        Engine.create(tmp_path / "file")
    with pytest.raises(IndexNotFoundError, match="no index"):
        Engine.open(tmp_path / "file")


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x", "utf-8")
    with pytest.raises(IndexFormatError, match="no index"):
        Engine.create(tmp_path)
    with pytest.raises(IndexNotFoundError, match="no index"):
        Engine.open(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def _empty_index(folder: Path) -> Path:
    folder.parent.joinpath("nothing").mkdir(exist_ok=True)
    Engine.create(folder).index([folder.parent / "nothing"])
    return folder


def _manifest(folder: Path, **changes: object) -> Path:
    _empty_index(folder)
    path = folder / "manifest.json"
    changed = {**unsealed(json.loads(path.read_text("utf-8"))), **changes}
    path.write_text(sealed_json(changed), "utf-8")
    return folder


@pytest.mark.parametrize("use", [Engine.open, Engine.create], ids=["open", "create"])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format_version": 99}, "pip install -U"),
        ({"format_version": "new"}, "not written by mmretrieve"),
        ({"program": "other"}, "not written by mmretrieve"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_manifest_of_something_else(
    tmp_path: Path, use: Callable[[Path], Engine], changes: dict[str, object], told: str
) -> None:
    folder = _manifest(tmp_path / "ix", **changes)
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(IndexFormatError, match=told):
        use(folder)
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"7", b'"a"', b"\xff\xfe\x00", b"{}"]
)
def test_a_damaged_manifest(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    for use in (Engine.open, Engine.create):
        with pytest.raises(IndexFormatError, match=r"manifest\.json"):
            use(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == content


def test_another_preset_is_refused(tmp_path: Path) -> None:
    _empty_index(tmp_path / "ix")
    with pytest.raises(PresetMismatchError, match="clip"):
        Engine.create(tmp_path / "ix", Settings(preset="clip"))
    with pytest.raises(MissingExtraError):
        Engine.create(tmp_path / "new", Settings(preset="clip"))
    assert not (tmp_path / "new").exists()


def test_other_weights_are_refused_whatever_the_settings(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    weights = dict.fromkeys(Engine.open(_empty_index(folder)).info().encoders, "0" * 64)
    _manifest(folder, encoders=weights)
    for settings in (None, Settings(ocr=OcrSettings(enabled=False))):
        engine = Engine.create(folder, settings)
        with pytest.raises(PresetMismatchError, match="other weights"):
            engine.search("anything")
        with pytest.raises(PresetMismatchError, match="other weights"):
            engine.index([tmp_path])


@pytest.mark.parametrize(
    "query",
    ["", "   \n\t", "\0", "🎈🎈🎈", "!?...", "\u200b", "\ud800", "x" * 100_000],
    ids=range(8),
)
def test_a_query_without_words_is_told(engine: Engine, query: str) -> None:
    with pytest.raises(UsageError, match="query"):
        engine.search(query)


@pytest.mark.parametrize(
    "query",
    [
        "harbour " * 10_000,
        "🎈 harbour",
        "港にいるフェリー",
        "!" * 400 + " harbour" + "?" * 5000,
        "🎈 " * 400 + "harbour" + " 🎈" * 3000,
        "harbour\0ferry",
        "'; DROP TABLE videos; --",
        "[CLS] [SEP] harbour",
    ],
    ids=lambda q: q[:12].encode("unicode_escape").decode(),
)
def test_any_other_query_is_answered(engine: Engine, query: str) -> None:
    result = engine.search(query, k=3)
    for hit in result.hits:
        assert sum(e.contribution for e in hit.evidence) == pytest.approx(hit.score, abs=1e-4)
        assert np.isfinite(hit.score)


@pytest.mark.parametrize("k", [0, -1, 10**9])
def test_k_out_of_range(engine: Engine, k: int) -> None:
    with pytest.raises(UsageError, match=f"k={k}"):
        engine.search("harbour", k=k)


def test_k_beyond_the_corpus_gives_all(engine: Engine) -> None:
    n_videos = len(engine.videos())
    assert len(engine.search("harbour", k=10_000, group_by=GroupBy.VIDEO).hits) == n_videos
    assert len(engine.search("harbour", k=10_000).hits) >= n_videos


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_that_are_no_weights(weight: float) -> None:
    with pytest.raises(UsageError, match="weight"):
        Scoring(weights={Modality.SPEECH: weight})
    with pytest.raises(UsageError, match="all modality weights"):
        Scoring(weights=dict.fromkeys(Modality, 0.0))


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(video_glob="*.nothing"),
        Filter(video_glob="[!"),
        Filter(where=(("duration_s>", "100000"),)),
        Filter(where=(("no_such_field=", "x"),)),
        Filter(where=(("duration_s<", "soon"),)),
        Filter(where=(("title", "no such title"),)),
        Filter(phrase="words that nobody said"),
        Filter(phrase=".* (harbour|ferry) [a-z]+ \\w ("),
        Filter(from_s=50_000.0, modalities=(Modality.SPEECH,)),
        Filter(video_glob="huge.mkv", modalities=(Modality.SPEECH,)),
    ],
    ids=range(10),
)
def test_a_filter_that_keeps_nothing(engine: Engine, wanted: Filter) -> None:
    for group_by in GroupBy:
        result = engine.search("harbour", filter=wanted, group_by=group_by)
        assert (result.hits, result.no_good_match) == ((), True)
        assert (result.n_videos_searched, result.n_tokens_searched) == (0, 0)


def test_filters_that_cannot_be_used(engine: Engine) -> None:
    for wanted in (
        Filter(from_s=20.0, to_s=10.0),
        Filter(from_s=float("nan")),
        Filter(phrase="  "),
        Filter(modalities=()),
        Filter(where=(("title=>", "x"),)),
    ):
        with pytest.raises(UsageError):
            engine.search("harbour", filter=wanted)
    for text in ("garbage", "", "=", "= 5", "a b = c", "title", ";DROP TABLE videos"):
        with pytest.raises(UsageError, match="condition"):
            parse_condition(text)


def test_unknown_names_are_refused_and_nothing_is_removed(engine: Engine) -> None:
    n_videos = len(engine.videos())
    with pytest.raises(UsageError, match=r"nowhere\.mp4"):
        engine.remove(["good.mp4", "nowhere.mp4"])
    with pytest.raises(UsageError, match="fits"):
        engine.explain("harbour", "*.mp4")
    with pytest.raises(UsageError, match="no indexed passage"):
        engine.explain("harbour", "good.mp4", at_s=500.0)
    assert len(engine.videos()) == n_videos


def test_an_odd_name_is_shown_and_removed_as_it_is(
    tmp_path: Path, make_clip: Callable[..., Path], quiet_settings: Settings
) -> None:
    path = make_clip(tmp_path / "v" / ODD_NAME, 1)
    make_clip(tmp_path / "v" / "other.mp4", 2)
    with Engine.create(tmp_path / "odd #1 %20 é 'ix'", quiet_settings) as engine:
        engine.index([tmp_path / "v"])
        assert str(path) in [v.path for v in engine.videos()]
        assert engine.explain("odd", str(path)).video.path == str(path)
        assert [v.path for v in engine.remove([str(path)])] == [str(path)]
        assert [Path(v.path).name for v in engine.videos()] == ["other.mp4"]


def test_every_error_is_one_of_ours() -> None:
    for kind in (UsageError, IndexFormatError, PresetMismatchError):
        assert issubclass(kind, MmretrieveError)
