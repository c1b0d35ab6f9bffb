"""From errors to exit codes: every failure ends with one line that says what to do."""

from __future__ import annotations

import errno
import os
import traceback
from enum import IntEnum

from mmretrieve.cli.console import say
from mmretrieve.errors import InputError, SetupError, UsageError

DEBUG_VARIABLE = "MMRETRIEVE_DEBUG"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}


class ExitCode(IntEnum):
    """What the exit code of the program means; part of its contract."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    NOTHING_MATCHED = 3
    SETUP = 4
    ALL_FAILED = 5
    INTERNAL = 70
    INTERRUPTED = 130


_CODES = {
    UsageError: ExitCode.USAGE,
    SetupError: ExitCode.SETUP,
    InputError: ExitCode.SOME_FAILED,
}


def report(error: Exception, *, verbose: bool) -> ExitCode:
    """Tell about an error on standard error and return the exit code that it asks for."""
    code, message = _classify(error)
    if verbose or os.environ.get(DEBUG_VARIABLE):
        say_traceback(error)
    say(f"mmretrieve: {message}")
    if code is ExitCode.INTERNAL and not verbose:
        say(f"This is a bug; with {DEBUG_VARIABLE}=1 it shows where. Please report it.", indent=2)
    return code


def say_traceback(error: Exception) -> None:
    """The plain traceback, line by line."""
    for block in traceback.format_exception(error):
        for line in block.rstrip().splitlines():
            say(line, indent=len(line) - len(line.lstrip()))


def _classify(error: Exception) -> tuple[ExitCode, str]:
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code, str(error)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("mmretrieve"):
        return ExitCode.SETUP, f"{error}: `mmretrieve doctor` names what is missing"
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return ExitCode.SETUP, f"{error}: make room, then run the same command again"
    if isinstance(error, OSError) and error.errno in _NOT_ALLOWED:
        return ExitCode.SETUP, f"{error}: check the rights, or name another index with --index"
    return ExitCode.INTERNAL, f"internal error: {type(error).__name__}: {error}"
