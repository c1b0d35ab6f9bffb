"""What the index knows, and what is found, in the form that plans are made from."""

from __future__ import annotations

import os
from pathlib import Path

from mmretrieve.config import Settings
from mmretrieve.indexers.discover import FoundFile
from mmretrieve.indexers.sidecars import find_sidecars, signature
from mmretrieve.lifecycle.planning import VideoState
from mmretrieve.storage.extractions import read_origins
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import FileRecord

NO_SIDECARS = signature(())


def file_state(found: FoundFile, settings: Settings) -> FileRecord:
    """A file as it was found, with what lies beside it."""
    beside = find_sidecars(found.path, settings.speech.language).paths
    return FileRecord(
        str(found.path), found.size_bytes, found.mtime_ns, signature(beside), settings.content_key
    )


def video_states(snapshot: Snapshot) -> list[VideoState]:
    """What each stored video was made from."""
    origins = read_origins(snapshot.folder)
    before = {file.path: file for file in snapshot.files}
    out = []
    for video in snapshot.videos:
        origin, file = origins.get(video.revision), before.get(video.path)
        if origin is not None:
            sidecars, keys = origin.sidecars, origin.keys
        else:
            sidecars, keys = file.sidecars if file is not None else NO_SIDECARS, None
        out.append(VideoState(video.video_id, video.path, sidecars, video.settings_key, keys))
    return out


def is_as_recorded(file: FileRecord) -> bool:
    """Whether a file is there with the size and time of change that the index knows."""
    try:
        facts = Path(file.path).stat()
    except (OSError, ValueError):
        return False
    return (facts.st_size, facts.st_mtime_ns) == (file.size_bytes, file.mtime_ns)


def is_unicode(path: Path) -> bool:
    """Whether a path can be stored as it is."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def as_text(path: Path) -> str:
    """A path that is no Unicode, with what cannot be shown replaced."""
    return os.fsencode(path).decode("utf-8", "replace")
