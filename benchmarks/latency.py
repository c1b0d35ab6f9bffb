"""``latency``: how long one waits, for a cold command and for a warm search."""

from __future__ import annotations

import cProfile
import json
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.grown import grow
from benchmarks.oracle import Oracle
from benchmarks.program import QUICK, command, copies, environment
from benchmarks.program import run as run_process
from benchmarks.result import Result, load
from mmretrieve import Engine, Filter, Scoring, Settings
from mmretrieve.datatypes import MODALITIES
from mmretrieve.demo import QUERIES, clips_folder
from mmretrieve.encoders.registry import load_encoder
from mmretrieve.kernels.choose import kernels
from mmretrieve.search.prepared import Space, prepare
from mmretrieve.search.ranking import Ranker, Ranking
from mmretrieve.search.selection import select
from mmretrieve.search.stages import Limits
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.reader import Snapshot

Array = NDArray[np.float32]

SIZES = (1_000, 10_000, 100_000)
N_COPIES = 100
ROUNDS = 10
_SEARCH, _PLAIN = "search", "NumPy"
TEN_WORDS = (
    "people standing around a table one after another and smiling",
    "how do bees tell each other where the flowers are",
    "terminal window with an error about a missing public key",
    "snow covered mountains under a clear blue sky at noon",
    "the rule that says how many backups one should keep",
    "cleaning the small gears of an old watch by hand",
    "overnight train that goes from Lisbon to Madrid every day",
    "a hot air balloon floats slowly over the green fields",
    "why does bread rise when yeast is added to dough",
    "a burning candle on a dark table beside an apple",
)
_STEPS = """
import json, time
start = time.perf_counter()
from pathlib import Path
import sys
from mmretrieve import Engine
engine = Engine.open(Path(sys.argv[1]))
opened = time.perf_counter()
engine.search(sys.argv[2])
first = time.perf_counter()
engine.search(sys.argv[2])
print(json.dumps([opened - start, first - opened, time.perf_counter() - first]))
"""


def run(index: Path | None, repeats: int, profile: bool = False) -> None:
    """Print the tables and write the result."""
    result = Result("latency")
    with tempfile.TemporaryDirectory(prefix="mmretrieve-latency-") as name:
        temporary = Path(name)
        if index is None:
            index = temporary / "demo"
            with Engine.create(index) as engine:
                engine.index([clips_folder()])
        _cold(result, index, repeats)
        _unchanged(result, temporary, repeats)
        _warm(result, index, temporary, profile)
    result.save()


def _cold(result: Result, index: Path, repeats: int) -> None:
    query = command("query", QUERIES[0].text, "--index", index)
    steps = [sys.executable, "-c", _STEPS, str(index), QUERIES[0].text]
    parts = np.array([_steps(steps) for _ in range(repeats)])
    rows = [
        ("mmretrieve query", *_best(lambda: run_process(query), repeats)),
        ("mmretrieve --help", *_best(lambda: run_process(command("--help")), repeats)),
        ("python -c pass", *_best(lambda: run_process([sys.executable, "-c", "pass"]), repeats)),
        *(
            (f"in the process: {what}", float(part.min()), float(np.median(part)))
            for what, part in zip(("import, open", "first search", "next"), parts.T, strict=True)
        ),
    ]
    result.add("Cold start, seconds of wall time", ("what", "best", "median"), rows)


def _steps(arguments: Sequence[str]) -> list[float]:
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=True)
    return [float(v) for v in json.loads(done.stdout)]


def _unchanged(result: Result, temporary: Path, repeats: int) -> None:
    folder, index = copies(temporary / "copies", N_COPIES), temporary / "copies-index"
    again = command("index", folder, "--index", index, *QUICK)
    first = run_process(again)
    rows = [
        (f"index {N_COPIES} clips, pictures only (one run)", first, None),
        ("the same again, nothing changed", *_best(lambda: run_process(again), repeats)),
    ]
    result.add("Indexing again, seconds of wall time", ("what", "best", "median"), rows)
    with Engine.open(index) as engine:
        if len(engine.videos()) != N_COPIES:
            raise AssertionError(f"{len(engine.videos())} videos of {N_COPIES} in the index")


def _best(action: Callable[[], float], repeats: int) -> tuple[float, float]:
    action()  # bytecode and the page cache
    times = [action() for _ in range(repeats)]
    return float(np.min(times)), float(np.median(times))


def _warm(result: Result, source: Path, temporary: Path, profile: bool) -> None:
    rows: list[tuple[str | int | float, ...]] = []
    parts: list[tuple[str | int | float, ...]] = []
    names: list[str] = []
    for size in SIZES:
        folder = temporary / f"grown-{size}"
        grow(source, folder, size)
        with Engine.open(folder) as engine:
            start = time.perf_counter()
            engine.search(TEN_WORDS[0])
            first_s = time.perf_counter() - start
            steps = Steps(folder)
            steps.check()
            times = _in_turn({_SEARCH: engine.search, _PLAIN: steps.plain, **steps.parts()})
            if profile and size == SIZES[-1]:
                _profile(engine)
        names = [name for name in times if name not in (_SEARCH, _PLAIN)]
        search, base = times[_SEARCH], times[_PLAIN]
        rest = search - sum(times[name] for name in names)
        n_tokens, n_cells = len(steps.stored.vectors), len(steps.stored.cells)
        ratios = [float(np.median(times[name] / base)) for name in (_SEARCH, "rank")]
        rows.append(
            (
                n_tokens,
                n_cells,
                *_percentiles(search),
                *_percentiles(base),
                *ratios,
                first_s,
                load()[0],
            )
        )
        parts.append((n_tokens, *(_percentiles(times[n])[0] for n in names), _percentiles(rest)[0]))
    columns = (
        "tokens", "cells", "search p50 ms", "search p95 ms", "NumPy p50 ms", "NumPy p95 ms",
        "search / NumPy", "rank / NumPy", "first search s", "load",
    )  # fmt: skip
    result.add("Warm Engine.search, ten-word queries, k = 10", columns, rows)
    headings = ("tokens", *(f"{name} ms" for name in names), "hits and evidence ms (the rest)")
    result.add("Where a warm search spends its time (medians)", headings, parts)
    result.note(
        "NumPy: float32 products of all tokens with the query, np.maximum.reduceat over cells, with "
        "the threads that NumPy takes; its maxima were checked against the engine's. Search, steps and "
        "NumPy are timed in turn, query by query, and ratios are medians of these pairs. First search: "
        "with 96 null queries, which `index` keeps but this index was not made by."
    )


class Steps:
    """The steps of a search on one index, each to be timed alone."""

    def __init__(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        self.snapshot = Snapshot(folder, manifest, kernels)
        self.stored = self.snapshot.library
        spaces = [Space(manifest.space(m), manifest.width(m)) for m in MODALITIES]
        self._ranker = Ranker(self.snapshot, kernels(), Limits())
        settings = Settings.from_toml(manifest.settings_toml)
        self._encoder = load_encoder(settings.preset, settings.encoder)
        queries = {text: self._encoder.query(text) for text in TEN_WORDS}
        self._queries = {t: prepare(q, spaces, kernels()) for t, q in queries.items()}
        self._everything = select(self.snapshot, Filter())

    def parts(self) -> dict[str, Callable[[str], object]]:
        """Name -> step, for the text of a query."""
        return {
            "newest state?": lambda _: self.snapshot.is_current(),
            "encode": self._encoder.query,
            "rank": lambda text: self._rank(text, 32),
        }

    def _rank(self, text: str, n: int) -> Ranking:
        stages = self._ranker.stages(self._queries[text], Scoring(), by_video=False)
        return self._ranker.rank(stages, self._everything, n)

    def check(self) -> None:
        """The best passage found is the best by brute force, at the same score.

        Raises:
            AssertionError: it is not.
        """
        for text, query in self._queries.items():
            stages = self._ranker.stages(query, Scoring(), by_video=False)
            ranking = self._rank(text, 10)
            truth = Oracle(self.stored).scores(
                query.vectors[0], Scoring(), stages.rule.calibration, False,
                np.ones(len(self.snapshot.videos), bool),
            )  # fmt: skip
            np.testing.assert_allclose(ranking.scores.max(), max(truth.values()), rtol=1e-4)

    def plain(self, text: str) -> Array:
        """``(n_cells, n_query_tokens)``: the maxima of an exact scan, as one would write it."""
        products = self.stored.vectors @ self._queries[text].vectors[0].T
        starts = self.stored.cells.offsets[:-1]
        return np.asarray(np.maximum.reduceat(products, starts, axis=0), np.float32)


def _in_turn(actions: Mapping[str, Callable[[str], object]]) -> dict[str, NDArray[np.float64]]:
    """Seconds of each action, ``(ROUNDS * n_queries,)``. All actions take their turn with every
    query, so that other work on the machine disturbs them alike."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for text in (TEN_WORDS[0], *TEN_WORDS * ROUNDS):
        for name, action in actions.items():
            start = time.perf_counter()
            action(text)
            taken[name].append(time.perf_counter() - start)
    return {name: np.array(seconds[1:]) for name, seconds in taken.items()}


def _percentiles(times: NDArray[np.float64]) -> tuple[float, float]:
    low, high = (1e3 * float(v) for v in np.percentile(times, [50, 95]))
    return low, high


def _profile(engine: Engine) -> None:
    watch = cProfile.Profile()
    watch.enable()
    for text in TEN_WORDS:
        engine.search(text)
    watch.disable()
    print(f"Profile of {len(TEN_WORDS)} searches:")
    pstats.Stats(watch).sort_stats("tottime").print_stats(20)
