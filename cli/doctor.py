"""``mmretrieve doctor``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mmretrieve.cli.console import emit, out
from mmretrieve.cli.exits import ExitCode
from mmretrieve.cli.options import IndexOption, ReportFormat, VerboseOption
from mmretrieve.cli.records import SCHEMA, to_json
from mmretrieve.cli.text import clean, plural

if TYPE_CHECKING:
    from mmretrieve.cli.checks import Check


def doctor(
    index: IndexOption = None,
    chosen: Annotated[
        ReportFormat, typer.Option("--format", help="auto is text, also in a pipe.")
    ] = ReportFormat.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Check the installation: packages, weights, codecs, models, disk; each with the fix."""
    from mmretrieve.cli.checks import Status, run_checks
    from mmretrieve.storage.folder import default_location

    checks = run_checks(default_location(index))
    if chosen is ReportFormat.JSON:
        done = tuple(checks)
        emit(to_json(_record(done), indent=2))
    else:
        done = tuple(_printed(checks))
        emit(_verdict(done))
    if any(check.status is Status.FAILED for check in done):
        raise typer.Exit(ExitCode.SETUP)


def _printed(checks: Iterator[Check]) -> Iterator[Check]:
    from rich.text import Text

    styles = {"ok": "green", "note": "yellow", "failed": "bold red"}
    console = out()
    for check in checks:
        line = Text().append(f"{check.status.value:<7}", styles[check.status.value])
        line.append(f" {check.name:<36} ").append(clean(check.detail), "dim")
        console.print(line, soft_wrap=True)
        if check.fix:
            console.print(Text(f"        mend it with: {clean(check.fix)}"), soft_wrap=True)
        yield check


def _verdict(checks: Sequence[Check]) -> str:
    failed = sum(check.status.value == "failed" for check in checks)
    if failed:
        return f"{plural(failed, 'check')} failed"
    return f"all {len(checks)} checks passed"


def _record(checks: Sequence[Check]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "ok": all(check.status.value != "failed" for check in checks),
        "python": ".".join(map(str, sys.version_info[:3])),
        "checks": [
            {
                "name": check.name,
                "status": check.status.value,
                "detail": check.detail,
                "fix": check.fix or None,
            }
            for check in checks
        ],
    }
