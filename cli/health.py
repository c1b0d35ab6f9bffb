"""``mmretrieve verify``, ``repair`` and ``backup``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmretrieve.cli.console import emit, say
from mmretrieve.cli.exits import ExitCode
from mmretrieve.cli.options import (
    IndexOption,
    ReportFormat,
    ReportFormatOption,
    VerboseOption,
    resolve_report,
)
from mmretrieve.cli.records import SCHEMA, number, to_json
from mmretrieve.cli.text import clean, plural, size
from mmretrieve.cli.times import took

if TYPE_CHECKING:
    from mmretrieve.health.findings import Finding, HealthReport
    from mmretrieve.health.repair import RepairReport
    from mmretrieve.storage.journal import Journal

_SHOWN = 50


def verify(
    deep: Annotated[
        bool, typer.Option("--deep", help="All vectors, codes and pictures, not a sample.")
    ] = False,
    index: IndexOption = None,
    chosen: ReportFormatOption = ReportFormat.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Check every promise that the index makes on disk. Exit code 0: all hold; 1: something is wrong.

    Every file is compared with its checksum, tables with each other, codes with the tables. Searching and
    indexing may go on meanwhile; nothing is changed.
    """
    from mmretrieve.index_care import verify_folder

    folder = _folder(index)
    report = verify_folder(folder, _journal(folder), deep=deep)
    if resolve_report(chosen) is ReportFormat.JSON:
        emit(to_json(verify_record(report), indent=2))
    else:
        _print_report(report)
    raise typer.Exit(ExitCode.DONE if report.is_clean else ExitCode.SOME_FAILED)


def repair(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    drop: Annotated[
        bool,
        typer.Option("--drop", help="Also take out what is damaged and cannot be indexed again."),
    ] = False,
    index: IndexOption = None,
    chosen: ReportFormatOption = ReportFormat.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Mend what can be mended, and say what is to be indexed again. Exit code 0: the index is sound now.

    Codes are rebuilt, leftovers removed, videos of which something is lost are taken out so that `index`
    reads them again. Damaged files are kept in the index's folder `quarantine`.
    """
    from mmretrieve.index_care import repair_folder
    from mmretrieve.kernels.choose import kernels

    folder = _folder(index)
    report = repair_folder(folder, kernels(), _journal(folder), dry_run=dry_run, drop=drop)
    if resolve_report(chosen) is ReportFormat.JSON:
        emit(to_json(repair_record(report), indent=2))
    else:
        _print_repair(report)
    raise typer.Exit(ExitCode.DONE if report.is_clean else ExitCode.SOME_FAILED)


def backup(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A new folder.")],
    link: Annotated[
        bool,
        typer.Option(
            "--link", help="Hard links of files that never change: quick, but on the same disk."
        ),
    ] = False,
    index: IndexOption = None,
    chosen: ReportFormatOption = ReportFormat.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Copy the index as it is now, whatever is being done to it, and verify the copy."""
    from mmretrieve.health.backup import backup
    from mmretrieve.storage.folder import locate

    folder = locate(index)
    report = backup(folder, destination, link=link)
    _journal(folder).note("backup", to=report.path, size_bytes=report.size_bytes)
    if resolve_report(chosen) is ReportFormat.JSON:
        record = {
            "schema": SCHEMA, "path": report.path, "n_linked": report.n_linked,
            "n_copied": report.n_copied, "size_bytes": report.size_bytes,
            "verify": verify_record(report.health),
        }  # fmt: skip
        emit(to_json(record, indent=2))
        return
    emit(
        f"{clean(report.path)}: {size(report.size_bytes)}, {plural(report.n_copied, 'file')} copied, "
        f"{report.n_linked:,} linked, verified"
    )
    say(f"use it with --index {clean(report.path)}; to restore, move it to where the index was")


def verify_record(report: HealthReport) -> dict[str, Any]:
    """The one object of ``verify``."""
    return {
        "schema": SCHEMA,
        "index": report.path,
        "clean": report.is_clean,
        "deep": report.deep,
        "checked": dict(report.checked),
        "took_s": number(report.took_s),
        "findings": [_finding_record(finding) for finding in report.findings],
    }


def repair_record(report: RepairReport) -> dict[str, Any]:
    """The one object of ``repair``."""
    return {
        "schema": SCHEMA,
        "index": report.path,
        "dry_run": report.dry_run,
        "clean": report.is_clean,
        "actions": [{"what": a.what, "where": a.where, "why": a.why} for a in report.actions],
        "index_again": list(report.index_again),
        "give_again": list(report.give_again),
        "left": [_finding_record(finding) for finding in report.left],
        "quarantine": report.quarantine,
    }


def _finding_record(finding: Finding) -> dict[str, str]:
    return {
        "severity": finding.severity.value,
        "part": finding.part.value,
        "what": finding.what,
        "where": finding.where,
        "fix": finding.fix,
    }


def _folder(given: Path | None) -> Path:
    """The index to look at: one whose manifest is lost is found only where it is named."""
    from mmretrieve.errors import IndexNotFoundError
    from mmretrieve.index_care import check_is_index
    from mmretrieve.storage.folder import locate

    try:
        return locate(given)
    except IndexNotFoundError:
        if given is None:
            raise
        check_is_index(given)
        return given


def _journal(folder: Path) -> Journal:
    from mmretrieve.config import Settings
    from mmretrieve.errors import MmretrieveError
    from mmretrieve.storage.folder import read_manifest
    from mmretrieve.storage.journal import Journal

    try:
        return Journal.of(folder, Settings.from_toml(read_manifest(folder).settings_toml).log_file)
    except MmretrieveError:
        return Journal.of(folder)  # what is wrong is about to be told


def _print_report(report: HealthReport) -> None:
    looked = ", ".join(f"{count:,} {name}" for name, count in report.checked.items())
    for finding in report.findings[:_SHOWN]:
        emit(f"{finding.severity.value}: {clean(finding.where)}: {clean(finding.what)}")
        emit(f"    {clean(finding.fix)}")
    if len(report.findings) > _SHOWN:
        emit(f"and {len(report.findings) - _SHOWN:,} more: --format json has them all")
    found = "all promises hold" if report.is_clean else plural(_bad(report), "problem")
    emit(f"{found}; looked at {looked} in {took(report.took_s)}")


def _bad(report: HealthReport) -> int:
    from mmretrieve.health.findings import Severity

    return sum(report.count(severity) for severity in (Severity.ERROR, Severity.WARNING))


def _print_repair(report: RepairReport) -> None:
    for action in report.actions:
        emit(f"{clean(action.where)}: {clean(action.what)} ({clean(action.why)})")
    if not report.actions:
        emit("nothing to mend")
    for what, paths in (
        ("to be indexed again: mmretrieve index on", report.index_again),
        ("lost for good unless given again, or restored from a backup:", report.give_again),
    ):
        if paths:
            emit(f"{plural(len(paths), 'file')} {what}")
            for path in paths[:_SHOWN]:
                emit(f"    {clean(path)}")
    for finding in report.left[:_SHOWN]:
        emit(f"left: {clean(finding.where)}: {clean(finding.what)}")
    if report.quarantine:
        emit(f"damaged files are kept in {clean(report.quarantine)}")
