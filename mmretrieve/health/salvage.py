"""Taking damaged pieces out of tables, and keeping of them what can be read and not be made again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from mmretrieve.datatypes import METADATA_PASSAGE, Modality, Probe
from mmretrieve.documents import CONTAINER, PREFIX
from mmretrieve.health.files import FileState
from mmretrieve.storage.atomic import replace_text
from mmretrieve.storage.quarantine import PENDING, Quarantine
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import VideoRecord
from mmretrieve.storage.schema import TABLES
from mmretrieve.storage.tables import open_table

if TYPE_CHECKING:
    from mmretrieve.health.verify import Inspection
    from mmretrieve.storage.writer import IndexWriter


@dataclass(slots=True)
class Salvage:
    """``rows``: table -> rows of damaged pieces that could be read; ``index_again`` and ``give_again``:
    see :class:`mmretrieve.health.repair.RepairReport`; ``doubtful`` videos have such rows, which may be
    altered where they could be read."""

    rows: dict[str, list[pa.Table]] = field(default_factory=dict)
    index_again: set[str] = field(default_factory=set)
    give_again: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    """Tables that pieces or versions were lost of."""
    files: list[tuple[str, str]] = field(default_factory=list)
    """Table and file (below the index folder) of rows that were kept."""

    @classmethod
    def pending(cls, folder: Path) -> Salvage:
        """What a repair that was interrupted had kept; nothing where there was none."""
        path = folder / PENDING
        if not path.exists():
            return cls()
        data = json.loads(path.read_text(encoding="utf-8"))
        found = cls(lost=set(data["lost"]), files=[(t, f) for t, f in data["files"]])
        for table, name in found.files:
            with pa.ipc.open_file(folder / name) as reader:
                part = reader.read_all()
            found.rows.setdefault(table, []).append(part)
            found.doubtful |= set(part["video_id"].to_pylist())
        return found

    def keep(self, folder: Path, quarantine: Quarantine, table: str, rows: pa.Table | None) -> None:
        """Bring to disk what is about to be taken out of a table, so that it outlives a kill."""
        self.lost.add(table)
        if rows is not None and rows.num_rows:
            self.rows.setdefault(table, []).append(rows)
            self.doubtful |= set(rows["video_id"].to_pylist())
            path = quarantine.new_file(f"{table}.arrow")
            with path.open("wb") as file:
                with pa.ipc.new_file(file, rows.schema) as writer:
                    writer.write_table(rows)
                file.flush()
                os.fsync(file.fileno())
            self.files.append((table, path.relative_to(folder).as_posix()))
        data = {"lost": sorted(self.lost), "files": self.files}
        replace_text(folder / PENDING, json.dumps(data) + "\n")

    def restore(self, folder: Path, writer: IndexWriter) -> None:
        """Write rows again of videos that cannot be made again from files. What was read of a damaged
        piece may be wrong: a video counts if there are passages of it, or none were claimed."""
        for table in ("passages", "keyframes"):
            for part in self.rows.get(table, ()):
                writer.put_back(table, _absent(folder, table, part))
        if "videos" not in self.rows:
            return
        keys = open_table(folder, "passages").to_table(columns=["video_id", "revision"])
        there = set(zip(*(keys[c].to_pylist() for c in keys.column_names), strict=True))
        for part in self.rows["videos"]:
            pairs = zip(part["video_id"].to_pylist(), part["revision"].to_pylist(), strict=True)
            empty = [told == "{}" for told in part["n_tokens"].to_pylist()]
            good = [p in there or e for p, e in zip(pairs, empty, strict=True)]
            writer.put_back("videos", _absent(folder, "videos", part.filter(pa.array(good))))

    def without_pictures(self, snapshot: Snapshot, found: Inspection) -> set[str | None]:
        """Videos that have tokens of frames and no keyframes, after keyframes were lost."""
        if "keyframes" not in self.lost or "keyframes" not in found.tables.opened:
            return set()
        stored = found.tables.opened["keyframes"].to_table(columns=["revision"])
        there = set(stored["revision"].to_pylist())
        frames = {revision for revision, modality in found.rows.claimed if modality == "frames"}
        return {v.video_id for v in snapshot.videos if v.revision in frames - there}


def is_rebuildable(video: VideoRecord, paths: list[str]) -> bool:
    """Whether a video can be indexed again from a file that is there."""
    if video.probe.container == CONTAINER:
        return False
    return any(Path(path).is_file() for path in (*paths, video.path))


def drop_damaged(
    folder: Path, found: Inspection, files: FileState, quarantine: Quarantine, salvage: Salvage
) -> Iterator[tuple[str, str, str]]:
    """Take pieces with damaged or missing files out of the tables: (what, where, why) of each."""
    sources = _sources(folder, found)
    for table in TABLES:
        if not files.can_open(table):
            continue
        dataset = open_table(folder, table)
        for fragment in dataset.get_fragments():
            names = [f"{table}.lance/data/{file.path}" for file in fragment.data_files()]
            deletions = fragment.deletion_file()
            names += [f"{table}.lance/{deletions}"] if deletions else []
            bad = {n: files.damaged[n] for n in names if n in files.damaged}
            bad |= {n: "is not there" for n in names if not (folder / "lance" / n).is_file()}
            if not bad:
                continue
            kept = _readable(fragment, table, sources)
            salvage.keep(folder, quarantine, table, kept)
            _drop(folder, table, fragment.fragment_id)
            for name in names:
                quarantine.take(folder / "lance" / name)
            n_kept = kept.num_rows if kept is not None else 0
            first = sorted(bad)[0]
            what = f"a piece of {fragment.physical_rows} rows taken out, {n_kept} of them kept"
            yield what, f"table {table}", f"lance/{first} {bad[first]}"


def revive(folder: Path, found: Inspection) -> list[VideoRecord]:
    """Rows of videos that were lost, made again from their passages, for those that cannot be made again
    from files: facts and warnings are gone, all that is searched is there."""
    if not {"passages", "videos"} <= found.tables.opened.keys():
        return []
    sources = _sources(folder, found)
    notes = {}
    if "files" in found.tables.opened:
        rows = found.tables.opened["files"].to_table(columns=["video_id", "path"]).to_pylist()
        notes = {row["video_id"]: row["path"] for row in rows}
    groups: dict[str, list[dict[str, Any]]] = {}
    columns = [
        "video_id",
        "revision",
        "modality",
        "source",
        "text",
        "end_s",
        "token_segment",
        "passage",
    ]
    for row in found.tables.opened["passages"].to_table(columns=columns).to_pylist():
        there = row["video_id"] in found.rows.videos.values()
        if not there and not sources.get(row["video_id"], False):
            groups.setdefault(row["revision"], []).append(row)
    return [_revived(rows, notes) for _, rows in sorted(groups.items())]


def _revived(rows: list[dict[str, Any]], notes: dict[str, str]) -> VideoRecord:
    video_id = rows[0]["video_id"]
    path = notes.get(video_id, PREFIX + video_id)
    counts: dict[Modality, int] = {}
    for row in rows:
        modality = Modality(row["modality"])
        counts[modality] = counts.get(modality, 0) + len(row["token_segment"] or ())
    told = [row["text"] for row in rows if row["passage"] == METADATA_PASSAGE and row["text"]]
    duration_s = max((row["end_s"] or 0.0 for row in rows), default=0.0)
    container = CONTAINER if path.startswith(PREFIX) else ""
    return VideoRecord(
        video_id=video_id,
        revision=rows[0]["revision"],
        path=path,
        title=told[0].splitlines()[0] if told else Path(path).stem,
        duration_s=duration_s,
        probe=Probe(duration_s, container, 0),
        sources={Modality(row["modality"]): row["source"] for row in rows},
        n_tokens={m: n for m, n in counts.items() if n},
        warnings=("its row was lost and made again from its passages: facts are missing",),
    )


_KEYS = {
    "videos": ["video_id"],
    "passages": ["revision", "passage", "modality"],
    "keyframes": ["revision", "time_s"],
}


def _absent(folder: Path, table: str, rows: pa.Table) -> pa.Table:
    """Those rows that the table does not have: a repair before may have put some back already."""
    columns = _KEYS[table]

    def keys(found: pa.Table) -> list[tuple[object, ...]]:
        return list(zip(*(found[name].to_pylist() for name in columns), strict=True))

    there = set(keys(open_table(folder, table).to_table(columns=columns)))
    return rows.filter(pa.array([key not in there for key in keys(rows)], pa.bool_()))


def _drop(folder: Path, table: str, fragment_id: int) -> None:
    import lance

    path = str(folder / "lance" / f"{table}.lance")
    operation = lance.LanceOperation.Delete(
        updated_fragments=[], deleted_fragment_ids=[fragment_id], predicate="true"
    )
    version = open_table(folder, table).version
    lance.LanceDataset.commit(path, operation, read_version=version)


def _readable(fragment: Any, table: str, sources: dict[str, bool]) -> pa.Table | None:
    """Rows of a damaged piece that can be read and belong to videos that cannot be made again."""
    try:
        rows = fragment.to_table()
        rows.validate(full=True)
    except (ValueError, OSError, RuntimeError, pa.ArrowException):
        return None
    if table == "files":
        return None  # made again from the videos
    made_again = pa.array([key for key, can in sources.items() if can], pa.string())
    return rows.filter(pc.invert(pc.is_in(rows["video_id"], value_set=made_again)))


def _sources(folder: Path, found: Inspection) -> dict[str, bool]:
    """Video id -> whether it can be made again, as far as the tables can be read."""
    out: dict[str, bool] = {}
    for table, column in (("files", "path"), ("videos", "uri")):
        if table not in found.tables.opened:
            continue
        rows = found.tables.opened[table].to_table(columns=["video_id", column])
        for row in rows.to_pylist():
            if row["video_id"] is not None:
                here = Path(row[column]).is_file()
                out[row["video_id"]] = out.get(row["video_id"], False) or here
    return out
