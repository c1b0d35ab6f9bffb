"""The command line: parse, call the engine, render. Importing it loads nothing heavy."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the ``mmretrieve`` command and end the process with its exit code."""
    from mmretrieve.cli.app import app

    app(prog_name="mmretrieve")
