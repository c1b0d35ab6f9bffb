"""Everything that an index holds, in a form in which two indexes can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import numpy as np

from mmretrieve import Engine
from mmretrieve.datatypes import GroupBy


def content(engine: Engine) -> dict[str, Any]:
    """Video id -> all that is stored of it, apart from what names one extraction."""
    tables = {
        name: lance.dataset(str(engine.folder / "lance" / f"{name}.lance")).to_table().to_pylist()
        for name in ("videos", "passages", "keyframes", "files")
    }
    out: dict[str, Any] = {}
    for video in tables["videos"]:
        kept = {k: v for k, v in video.items() if k not in ("revision", "indexed_at", "warnings")}
        kept["warnings"] = sorted(video["warnings"] or ())
        mine = video["video_id"], video["revision"]
        kept["passages"] = sorted(
            (_passage(r) for r in tables["passages"] if (r["video_id"], r["revision"]) == mine),
            key=lambda row: (row[0], row[1]),
        )
        kept["pictures"] = sorted(
            (r["time_s"], r["passage"], r["thumbnail"])
            for r in tables["keyframes"]
            if (r["video_id"], r["revision"]) == mine
        )
        out[video["video_id"]] = kept
    n_passages = sum(len(video["passages"]) for video in out.values())
    assert n_passages == len(tables["passages"]), "passages that no video names"
    out["files"] = sorted((f["path"], f["video_id"], f["error"]) for f in tables["files"])
    return out


def answers(engine: Engine, queries: tuple[str, ...]) -> list[Any]:
    """What searches say: ids, times, scores and evidence of all hits."""
    out: list[Any] = []
    for query in queries:
        for group_by in GroupBy:
            for hit in engine.search(query, k=50, group_by=group_by).hits:
                moment = hit.moment.start_s, hit.moment.end_s, hit.moment.best_s
                told = [(e.query_token, e.modality, e.text, e.source) for e in hit.evidence]
                out.append((query, hit.video, moment, hit.score, told))
    return out


def _passage(row: dict[str, Any]) -> tuple[Any, ...]:
    vectors = np.array(row["vectors"], np.float16).tobytes()
    plain = ("start_s", "end_s", "source", "text", "segments", "token_segment", "char_start")
    return (row["passage"], row["modality"], vectors, *(row[c] for c in plain), row["char_end"])


def tokens_of(engine: Engine, path: Path, modality: str) -> list[bytes]:
    """The stored tokens of one video and modality, passage by passage."""
    video = next(v for v in engine.videos() if v.path == str(path))
    rows = lance.dataset(str(engine.folder / "lance" / "passages.lance")).to_table().to_pylist()
    mine = [r for r in rows if r["video_id"] == video.video_id and r["modality"] == modality]
    return [
        np.array(r["vectors"], np.float16).tobytes()
        for r in sorted(mine, key=lambda r: r["passage"])
    ]
