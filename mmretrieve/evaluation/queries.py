"""Queries beside a folder of videos: ``queries.jsonl``, and which videos their answers are.

One JSON object a line::

    {"query_id": "7", "query": "a red balloon", "query_type": "frames", "relevant": ["park.mp4"],
     "moments": [[12.5, 20]]}

``query_type`` may be left out. ``relevant`` names files, paths (from the working directory, from the
folder of ``queries.jsonl``, or the last parts of a path, with or without the ending of the name) or
video ids. ``moments``, where given, are the right stretches of the one relevant video, in seconds.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from mmretrieve.errors import UsageError
from mmretrieve.evaluation.trec import Line, Qrels, lines

FILE_NAME = "queries.jsonl"


@dataclass(frozen=True, slots=True)
class Query:
    """A query with its known answers. ``relevant`` as written in the file; ``query_type`` is empty
    where there is none; ``where`` is the place in the file, for messages."""

    query_id: str
    text: str
    query_type: str
    relevant: tuple[str, ...]
    where: str
    moments: tuple[tuple[float, float], ...] = ()


def read_queries(path: Path) -> tuple[Query, ...]:
    """The queries of a file, or of ``queries.jsonl`` in a folder.

    Raises:
        UsageError: not JSON, a field that is missing or of the wrong kind, a query id used twice,
            no query at all; with file and line.
    """
    file = path / FILE_NAME if path.is_dir() else path
    found: dict[str, Query] = {}
    for line in lines(file):
        query = _query(line)
        if query.query_id in found:
            first = found[query.query_id].where
            raise UsageError(f"{line.where}: query id {query.query_id!r} was used at {first}")
        found[query.query_id] = query
    if not found:
        raise UsageError(f"{file}: no query in it: expected one JSON object a line")
    return tuple(found.values())


def judge(queries: Sequence[Query], paths: Mapping[str, str], folder: Path) -> Qrels:
    """Judgements of video ids: every video that a query names is relevant (1).

    ``paths``: video id -> path as indexed; ``folder``: where ``queries.jsonl`` lies.

    Raises:
        UsageError: a name that fits no video, or several; with file and line.
    """
    relevance = {}
    for query in queries:
        found = (_resolve(name, paths, folder, query.where) for name in query.relevant)
        relevance[query.query_id] = dict.fromkeys(found, 1)
    return Qrels(relevance)


def known_only(
    queries: Sequence[Query], qrels: Qrels, paths: Mapping[str, str]
) -> tuple[tuple[Query, ...], Qrels]:
    """Queries and judgements of a collection as far as its videos are in the index: by id, or by
    the name of the file with or without its ending. Queries that nothing there answers are left out.

    ``paths``: video id -> path as indexed.
    """
    known = {PurePath(path).stem: key for key, path in paths.items()}
    known |= {PurePath(path).name: key for key, path in paths.items()}
    known |= {key: key for key in paths}
    relevance = {}
    for query_id, judged in qrels.relevance.items():
        found = {known[name]: grade for name, grade in judged.items() if name in known}
        if any(grade > 0 for grade in found.values()):
            relevance[query_id] = found
    return tuple(q for q in queries if q.query_id in relevance), Qrels(relevance)


def _query(line: Line) -> Query:
    try:
        record = json.loads(line.text)
    except ValueError as error:
        raise UsageError(f"{line.where}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise UsageError(f"{line.where}: expected a JSON object with query_id, query and relevant")
    relevant = record.get("relevant")
    if not isinstance(relevant, list) or not relevant:
        raise UsageError(f'{line.where}: "relevant": expected a list of at least one video')
    return Query(
        query_id=_readable(_text(record, "query_id", line.where)),
        text=_readable(_text(record, "query", line.where)),
        query_type=_text(record, "query_type", line.where) if record.get("query_type") else "",
        relevant=tuple(_text({"relevant": name}, "relevant", line.where) for name in relevant),
        where=line.where,
        moments=_moments(record, len(relevant), line.where),
    )


def _moments(
    record: dict[str, Any], n_relevant: int, where: str
) -> tuple[tuple[float, float], ...]:
    given = record.get("moments")
    if given is None:
        return ()
    if not isinstance(given, list) or not given:
        raise UsageError(f'{where}: "moments": expected a list of [start_s, end_s]')
    if n_relevant != 1:
        raise UsageError(f'{where}: "moments" need one relevant video, found {n_relevant}')
    return tuple(span(pair, where) for pair in given)


def span(pair: object, where: str) -> tuple[float, float]:
    """``[start_s, end_s]`` of JSON as two numbers.

    Raises:
        UsageError: anything else, with the place.
    """
    numbers = [v for v in pair if _is_number(v)] if isinstance(pair, list) else []
    if not isinstance(pair, list) or len(pair) != 2 or len(numbers) != 2:
        raise UsageError(f"{where}: moment {json.dumps(pair)}: expected [start_s, end_s]")
    start_s, end_s = float(numbers[0]), float(numbers[1])
    if not 0 <= start_s <= end_s < math.inf:
        raise UsageError(f"{where}: moment {json.dumps(pair)}: expected 0 <= start_s <= end_s")
    return start_s, end_s


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(record: dict[str, Any], field: str, where: str) -> str:
    value = record.get(field)
    if field == "query_id" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        shown = json.dumps(value) if field in record else "nothing"
        raise UsageError(f'{where}: "{field}": expected text, found {shown}')
    return value.strip()


def _readable(text: str) -> str:
    """Without halves of characters, which JSON can hold and no file; a path keeps them, since they
    stand for the bytes of a name that is not UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _resolve(name: str, paths: Mapping[str, str], folder: Path, where: str) -> str:
    if name in paths:
        return name
    absolute = {os.path.normpath(base / name) for base in (Path.cwd(), folder.absolute())}
    found = [key for key, path in paths.items() if os.path.normpath(path) in absolute]
    found = found or [key for key, path in paths.items() if _ends_with(path, name)]
    found = found or [key for key, path in paths.items() if PurePath(path).stem == name]
    if not found:
        raise UsageError(
            f"{where}: no video of the index fits {name!r}: `mmretrieve ls` shows them all"
        )
    if len(found) > 1:
        shown = ", ".join(paths[key] for key in found[:3])
        raise UsageError(
            f"{where}: {name!r} fits {len(found)} videos ({shown}): give more of the path"
        )
    return found[0]


def _ends_with(path: str, name: str) -> bool:
    whole, end = PurePath(path).parts, PurePath(name).parts
    return bool(end) and whole[-len(end) :] == end
