"""Files made to attack: none is waited for, none leads out of the library, none steers a terminal, and
none ends a run or outlives it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mmretrieve import Engine
from mmretrieve.cli.app import app
from mmretrieve.config import LimitSettings, OcrSettings, Settings, SpeechSettings
from mmretrieve.documents import Picture
from mmretrieve.errors import InputError, MediaError, SidecarError
from mmretrieve.indexers.containers import DEMUXERS, open_media
from mmretrieve.indexers.discover import discover
from mmretrieve.indexers.media import probe
from mmretrieve.indexers.sidecars import find_sidecars
from mmretrieve.indexers.subtitles import read_text
from mmretrieve.reports import Outcome
from tests import clips

MakeClip = Callable[..., Path]
QUIET = Settings(speech=SpeechSettings(model="off"), ocr=OcrSettings(enabled=False))

STEERING = "\x1b[31m\x1b]8;;http://evil\x07[bold]x[/bold]\x9b2J\u202egpj.exe\r\nnext =1+1"
"""Colours, a link, Rich markup, a C1 control, a change of direction, a new line, a formula."""


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return clips.write_video(tmp_path / "a.mp4", (clips.scene(i, 1, 160, 96) for i in range(24)))


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile '{path}'\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
    "hls over http": "#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
    "<Period><AdaptationSet><Representation><BaseURL>{path}</BaseURL></Representation>"
    "</AdaptationSet></Period></MPD>",
    "terminal art": "\x1b[31mtext that FFmpeg would play\n" * 40,
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".txt", ".ts"])
def test_play_lists_are_not_followed(media: Path, kind: str, suffix: str) -> None:
    path = media.with_name(f"list{suffix}")
    path.write_text(PLAYLISTS[kind].format(path=media), encoding="utf-8")
    with pytest.raises(MediaError, match=f"list\\{suffix}: cannot be opened as media"):
        probe(path)


def test_every_container_that_is_read_is_known_to_this_ffmpeg() -> None:
    unknown = []
    for name in DEMUXERS.split(","):
        try:
            av.format.ContainerFormat(name, "r")
        except ValueError:
            unknown.append(name)
    assert not set(unknown) - {"f4v", "matroska", "webm"}  # names of part of a reader
    lists = {
        "hls",
        "dash",
        "concat",
        "concatf",
        "imf",
        "sdp",
        "rtp",
        "rtsp",
        "image2",
        "lavfi",
        "tty",
    }
    assert not lists & set(DEMUXERS.split(","))


def test_a_name_that_looks_like_an_address_is_a_file(media: Path) -> None:
    odd = media.with_name("concat:x|http:")
    odd.mkdir()
    path = media.rename(odd / "pipe:0.mp4")
    with open_media(path) as container:
        assert container.streams.video[0].width == 160


@pytest.fixture
def no_files(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Things in a folder that can be opened and never end, or may not be opened at all."""
    fifo, link, door = tmp_path / "fifo", tmp_path / "device", tmp_path / "socket"
    os.mkfifo(fifo)
    link.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(door))
        yield {"fifo": fifo, "device": link, "socket": door}


@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
def test_what_is_no_file_is_never_waited_for(no_files: dict[str, Path], kind: str) -> None:
    path = no_files[kind]
    with pytest.raises(MediaError, match=kind):
        probe(path)
    with pytest.raises(SidecarError, match=kind):
        read_text(path)
    with pytest.raises(InputError, match="cannot be read"):
        Picture(path).pixels()
    for suffix in (".srt", ".info.json", ".txt"):
        path.rename(path.with_name(f"talk{suffix}"))
        assert find_sidecars(path.with_name("talk.mp4")).paths == ()
        path.with_name(f"talk{suffix}").rename(path)
    path.rename(path.with_name("talk.ts"))
    assert list(discover([path.parent])) == []


def test_a_sidecar_that_becomes_a_link_out_of_its_folder_is_not_read(tmp_path: Path) -> None:
    secret, library = tmp_path / "secret.txt", tmp_path / "library"
    secret.write_text("a secret", encoding="utf-8")
    library.mkdir()
    beside = library / "talk.txt"
    beside.write_text("fine", encoding="utf-8")
    assert find_sidecars(library / "talk.mp4").texts == (beside,)
    beside.unlink()
    beside.symlink_to(secret)  # after it was looked at
    with pytest.raises(SidecarError, match="out of the folder"):
        read_text(beside)
    assert find_sidecars(library / "talk.mp4").paths == ()


def test_pictures_of_absurd_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vast.png"
    Image.new("1", (9_000, 9_000)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match=r"9000 x 9000 is above the limit"):
        Picture(path).pixels()


def test_formats_that_start_programs_are_no_pictures(tmp_path: Path) -> None:
    path = tmp_path / "page.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(InputError, match="cannot be read"):
        Picture(path).pixels()


def test_a_claim_of_years_counts_for_nothing(media: Path) -> None:
    data = media.read_bytes()
    for box in (b"mvhd", b"tkhd", b"mdhd"):
        at = data.index(box) + {b"mvhd": 20, b"tkhd": 24, b"mdhd": 20}[box]
        data = data[:at] + b"\x7f\xff\xff\xff" + data[at + 4 :]
    media.write_bytes(data)
    assert probe(media).duration_s < 100 * 86_400
    with Engine.create(media.with_name("index"), QUIET) as engine:
        (result,) = engine.index([media]).results
        assert result.outcome is Outcome.INDEXED
        assert engine.search("blocks of colour").hits


def test_a_bad_file_among_good_ones_fails_alone_and_can_be_tried_again(
    tmp_path: Path, make_clip: MakeClip
) -> None:
    videos, index = tmp_path / "videos", tmp_path / "index"
    for seed in range(2):
        make_clip(videos / f"{seed}.mp4", seed)
    with av.open(str(videos / "vast.mkv"), "w") as container:
        stream = container.add_stream("mjpeg", rate=2)
        stream.width, stream.height, stream.pix_fmt = 9_000, 8_000, "yuvj420p"
        for at in range(3):
            frame = av.VideoFrame(9_000, 8_000, "yuvj420p")
            for plane in frame.planes:
                plane.update(bytes([at * 60]) * plane.buffer_size)
            frame.pts = at
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    tight = replace(QUIET, limits=LimitSettings(memory_mb=500))
    with Engine.create(index, tight) as engine:
        report = engine.index([videos])
        outcomes = {Path(r.path).name: r for r in report.results}
        assert outcomes["vast.mkv"].outcome is Outcome.FAILED
        assert "more than 500 MB of memory" in (outcomes["vast.mkv"].error or "")
        assert report.count(Outcome.INDEXED) == 2 and len(engine.videos()) == 2
        assert len(engine.info().failures) == 1
        again = engine.index([videos])
        assert again.count(Outcome.SKIPPED) == 1 and again.count(Outcome.UNCHANGED) == 2
    with Engine.create(index, replace(QUIET, limits=LimitSettings(memory_mb=3_000))) as engine:
        assert engine.index([videos], retry_failed=True).count(Outcome.INDEXED) == 1
        assert len(engine.videos()) == 3 and not engine.info().failures


def test_a_script_needs_no_guard(tmp_path: Path, make_clip: MakeClip) -> None:
    make_clip(tmp_path / "videos" / "a.mp4", 1)
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from mmretrieve import Engine\n"
        "from mmretrieve.config import Settings, SpeechSettings\n"
        "print('once')\n"
        f"with Engine.create(Path({str(tmp_path / 'index')!r})) as engine:\n"
        f"    print(len(engine.index([Path({str(tmp_path / 'videos')!r})]).results))\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "once\n1\n"


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                status = (entry / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
                if int(status[1]) == pid and status[0] != "Z":
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


def _is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_worker_outlives_the_run(
    tmp_path: Path, make_clip: MakeClip, sent: signal.Signals
) -> None:
    make_clip(tmp_path / "videos" / "long.mp4", 1, seconds=60)
    # As in a terminal: a shell without one has its children ignore Ctrl-C.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from mmretrieve.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "index", str(tmp_path / "videos"), "--jobs", "1"]
    command += ["--asr", "off", "--index", str(tmp_path / "index")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while not (workers := _children(run.pid)):
            assert run.poll() is None
            time.sleep(0.02)
        run.send_signal(sent)
        run.wait()
    while any(_is_there(pid) for pid in workers):
        time.sleep(0.02)


def _harmless(text: str) -> bool:
    kinds = {unicodedata.category(sign) for sign in text if sign != "\n"}
    return not kinds & {"Cc", "Cs"} and "\u202e" not in text


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    """An index of a video that has steering text wherever a stranger can write."""
    folder = tmp_path_factory.mktemp("strange")
    name = STEERING.replace("/", "_").replace("http:__", "h")
    video = make_clip(folder / "videos" / f"{name}.mp4", 1, said=f"penguins {STEERING} in a storm")
    info = {"title": STEERING, "description": STEERING, "channel": STEERING, "tags": [STEERING]}
    video.with_suffix(".info.json").write_text(json.dumps(info), encoding="utf-8")
    (folder / "videos" / f"{name} broken.mp4").write_bytes(b"no video")
    (folder / "quiet.toml").write_text('[speech]\nmodel = "off"\n', encoding="utf-8")
    return folder


def _index(folder: Path) -> tuple[str, str]:
    where = ["--index", str(folder / "index"), "--settings", str(folder / "quiet.toml")]
    return _said("index", str(folder / "videos"), "--force", "--format", "json", *where)


FORMATS = ("table", "json", "ndjson", "csv", "paths")


def _said(*arguments: str) -> tuple[str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.stdout, done.stderr


def test_indexing_says_nothing_that_steers(strange: Path) -> None:
    out, err = _index(strange)
    assert "1 indexed" in err and "1 failed" in err
    assert _harmless(out) and _harmless(err)


@pytest.mark.parametrize("chosen", FORMATS)
def test_answers_say_nothing_that_steers(strange: Path, chosen: str) -> None:
    index = str(strange / "index")
    if not Path(index).exists():
        _index(strange)
    for verb in (["query", "penguins in a storm"], ["ls"]):
        out, err = _said(*verb, "--index", index, "--format", chosen)
        if chosen == "paths":
            # A line is a path: one with a line break would be two.
            assert out == "" and "left out" in err
        else:
            assert "bold" in out or "gpj" in out
        assert _harmless(out) and _harmless(err), (verb, chosen)
        if chosen == "csv":
            for row in csv.reader(io.StringIO(out)):
                assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in row)
        if chosen == "ndjson":
            records = [json.loads(line) for line in out.splitlines()]
            name = "path" if verb == ["ls"] else "video"
            assert all("\u202e" in json.dumps(r[name], ensure_ascii=False) for r in records)


def test_frames_that_are_no_numbers_are_no_tokens() -> None:
    picture = Picture(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(InputError, match="expected"):
        picture.pixels()
