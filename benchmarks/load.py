"""``load``: thousands of small videos indexed on this machine: memory, time, search, re-scan."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import IO

import numpy as np

from benchmarks.made_library import PER_FOLDER, MadeVideo, made_or_kept
from benchmarks.program import command, environment
from benchmarks.result import Result
from mmretrieve import Engine
from mmretrieve.datatypes import GroupBy

N_ASKED = 60
SAMPLE_EVERY_S = 1.0
SEARCH_EVERY_S = 60.0
_DONE = re.compile(r"^\[(\d+)/(\d+)\]")


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds since the start, files done, and the memory of the process in MiB."""

    at_s: float
    n_done: int
    rss_mib: float


@dataclass(slots=True)
class Watched:
    """What was seen of one run of ``index``; ``searches`` are the milliseconds of searches by another
    process while it ran, and whether each found what it should."""

    samples: list[Sample] = field(default_factory=list)
    searches: list[tuple[float, bool]] = field(default_factory=list)
    took_s: float = 0.0
    code: int = 0
    said: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Asked:
    """Searches for known videos: the share found first, among ten, and the milliseconds of one."""

    first: float
    in_ten: float
    median_ms: float
    p95_ms: float


def run(n_videos: int, folder: Path | None, seconds: float) -> int:
    """Print the tables and write the result; 1 where a bar was missed."""
    with _place(folder) as place:
        return _run(n_videos, place, seconds)


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="mmretrieve-load-") as name:
        yield Path(name)


def _run(n_videos: int, place: Path, seconds: float) -> int:
    result = Result("load")
    library, index = place / "library", place / "index"
    start = time.perf_counter()
    made = list(made_or_kept(library, range(n_videos)))
    made_s = time.perf_counter() - start
    first = library / "000"
    few = made[: min(PER_FOLDER, n_videos)]
    early = _indexed([first], index, few, seconds)
    shutil.rmtree(place / "early", ignore_errors=True)
    shutil.copytree(index, place / "early")
    late = _indexed([library], index, few, seconds)
    with Engine.open(index) as engine:
        info = engine.info()
        paths = {video.path for video in engine.videos()}
    inside = [video for video in made if str(video.path) in paths]
    before, after = ask([place / "early", index], few)
    (anywhere,) = ask([index], inside)
    again = [_rescan(library, index, _is_whole(inside, made)) for _ in range(3)]
    tokens = sum(info.n_tokens.values())
    result.add(
        "Videos indexed", ("made", "in the index", "tokens", "made in s", "indexed in s", "s a video"),
        [(n_videos, info.n_videos, tokens, made_s, early.took_s + late.took_s,
          (early.took_s + late.took_s) / max(info.n_videos, 1))],
    )  # fmt: skip
    _memory(result, late)
    _searches(result, few, before, after, anywhere, late)
    result.add(
        "Index again, nothing changed", ("run", "whole process s"), list(enumerate(again, 1))
    )
    size = sum(info.size_bytes.values())
    result.note(
        f"The index takes {size / 2**20:.1f} MiB, {size / max(info.n_videos, 1):,.0f} bytes a video."
    )
    if info.n_videos < n_videos:
        result.note(
            f"Stopped after {seconds:.0f} s with {info.n_videos:,} of {n_videos:,} videos in the index: "
            "all numbers are of those, none is extrapolated. Index-again then takes the files left "
            "out for new ones, so it was measured on the folders that are whole."
        )
    result.save()
    wrong = [run for run in again if run >= 10] or after.first < before.first - 0.05
    return int(bool(wrong) or info.n_videos < n_videos)


def _is_whole(inside: Sequence[MadeVideo], made: Sequence[MadeVideo]) -> list[Path]:
    """Folders of which every video is in the index."""
    counts: dict[Path, int] = {}
    for video in made:
        counts[video.path.parent] = counts.get(video.path.parent, 0) + 1
    for video in inside:
        counts[video.path.parent] -= 1
    return [folder for folder, left in counts.items() if not left]


def _memory(result: Result, late: Watched) -> None:
    total = max((s.n_done for s in late.samples), default=0)
    rows = []
    for low, high in ((0.05, 0.15), (0.25, 0.35), (0.45, 0.55), (0.65, 0.75), (0.9, 1.0)):
        found = [s.rss_mib for s in late.samples if low * total <= s.n_done < high * total]
        if found:
            rows.append((f"{low:.0%} to {high:.0%}", float(np.median(found)), max(found)))
    worked = [s for s in late.samples if s.n_done >= 0.1 * total]
    slope = 0.0
    if len(worked) > 2:
        slope = float(np.polyfit([s.n_done for s in worked], [s.rss_mib for s in worked], 1)[0])
    result.add(
        "Memory of the indexing process", ("part of the run", "median MiB", "most MiB"), rows
    )
    peak = max((s.rss_mib for s in late.samples), default=0.0)
    result.note(
        f"Slope after the first tenth: {1000 * slope:+.2f} MiB a thousand videos; peak, with the end of "
        f"the run (sealing, measuring chance): {peak:.0f} MiB."
    )


def _searches(
    result: Result, few: Sequence[MadeVideo], before: Asked, after: Asked, anywhere: Asked, late: Watched
) -> None:  # fmt: skip
    rows: list[tuple[str, float, float | None, float, float]] = [
        (name, a.first, a.in_ten, a.median_ms, a.p95_ms)
        for name, a in (
            (f"before: {len(few)} videos in the index", before),
            ("after: the same queries", after),
            ("after: queries for any video", anywhere),
        )
    ]
    if late.searches:
        times = [ms for ms, _ in late.searches]
        right = float(np.mean([found for _, found in late.searches]))
        rows.append(
            (
                "while indexing",
                right,
                None,
                float(np.median(times)),
                float(np.quantile(times, 0.95)),
            )
        )
    columns = ("searches by a sentence", "found first", "in ten", "median ms", "p95 ms")
    result.add("Search for videos by what is said, written or known", columns, rows)
    result.note(
        f"Latency ratio, after to before, asked in turn: {after.median_ms / before.median_ms:.2f}."
    )


def ask(indexes: Sequence[Path], videos: Sequence[MadeVideo]) -> list[Asked]:
    """Search for some of the videos, by their sentences, in each index in turn."""
    chosen = [
        videos[i] for i in np.linspace(0, len(videos) - 1, min(N_ASKED, len(videos))).astype(int)
    ]
    ranks, times = np.zeros((2, len(indexes), len(chosen)))
    with ExitStack() as opened:
        engines = [opened.enter_context(Engine.open(index)) for index in indexes]
        for engine in engines:
            engine.search("warm up")
        for (j, video), (i, engine) in product(enumerate(chosen), enumerate(engines)):
            start = time.perf_counter()
            hits = engine.search(video.sentence, k=10, group_by=GroupBy.VIDEO).hits
            times[i, j] = 1e3 * (time.perf_counter() - start)
            found = [h.video.path for h in hits]
            ranks[i, j] = found.index(str(video.path)) if str(video.path) in found else 99
    return [
        Asked(
            float(np.mean(rank == 0)),
            float(np.mean(rank < 10)),
            float(np.median(took)),
            float(np.quantile(took, 0.95)),
        )
        for rank, took in zip(ranks, times, strict=True)
    ]


def _indexed(
    paths: Sequence[Path], index: Path, few: Sequence[MadeVideo], seconds: float
) -> Watched:
    """Index in a process of its own and watch it; stopped by an interrupt after ``seconds``."""
    seen, start = Watched(), time.perf_counter()
    with subprocess.Popen(
        command("index", *paths, "--index", index, "--jobs", "1"),
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=_interruptible,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        counter = [0]
        reader = threading.Thread(target=_count, args=(process.stderr, counter, seen.said))
        reader.start()
        asked_s = start
        while process.poll() is None:
            now = time.perf_counter()
            if now - start > seconds:
                process.send_signal(signal.SIGINT)
                process.wait()
                break
            if (rss := _rss_mib(process.pid)) is not None:
                seen.samples.append(Sample(now - start, counter[0], rss))
            if now - asked_s > SEARCH_EVERY_S and (index / "nulls.json").exists():
                seen.searches += _search_once(index, few, len(seen.searches))
                asked_s = time.perf_counter()
            time.sleep(SAMPLE_EVERY_S)
        reader.join()
    seen.took_s, seen.code = time.perf_counter() - start, process.returncode
    if seen.code not in (0, 130):
        raise RuntimeError(f"index ended with {seen.code}: {''.join(seen.said[-20:])}")
    return seen


def _interruptible() -> None:
    """A process that is started from one in the background would ignore interrupts as that one does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _search_once(index: Path, few: Sequence[MadeVideo], turn: int) -> list[tuple[float, bool]]:
    out = []
    with Engine.open(index) as engine:
        engine.search("warm up")
        for i in range(3):
            video = few[(7 * turn + i) % len(few)]
            start = time.perf_counter()
            hits = engine.search(video.sentence, k=1, group_by=GroupBy.VIDEO).hits
            took_ms = 1e3 * (time.perf_counter() - start)
            out.append((took_ms, bool(hits) and hits[0].video.path == str(video.path)))
    return out


def _count(stream: IO[str], counter: list[int], said: list[str]) -> None:
    for line in stream:
        if (found := _DONE.match(line)) is not None:
            counter[0] = int(found[1])
        else:
            said.append(line)


def _rss_mib(pid: int) -> float | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found is not None else None


def _rescan(library: Path, index: Path, whole: Sequence[Path]) -> float:
    """Seconds of a run that finds nothing to do."""
    n_folders = sum(1 for _ in library.iterdir())
    paths = [library] if len(whole) == n_folders else list(whole)
    start = time.perf_counter()
    done = subprocess.run(
        command("index", *paths, "--index", index, "--jobs", "1"),
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    took_s = time.perf_counter() - start
    if done.returncode or "unchanged" not in done.stderr or "indexed" in done.stderr:
        raise RuntimeError(f"a re-scan did something: {done.stderr[-2000:]}")
    return took_s
