"""``mmretrieve demo``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmretrieve.cli.console import emit, out, say
from mmretrieve.cli.exits import ExitCode
from mmretrieve.cli.options import VerboseOption
from mmretrieve.cli.progress import shown_progress
from mmretrieve.cli.text import plural, shown_path
from mmretrieve.cli.times import clock_range, took
from mmretrieve.datatypes import Hit, SearchResult
from mmretrieve.reports import IndexReport, Outcome

if TYPE_CHECKING:
    from mmretrieve.demo import DemoQuery
    from mmretrieve.engine import Engine


def demo(
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Make the index here and leave it, to go on with it."),
    ] = None,
    verbose: VerboseOption = False,
) -> None:
    """Index small clips that come with the program, and ask what is in them."""
    from mmretrieve.demo import QUERIES, UNANSWERABLE, clips_folder
    from mmretrieve.engine import Engine

    with _folder(keep) as folder, Engine.create(folder) as engine:
        say("indexing the clips that come with mmretrieve")
        with shown_progress(quiet=False, verbose=verbose) as on_progress:
            report = engine.index([clips_folder()], on_progress=on_progress)
        _tell_indexed(report)
        for number, asked in enumerate(QUERIES, 1):
            _ask(engine, number, asked, clips_folder())
        result = engine.search(UNANSWERABLE, k=1)
        emit(f'"{UNANSWERABLE}" (nothing in the clips answers this)')
        emit(f"   {'no good match, as it should be' if result.no_good_match else 'found a match'}")
    _tell_next(keep, QUERIES[0].text)
    if report.count(Outcome.FAILED):
        raise typer.Exit(ExitCode.SOME_FAILED)


def is_expected(hit: Hit, asked: DemoQuery, clips: Path) -> bool:
    """Whether a hit is in the right file, and at the right time where there is one."""
    if Path(hit.video.path).resolve() != (clips / asked.file).resolve():
        return False
    if asked.window_s is None:
        return True
    start, end = hit.moment.start_s, hit.moment.end_s
    return (
        start is not None
        and end is not None
        and start <= asked.window_s[1]
        and (end >= asked.window_s[0])
    )


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="mmretrieve-demo-") as folder:
        yield Path(folder) / "index"


def _tell_indexed(report: IndexReport) -> None:
    n_indexed, n_known = report.count(Outcome.INDEXED), report.count(Outcome.UNCHANGED)
    known = f" ({n_known} known already)" if n_known else ""
    say(f"{plural(n_indexed, 'clip')} indexed in {took(report.took_s)}{known}")


def _ask(engine: Engine, number: int, asked: DemoQuery, clips: Path) -> None:
    result = engine.search(asked.text, k=1)
    emit(f'{number}. "{asked.text}" (to be found by {asked.modality.value})')
    if not result.hits:
        emit("   nothing found")
    else:
        _print_hit(result, asked, clips)
    emit("")


def _print_hit(result: SearchResult, asked: DemoQuery, clips: Path) -> None:
    from rich.text import Text

    from mmretrieve.cli.evidence import best_modality, quotes
    from mmretrieve.cli.render_table import quote_line

    hit, console = result.hits[0], out()
    won = best_modality(hit)
    verdict = "as expected" if is_expected(hit, asked, clips) else f"expected {asked.file}"
    line = Text("   ").append(shown_name(hit, clips), "bold")
    line.append(f"  {clock_range(hit.moment.start_s, hit.moment.end_s)}", "cyan")
    line.append(
        f"  {hit.confidence.label.value}, won by {'nothing' if won is None else won.value}, "
    )
    line.append(verdict, "green" if verdict == "as expected" else "yellow")
    console.print(line, soft_wrap=True)
    mine = [quote for quote in quotes(hit, result.query) if quote.modality is won]
    for quote in mine[:1]:
        console.print(quote_line(quote, console), soft_wrap=True)


def shown_name(hit: Hit, clips: Path) -> str:
    """The clip's path below the folder of clips."""
    path = Path(hit.video.path)
    return str(path.relative_to(clips)) if path.is_relative_to(clips) else shown_path(str(path))


def _tell_next(keep: Path | None, example: str) -> None:
    place = shown_path(str(keep)) if keep is not None else "demo-index"
    say("next:")
    if keep is None:
        say(f"mmretrieve demo --keep {place}", indent=2)
    say(f'mmretrieve query "{example}" --index {place} --explain', indent=2)
    say("mmretrieve index FOLDER_WITH_VIDEOS", indent=2)
    say('mmretrieve query "what you look for"', indent=2)
