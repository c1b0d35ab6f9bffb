"""``videos``: speed of indexing and quality of search on real clips."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks import video_quality
from benchmarks.result import Result
from mmretrieve import Engine, Modality
from mmretrieve.reports import FileResult, IndexReport, Outcome, Progress, Stage

_SAMPLE_S = 0.2
_MIB = 1024 * 1024


class Memory(threading.Thread):
    """Samples the resident set of this process; ``peak`` in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Look until :meth:`stop`."""
        while not self._over.wait(_SAMPLE_S):
            self.peak = max(self.peak, _resident())

    def stop(self) -> int:
        """The largest size seen, in bytes."""
        self._over.set()
        self.join()
        return self.peak


def run(data: Path, index: Path | None, skip_index: bool) -> None:
    """Print the tables, write the result and the picture. Files that cannot be indexed are listed:
    some of the data is broken on purpose."""
    result = Result("videos-quality" if skip_index else "videos")
    folder = data / "videos"
    with tempfile.TemporaryDirectory(prefix="mmretrieve-videos-") as name:
        with Engine.create(index or Path(name) / "index") as engine:
            if not skip_index:
                _speed(result, engine, folder / "files")
            video_quality.measure(result, engine, folder / "queries.jsonl")
        result.note(f"Data: {folder.name}/files and {folder.name}/queries.jsonl of {data.name}.")
        result.save()


def _speed(result: Result, engine: Engine, files: Path) -> None:
    memory = Memory()
    memory.start()
    start = time.perf_counter()
    report = engine.index([files], on_progress=_tell)
    took_s = time.perf_counter() - start
    sampled = memory.stop()
    print(file=sys.stderr)
    done = [r for r in report.results if r.outcome is Outcome.INDEXED]
    result.add("Files", ("file", "video s", "took s", "video s / s", *Stage, *Modality), [
        _file_row(r) for r in sorted(done, key=_name)
    ])  # fmt: skip
    failed = [r for r in report.results if r.outcome not in (Outcome.INDEXED, Outcome.UNCHANGED)]
    result.add("Files not indexed", ("file", "outcome", "why"), [
        (_name(r), r.outcome.value, _without_folder(r.error or "", files)) for r in failed
    ])  # fmt: skip
    warned = [(_name(r), _without_folder(w, files)) for r in report.results for w in r.warnings]
    result.add("Warnings", ("file", "warning"), warned)
    _overall(result, engine, report, took_s, sampled)


def _overall(
    result: Result, engine: Engine, report: IndexReport, took_s: float, sampled: int
) -> None:
    done = [r for r in report.results if r.outcome is Outcome.INDEXED]
    info = engine.info()
    rows: list[tuple[str, str | int | float]] = [
        ("files", len(report.results)),
        ("indexed", len(done)),
        ("video indexed, s", report.duration_s),
        ("wall time with null scores, s", took_s),
        ("video s / s of wall time", report.duration_s / took_s),
    ]
    if done:
        worst = min(done, key=_rate)
        rows.append((f"worst file ({_name(worst)}), video s / s", _rate(worst)))
    for stage in Stage:
        rows.append(
            (f"stage {stage.value}, s of all threads", sum(r.stage_s.get(stage, 0) for r in done))
        )
    unit = 1024 if sys.platform.startswith("linux") else 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    rows += [
        ("peak resident set (getrusage), MiB", peak / _MIB),
        ("peak resident set (sampled), MiB", sampled / _MIB),
    ]
    rows += [(f"tokens, {m.value}", n) for m, n in info.n_tokens.items()]
    n_tokens = sum(info.n_tokens.values())
    size = sum(info.size_bytes.values())
    rows += [(f"bytes of table {name}", n) for name, n in info.size_bytes.items()]
    rows.append(("index bytes a token", size / max(1, n_tokens)))
    result.add("Overall", ("what", "value"), rows)


def _file_row(found: FileResult) -> tuple[str | int | float, ...]:
    stages = [found.stage_s.get(stage, 0.0) for stage in Stage]
    tokens = [found.n_tokens.get(m, 0) for m in Modality]
    return (_name(found), found.duration_s, found.took_s, _rate(found), *stages, *tokens)


def _rate(found: FileResult) -> float:
    return found.duration_s / max(found.took_s, 1e-9)


def _name(found: FileResult) -> str:
    return Path(found.path).name


def _without_folder(text: str, folder: Path) -> str:
    return text.replace(f"{folder.absolute()}{os.sep}", "").replace(f"{folder}{os.sep}", "")


def _tell(progress: Progress) -> None:
    print(f"\r{progress.n_done} of {progress.n_total} files", end="", file=sys.stderr, flush=True)


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()
