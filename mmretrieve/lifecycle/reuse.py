"""What of an earlier reading holds for the next one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmretrieve.datatypes import Modality, Passage, Segment, TokenEmbeddings
from mmretrieve.lifecycle.keys import StageKey
from mmretrieve.storage.extractions import read_extractions
from mmretrieve.storage.records import Extraction, Thumbnail, VideoRecord
from mmretrieve.storage.schema import passage_record
from mmretrieve.storage.tables import open_table

Part = tuple[Passage, TokenEmbeddings]


@dataclass(frozen=True, slots=True)
class Kept:
    """All that the index holds of one video."""

    record: VideoRecord
    extraction: Extraction
    parts: tuple[Part, ...]
    thumbnails: tuple[Thumbnail, ...]

    def part(self, number: int, modality: Modality) -> Part | None:
        """One passage and modality with its tokens."""
        found = (p for p in self.parts if p[0].number == number and p[0].modality is modality)
        return next(found, None)


class Reuse:
    """What holds of ``kept`` under ``keys``; nothing where there is nothing kept. Tokens that were made
    ``together``, in one context of all modalities, hold for none of them alone."""

    def __init__(self, kept: Kept | None, keys: Mapping[str, str], together: bool = False) -> None:
        before = kept.extraction.keys if kept is not None else {}
        self.kept = kept
        self._same = {stage for stage in StageKey if before.get(stage) == keys.get(stage)}
        if together:
            self._same -= {StageKey.FRAMES, StageKey.TEXT, StageKey.SOUND}

    def holds(self, stage: StageKey) -> bool:
        """Whether the result of a stage can be used again."""
        return stage in self._same

    def texts(
        self, number: int, parts: Mapping[Modality, Sequence[Segment]]
    ) -> dict[Modality, TokenEmbeddings] | None:
        """The tokens of one passage's texts, if the same texts stood there in all of these modalities
        (they may share one context, so all of them have to be the same)."""
        if self.kept is None or StageKey.TEXT not in self._same:
            return None
        found: dict[Modality, TokenEmbeddings] = {}
        for modality, segments in parts.items():
            part = self.kept.part(number, modality)
            before = [s.text for s in part[0].segments] if part is not None else []
            if before != [s.text for s in segments]:
                return None
            if part is not None:
                found[modality] = part[1]
        return found


def read_kept(folder: Path, records: Collection[VideoRecord]) -> dict[str, Kept]:
    """Video id -> what the index holds, of those videos of which it kept what was read."""
    import pyarrow.compute as pc

    extractions = read_extractions(folder, {record.revision for record in records})
    if not extractions:
        return {}
    wanted = pc.field("revision").isin(sorted(extractions))
    parts: dict[str, list[Part]] = {revision: [] for revision in extractions}
    rows = open_table(folder, "passages").to_table(filter=wanted).to_pylist()
    for row in sorted(rows, key=lambda row: (row["passage"], row["modality"])):
        tokens = TokenEmbeddings(
            np.array(row["vectors"], np.float16).astype(np.float32),
            *(np.array(row[c], np.int32) for c in ("token_segment", "char_start", "char_end")),
        )
        parts[row["revision"]].append((passage_record(row), tokens))
    pictures: dict[str, list[Thumbnail]] = {revision: [] for revision in extractions}
    rows = open_table(folder, "keyframes").to_table(filter=wanted).to_pylist()
    for row in sorted(rows, key=lambda row: float(row["time_s"])):
        seen = Thumbnail(row["time_s"], row["passage"], row["thumbnail"])
        pictures[row["revision"]].append(seen)
    return {
        r.video_id: Kept(
            r, extractions[r.revision], tuple(parts[r.revision]), tuple(pictures[r.revision])
        )
        for r in records
        if r.revision in extractions
    }
