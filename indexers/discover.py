"""Finding the videos below folders, in a stable order and without leaving them."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmretrieve.errors import UsageError
from mmretrieve.indexers.warn import Warn, ignore
from mmretrieve.regular import open_regular

_VIDEO = """
.3g2 .3gp .asf .avi .divx .dv .f4v .flv .m1v .m2t .m2ts .m2v .m4v .mkv .mov .mp4 .mpe .mpeg .mpg
.mts .mxf .nut .ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .y4m
"""
_AUDIO = ".aac .flac .m4a .m4b .mka .mp3 .oga .ogg .opus .wav .wma"
VIDEO_SUFFIXES = frozenset(_VIDEO.split())
AUDIO_SUFFIXES = frozenset(_AUDIO.split())
MEDIA_SUFFIXES = VIDEO_SUFFIXES | AUDIO_SUFFIXES

_PARTIAL_SUFFIXES = (".part", ".crdownload", ".ytdl", ".tmp", ".download", ".opdownload", ".!ut")
_MPEG_TS_PERIODS = (188, 192, 204)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A media file. ``mtime_ns`` is nanoseconds since the epoch."""

    path: Path
    size_bytes: int
    mtime_ns: int


def discover(
    paths: Iterable[Path], exclude_globs: Sequence[str] = (), warn: Warn = ignore
) -> Iterator[FoundFile]:
    """Media files at and below ``paths``, each once, sorted within each folder.

    Folders are searched to any depth; hidden ones, unfinished downloads, and whatever matches one
    of ``exclude_globs`` (against the name, or the path below the folder given) are left out.
    A link that leads out of the folder given is reported through ``warn`` and not followed. A
    file that is named itself is taken whatever its suffix.

    Raises:
        UsageError: one of ``paths`` does not exist; nothing has been yielded before that.
    """
    roots = [Path(path) for path in paths]
    for root in roots:
        if not root.exists():
            raise UsageError(
                f"{root}: no such file or folder; expected a video or a folder of them"
            )
    return _discover(roots, exclude_globs, warn)


def _discover(
    roots: Sequence[Path], exclude_globs: Sequence[str], warn: Warn
) -> Iterator[FoundFile]:
    seen: set[tuple[int, int]] = set()
    for root in roots:
        candidates = _walk(root, exclude_globs, seen, warn) if root.is_dir() else _named(root, warn)
        for path, info in candidates:
            if (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                yield FoundFile(path, info.st_size, info.st_mtime_ns)


def _named(path: Path, warn: Warn) -> Iterator[tuple[Path, os.stat_result]]:
    info = path.stat()
    if stat.S_ISREG(info.st_mode):
        yield path, info
    else:
        warn(f"{path}: is no regular file; skipped")


def _walk(
    root: Path, exclude_globs: Sequence[str], seen: set[tuple[int, int]], warn: Warn
) -> Iterator[tuple[Path, os.stat_result]]:
    """Depth first: the files of a folder, then its folders, both by name."""
    here = root.stat()
    if (here.st_dev, here.st_ino) in seen:
        return
    seen.add((here.st_dev, here.st_ino))
    real_root, pending = root.resolve(), [root]
    while pending:
        folder = pending.pop()
        folders: list[Path] = []
        for path in _listing(folder, warn):
            if _excluded(path, root, exclude_globs):
                continue
            info = _inside(path, real_root, warn)
            if info is None:
                continue
            if stat.S_ISDIR(info.st_mode):
                if (info.st_dev, info.st_ino) not in seen:
                    seen.add((info.st_dev, info.st_ino))
                    folders.append(path)
            elif stat.S_ISREG(info.st_mode) and is_media(path):
                yield path, info
        pending.extend(reversed(folders))


def _listing(folder: Path, warn: Warn) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        warn(f"{folder}: cannot be read ({error.strerror or error}); skipped")
        return []
    return [entry for entry in entries if not entry.name.startswith(".")]


def _excluded(path: Path, root: Path, globs: Sequence[str]) -> bool:
    below = path.relative_to(root).as_posix()
    return any(
        fnmatch.fnmatchcase(name, glob.rstrip("/")) for glob in globs for name in (path.name, below)
    )


def _inside(path: Path, real_root: Path, warn: Warn) -> os.stat_result | None:
    """Facts of an entry, or ``None`` where it is broken or leads out of the root."""
    try:
        info = path.lstat()
        if not stat.S_ISLNK(info.st_mode):
            return info
        target = path.resolve(strict=True)
        if target.is_relative_to(real_root):
            return target.stat()
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before 3.13
        reason = getattr(error, "strerror", None) or "links to itself"
        warn(f"{path}: cannot be read ({reason}); skipped")
        return None
    if target.is_dir() or is_media(path):
        warn(
            f"{path}: leads out of {real_root.name or real_root}; give {target} itself to index it"
        )
    return None


def is_media(path: Path) -> bool:
    """Whether a found file is worth opening, by its name and, for ``.ts``, its first bytes."""
    name = path.name.casefold()
    if name.endswith(_PARTIAL_SUFFIXES) or name.startswith("~") or name.endswith("~"):
        return False
    suffix = path.suffix.casefold()
    return suffix in MEDIA_SUFFIXES and (suffix != ".ts" or _is_mpeg_ts(path))


def _is_mpeg_ts(path: Path) -> bool:
    """Tell a transport stream from a TypeScript source file."""
    try:
        with open_regular(path) as file:
            head = file.read(1024)
    except OSError:
        return False
    return any(
        head[at : at + 1] == b"G" and head[at + period : at + period + 1] == b"G"
        for period in _MPEG_TS_PERIODS
        for at in (0, 4)
    )
