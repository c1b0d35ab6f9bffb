"""``mmretrieve watch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmretrieve.cli.console import say
from mmretrieve.cli.index import ExcludeOption, PathsArgument, PruneOption, QuietOption
from mmretrieve.cli.options import IndexOption, VerboseOption
from mmretrieve.cli.progress import plain_progress
from mmretrieve.cli.text import clean
from mmretrieve.errors import UsageError

PollOption = Annotated[
    float | None,
    typer.Option(
        min=0.05,
        metavar="SECONDS",
        help="Look so often, instead of being told by the system: for network mounts.",
    ),
]
SettleOption = Annotated[
    float,
    typer.Option(
        min=0.1, metavar="SECONDS", help="A file is taken when nothing changed for so long."
    ),
]


def watch(
    paths: PathsArgument,
    index: IndexOption = None,
    exclude: ExcludeOption = None,
    prune: PruneOption = False,
    poll: PollOption = None,
    settle: SettleOption = 3.0,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Index folders, and keep the index up to date until interrupted.

    Files that are still being copied are waited for. What fails is told and does not end it.
    """
    folders = [path for path in paths if not path.is_dir()]
    if folders:
        raise UsageError(f"{folders[0]}: no folder; expected folders of videos to watch")
    from mmretrieve.engine import Engine
    from mmretrieve.storage.memory import keep_memory_flat
    from mmretrieve.watching import Watch, WatchOptions

    keep_memory_flat()
    options = WatchOptions(tuple(exclude or ()), prune, settle_s=settle, poll_s=poll)
    with Engine.create(index) as engine:
        told = None if quiet else plain_progress(verbose=verbose)
        Watch(engine, [Path(p) for p in paths], options, lambda line: say(clean(line)), told).run()
