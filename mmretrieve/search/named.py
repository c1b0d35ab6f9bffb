"""Videos that are meant by a name: an id, a path, a file name or a glob."""

from __future__ import annotations

import os

from mmretrieve.errors import UsageError
from mmretrieve.search.filters import matches
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import VideoRecord


def all_named(snapshot: Snapshot, name: str) -> list[VideoRecord]:
    """The videos that fit ``name``.

    Raises:
        UsageError: there is none.
    """
    options = {name, os.path.abspath(name)}  # noqa: PTH100 - as indexing does, without resolve()
    found = [
        v for v in snapshot.videos
        if any(matches(v.video_id, snapshot.paths[v.video_id], option) for option in options)
    ]  # fmt: skip
    if not found:
        raise UsageError(f"no video in the index fits {name!r}: `mmretrieve ls` shows them all")
    return found


def the_one_named(snapshot: Snapshot, name: str) -> VideoRecord:
    """The video that fits ``name``.

    Raises:
        UsageError: there is none, or several.
    """
    found = all_named(snapshot, name)
    if len(found) > 1:
        paths = ", ".join(snapshot.paths[v.video_id] for v in found[:3])
        raise UsageError(f"{name!r} fits {len(found)} videos ({paths}, ...): name one of them")
    return found[0]
