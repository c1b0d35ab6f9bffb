"""Copies of videos are known as such, and videos that only look alike are not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mmretrieve import Engine
from mmretrieve.config import OcrSettings, Settings, SpeechSettings
from mmretrieve.datatypes import TracePoint
from mmretrieve.demo import clips_folder
from mmretrieve.errors import IndexFormatError
from mmretrieve.indexers.media import iter_frames, probe
from mmretrieve.indexers.trace import MOST_POINTS, Tracer
from mmretrieve.lifecycle.duplicates import find_pairs, groups
from mmretrieve.storage.tables import open_table
from tests import clips

MakeClip = Callable[..., Path]
_MAIN = "from mmretrieve.cli import main; main()"
FAST = Settings(speech=SpeechSettings(model="off"), ocr=OcrSettings(enabled=False))


def encoded_anew(
    source: Path, target: Path, *, scale: float = 1.0, crop: float = 0.0, start_s: float = 0.0,
    end_s: float = 1e9,
) -> Path:  # fmt: skip
    """A copy of a video: scaled, without a margin, trimmed."""
    width, height = _size(source, scale)

    def pictures() -> Iterator[np.ndarray]:
        with av.open(str(source)) as container:
            for frame in container.decode(video=0):
                if start_s <= (frame.time or 0.0) < end_s:
                    image = frame.to_image()
                    w, h = image.size
                    box = (int(w * crop), int(h * crop), int(w * (1 - crop)), int(h * (1 - crop)))
                    small = image.crop(box).resize((width, height), Image.Resampling.BILINEAR)
                    yield np.asarray(small, np.uint8)

    with av.open(str(source)) as container:
        rate = round(float(container.streams.video[0].average_rate or 25))
    return clips.write_video(target, pictures(), fps=rate, gop=50)


def _size(source: Path, scale: float) -> tuple[int, int]:
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        return 2 * int(stream.width * scale / 2), 2 * int(stream.height * scale / 2)


def trace(path: Path) -> list[TracePoint]:
    tracer = Tracer(probe(path).duration_s)
    for _ in tracer.watch(iter_frames(path, 6.0)):
        pass
    return list(tracer.take())


@pytest.fixture(scope="module")
def originals() -> list[Path]:
    found = sorted(clips_folder().glob("*.mp4"))[:4]
    assert len(found) == 4
    return found


def test_copies_of_the_demo_clips_are_found_and_nothing_else(
    tmp_path: Path, originals: list[Path]
) -> None:
    """Precision and recall over four kinds of copies of each clip."""
    made: list[tuple[str, list[TracePoint]]] = []
    for source in originals:
        length_s = probe(source).duration_s
        copies = {
            "coarse": encoded_anew(source, tmp_path / "a.mp4"),
            "small": encoded_anew(source, tmp_path / "b.mp4", scale=0.5),
            "cropped": encoded_anew(source, tmp_path / "c.mp4", crop=0.06),
            "trimmed": encoded_anew(
                source, tmp_path / "d.mp4", start_s=0.2 * length_s + 0.1, end_s=0.9 * length_s
            ),
        }
        made.append((source.stem, trace(source)))
        made += [(source.stem, trace(copy)) for copy in copies.values()]
    owner = [name for name, _ in made]
    true = {(a, b) for a, b in combinations(range(len(made)), 2) if owner[a] == owner[b]}
    found = {(p.first, p.second) for p in find_pairs([points for _, points in made])}
    assert found <= true, [(owner[a], owner[b]) for a, b in found - true]
    to_original = {(a, b) for a, b in true if a % 5 == 0}

    assert len(found & to_original) >= 0.85 * len(to_original)
    assert len(groups(find_pairs([points for _, points in made]))) == len(originals)


def test_signs_of_one_signer_are_different_videos(shared_data: Path) -> None:
    """Real clips, no two of them copies; twenty show one person before one wall."""
    files = sorted((shared_data / "videos" / "files").iterdir())
    signs = [f for f in files if f.name.startswith("intel_asl")]
    assert len(signs) == 20
    assert find_pairs([trace(f) for f in signs]) == []


def test_moments_that_look_alike_and_move_differently_are_no_copies() -> None:
    """The same scene with a square that moves at another time."""
    still = clips.scene(0, 7, 96, 72)

    def film(begins: int) -> list[TracePoint]:
        out = []
        for n in range(30):
            picture = np.array(still[:, :, 0], np.uint8)
            if begins <= n < begins + 8:
                picture[20:50, 4 * (n - begins) : 4 * (n - begins) + 30] = 255
            small = np.asarray(Image.fromarray(picture).resize((12, 9), Image.Resampling.BOX))
            out.append(TracePoint(n / 3, small.tobytes()))
        return out

    def backwards(points: list[TracePoint]) -> list[TracePoint]:
        lumas = [point.luma for point in points][::-1]
        return [TracePoint(n / 3, luma) for n, luma in enumerate(lumas)]

    assert find_pairs([film(10), backwards(film(10))]) == []
    (pair,) = find_pairs([film(10), film(12)])  # the same, two points later
    assert pair.second_span[0] - pair.first_span[0] == pytest.approx(2 / 3, abs=0.01)


def test_a_long_video_has_a_bounded_trace() -> None:
    tracer = Tracer(36_000.0)
    assert tracer._every_s * MOST_POINTS == pytest.approx(36_000)


def test_the_command_tells_of_copies_and_equal_files(tmp_path: Path, make_clip: MakeClip) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    source = sorted(clips_folder().glob("*.mp4"))[0]
    shutil.copyfile(source, videos / "one.mp4")
    shutil.copyfile(source, videos / "same bytes.mp4")
    encoded_anew(source, videos / "small.mp4", scale=0.5)
    make_clip(videos / "other.mp4", 5)
    with Engine.create(tmp_path / "index", FAST) as engine:
        engine.index([videos])
        (group,) = engine.duplicates()
    assert [Path(p).name for p in group.paths] == ["one.mp4", "same bytes.mp4", "small.mp4"]
    assert [[Path(p).name for p in paths] for paths in group.equal] == [
        ["one.mp4", "same bytes.mp4"]
    ]
    assert group.similarity > 0.9
    command = [sys.executable, "-c", _MAIN, "duplicates", "--index", str(tmp_path / "index")]
    told = subprocess.run(
        [*command, "--format", "json"], capture_output=True, text=True, check=True
    )
    (record,) = json.loads(told.stdout)["groups"]
    assert record["paths"] == list(group.paths)
    (stretch,) = record["stretches"]
    length_s = probe(source).duration_s
    assert stretch["first_span_s"][1] - stretch["first_span_s"][0] == pytest.approx(
        length_s, abs=1.5
    )


def test_an_index_from_before_there_were_traces_is_named(
    tmp_path: Path, make_clip: MakeClip
) -> None:
    with Engine.create(tmp_path / "index", FAST) as engine:
        engine.index([make_clip(tmp_path / "one.mp4", 1)])
        open_table(tmp_path / "index", "extractions").drop_columns(["trace_s", "trace"])
        with pytest.raises(IndexFormatError, match="index again into a new folder"):
            engine.duplicates()
