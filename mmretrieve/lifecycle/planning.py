"""What is to be done about files, and why: pure functions of what is stored and what is found.

A run first *looks* at each file: most are known by size and time of change, the others have to be opened
to know what they are. Then it *settles* each video: of the files with its bytes, one is what it is read
from, and whatever of the stored result depends on something that changed is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from mmretrieve.lifecycle.keys import StageKey
from mmretrieve.storage.records import FileRecord

STALE = {
    StageKey.PICTURES: "how pictures are chosen changed",
    StageKey.WRITTEN: "how text on screen is read changed",
    StageKey.BESIDE: "which subtitles are wanted changed",
    StageKey.HEARD: "how speech is recognised changed",
    StageKey.TEXT: "the encoders changed",
    StageKey.SOUND: "how sound is heard changed",
}
"""What to tell when the key of a stage differs; in the order of telling."""


class Look(StrEnum):
    """What a first look at a file says."""

    OPEN = "open"
    KNOWN = "known"
    SKIP = "skip"
    """Failed before and is as it was."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A file in the state in which it was found, what the index knew about it, and what follows."""

    state: FileRecord
    before: FileRecord | None
    look: Look
    reason: str = ""


@dataclass(frozen=True, slots=True)
class VideoState:
    """What a stored video was made from: the file, the signature of what lay beside it, and the keys of
    its stages (None: made by a version that did not keep them)."""

    video_id: str
    path: str
    sidecars: str
    settings_key: str
    keys: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Refresh:
    """A video of which something is to be done again, the file to do it from, and why."""

    video_id: str
    file: FileRecord
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        return "; ".join(self.reasons)


def look(
    state: FileRecord, before: FileRecord | None, *, force: bool, retry_failed: bool
) -> Looked:
    """What is to be done first about a file that was found in ``state``."""
    reason = _why_open(state, before, force=force, retry_failed=retry_failed)
    if reason is not None:
        return Looked(state, before, Look.OPEN, reason)
    if before is not None and before.error is not None:
        return Looked(state, before, Look.SKIP, "failed before and did not change")
    return Looked(state, before, Look.KNOWN)


def _why_open(
    state: FileRecord, before: FileRecord | None, *, force: bool, retry_failed: bool
) -> str | None:
    if before is None:
        return "new file"
    depends = (state.sidecars, state.settings_key) != (before.sidecars, before.settings_key)
    reasons = (
        (force, "everything is wanted again"),
        (
            state.size_bytes != before.size_bytes,
            f"changed from {before.size_bytes:,} to {state.size_bytes:,} bytes",
        ),
        (state.mtime_ns != before.mtime_ns, "written to since"),
        (before.error is None and before.video_id is None, "not known what it is"),
        (before.error is not None and depends, "failed before, and what it depends on changed"),
        (before.error is not None and retry_failed, "failed before"),
    )
    return next((reason for holds, reason in reasons if holds), None)


def settle(
    videos: Iterable[VideoState],
    files: Iterable[FileRecord],
    scope: Collection[str],
    keys: Mapping[str, str],
    settings_key: str,
    holds: Callable[[FileRecord], bool],
    no_sidecars: str,
) -> list[Refresh]:
    """What is to be done again of stored videos.

    Args:
        videos: what they were made from.
        files: all files that the index knows, in their newest state.
        scope: paths of the run; a video none of whose files is among them is left alone.
        keys: of the stages, as the settings and the encoders are now.
        settings_key: of the settings as they are now.
        holds: whether a file is as the index knows it; asked of files outside the scope only.
        no_sidecars: the signature of nothing beside a file.
    """
    of_video: dict[str, list[FileRecord]] = {}
    for file in files:
        if file.video_id is not None and file.error is None:
            of_video.setdefault(file.video_id, []).append(file)
    out = []
    for video in videos:
        twins = of_video.get(video.video_id, [])
        if not any(file.path in scope for file in twins):
            continue
        present = [file for file in twins if file.path in scope or holds(file)]
        best = min(present, key=lambda file: (file.sidecars == no_sidecars, file.path))
        reasons = _reasons(video, best, keys, settings_key)
        if reasons:
            out.append(Refresh(video.video_id, best, reasons))
    return out


def _reasons(
    video: VideoState, file: FileRecord, keys: Mapping[str, str], settings_key: str
) -> tuple[str, ...]:
    out = []
    if video.sidecars != file.sidecars:
        out.append("files beside it changed")
    if video.keys is None:
        # Its name is in its metadata, but reading all of it anew is too much for a name.
        out += ["settings changed"] if video.settings_key != settings_key else []
        return tuple(out)
    if video.path != file.path:
        out.append(f"known as {video.path}")
    same_settings = video.settings_key == settings_key
    for stage, told in STALE.items():
        before = video.keys.get(stage)
        # A stage without a key was not needed, or failed: as long as settings are as they were.
        if before != keys.get(stage) and not (before is None and same_settings):
            if stage is StageKey.WRITTEN and STALE[StageKey.PICTURES] in out:
                continue
            out.append(told)
    return tuple(out)
