"""Everything to measure quality on: collections of documents with queries and judgements."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmretrieve.datatypes import Modality, Segment
from mmretrieve.documents import Document, Picture, text_document
from mmretrieve.evaluation.collection import Collection
from mmretrieve.evaluation.queries import Query, read_queries
from mmretrieve.evaluation.trec import Qrels


@dataclass(frozen=True, slots=True)
class Source:
    """A collection to read; ``files``: a folder of videos in place of documents. ``hides``: a query
    is a line of its own document, which is looked for without that line."""

    name: str
    about: str
    read: Callable[[Path], Collection]
    files: str | None = None
    hides: bool = False


def activitynet(data: Path) -> Collection:
    """Captions of one annotator (kept as the text on screen) and recognised speech."""
    folder = data / "activitynet_asr"
    return _collection(
        folder, [_narrated(row, timed=False) for row in _lines(folder / "corpus.jsonl")]
    )


def activitynet_moments(data: Path) -> Collection:
    """The captions alone, with their times, so that moments can be found."""
    folder = data / "activitynet_asr"
    return _collection(
        folder, [_narrated(row, timed=True) for row in _lines(folder / "corpus.jsonl")]
    )


def slides(data: Path) -> Collection:
    """Slides: picture, recognised lines, transcript."""
    folder = data / "slides"
    documents = [
        Document(
            row["_id"],
            segments={
                Modality.OCR: tuple(Segment(text) for text in row["ocr_textract"]),
                Modality.SPEECH: tuple(Segment(said["text"]) for said in row["asr"]),
            },
            pictures=(Picture(folder / row["slide_png"]),),
        )
        for row in _lines(folder / "corpus.jsonl")
    ]
    return _collection(folder, documents)


def multivent1(data: Path) -> Collection:
    """Descriptions of event videos in five languages."""
    folder = data / "multivent1"
    documents = [
        text_document(
            row["_id"], description=row["description"], facts={"language": row["language"]}
        )
        for row in _lines(folder / "corpus.jsonl")
    ]
    return _collection(folder, documents)


def abstracts(name: str) -> Callable[[Path], Collection]:
    """``cranfield`` or ``cisi``; any judgement of at least 1 is relevant."""

    def read(data: Path) -> Collection:
        folder = data / "text" / name
        documents = [
            text_document(row["_id"], ocr=f"{row.get('title', '')} {row['text']}".strip())
            for row in _lines(folder / "corpus.jsonl")
        ]
        return _collection(folder, documents)

    return read


def flickr8k(data: Path) -> Collection:
    """Pictures of the development split; every caption is a query."""
    folder = data / "flickr8k"
    rows = [row for row in _lines(folder / "captions.jsonl") if row["split"] == "dev"]
    documents = tuple(
        Document(row["image"], pictures=(Picture(folder / "images" / row["image"]),))
        for row in rows
    )
    queries = tuple(
        Query(f"{row['image']}#{i}", text, "frames", (row["image"],), folder.name)
        for row in rows
        for i, text in enumerate(row["captions"])
    )
    qrels = Qrels({query.query_id: dict.fromkeys(query.relevant, 1) for query in queries})
    return Collection("flickr8k", documents, queries, qrels)


def videos(data: Path) -> Collection:
    """Queries for real clips, which are indexed themselves."""
    return Collection("videos", (), read_queries(data / "videos"), Qrels({}))


SOURCES = (
    Source("videos", "62 real clips", videos, files="videos/files"),
    Source("activitynet_asr", "captions and recognised speech", activitynet),
    Source("slides", "slides with transcript", slides, hides=True),
    Source("multivent1", "descriptions in five languages", multivent1),
    Source("flickr8k", "pictures, captions as queries", flickr8k),
    Source("cranfield", "abstracts", abstracts("cranfield")),
    Source("cisi", "abstracts", abstracts("cisi")),
)


def _narrated(row: Mapping[str, Any], *, timed: bool) -> Document:
    captions = tuple(
        Segment(v["text"], *(_times(v) if timed else (None, None))) for v in row["visual"]
    )
    said = () if timed else (Segment(row["asr"]),)
    return Document(
        row["_id"],
        segments={Modality.OCR: captions, Modality.SPEECH: said},
        facts={"category": row["category"]},
        duration_s=row["duration"],
    )


def _times(caption: Mapping[str, Any]) -> tuple[float, float]:
    """Some captions end before they begin."""
    start_s, end_s = sorted((float(caption["start"]), float(caption["end"])))
    return start_s, end_s


def _collection(folder: Path, documents: list[Document]) -> Collection:
    known = {document.doc_id for document in documents}
    judged = _judgements(folder / "qrels.tsv")
    queries, relevance = [], {}
    for row in _lines(folder / "queries.jsonl"):
        relevant = sorted(judged.get(row["_id"], set()) & known)
        if not relevant:
            continue
        moments = ((row["start"], row["end"]),) if "start" in row else ()
        kind = row.get("type", "")
        queries.append(Query(row["_id"], row["text"], kind, tuple(relevant), folder.name, moments))
        relevance[row["_id"]] = dict.fromkeys(relevant, 1)
    return Collection(folder.name, tuple(documents), tuple(queries), Qrels(relevance))


def _judgements(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        if float(grade) >= 1:
            found.setdefault(query, set()).add(document)
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
