"""Conditions on videos: what ``--where`` and ``--video`` mean."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Filter
from mmretrieve.errors import UsageError
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import Fact, VideoRecord

_CONDITION = re.compile(r"\s*([\w.-]+)\s*(>=|<=|!=|=|>|<|~)\s*(.*?)\s*", re.DOTALL)
_COMPARE: dict[str, Callable[[object, object], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,  # type: ignore[dict-item]
    "<": operator.lt,  # type: ignore[dict-item]
    ">=": operator.ge,  # type: ignore[dict-item]
    "<=": operator.le,  # type: ignore[dict-item]
}


def parse_condition(text: str) -> tuple[str, str]:
    """``"duration_s>=60"`` -> ``("duration_s>=", "60")``, as :class:`Filter` keeps it.

    Raises:
        UsageError: not of the form FIELD OPERATOR VALUE.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise UsageError(
            f"condition {text!r}: expected FIELD=VALUE with one of = != > < >= <= ~ (contains), "
            "for example channel=NASA or upload_date>=2024-01-01"
        )
    return found[1] + found[2], found[3]


def holds(video: VideoRecord, path: str, field_operator: str, value: str) -> bool:
    """Whether a video meets one condition; a field that it does not have meets only ``!=``."""
    field = field_operator.rstrip("=!<>~")
    sign = field_operator[len(field) :] or "="
    if sign not in _COMPARE and sign != "~":
        raise UsageError(
            f"condition {field_operator!r}: expected one of = != > < >= <= ~ at its end"
        )
    fact = _fact(video, path, field)
    if fact is None:
        return sign == "!="
    options = fact if isinstance(fact, tuple) else (fact,)
    if sign == "!=":
        return all(_compare("!=", option, value) for option in options)
    return any(_compare(sign, option, value) for option in options)


def _compare(sign: str, fact: str | float, value: str) -> bool:
    if sign == "~":
        return value.casefold() in str(fact).casefold()
    if isinstance(fact, bool):
        return _COMPARE[sign](str(fact).casefold(), value.casefold())
    if isinstance(fact, (int, float)):
        try:
            return _COMPARE[sign](float(fact), float(value))
        except ValueError:
            return sign == "!="
    return _COMPARE[sign](fact.casefold(), value.casefold())


def _fact(video: VideoRecord, path: str, field: str) -> Fact | None:
    own: dict[str, Fact | None] = {
        "video_id": video.video_id,
        "title": video.title,
        "path": path,
        "name": PurePath(path).name,
        "duration_s": video.duration_s,
        "width": video.probe.width,
        "height": video.probe.height,
        "fps": video.probe.fps,
        "video_codec": video.probe.video_codec,
        "audio_codec": video.probe.audio_codec,
        "container": video.probe.container,
        "size_bytes": video.probe.size_bytes,
    }
    return own[field] if field in own else video.facts.get(field)


def keep_videos(snapshot: Snapshot, wanted: Filter) -> NDArray[np.bool_]:
    """``(n_videos,)``: which of the snapshot's videos meet the conditions on videos.

    Raises:
        UsageError: a condition that cannot be read.
    """
    keep = np.ones(len(snapshot.videos), bool)
    if wanted.video_glob is None and not wanted.where:
        return keep
    for i, video in enumerate(snapshot.videos):
        path = snapshot.paths[video.video_id]
        if wanted.video_glob is not None:
            keep[i] = matches(video.video_id, path, wanted.video_glob)
        keep[i] &= all(holds(video, path, name, value) for name, value in wanted.where)
    return keep


def matches(video_id: str, path: str, glob: str) -> bool:
    """Whether a video is meant by its id, its path, its file name, or a glob over either."""
    names = (video_id, path, PurePath(path).name)
    return glob in names or any(fnmatch.fnmatchcase(name, glob) for name in names)
