"""Collections of texts: documents by modality, queries, judgements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmretrieve.datatypes import Modality

Document = Mapping[Modality, str]


@dataclass(frozen=True, slots=True)
class Masked:
    """What query number ``query`` may see of document number ``document``."""

    query: int
    document: int
    content: Document


@dataclass(frozen=True, slots=True)
class Collection:
    """``relevant[i]`` holds the ids of the documents that answer ``queries[i]``; queries without
    any are left out. ``masked``: documents that hold a query word for word, without it."""

    name: str
    ids: tuple[str, ...]
    documents: tuple[Document, ...]
    queries: tuple[str, ...]
    relevant: tuple[frozenset[str], ...]
    masked: tuple[Masked, ...] = ()


def activitynet(data: Path) -> Collection:
    """Captions of one annotator (kept as the text on screen) and recognised speech."""
    folder = data / "activitynet_asr"
    rows = _lines(folder / "corpus.jsonl")
    documents = [
        {Modality.OCR: " ".join(v["text"] for v in r["visual"]), Modality.SPEECH: r["asr"]}
        for r in rows
    ]
    return _collection(folder, [r["_id"] for r in rows], documents)


def slides(data: Path, spoken: bool = True) -> Collection:
    """Slides with their transcript. A query is a line of the transcript, so that its own document
    is seen without it; ``spoken=False`` leaves the transcripts out."""
    folder = data / "slides"
    rows = _lines(folder / "corpus.jsonl")
    documents = [{Modality.OCR: "\n".join(r["ocr_textract"])} for r in rows]
    if spoken:
        for document, row in zip(documents, rows, strict=True):
            document[Modality.SPEECH] = " ".join(a["text"] for a in row["asr"])
    found = _collection(folder, [r["_id"] for r in rows], documents)
    if not spoken:
        return found
    return Collection(
        found.name, found.ids, found.documents, found.queries, found.relevant, _masked(found)
    )


def abstracts(data: Path, name: str) -> Collection:
    """``cranfield`` or ``cisi``; any judgement of at least 1 is relevant."""
    folder = data / "text" / name
    rows = _lines(folder / "corpus.jsonl")
    documents = [{Modality.OCR: f"{r.get('title', '')} {r['text']}".strip()} for r in rows]
    return _collection(folder, [r["_id"] for r in rows], documents)


def _masked(collection: Collection) -> tuple[Masked, ...]:
    number = {name: i for i, name in enumerate(collection.ids)}
    found = []
    for query, (text, relevant) in enumerate(
        zip(collection.queries, collection.relevant, strict=True)
    ):
        for document in sorted(number[name] for name in relevant):
            content = collection.documents[document]
            spoken, line = _plain(content[Modality.SPEECH]), _plain(text)
            left = {Modality.OCR: content[Modality.OCR], Modality.SPEECH: spoken.replace(line, " ")}
            found.append(Masked(query, document, left))
    return tuple(found)


def _collection(folder: Path, ids: list[str], documents: list[dict[Modality, str]]) -> Collection:
    known, relevant = set(ids), _judgements(folder / "qrels.tsv")
    asked = [
        (q["text"], frozenset(found))
        for q in _lines(folder / "queries.jsonl")
        if (found := relevant.get(q["_id"], set()) & known)
    ]
    texts, answers = zip(*asked, strict=True)
    return Collection(folder.name, tuple(ids), tuple(documents), texts, answers)


def _judgements(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        if float(grade) >= 1:
            found.setdefault(query, set()).add(document)
    return found


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
