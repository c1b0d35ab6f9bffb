"""``mmretrieve codes``: what searching scans, checked or made anew."""

from __future__ import annotations

from typing import Annotated

import typer

from mmretrieve.cli.console import emit, say
from mmretrieve.cli.options import IndexOption, VerboseOption
from mmretrieve.errors import CodesError


def codes(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Write them anew from the tables.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of them and compare checksums.")
    ] = False,
    index: IndexOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Show, check or rebuild the token codes that searching scans. They are made from the index, which
    is never changed by this."""
    from mmretrieve.engine import Engine

    with Engine.open(index) as engine:
        if rebuild:
            for note in engine.rebuild():
                say(f"note: {note}")
        faults = engine.verify_codes() if verify else ()
        emit(engine.info().search_path)
    if faults:
        raise CodesError(f"{'; '.join(faults)}: run `mmretrieve codes --rebuild`")
