"""``mmretrieve info``, ``ls`` and ``remove``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mmretrieve.cli.console import emit, say
from mmretrieve.cli.options import (
    Format,
    FormatOption,
    IndexOption,
    ReportFormat,
    ReportFormatOption,
    VerboseOption,
    resolve,
    resolve_report,
)
from mmretrieve.cli.records import info_record, to_json
from mmretrieve.cli.text import plural, shown_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmretrieve.reports import VideoInfo

_SHOWN_NAMES = 10


def info(
    index: IndexOption = None,
    chosen: ReportFormatOption = ReportFormat.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Show what the index holds, how large it is, and what needs attention."""
    from mmretrieve.engine import Engine

    with Engine.open(index) as engine:
        facts = engine.info()
        missing = [video for video in engine.videos() if video.missing]
    if resolve_report(chosen) is ReportFormat.JSON:
        emit(to_json(info_record(facts, len(missing)), indent=2))
        return
    from mmretrieve.cli.render_lists import print_info

    print_info(facts, missing)


def ls(
    index: IndexOption = None,
    chosen: FormatOption = Format.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """List the videos of the index, with how much of each modality is known and from where."""
    from mmretrieve.engine import Engine

    with Engine.open(index) as engine:
        videos = engine.videos()
        folder = str(engine.folder)
    if resolve(chosen) is Format.TABLE:
        from mmretrieve.cli.render_lists import print_videos

        print_videos(videos)
        return
    from mmretrieve.cli.render_lines import write_videos

    write_videos(videos, folder, resolve(chosen))


def remove(
    names: Annotated[
        list[str], typer.Argument(metavar="VIDEO", help="Paths, file names, globs or ids.")
    ],
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    index: IndexOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Remove videos from the index. The files themselves are not touched."""
    from mmretrieve.engine import Engine

    with Engine.open(index) as engine:
        if not yes and sys.stdin.isatty() and not _agreed(engine.matching(names)):
            say("nothing removed")
            return
        removed = engine.remove(names)
    for video in removed:
        say(f"removed {shown_path(video.path)}")
    say(f"{plural(len(removed), 'video')} removed; their files were not touched")


def _agreed(meant: Sequence[VideoInfo]) -> bool:
    for video in meant[:_SHOWN_NAMES]:
        say(shown_path(video.path), indent=2)
    if len(meant) > _SHOWN_NAMES:
        say(f"and {len(meant) - _SHOWN_NAMES} more", indent=2)
    return typer.confirm(f"Remove {plural(len(meant), 'video')} from the index?", err=True)
