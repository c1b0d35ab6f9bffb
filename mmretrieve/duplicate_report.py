"""Which videos of an index show the same, by path."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from mmretrieve.reports import DuplicateGroup, SharedStretch
from mmretrieve.storage.reader import Snapshot

if TYPE_CHECKING:
    from mmretrieve.lifecycle.duplicates import DuplicateLimits


class ReportsDuplicates(ABC):
    """What an engine can say of videos that show the same."""

    @abstractmethod
    def _fresh(self) -> Snapshot: ...

    def duplicates(self, limits: DuplicateLimits | None = None) -> tuple[DuplicateGroup, ...]:
        """Files with equal bytes, and videos that show the same pictures: copies that were encoded anew,
        scaled, cropped a little or trimmed. Largest group first."""
        return duplicate_groups(self._fresh(), limits)


def duplicate_groups(
    snapshot: Snapshot, limits: DuplicateLimits | None = None
) -> tuple[DuplicateGroup, ...]:
    """Groups of files with equal bytes or the same pictures, largest first."""
    from mmretrieve.lifecycle.duplicates import find_pairs, groups
    from mmretrieve.storage.extractions import read_traces

    traces = read_traces(snapshot.folder)
    shown = [(v.video_id, traces[v.revision]) for v in snapshot.videos if v.revision in traces]
    names = [snapshot.paths[video_id] for video_id, _ in shown]
    pairs = find_pairs([trace for _, trace in shown], limits)
    copies = _copies(snapshot)
    out, told = [], set()
    for members in groups(pairs):
        ids = [shown[number][0] for number in members]
        told |= set(ids)
        stretches = tuple(
            SharedStretch(
                names[p.first], names[p.second], round(p.similarity, 4), p.first_span, p.second_span
            )
            for p in pairs
            if p.first in members
        )
        equal = tuple(copies[i] for i in ids if len(copies.get(i, ())) > 1)
        paths = {path for i in ids for path in copies.get(i, (snapshot.paths[i],))}
        out.append(DuplicateGroup(tuple(sorted(paths)), equal, stretches))
    for video_id, same in copies.items():
        if len(same) > 1 and video_id not in told:
            out.append(DuplicateGroup(same, (same,), ()))
    return tuple(sorted(out, key=lambda group: (-len(group.paths), group.paths)))


def _copies(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    """Video id -> the files with its bytes."""
    out: dict[str, list[str]] = {}
    for file in snapshot.files:
        if file.video_id is not None and file.error is None:
            out.setdefault(file.video_id, []).append(file.path)
    return {video_id: tuple(sorted(paths)) for video_id, paths in out.items()}
