"""Relevance judgements (qrels) and runs in the forms of TREC and BEIR: read, check, write.

============  ==============================================  ======================
file          columns                                         separated by
============  ==============================================  ======================
qrels         ``query_id iteration doc_id relevance``         tabs or spaces
qrels, BEIR   ``query-id corpus-id score``, with that header  the same as the header
run           ``query_id Q0 doc_id rank score tag``           tabs or spaces
============  ==============================================  ======================
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmretrieve.errors import UsageError

BEIR_HEADER = ["query-id", "corpus-id", "score"]


@dataclass(frozen=True, slots=True)
class Qrels:
    """``relevance``: query id -> document id -> grade; above 0 is relevant. What is not in it was
    not judged and counts as not relevant."""

    relevance: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Run:
    """``scores``: query id -> document id -> score, higher is better. ``tag`` names the system."""

    tag: str
    scores: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not empty, and where it stands (``path:number``)."""

    text: str
    where: str


def lines(path: Path) -> Iterator[Line]:
    """The lines of a UTF-8 file that hold something, with or without a byte order mark.

    Raises:
        UsageError: the file cannot be read, or a line is not UTF-8.
    """
    try:
        raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    for number, encoded in enumerate(raw.split(b"\n"), 1):
        where = f"{path}:{number}"
        try:
            text = encoded.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            raise UsageError(f"{where}: not UTF-8 text ({error.reason})") from error
        if text.strip():
            yield Line(text, where)


def read_qrels(path: Path) -> Qrels:
    """Judgements in the form of TREC or BEIR; the header tells which.

    Raises:
        UsageError: wrong columns, a grade that is no whole number, a document judged twice for one
            query, nothing judged; with file and line.
    """
    relevance: dict[str, dict[str, int]] = {}
    separator: str | None = None
    beir = False
    for position, line in enumerate(lines(path)):
        if position == 0 and _columns(line.text, None) == BEIR_HEADER:
            beir, separator = True, "\t" if "\t" in line.text else None
            continue
        query_id, doc_id, grade = _judgement(line, separator, beir=beir)
        judged = relevance.setdefault(query_id, {})
        if doc_id in judged:
            raise UsageError(f"{line.where}: {doc_id!r} is judged twice for query {query_id!r}")
        judged[doc_id] = _grade(grade, line.where)
    if not relevance:
        raise UsageError(
            f"{path}: no judgement in it: expected `query_id 0 doc_id relevance` lines"
        )
    return Qrels(relevance)


def read_run(path: Path) -> Run:
    """A run. Only its scores count, not the order of lines nor the column of ranks, as in
    ``trec_eval``; its tag is that of the first line.

    Raises:
        UsageError: wrong columns, a score that is no finite number, a document ranked twice for one
            query, an empty file; with file and line.
    """
    scores: dict[str, dict[str, float]] = {}
    tag = ""
    for line in lines(path):
        columns = _columns(line.text, None)
        if len(columns) != 6:
            wanted = "`query_id Q0 doc_id rank score tag`"
            raise UsageError(f"{line.where}: {len(columns)} columns, expected the 6 of {wanted}")
        query_id, _, doc_id, _, score, named = columns
        tag = tag or named
        ranked = scores.setdefault(query_id, {})
        if doc_id in ranked:
            raise UsageError(f"{line.where}: {doc_id!r} is ranked twice for query {query_id!r}")
        ranked[doc_id] = _score(score, line.where)
    if not scores:
        raise UsageError(
            f"{path}: the run is empty: expected `query_id Q0 doc_id rank score tag` lines"
        )
    return Run(tag, scores)


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Write judgements in the form of TREC.

    Raises:
        UsageError: an id with white space in it, or a file that cannot be written.
    """
    rows = [
        " ".join((_id(query_id), "0", _id(doc_id), str(grade)))
        for query_id, judged in qrels.relevance.items()
        for doc_id, grade in judged.items()
    ]
    _write(path, rows)


def write_run(path: Path, run: Run) -> None:
    """Write a run in the form of TREC, best first, with scores that read back to the bit.

    Raises:
        UsageError: an id or tag with white space in it, or a file that cannot be written.
    """
    tag = _id(run.tag)
    rows = []
    for query_id, scores in run.scores.items():
        ordered = sorted(scores.items(), key=lambda item: item[0], reverse=True)
        ordered.sort(key=lambda item: -item[1])
        for rank, (doc_id, score) in enumerate(ordered, 1):
            rows.append(f"{_id(query_id)} Q0 {_id(doc_id)} {rank} {float(score)!r} {tag}")
    _write(path, rows)


def _columns(text: str, separator: str | None) -> list[str]:
    return [column.strip() for column in text.strip().split(separator)]


def _judgement(line: Line, separator: str | None, *, beir: bool) -> tuple[str, str, str]:
    columns = _columns(line.text, separator)
    wanted = BEIR_HEADER if beir else ["query_id", "iteration", "doc_id", "relevance"]
    if len(columns) != len(wanted) or not all(columns):
        shown = f"`{' '.join(wanted)}`"
        hint = "" if beir else "; for the three columns of BEIR begin with its header"
        raise UsageError(
            f"{line.where}: {len(columns)} columns, expected the {len(wanted)} of {shown}{hint}"
        )
    return columns[0], columns[-2], columns[-1]


def _grade(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{where}: relevance {text!r}: expected a whole number") from None


def _score(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{where}: score {text!r}: expected a finite number")
    return value


def _id(text: str) -> str:
    if len(text.split()) != 1 or text != text.strip():
        raise UsageError(f"{text!r} cannot stand in a TREC file: an id or tag has no white space")
    return text


def _write(path: Path, rows: list[str]) -> None:
    try:
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
