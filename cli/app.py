"""The ``mmretrieve`` command: its verbs, and what happens to every error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mmretrieve import __version__
from mmretrieve.cli import (
    codes,
    console,
    demo,
    doctor,
    duplicates,
    explain,
    health,
    index,
    manage,
    query,
    watch,
)
from mmretrieve.cli.console import emit, say
from mmretrieve.cli.eval import evaluate
from mmretrieve.cli.exits import ExitCode, report
from mmretrieve.cli.options import is_verbose
from mmretrieve.cli.synthesize import synthesize_queries
from mmretrieve.cli.train import train
from mmretrieve.lifecycle.interrupts import orderly_interrupts

_EPILOG = (
    "Results go to standard output (a table on a terminal, JSON lines into a pipe), everything else "
    "to standard error. Exit codes: 0 done, 1 some inputs failed, 2 usage, 3 nothing matched (with "
    "--fail-if-empty), 4 set-up, 5 every input failed, 70 internal error, 130 interrupted."
)


class CommandLine(TyperGroup):
    """A group of commands that turns every error into one line and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and end the process with the exit code."""
        console.tolerate_any_text()
        try:
            code = super().main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )  # fmt: skip
            sys.stdout.flush()
        except typer.TyperException as error:
            code = _usage(error)
        except typer.Abort:
            say("")  # ends the line of the question
            say("interrupted")
            code = ExitCode.INTERRUPTED
        except BrokenPipeError as error:
            code = _broken_pipe(error)
        except SystemExit as stop:
            # This is how typer and rich end a program whose output nobody reads.
            if not isinstance(stop.__context__, BrokenPipeError):
                raise
            console.discard_stdout()
            code = ExitCode.DONE
        if standalone_mode:
            sys.exit(int(code or 0))
        return code

    def invoke(self, ctx: Any) -> Any:
        """Run a command; errors become exit codes here, where its flags are still known."""
        try:
            with orderly_interrupts():
                return super().invoke(ctx)
        except (typer.TyperException, typer.Exit, typer.Abort):
            raise
        except BrokenPipeError as error:
            raise typer.Exit(_broken_pipe(error)) from error
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except Exception as error:
            raise typer.Exit(report(error, verbose=is_verbose(ctx))) from error


def _broken_pipe(error: BrokenPipeError) -> ExitCode:
    """Nothing to tell when it was our reader who left; a fault when it was any other pipe."""
    if not console.stdout_is_closed():
        return report(error, verbose=False)
    console.discard_stdout()
    return ExitCode.DONE


def _usage(error: typer.TyperException) -> ExitCode:
    context = getattr(error, "ctx", None)
    say(f"mmretrieve: {error.format_message().replace('Value error, ', '')}")
    if context is not None:
        say(f"Try `{context.command_path} --help`.")
    return ExitCode.USAGE


def _version(wanted: bool) -> None:
    if wanted:
        emit(f"mmretrieve {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=CommandLine,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def start(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Search videos by what is seen, said, written on screen and known about them."""
    if ctx.invoked_subcommand is None:
        emit(ctx.get_help())
        raise typer.Exit(ExitCode.USAGE)


app.command("index")(index.index)
app.command("watch")(watch.watch)
app.command("query")(query.query)
app.command("info")(manage.info)
app.command("ls")(manage.ls)
app.command("explain")(explain.explain)
app.command("eval")(evaluate)
app.command("train")(train)
app.command("synthesize-queries")(synthesize_queries)
app.command("remove")(manage.remove)
app.command("duplicates")(duplicates.duplicates)
app.command("codes")(codes.codes)
app.command("verify")(health.verify)
app.command("repair")(health.repair)
app.command("backup")(health.backup)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
