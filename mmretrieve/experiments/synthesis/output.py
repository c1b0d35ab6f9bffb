"""Queries on disk: in the layout of MultiVENT 2.0++, or as rows joined with content, to train on; and
those that were made before a run was broken off."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.errors import UsageError
from mmretrieve.experiments.synthesis.material import Content

TYPES: Mapping[Modality, str] = {
    Modality.FRAMES: "video",
    Modality.SPEECH: "asr",
    Modality.OCR: "ocr",
    Modality.METADATA: "description",
}
"""Modality -> type of query, in the words of CLaMR's data."""


@dataclass(frozen=True, slots=True)
class Made:
    """A query of one content, or that none could be made of it. ``maker``: what made it, and
    ``digest``: of what content."""

    video_id: str
    modality: Modality
    query: str | None
    maker: str
    digest: str


class Progress:
    """What was made so far: ``FILE.partial``, a line a query. A line that a crash cut is made again.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, output: Path, maker: str) -> None:
        self._path = output.with_name(output.name + ".partial")
        self._maker = maker
        self._found = {(m.video_id, m.modality): m for m in _read(self._path) if m.maker == maker}
        try:
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"--output {output}: cannot be written ({error.strerror or error})"
            ) from error
        self._file.write("\n")

    def made(self, content: Content) -> Made | None:
        """What was made of the same content by the same maker."""
        found = self._found.get((content.video_id, content.modality))
        return found if found is not None and found.digest == content.digest else None

    def add(self, content: Content, query: str | None) -> Made:
        """Keep a query."""
        made = Made(content.video_id, content.modality, query, self._maker, content.digest)
        self._file.write(json.dumps(asdict(made)) + "\n")
        self._file.flush()
        return made

    def close(self) -> None:
        """Write no more; what is there can be taken up again."""
        self._file.close()

    def remove(self) -> None:
        """The queries have been written: nothing needs to be taken up again."""
        self._path.unlink(missing_ok=True)


def one_a_video(made: Sequence[Made]) -> list[Made]:
    """One query of each video, of the modality that has the fewest so far: the layout has room for no
    more. Videos come in the order of their ids."""
    videos: dict[str, list[Made]] = {}
    for one in made:
        if one.query is not None:
            videos.setdefault(one.video_id, []).append(one)
    counts: Counter[Modality] = Counter()
    chosen = []
    for _, found in sorted(videos.items()):
        best = min(found, key=lambda m: (counts[m.modality], MODALITIES.index(m.modality)))
        counts[best.modality] += 1
        chosen.append(best)
    return chosen


def write_table(path: Path, made: Sequence[Made]) -> None:
    """``{video_id: {"query", "query_type"}}``, one query a video."""
    table = {m.video_id: {"query": m.query, "query_type": TYPES[m.modality]} for m in made}
    _replace(path, json.dumps(table, ensure_ascii=False, indent=2) + "\n")


def write_rows(
    path: Path,
    made: Sequence[Made],
    contents: Sequence[Content],
    images: Mapping[str, Sequence[str]],
) -> None:
    """Joined rows, one a query: ``video_id, query, query_type, ocr, description, asr, images``."""
    texts = {(c.video_id, c.modality): c.text for c in contents}
    lines = []
    for one in made:
        row: dict[str, object] = {
            "video_id": one.video_id,
            "query": one.query,
            "query_type": TYPES[one.modality],
        }
        for modality in (Modality.OCR, Modality.METADATA, Modality.SPEECH):
            row[TYPES[modality]] = texts.get((one.video_id, modality), "")
        row["images"] = list(images.get(one.video_id, ()))
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    _replace(path, "".join(lines))


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".new")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UsageError(
            f"--output {path}: cannot be written ({error.strerror or error})"
        ) from error


def _read(path: Path) -> Iterator[Made]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            data = json.loads(line)
            yield Made(**{**data, "modality": Modality(data["modality"])})
        except (ValueError, TypeError, KeyError):
            continue  # cut by a crash
