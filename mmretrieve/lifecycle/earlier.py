"""What another index read of the same videos, so that new weights need no new reading."""

from __future__ import annotations

from pathlib import Path

from mmretrieve.errors import UsageError
from mmretrieve.lifecycle.reuse import Kept, read_kept
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.reader import Snapshot


class EarlierIndex:
    """The readings of an index as it was when this was made: cuts, text on screen, speech. Which of them
    hold is up to :class:`~mmretrieve.lifecycle.reuse.Reuse`, as for an index's own."""

    def __init__(self, folder: Path, ours: Path) -> None:
        """``ours``: the index that is written to.

        Raises:
            UsageError: they are the same.
            IndexNotFoundError, IndexFormatError: ``folder`` is no index.
        """
        if folder.resolve() == ours.resolve():
            raise UsageError(
                f"{folder} is the index that is written to, and uses what it read anyway: name another "
                "one to reuse, or leave it out"
            )
        self._folder = folder
        self._videos = {v.video_id: v for v in Snapshot(folder, read_manifest(folder)).videos}

    def of(self, video_id: str) -> Kept | None:
        """What it read of the file with these bytes."""
        video = self._videos.get(video_id)
        return read_kept(self._folder, [video]).get(video_id) if video is not None else None
