"""What is trained on: a query, the modality that it aims at, and the content of its video.

Read by the readers of the evaluation package: joined rows (``*.jsonl``), or the layout of MultiVENT
2.0++, queries ``*.json`` joined with ``documents.jsonl`` by ``video_id``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmretrieve import documents as content
from mmretrieve.datatypes import Modality, Segment
from mmretrieve.errors import InputError, UsageError
from mmretrieve.evaluation.datasets.content import read_documents
from mmretrieve.evaluation.datasets.readers import read_collection
from mmretrieve.evaluation.modality import TARGETS
from mmretrieve.models.protocol import MODALITIES, NO_MODALITY, Document


@dataclass(frozen=True, slots=True)
class Example:
    """``target``: place in :data:`MODALITIES`, or :data:`NO_MODALITY`; ``where``: where the query
    stands (``path:line``)."""

    query_id: str
    query: str
    query_type: str
    target: int
    video: content.Document
    where: str

    @property
    def video_id(self) -> str:
        return self.video.doc_id

    @property
    def has_target(self) -> bool:
        """Whether the video has content in the modality that the query aims at."""
        if self.target == NO_MODALITY:
            return False
        modality = MODALITIES[self.target]
        if modality is Modality.FRAMES:
            return bool(self.video.pictures)
        return bool(_text(self.video, modality))


def read_examples(path: Path, content_file: Path | None = None) -> tuple[Example, ...]:
    """The rows of a file or folder, in its order. ``content_file``: rows of content where the queries
    bring none, instead of ``documents.jsonl`` beside them.

    Raises:
        UsageError: a faulty row, a type of query that is not known, or a query whose video has no
            content; with file and line.
    """
    collection = read_collection("multivent2pp", path)
    given = read_documents(content_file) if content_file is not None else collection.documents
    videos = {document.doc_id: document for document in given}
    examples = []
    for query in collection.queries:
        video = videos.get(query.relevant[0])
        if video is None:
            raise UsageError(
                f"{query.where}: no content for video {query.relevant[0]!r}: expected a row of "
                f"{content_file or 'documents.jsonl beside the queries'}, or joined rows with content"
            )
        target = MODALITIES.index(TARGETS[query.query_type].value)
        examples.append(
            Example(query.query_id, query.text, query.query_type, target, video, query.where)
        )
    return tuple(examples)


def check_pictures(examples: Sequence[Example]) -> int:
    """Open every picture far enough to know its size; how many there are.

    Raises:
        UsageError: one is missing or no picture, with the row that names it.
    """
    seen: set[Path] = set()
    for example in examples:
        for picture in example.video.pictures:
            if not isinstance(picture.image, Path) or picture.image in seen:
                continue
            seen.add(picture.image)
            _check_picture(picture.image, example)
    return len(seen)


def joint_document(example: Example) -> Document:
    """The content as a joint encoder reads it, pictures decoded.

    Raises:
        InputError: a picture cannot be read, with the row that names it.
    """
    video = example.video
    try:
        frames = tuple(picture.pixels() for picture in video.pictures)
    except InputError as error:
        raise InputError(f"{example.where}: video {video.doc_id!r}: {error}") from error
    return Document(
        frames=frames,
        speech=_text(video, Modality.SPEECH),
        ocr=_text(video, Modality.OCR),
        metadata=_text(video, Modality.METADATA),
    )


def digest(examples: Sequence[Example]) -> str:
    """Hex digits that change with the queries, their videos or their order."""
    told = [[e.query_id, e.query, e.query_type, e.video_id] for e in examples]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def count_types(examples: Sequence[Example]) -> dict[str, int]:
    """How many rows there are of each type of query, by name."""
    return dict(sorted(Counter(example.query_type for example in examples).items()))


def _text(video: content.Document, modality: Modality) -> str:
    segments: Sequence[Segment] = video.segments.get(modality, ())
    if modality is Modality.METADATA:
        segments = video.metadata
    return "\n".join(s.text.strip() for s in segments if s.text.strip())


def _check_picture(path: Path, example: Example) -> None:
    from PIL import Image

    try:
        with Image.open(path) as opened:
            opened.load() if opened.format is None else opened.verify()
    except (OSError, ValueError, SyntaxError) as error:
        raise UsageError(
            f"{example.where}: video {example.video_id!r}: picture {path} cannot be read ({error}): "
            "expected a picture file, named from the folder of the rows"
        ) from error
