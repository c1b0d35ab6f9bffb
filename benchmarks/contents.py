"""What an index holds, as far as a user could notice, to compare two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmretrieve import Engine
from mmretrieve.datatypes import MODALITIES
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.reader import Snapshot


@dataclass(frozen=True, slots=True)
class Content:
    """What an index holds. ``tokens``: video id -> hash of its token vectors, cell by cell;
    ``answers``: query -> file name, times and score of each hit; ``leftovers``: extractions that no
    video names."""

    tokens: Mapping[str, str]
    answers: Mapping[str, tuple[tuple[object, ...], ...]]
    leftovers: int


def content(folder: Path, asked: Sequence[str]) -> Content:
    """Read everything of an index that a user could notice; ``asked``: queries to compare answers of."""
    snapshot = Snapshot(folder, read_manifest(folder))
    with Engine.open(folder) as engine:
        answers = {text: _answers(engine, text) for text in asked}
    return Content(tokens_of(snapshot), answers, len(snapshot.unmarked_revisions()))


def compare(expected: Content, found: Content) -> list[tuple[str, int]]:
    """(what, in how many cases it differs)."""
    common = expected.tokens.keys() & found.tokens.keys()
    changed = sum(expected.tokens[i] != found.tokens[i] for i in common)
    answers = sum(expected.answers[q] != found.answers[q] for q in expected.answers)
    return [
        (f"videos missing, of {len(expected.tokens)}", len(expected.tokens.keys() - common)),
        ("videos that should not be there", len(found.tokens.keys() - common)),
        ("videos with other tokens", changed),
        (f"queries with other answers, of {len(expected.answers)}", answers),
        ("extractions left over", found.leftovers),
    ]


def tokens_of(snapshot: Snapshot) -> dict[str, str]:
    """Video id -> hash of its cells."""
    stored = snapshot.library
    cells, vectors = stored.cells, stored.vectors
    hashes = {v.video_id: hashlib.sha256() for v in snapshot.videos}
    for i in range(len(cells)):
        video = snapshot.videos[int(cells.video[i])]
        times = (float(cells.start_s[i]), float(cells.end_s[i]))
        cell = f"{MODALITIES[int(cells.modality[i])]} {int(cells.passage[i])} {times}"
        hashes[video.video_id].update(cell.encode())
        hashes[video.video_id].update(vectors[cells.offsets[i] : cells.offsets[i + 1]].tobytes())
    return {name: found.hexdigest() for name, found in hashes.items()}


def _answers(engine: Engine, text: str) -> tuple[tuple[object, ...], ...]:
    hits = engine.search(text).hits
    return tuple(
        (
            Path(h.video.path).name, h.moment.start_s, h.moment.end_s, h.score,
            h.confidence.label.value,
        )
        for h in hits
    )  # fmt: skip
