"""MultiVENT 2.0 (arXiv 2410.11619) and CLaMR's MultiVENT 2.0++ (arXiv 2506.06144)."""

from __future__ import annotations

import re
from pathlib import Path

from mmretrieve.errors import UsageError
from mmretrieve.evaluation.collection import Collection
from mmretrieve.evaluation.datasets.content import IDS, beside, documents_of
from mmretrieve.evaluation.datasets.fields import Row, csv_rows, json_rows, json_table, one_file
from mmretrieve.evaluation.modality import TARGETS
from mmretrieve.evaluation.queries import Query
from mmretrieve.evaluation.trec import Qrels

_KIND = re.compile(r".*_(base|description|speech|ocr)_\d+")


def multivent2(path: Path) -> Collection:
    """Queries, judgements and ids of MultiVENT 2.0. The type of a query is in its id: ``base`` is
    made from the event, the others from one kind of content.

    Raises:
        UsageError: a missing or faulty file, an id twice, judgements that contradict each other, or
            of queries or videos that are not in the other files; with file and line.
    """
    texts = _queries(one_file(path, "*_q.csv", "file of queries"))
    known = _ids(path)
    relevance: dict[str, dict[str, int]] = {}
    for row in json_rows(one_file(path, "*_j.jsonl", "file of judgements")):
        query_id, doc_id = row.text("query_id"), row.text("doc_id")
        grade = row.number("relevance")
        if query_id not in texts:
            raise UsageError(f"{row.where}: {query_id!r} is no query of the file of queries")
        if known and doc_id not in known:
            raise UsageError(f"{row.where}: {doc_id!r} is no video of the file of ids")
        judged = relevance.setdefault(query_id, {})
        # The published file repeats some of its lines.
        if judged.setdefault(doc_id, int(grade)) != int(grade):
            raise UsageError(f"{row.where}: {doc_id!r} was judged otherwise for {query_id!r}")
    queries = tuple(
        Query(key, row.text("query"), _kind(key), _answers(relevance.get(key, {})), row.where)
        for key, row in texts.items()
    )
    return Collection("MultiVENT 2.0", beside(path), queries, Qrels(relevance))


def multivent2pp(path: Path) -> Collection:
    """Modality-targeted queries: a JSON object of them, or the rows joined with content, in which a
    video comes once for each of its queries.

    Raises:
        UsageError: a missing or faulty file, an unknown type of query, a video twice; with file and
            line.
    """
    if path.is_dir() and not list(path.glob("*.json")):
        path = one_file(path, "*.jsonl", "file of joined rows")
    if path.is_file() and path.suffix == ".jsonl":
        rows = [(row.text(*IDS), row) for row in json_rows(path)]
        documents = documents_of((row for _, row in rows), path.parent)
    else:
        rows = list(json_table(one_file(path, "*.json", "file of queries")))
        documents = beside(path)
    if not rows:
        raise UsageError(f"{path}: no query in it")
    numbers: dict[str, int] = {}
    queries = []
    for video_id, row in rows:
        numbers[video_id] = numbers.get(video_id, 0) + 1
        name = video_id if numbers[video_id] == 1 else f"{video_id}#{numbers[video_id]}"
        queries.append(Query(name, row.text("query"), _target(row), (video_id,), row.where))
    relevance = {q.query_id: dict.fromkeys(q.relevant, 1) for q in queries}
    return Collection("MultiVENT 2.0++", documents, tuple(queries), Qrels(relevance))


def _queries(path: Path) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in csv_rows(path, ("Query_id", "query")):
        name = row.text("Query_id")
        row.text("query")
        if name in found:
            raise UsageError(f"{row.where}: query id {name!r} was used at {found[name].where}")
        found[name] = row
    if not found:
        raise UsageError(f"{path}: no query in it")
    return found


def _ids(path: Path) -> set[str]:
    """Ids of all videos; none where the file is not there."""
    if not path.is_dir() or not list(path.glob("*_ids.csv")):
        return set()
    found: set[str] = set()
    for row in csv_rows(one_file(path, "*_ids.csv", "file of ids"), ("id",)):
        name = row.text("id")
        if name in found:
            raise UsageError(f"{row.where}: video id {name!r} is there twice")
        found.add(name)
    return found


def _kind(query_id: str) -> str:
    found = _KIND.fullmatch(query_id)
    return found[1] if found else ""


def _answers(judged: dict[str, int]) -> tuple[str, ...]:
    return tuple(doc_id for doc_id, grade in judged.items() if grade > 0)


def _target(row: Row) -> str:
    kind = row.text("query_type")
    if kind not in TARGETS:
        raise UsageError(
            f'{row.where}: "query_type": {kind!r}: expected video, ocr, asr or description'
        )
    return kind
