"""What a run would do, without doing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mmretrieve.errors import InputError
from mmretrieve.fingerprint import fingerprint
from mmretrieve.lifecycle.planning import Look, Looked
from mmretrieve.lifecycle.pruning import is_gone
from mmretrieve.reports import FileResult, Outcome
from mmretrieve.storage.records import FileRecord, VideoRecord


def kinship(path: str, twins: Sequence[str]) -> Outcome:
    """What a file is that has the same bytes as those that the index knows at ``twins``."""
    if path in twins:
        return Outcome.UNCHANGED
    exists = any(not is_gone(twin) for twin in twins)
    return Outcome.DUPLICATE if exists else Outcome.MOVED


def where(files: Iterable[FileRecord], videos: Iterable[VideoRecord]) -> dict[str, list[str]]:
    """Video id -> paths of the files that have its bytes; the path that a video is known by, where a run
    that was killed had no time left to note its file."""
    out: dict[str, list[str]] = {}
    for file in files:
        if file.video_id is not None and file.error is None:
            out.setdefault(file.video_id, []).append(file.path)
    for video in videos:
        out.setdefault(video.video_id, [video.path])
    return out


def predicted(
    looked: Iterable[Looked], known: Mapping[str, FileRecord], *, force: bool
) -> list[tuple[Looked, FileResult]]:
    """What would become of each file that has to be opened; only files of the size of one that the
    index knows are read, to tell whether they are the same."""
    sizes = {file.size_bytes for file in known.values() if file.error is None}
    places = where(known.values(), ())
    out = []
    for item in looked:
        if item.look is not Look.OPEN:
            continue
        path = item.state.path
        result = FileResult(path, Outcome.INDEXED, reason=item.reason)
        if not force and item.state.size_bytes in sizes:
            try:
                video_id = fingerprint(Path(path))
            except InputError as error:
                out.append((item, replace(result, outcome=Outcome.FAILED, error=str(error))))
                continue
            if twins := places.get(video_id):
                told = f"same content as {twins[0]}"
                result = FileResult(path, kinship(path, twins), reason=told)
                item = replace(item, state=replace(item.state, video_id=video_id))
        out.append((item, result))
    return out
