"""``mmretrieve index``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmretrieve.cli.console import emit, say
from mmretrieve.cli.exits import ExitCode
from mmretrieve.cli.options import (
    IndexOption,
    LayoutOption,
    ReportFormat,
    ReportFormatOption,
    VerboseOption,
    resolve_report,
)
from mmretrieve.cli.progress import shown_progress
from mmretrieve.cli.records import report_record, to_json
from mmretrieve.cli.text import clean, plural, shown_path
from mmretrieve.cli.times import took
from mmretrieve.errors import UsageError
from mmretrieve.lifecycle.interrupts import orderly_interrupts
from mmretrieve.reports import FileResult, IndexReport, Outcome

if TYPE_CHECKING:
    from mmretrieve.config import Settings
    from mmretrieve.documents import Document

_KEPT = "what was done is kept: the same command goes on from there"
_SHOWN_DRY = 1000


@dataclass(frozen=True, slots=True)
class _Given:
    """The settings that were given as flags."""

    preset: str | None = None
    weights: str | None = None
    model: str | None = None
    asr: str | None = None
    language: str | None = None
    ocr: str | None = None
    jobs: int | None = None
    log_file: str | None = None


PathsArgument = Annotated[
    list[Path], typer.Argument(metavar="PATH", help="Videos, and folders of videos.")
]
SettingsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.toml", help="Settings to use; flags go before what it says."),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Which encoders make the tokens: lite, which comes with the package; clip or clamr, which "
        "need an extra and weights; or one that an installed package adds.",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|ID",
        help="Weights for clip and clamr: a folder, a hub id that was fetched with hf download, or a "
        "pretrained tag of open_clip.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="For clip the name of an open_clip model, for clamr another backbone than the adapter "
        "names.",
    ),
]
AsrOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL|off",
        help="Speech recognition where there are no subtitles: tiny.en, another Whisper model that "
        "faster-whisper knows, a folder, or off.",
    ),
]
LanguageOption = Annotated[
    str | None, typer.Option(metavar="CODE", help="Language that is spoken, as en or de.")
]
OcrOption = Annotated[Literal["on", "off"] | None, typer.Option(help="Read the text on screen.")]
JobsOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Videos worked on at once.")
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="Leave these files out; repeatable.")
]
PruneOption = Annotated[
    bool, typer.Option("--prune", help="Drop videos whose files are gone from PATH.")
]
RetryOption = Annotated[
    bool, typer.Option("--retry-failed", help="Try files again that failed before.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Index unchanged files again, too.")]
ReuseOption = Annotated[
    Path | None,
    typer.Option(
        metavar="INDEX",
        help="Use what another index read of the same files (cuts, speech, text on screen), as for new "
        "weights or another preset.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done, and why.")
]
LogFileOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|off", help="Where the log goes from now on; else log.jsonl in the index."
    ),
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Tell about failures only.")]


def index(
    paths: PathsArgument,
    index: IndexOption = None,
    settings: SettingsOption = None,
    preset: PresetOption = None,
    weights: WeightsOption = None,
    model: ModelOption = None,
    asr: AsrOption = None,
    language: LanguageOption = None,
    ocr: OcrOption = None,
    jobs: JobsOption = None,
    exclude: ExcludeOption = None,
    layout: LayoutOption = None,
    prune: PruneOption = False,
    retry_failed: RetryOption = False,
    force: ForceOption = False,
    reuse: ReuseOption = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    log_file: LogFileOption = None,
    chosen: ReportFormatOption = ReportFormat.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Read videos, and make them searchable. What has not changed since the last time is left alone.

    With --layout the texts and frames that a published collection gives are indexed in place of files.
    """
    _check_paths(paths)
    given = paths if layout is None else _documents(paths, layout)
    given_flags = _Given(preset, weights, model, asr, language, ocr, jobs, log_file)
    wanted = _settings(index, settings, given_flags)
    from mmretrieve.engine import Engine
    from mmretrieve.storage.memory import keep_memory_flat

    keep_memory_flat()
    with (
        _keeping_what_is_done(),
        Engine.create(index, wanted, reuse=reuse) as engine,
        shown_progress(quiet=quiet, verbose=verbose) as on_progress,
    ):
        report = engine.index(
            given, exclude=exclude or (), prune=prune, retry_failed=retry_failed, force=force,
            dry_run=dry_run, on_progress=on_progress,
        )  # fmt: skip
    if resolve_report(chosen) is ReportFormat.JSON:
        emit(to_json(report_record(report, str(engine.folder), dry_run=dry_run), indent=2))
    tell(report, paths, str(engine.folder), quiet=quiet, dry_run=dry_run)
    raise typer.Exit(exit_code(report))


def _documents(paths: Sequence[Path], layout: str) -> list[Path | Document]:
    from mmretrieve.evaluation.datasets.readers import read_collection

    found: list[Path | Document] = []
    for path in paths:
        documents = read_collection(layout, path).documents
        if not documents:
            raise UsageError(
                f"{path}: no content in it: expected documents.jsonl (or joined rows, or subtitles) "
                "beside the queries; index the videos themselves without --layout"
            )
        found += documents
    return found


@contextmanager
def _keeping_what_is_done() -> Iterator[None]:
    """Ctrl-C and SIGTERM end a run after what is ready was committed."""
    try:
        with orderly_interrupts(terminated=True):
            yield
    except KeyboardInterrupt:
        say(f"interrupted; {_KEPT}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def exit_code(report: IndexReport) -> ExitCode:
    """What a run of indexing means for whoever called it."""
    if report.interrupted:
        return ExitCode.INTERRUPTED
    n_failed = report.count(Outcome.FAILED)
    if not n_failed:
        return ExitCode.DONE
    without = n_failed + report.count(Outcome.SKIPPED)
    return ExitCode.ALL_FAILED if without == len(report.results) else ExitCode.SOME_FAILED


def tell(
    report: IndexReport, paths: Sequence[Path], folder: str, *, quiet: bool, dry_run: bool
) -> None:
    """The end of a run, for people: counts, failures with their reasons, what to do next."""
    failed = [result for result in report.results if result.outcome is Outcome.FAILED]
    for warning in report.warnings:
        say(f"warning: {warning}")
    if not report.results and not report.n_pruned and not report.interrupted:
        where = ", ".join(shown_path(str(path)) for path in paths)
        say(f"nothing to index: no video files found in {where}")
        return
    if dry_run and not quiet:
        _tell_plan(report)
    if not quiet:
        say(_summary(report, folder, dry_run=dry_run))
    if failed:
        _tell_failures(failed)
    skipped = report.count(Outcome.SKIPPED)
    if skipped and not quiet:
        say(
            f"{plural(skipped, 'file')} failed before and did not change: --retry-failed tries again"
        )
    if report.interrupted:
        say(f"interrupted; {_KEPT}")


def _tell_plan(report: IndexReport) -> None:
    words = {
        Outcome.INDEXED: "would index",
        Outcome.MOVED: "has moved:",
        Outcome.DUPLICATE: "is a copy:",
    }
    todo = [result for result in report.results if result.outcome in words]
    for result in todo[:_SHOWN_DRY]:
        why = f"  ({clean(result.reason)})" if result.reason else ""
        say(f"{words[result.outcome]} {shown_path(result.path)}{why}")
    if len(todo) > _SHOWN_DRY:
        say(f"and {len(todo) - _SHOWN_DRY:,} more")


def _summary(report: IndexReport, folder: str, *, dry_run: bool) -> str:
    words = {Outcome.INDEXED: "to index" if dry_run else "indexed"}
    counts = [(words.get(outcome, outcome.value), report.count(outcome)) for outcome in Outcome]
    if report.n_pruned:
        counts.append(("to prune" if dry_run else "pruned", report.n_pruned))
    parts = ", ".join(f"{count:,} {word}" for word, count in counts if count)
    text = f"{parts or 'nothing done'} in {took(report.took_s)}"
    if report.duration_s and report.took_s:
        text += f" ({report.duration_s / report.took_s:.1f} x real time)"
    return text + ("" if dry_run else f"; index: {shown_path(folder)}")


def _tell_failures(failed: Sequence[FileResult]) -> None:
    say(f"{plural(len(failed), 'file')} could not be indexed:")
    for result in failed:
        say(f"{shown_path(result.path)}: {result.error}", indent=2)
    say("mend or replace what is damaged; changed files are tried again by the same command,")
    say("unchanged ones with --retry-failed")


def _check_paths(paths: Sequence[Path]) -> None:
    absent = [str(path) for path in paths if not path.exists()]
    if absent:
        raise UsageError(
            f"{', '.join(absent)}: no such file or folder; expected videos or folders of videos"
        )


def _settings(folder: Path | None, file: Path | None, given: _Given) -> Settings | None:
    """The settings that the flags ask for, on top of a file's or the index's own; None for those."""
    if file is None and given == _Given():
        return None
    base = _stored(folder) if file is None else _read(file)
    speech = base.speech
    if given.asr == "off":
        speech = replace(speech, enabled=False)
    elif given.asr is not None:
        speech = replace(speech, enabled=True, model=given.asr)
    return replace(
        base,
        preset=given.preset or base.preset,
        encoder=replace(
            base.encoder,
            weights=_lasting(given.weights) or base.encoder.weights,
            model=_lasting(given.model) or base.encoder.model,
        ),
        jobs=given.jobs or base.jobs,
        log_file=base.log_file if given.log_file is None else _log_file(given.log_file),
        speech=replace(speech, language=given.language or speech.language),
        ocr=base.ocr if given.ocr is None else replace(base.ocr, enabled=given.ocr == "on"),
    )


def _log_file(given: str) -> str:
    """``off``, or a path that holds wherever the next command is run."""
    return given if given in ("", "off") else str(Path(given).absolute())


def _lasting(source: str | None) -> str | None:
    """A path that holds from any working directory; what is no path stays as it is."""
    if source is None or not Path(source).exists():
        return source
    return str(Path(source).resolve())


def _stored(folder: Path | None) -> Settings:
    from mmretrieve.config import Settings
    from mmretrieve.errors import IndexNotFoundError
    from mmretrieve.storage.folder import default_location, read_manifest

    try:
        return Settings.from_toml(read_manifest(default_location(folder)).settings_toml)
    except IndexNotFoundError:
        return Settings()


def _read(file: Path) -> Settings:
    from mmretrieve.config import Settings

    try:
        return Settings.from_file(file)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"settings {file} cannot be read: {error}") from error
