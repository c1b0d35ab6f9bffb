"""Layout -> reader.

============  ==================================================================================
layout        what lies in the folder
============  ==================================================================================
folder        ``queries.jsonl``, and ``documents.jsonl`` or the videos themselves
multivent2    MultiVENT 2.0: ``*_q.csv`` (Query_id, query), ``*_j.jsonl`` (query_id, doc_id,
              relevance), ``*_ids.csv`` (id)
multivent2pp  MultiVENT 2.0++: ``*.json`` (video id -> query, query_type), or joined rows ``*.jsonl``
msrvtt        MSR-VTT 1k-A: ``*JSFUSION*.csv`` (key, vid_key, video_id, sentence; ``;`` or ``,``)
activitynet   ActivityNet Captions: ``*.json`` (video id -> duration, timestamps, sentences)
tvr           TVR: ``tvr_*.jsonl`` (desc_id, desc, type, vid_name, ts), subtitles ``*subtitles*.jsonl``
============  ==================================================================================

Beside all of them ``documents.jsonl`` may give content (:mod:`.content`), so that a collection can be
indexed from texts and frames where no video file exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mmretrieve.errors import UsageError
from mmretrieve.evaluation.collection import Collection
from mmretrieve.evaluation.datasets import captions, multivent
from mmretrieve.evaluation.datasets.content import beside
from mmretrieve.evaluation.queries import read_queries
from mmretrieve.evaluation.trec import Qrels


def read_collection(layout: str, path: Path) -> Collection:
    """A collection in a published layout.

    Raises:
        UsageError: no such layout or path, a file that is missing or wrong, with file and line.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"no layout {layout!r}: expected one of {', '.join(LAYOUTS)}")
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    return LAYOUTS[layout](path)


def folder(path: Path) -> Collection:
    """``queries.jsonl``, whose ``relevant`` names documents or files."""
    queries = read_queries(path)
    relevance = {q.query_id: dict.fromkeys(q.relevant, 1) for q in queries}
    return Collection(path.name, beside(path), queries, Qrels(relevance))


LAYOUTS: Mapping[str, Callable[[Path], Collection]] = {
    "folder": folder,
    "multivent2": multivent.multivent2,
    "multivent2pp": multivent.multivent2pp,
    "msrvtt": captions.msrvtt,
    "activitynet": captions.activitynet,
    "tvr": captions.tvr,
}
