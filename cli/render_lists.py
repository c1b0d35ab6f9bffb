"""The index for people: its videos, its numbers, what a run did to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from mmretrieve.cli.console import out
from mmretrieve.cli.records import shown_modalities
from mmretrieve.cli.text import clean, plural, shown_path, size
from mmretrieve.cli.times import clock, took
from mmretrieve.datatypes import Modality
from mmretrieve.reports import Failure, Health, IndexInfo, VideoInfo

_SHOWN = 20
_NO_TEXT = ("metadata", "keyframes", "sound")
"""Sources that no text of a passage comes from."""


def print_videos(videos: Sequence[VideoInfo]) -> None:
    """One line a video: path, duration, tokens of each modality, where its text came from."""
    console = out()
    if not videos:
        console.print("the index is empty: mmretrieve index FOLDER_WITH_VIDEOS")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("video", overflow="fold")
    shown = shown_modalities(video.n_tokens for video in videos)
    for name in ("duration", *(modality.value for modality in shown)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("text from", overflow="fold")
    for video in videos:
        table.add_row(*_video_row(video, shown))
    console.print(table)


def print_info(info: IndexInfo, missing: Sequence[VideoInfo]) -> None:
    """Counts, sizes, encoders and what needs attention."""
    console = out()
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(info):
        table.add_row(name, Text(value))
    console.print(table)
    for line in _attention(info.failures, missing):
        console.print(line, soft_wrap=True)


def _video_row(video: VideoInfo, shown: Sequence[Modality]) -> tuple[Text, ...]:
    path = Text().append(shown_path(video.path), "bold")
    if video.missing:
        path.append("  (file is gone)", "yellow")
    sources = dict.fromkeys(s for s in video.sources.values() if s not in _NO_TEXT)
    return (
        path,
        Text(clock(video.duration_s)),
        *(Text(f"{video.n_tokens.get(modality, 0):,}") for modality in shown),
        Text(clean(", ".join(sources)), "dim"),
    )


def _facts(info: IndexInfo) -> Iterable[tuple[str, str]]:
    tokens = sum(info.n_tokens.values())
    each = ", ".join(
        f"{m.value} {info.n_tokens.get(m, 0):,}" for m in shown_modalities([info.n_tokens])
    )
    sizes = ", ".join(f"{name} {size(n)}" for name, n in info.size_bytes.items())
    yield "index", clean(info.path)
    yield "preset", f"{info.preset} (format {info.format_version})"
    yield (
        "videos",
        f"{info.n_videos:,} from {plural(info.n_files, 'file')}, {took(info.duration_s)}",
    )
    yield "passages", f"{info.n_passages:,}"
    yield "tokens", f"{tokens:,} ({each})"
    yield "size", f"{size(sum(info.size_bytes.values()))} ({sizes or 'nothing yet'})"
    yield "search", info.search_path
    for name, digest in info.encoders.items():
        yield "encoder", f"{clean(name)} {digest[:12]}"
    if info.health is not None:
        yield from _health(info.health)


def _health(health: Health) -> Iterable[tuple[str, str]]:
    """The state of the index and what was done to it last."""
    if health.writer is not None:
        yield "writing", clean(health.writer)
    if health.unsettled:
        yield "unsettled", "a run was killed; the next one tidies up"
    yield (
        "upkeep",
        f"{plural(health.n_versions, 'version')} and {plural(health.n_pieces, 'piece')} of tables, "
        f"{health.n_unsealed:,} videos without codes, {health.n_waiting:,} old folders of codes",
    )
    for name, event in (
        ("last run", health.last_run),
        ("last verify", health.last_verify),
        ("last repair", health.last_repair),
    ):
        if event is not None:
            yield name, clean(_event(event))
    for told in health.notes:
        yield "note", clean(told)


def _event(event: Mapping[str, object]) -> str:
    """A record of the log in a line."""
    told = [str(event.get("at", ""))[:19].replace("T", " ") + " UTC"]
    if event["event"] == "run failed":
        told.append(f"failed: {event.get('error')}")
    counts = event.get("counts")
    if isinstance(counts, dict):
        told += [f"{count} {name}" for name, count in counts.items()]
    if "clean" in event:
        told.append("all promises held" if event["clean"] else "something was wrong")
    return ", ".join(told)


def _attention(failures: Sequence[Failure], missing: Sequence[VideoInfo]) -> Iterable[Text]:
    if not failures and not missing:
        yield Text("health    no failures, no missing files", "green")
    if failures:
        yield Text(f"\n{plural(len(failures), 'file')} could not be indexed:", "yellow")
        for failure in failures[:_SHOWN]:
            yield Text(f"  {shown_path(failure.path)}: {clean(failure.error)}")
        yield from _more(len(failures))
        yield Text("  try again: mmretrieve index PATH --retry-failed")
    if missing:
        yield Text(f"\n{plural(len(missing), 'file')} of the index are gone:", "yellow")
        for video in missing[:_SHOWN]:
            yield Text(f"  {shown_path(video.path)}")
        yield from _more(len(missing))
        yield Text("  drop what is gone: mmretrieve index FOLDER --prune")


def _more(count: int) -> Iterable[Text]:
    if count > _SHOWN:
        yield Text(f"  and {count - _SHOWN} more")
