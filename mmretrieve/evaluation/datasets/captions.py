"""Collections whose queries are captions: MSR-VTT (1k-A), ActivityNet Captions, TVR."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmretrieve.datatypes import Modality, Segment
from mmretrieve.documents import Document
from mmretrieve.errors import UsageError
from mmretrieve.evaluation.collection import Collection
from mmretrieve.evaluation.datasets.content import beside
from mmretrieve.evaluation.datasets.fields import Row, csv_rows, json_rows, json_table, one_file
from mmretrieve.evaluation.queries import Query, span
from mmretrieve.evaluation.trec import Qrels

_TVR_TYPES: Mapping[str, str] = {"v": "frames", "t": "speech", "vt": "frames+speech"}


def msrvtt(path: Path) -> Collection:
    """The 1,000 captions of split 1k-A (Yu, Kim & Kim, 2018, JSFusion), one a video; published with
    semicolons and with commas.

    Raises:
        UsageError: a missing or faulty file, a key or video twice; with file and line.
    """
    file = one_file(path, "*.csv", "file of captions")
    queries: dict[str, Query] = {}
    videos: dict[str, str] = {}
    for row in csv_rows(file, ("key", "video_id", "sentence"), ";,"):
        key, video = row.text("key"), row.text("video_id")
        if key in queries:
            raise UsageError(f"{row.where}: key {key!r} was used at {queries[key].where}")
        if video in videos:
            raise UsageError(f"{row.where}: video {video!r} was there at {videos[video]}")
        videos[video] = row.where
        queries[key] = Query(key, row.text("sentence"), "", (video,), row.where)
    return _collection("MSR-VTT 1k-A", file, queries)


def activitynet(path: Path) -> Collection:
    """Every sentence of ActivityNet Captions (Krishna et al., 2017) is a query whose answer is its
    stretch of its video. Some stretches end before they begin; their ends are swapped.

    Raises:
        UsageError: a missing or faulty file, not as many times as sentences; with file and line.
    """
    file = one_file(path, "*.json", "file of captions")
    queries: dict[str, Query] = {}
    for video, row in json_table(file):
        times, sentences = row.fields.get("timestamps"), row.fields.get("sentences")
        if not isinstance(times, list) or not isinstance(sentences, list):
            raise UsageError(f'{row.where}: {video!r}: expected lists "timestamps" and "sentences"')
        if len(times) != len(sentences):
            raise UsageError(
                f"{row.where}: {video!r} has {len(times)} timestamps and {len(sentences)} sentences"
            )
        for number, (pair, sentence) in enumerate(zip(times, sentences, strict=True)):
            text = Row({"sentence": sentence}, row.where).text("sentence")
            moment = span(_in_order(pair), row.where)
            name = f"{video}#{number}"
            queries[name] = Query(name, text, "", (video,), row.where, (moment,))
    return _collection("ActivityNet Captions", file, queries)


def tvr(path: Path) -> Collection:
    """TVR (Lei et al., 2020, arXiv 2001.09099): descriptions of moments, marked by what they speak
    of (``v`` what is seen, ``t`` what is said, ``vt`` both), with the subtitles as content.

    Raises:
        UsageError: a missing or faulty file, an id twice; with file and line.
    """
    file = one_file(path, "tvr_*.jsonl", "file of descriptions")
    queries: dict[str, Query] = {}
    for row in json_rows(file):
        name = row.text("desc_id")
        if name in queries:
            raise UsageError(f"{row.where}: desc_id {name!r} was used at {queries[name].where}")
        kind = row.text("type") if "type" in row.fields else ""
        if kind and kind not in _TVR_TYPES:
            raise UsageError(f'{row.where}: "type": {kind!r}: expected v, t or vt')
        moment = span(_in_order(row.fields.get("ts")), row.where)
        queries[name] = Query(
            name, row.text("desc"), _TVR_TYPES.get(kind, ""), (row.text("vid_name"),), row.where,
            (moment,),
        )  # fmt: skip
    return _collection("TVR", file, queries, tuple(_subtitled(file.parent)))


def _subtitled(folder: Path) -> Iterator[Document]:
    if not list(folder.glob("*subtitles*.jsonl")):
        return
    seen: set[str] = set()
    for row in json_rows(one_file(folder, "*subtitles*.jsonl", "file of subtitles")):
        name, said = row.text("vid_name"), row.fields.get("sub")
        if name in seen:
            raise UsageError(f"{row.where}: subtitles of {name!r} are there twice")
        seen.add(name)
        if not isinstance(said, list):
            raise UsageError(f'{row.where}: "sub": expected a list of {{text, start, end}}')
        found = tuple(_line(item, row.where) for item in said)
        yield Document(name, segments={Modality.SPEECH: tuple(s for s in found if s.text)})


def _line(item: object, where: str) -> Segment:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        shown = json.dumps(item)[:60]
        raise UsageError(f"{where}: subtitle {shown}: expected {{text, start, end}}")
    start_s, end_s = span(_in_order([item.get("start"), item.get("end")]), where)
    return Segment(item["text"].strip(), start_s, end_s)


def _in_order(pair: object) -> object:
    """Two numbers, the smaller first; anything else as it is, for :func:`span` to refuse."""
    if isinstance(pair, list) and all(isinstance(v, (int, float)) for v in pair):
        return sorted(pair)
    return pair


def _collection(
    name: str, file: Path, queries: Mapping[str, Query], documents: tuple[Document, ...] = ()
) -> Collection:
    if not queries:
        raise UsageError(f"{file}: no query in it")
    relevance = {q.query_id: dict.fromkeys(q.relevant, 1) for q in queries.values()}
    return Collection(name, documents or beside(file), tuple(queries.values()), Qrels(relevance))
