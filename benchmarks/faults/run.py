"""The command: rounds over all stages and kinds, counted."""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults import clips, rounds
from benchmarks.faults.rounds import FAULTS, FULL_DISK, INT, KILL, TERM, Round
from benchmarks.faults.shim import CONTROL, Control, build, is_preloaded
from benchmarks.faults.stages import STAGES, Stage
from benchmarks.result import Result, Value

_SIGNALS = (KILL, KILL, KILL, KILL, KILL, KILL, KILL, KILL, TERM, INT)
_SHOWN = 20
_SHARED = (
    "lancedb", "lancedb.expr", "lancedb.merge", "faiss", "blake3", "PIL.JpegImagePlugin",
    "mmretrieve.document_indexing", "mmretrieve.search.searcher", "mmretrieve.storage.codes.update",
    "mmretrieve.kernels.choose",
)  # fmt: skip
"""What children use, imported once."""


def run(n_kills: int, n_faults: int, n_clips: tuple[int, int], seed: int) -> int:
    """Print counts by stage and kind; 1 where anything was lost, wrong, or hung. ``n_clips``: kills of
    runs over clips, and faults of their workers."""
    if not is_preloaded():
        return _again_with_the_library()
    for module in _SHARED:
        importlib.import_module(module)
    control, rng = Control(Path(os.environ[CONTROL])), random.Random(seed)
    result = Result("faults")
    with tempfile.TemporaryDirectory(prefix="mmretrieve-faults-") as name:
        folder = Path(name)
        known = {s.name: rounds.undisturbed(s, folder / s.name, control) for s in STAGES}
        found: list[Round] = []
        with _stopping() as stop:
            for number, (stage, kind) in enumerate(_schedule(n_kills, n_faults, folder, rng)):
                if stop:
                    break
                at = folder / "round"
                found.append(rounds.play(stage, known[stage.name], kind, at, control, rng))
                _progress(number, found[-1])
            if any(n_clips) and not stop:
                found += clips.rounds(folder / "clips", *n_clips, rng)
    _tell(result, found, seed)
    result.save()
    return int(any(done.problems for done in found))


@contextmanager
def _stopping() -> Iterator[list[int]]:
    """A list that is no longer empty after SIGUSR1: then what was done so far is told."""
    told: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: told.append(number))
    try:
        yield told
    finally:
        signal.signal(signal.SIGUSR1, before)


def _again_with_the_library() -> int:
    """This command once more, in a process that has the library preloaded."""
    import subprocess

    with tempfile.TemporaryDirectory(prefix="mmretrieve-shim-") as name:
        folder = Path(name)
        library, control = build(folder), folder / "control"
        Control(control)
        environment = {**os.environ, "LD_PRELOAD": str(library), CONTROL: str(control)}
        command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
        return subprocess.run(command, env=environment, check=False).returncode


def _schedule(
    n_kills: int, n_faults: int, folder: Path, rng: random.Random
) -> Iterator[tuple[Stage, str]]:
    """Kills go round the stages; faults of other kinds, evenly between them, round stages and kinds."""
    kinds = [k for k in FAULTS if k != FULL_DISK or rounds.may_mount(folder)]
    done = 0
    for number in range(n_kills):
        yield STAGES[number % len(STAGES)], rng.choice(_SIGNALS)
        while done < (number + 1) * n_faults // n_kills:
            yield STAGES[done % len(STAGES)], kinds[done % len(kinds)]
            done += 1


def _progress(number: int, done: Round) -> None:
    state = "; ".join(done.problems) if done.problems else "ok"
    print(
        f"{number + 1}: {done.stage}, {done.kind} at {done.at}: {done.ended}: {state}", flush=True
    )


def _tell(result: Result, found: Sequence[Round], seed: int) -> None:
    kinds = list(dict.fromkeys(done.kind for done in found))
    stages = list(dict.fromkeys(done.stage for done in found))
    happened = [done for done in found if done.happened]
    counts = Counter((done.stage, done.kind) for done in happened)
    lost = Counter(done.stage for done in found if done.problems)
    rows: list[list[Value]] = []
    for stage in stages:
        row = [counts[stage, kind] for kind in kinds]
        rows.append([stage, *row, sum(row), lost[stage]])
    sums = [sum(counts[stage, kind] for stage in stages) for kind in kinds]
    rows.append(["all", *sums, len(happened), lost.total()])
    result.add(
        f"Faults that happened, by stage and kind; seed {seed}",
        ("stage", *kinds, "all", "lost or wrong"), rows,
    )  # fmt: skip
    kills = sum(n for (_, kind), n in counts.items() if kind in rounds.KILLS)
    tidied = sum(done.notes_before > 0 for done in happened)
    result.note(
        f"{kills} kills and {len(happened) - kills} other faults happened in {len(found)} rounds; "
        f"{lost.total()} times something was lost or wrong. {tidied} times there was something that "
        "the next run tidied up."
    )
    result.note(
        "After each: no error and no warning of `verify --deep` at once, whole videos and answers for "
        "readers; after what a user does next nothing at all to find, and tokens, answers and leftovers "
        "as of the undisturbed index."
    )
    stayed_s = [done.stayed_s for done in found if done.stayed_s]
    if stayed_s:
        result.note(
            f"{len(stayed_s)} workers were stopped in the midst of a file; with a bound of "
            f"{clips.BOUND_S:.0f} s for a file they were ended after {min(stayed_s):.1f} to "
            f"{max(stayed_s):.1f} s."
        )
    for done in [d for d in found if d.problems][:_SHOWN]:
        result.note(f"{done.stage}, {done.kind} at {done.at}: {'; '.join(done.problems)}")
