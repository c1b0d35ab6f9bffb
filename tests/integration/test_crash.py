"""Power cuts and Ctrl-C: whatever the moment, the next run ends where an undisturbed one ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import lance
import pytest

from mmretrieve import Engine
from mmretrieve.config import Settings
from mmretrieve.datatypes import Hit
from mmretrieve.reports import Outcome

MakeClip = Callable[..., Path]
Tokens = dict[tuple[str, str, int], tuple[str, bytes]]

SAID = (
    "The baker kneads the dough before sunrise.",
    "Penguins huddle together against the storm.",
    "The orchestra tunes before the overture.",
    "A ferry leaves the harbour at dawn.",
    "Bees carry pollen between the apple trees.",
)
ASKED = ("baking bread", "penguins in a storm", "musicians in an orchestra", "boat in a harbour")
N_KILLS = 6

RUN = """
import sys
from dataclasses import replace
from pathlib import Path
import lancedb  # takes long, and is not what is to be killed
import mmretrieve.indexing
from mmretrieve import Engine
from mmretrieve.config import Settings, SpeechSettings

def tell(progress):
    if progress.result is not None:
        print(progress.n_done, flush=True)

mmretrieve.indexing.BATCH_FILES = int(sys.argv[3])
settings = Settings(speech=SpeechSettings(model="off"), jobs=1)
with Engine.create(Path(sys.argv[2]), settings) as engine:
    print("ready", flush=True)
    report = engine.index([Path(sys.argv[1])], on_progress=tell)
print("interrupted" if report.interrupted else "complete", flush=True)
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    folder = tmp_path_factory.mktemp("crash") / "videos"
    for seed, said in enumerate(SAID):
        make_clip(folder / f"{seed}.mp4", seed, said=said)
    return folder


def start(videos: Path, index: Path, batch_files: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(videos), str(index), str(batch_files)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def undisturbed(videos: Path) -> Path:
    """The index of a run that nothing stopped."""
    index = videos.with_name("undisturbed")
    with start(videos, index) as process:
        out, err = process.communicate()
        assert out.endswith("complete\n"), err
    return index


def tokens(index: Path) -> Tokens:
    """(video, modality, passage) -> text and float16 bytes of the tokens."""
    table = lance.dataset(str(index / "lance" / "passages.lance")).to_table()
    flat = table["vectors"].combine_chunks()
    found: Tokens = {}
    for i, row in enumerate(table.drop_columns(["vectors"]).to_pylist()):
        key = (row["video_id"], row["modality"], row["passage"])
        assert key not in found, "a passage is there twice"
        found[key] = (row["text"], flat[i].values.flatten().to_numpy(False).tobytes())
    return found


def answers(index: Path) -> list[tuple[Hit, ...]]:
    with Engine.open(index) as engine:
        return [engine.search(query, thumbnails=True).hits for query in ASKED]


def test_kills_leave_no_trace(videos: Path, undisturbed: Path, tmp_path: Path) -> None:
    whole = undisturbed
    rng, index = random.Random(20), tmp_path / "index"
    n_killed = 0
    for attempt in range(N_KILLS):
        with start(videos, index) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            if attempt % 2:
                process.stdout.readline()  # the first file is committed
            time.sleep(rng.uniform(0.0, 0.2))
            process.kill()
            n_killed += process.wait() == -signal.SIGKILL
        if (index / "manifest.json").exists():
            # Whatever there is can be searched, and holds whole videos only.
            with Engine.open(index) as engine:
                engine.search(ASKED[0])
                expected = {key[0] for key in tokens(whole)}
                assert {v.video_id for v in engine.videos()} <= expected
    assert n_killed >= 3
    with start(videos, index) as process:
        out, err = process.communicate()
        assert out.endswith("complete\n"), err
    assert tokens(index) == tokens(whole)
    assert answers(index) == answers(whole)
    with Engine.open(index) as engine:
        assert engine.index([videos]).count(Outcome.UNCHANGED) == len(SAID)
    assert not list(index.glob("*.new")), "a half-written manifest was left"


def test_kills_of_the_very_first_run_are_survived(videos: Path, tmp_path: Path) -> None:
    """The tables are being made in the first moments."""
    rng = random.Random(21)
    for attempt in range(3):
        index = tmp_path / str(attempt)
        with start(videos, index) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            end = time.monotonic() + 60
            while not (index / "lance").exists() and time.monotonic() < end:
                time.sleep(0.0005)
            time.sleep(rng.uniform(0.0, 0.03))
            process.kill()
            process.wait()
        with Engine.open(index) as engine:
            assert engine.search("anything").hits == ()
            report = engine.index([videos / "0.mp4"])
            assert report.count(Outcome.INDEXED) == 1
            assert len(engine.videos()) == 1


def test_tables_that_were_only_begun_are_no_hindrance(
    videos: Path, tmp_path: Path, quiet_settings: Settings
) -> None:
    index = tmp_path / "index"
    (tmp_path / "nothing").mkdir()
    Engine.create(index, quiet_settings).index([tmp_path / "nothing"])
    for name in ("videos", "files", "passages"):
        (index / "lance" / f"{name}.lance" / "_transactions").mkdir(parents=True)
        with Engine.open(index) as engine:
            assert engine.search("anything").hits == ()
    with Engine.open(index) as engine:
        assert engine.index([videos / "0.mp4"]).count(Outcome.INDEXED) == 1


def test_ctrl_c_keeps_what_is_done(videos: Path, undisturbed: Path, tmp_path: Path) -> None:
    whole = undisturbed
    index = tmp_path / "index"
    with start(videos, index, batch_files=100) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "2\n":
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate()
        assert out.endswith("interrupted\n"), (out, err)
        assert process.returncode == 0
    with Engine.open(index) as engine:
        kept = {v.video_id for v in engine.videos()}
        assert 2 <= len(kept) < len(SAID)
        everything = tokens(whole)
        assert tokens(index) == {k: v for k, v in everything.items() if k[0] in kept}
        report = engine.index([videos])
        assert report.count(Outcome.UNCHANGED) == len(kept)
        assert report.count(Outcome.INDEXED) == len(SAID) - len(kept)
    assert tokens(index) == everything
    assert answers(index) == answers(whole)


def test_ctrl_c_on_the_command_line_is_exit_code_130(
    tmp_path: Path, make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path / "v"
    for seed in range(8):
        make_clip(folder / f"{seed}.mp4", seed, seconds=6)
    command = [sys.executable, "-m", "mmretrieve.cli", "index", str(folder), "--jobs", "1"]
    command += ["--asr", "off", "--index", str(tmp_path / "ix")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        end = time.monotonic() + 60
        while not (tmp_path / "ix" / "lance" / "videos.lance").exists():
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    # CPython itself ends by the signal when it struck inside an import that execs a string (as
    # dataclasses do), caught or not; a shell shows 130 for either.
    assert process.returncode in (130, -signal.SIGINT), (out, err)
    assert "interrupted" in err and "Traceback" not in err
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    with Engine.open(tmp_path / "ix") as engine:
        assert len(engine.videos()) == 8
