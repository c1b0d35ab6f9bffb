"""Progress of indexing on standard error: a bar on a terminal, else one plain line a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mmretrieve.cli.console import err, say, stderr_is_terminal
from mmretrieve.cli.text import clean, shown_path
from mmretrieve.cli.times import clock, took
from mmretrieve.datatypes import MODALITIES
from mmretrieve.reports import FileResult, Outcome, Progress

if TYPE_CHECKING:
    from rich.console import Console

OnProgress = Callable[[Progress], None]

_SILENT = {Outcome.UNCHANGED}


@contextmanager
def shown_progress(*, quiet: bool, verbose: bool) -> Iterator[OnProgress]:
    """A function to hand to the engine, which shows what it is told until the block ends."""
    if quiet:
        yield lambda progress: None
    elif stderr_is_terminal():
        with _bar(verbose=verbose) as on_progress:
            yield on_progress
    else:
        yield plain_progress(verbose=verbose)


def plain_progress(*, verbose: bool) -> OnProgress:
    """One plain line a file."""
    return lambda progress: _print_plain(progress, verbose=verbose)


def file_lines(result: FileResult, *, verbose: bool) -> Iterator[str]:
    """What became of one file: one line, and its warnings below."""
    yield f"{result.outcome.value:<9} {shown_path(result.path)}{_details(result, verbose=verbose)}"
    for warning in result.warnings:
        yield f"  warning: {clean(warning)}"


def status(progress: Progress, n_failed: int) -> str:
    """``3/9 files, 01:20 of video, 5.1 x real time, 33 s to go, 1 failed``."""
    parts = [f"{progress.n_done}/{progress.n_total} files"]
    if progress.elapsed_s > 0 and progress.done_s > 0:
        parts.append(f"{clock(progress.done_s)} of video")
        parts.append(f"{progress.done_s / progress.elapsed_s:.1f} x real time")
    if progress.n_done < progress.n_total and progress.eta_s is not None:
        parts.append(f"{took(progress.eta_s)} to go")
    if n_failed:
        parts.append(f"{n_failed} failed")
    return ", ".join(parts)


def _details(result: FileResult, *, verbose: bool) -> str:
    if result.error is not None:
        return f": {clean(result.error)}"
    if result.outcome is not Outcome.INDEXED:
        return ""
    tokens = ", ".join(
        f"{modality.value} {result.n_tokens[modality]:,}"
        for modality in MODALITIES
        if result.n_tokens.get(modality)
    )
    text = f"  {clock(result.duration_s)} in {took(result.took_s)}, {tokens or 'no tokens'}"
    if verbose and result.stage_s:
        text += f" [{', '.join(f'{s.value} {t:.1f} s' for s, t in result.stage_s.items())}]"
    return text


def _print_plain(progress: Progress, *, verbose: bool) -> None:
    if progress.result is None or (progress.result.outcome in _SILENT and not verbose):
        return
    first, *warnings = file_lines(progress.result, verbose=verbose)
    say(f"[{progress.n_done}/{progress.n_total}] {first}")
    for warning in warnings:
        say(warning, indent=2)


@contextmanager
def _bar(*, verbose: bool) -> Iterator[OnProgress]:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = err()
    text = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), BarColumn(bar_width=24), TimeElapsedColumn(), text)
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading videos", total=None)
        n_failed = 0

        def on_progress(progress: Progress) -> None:
            nonlocal n_failed
            if progress.result is not None:
                n_failed += progress.result.outcome is Outcome.FAILED
                _print_notable(console, progress.result, verbose=verbose)
            bar.update(
                task,
                total=progress.n_total,
                completed=progress.n_done,
                description=status(progress, n_failed),
            )

        yield on_progress


def _print_notable(console: Console, result: FileResult, *, verbose: bool) -> None:
    """Above the bar: failures and warnings; with ``verbose`` every file."""
    from rich.text import Text

    notable = verbose or result.outcome is Outcome.FAILED or bool(result.warnings)
    if notable:
        style = "red" if result.outcome is Outcome.FAILED else ""
        for line in file_lines(result, verbose=verbose):
            console.print(Text(line, style), soft_wrap=True)
