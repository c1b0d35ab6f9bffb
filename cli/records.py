"""Results as plain data: the fields of machine output, schema 1. Times are seconds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from mmretrieve.cli.console import stdout_is_utf8
from mmretrieve.cli.text import escape_json
from mmretrieve.datatypes import COMMON, MODALITIES, Evidence, Hit, Modality, SearchResult
from mmretrieve.reports import FileResult, IndexInfo, IndexReport, Outcome, VideoInfo

SCHEMA = 1

Record = dict[str, Any]


def to_json(record: Record, *, indent: int | None = None) -> str:
    """A record as JSON that is safe to print. Numbers that JSON lacks are ``null``."""
    text = json.dumps(record, indent=indent, ensure_ascii=not stdout_is_utf8(), allow_nan=False)
    return escape_json(text)


def search_record(result: SearchResult, index: str, *, explain: bool = False) -> Record:
    """The one object of ``query --format json``."""
    return {
        "schema": SCHEMA,
        "query": result.query,
        "index": index,
        "aggregation": result.aggregation.value,
        "no_good_match": result.no_good_match,
        "n_videos_searched": result.n_videos_searched,
        "n_tokens_searched": result.n_tokens_searched,
        "took_s": number(result.took_s),
        "plan": result.plan,
        "notes": list(result.notes),
        "hits": [hit_record(hit, explain=explain) for hit in result.hits],
    }


def hit_record(hit: Hit, *, explain: bool = False) -> Record:
    """One hit; ``explain`` adds similarity and span to every piece of evidence."""
    return {
        "schema": SCHEMA,
        "rank": hit.rank,
        "video": {
            "id": hit.video.video_id,
            "path": hit.video.path,
            "title": hit.video.title,
            "duration_s": number(hit.video.duration_s),
        },
        "start_s": number(hit.moment.start_s),
        "end_s": number(hit.moment.end_s),
        "best_s": number(hit.moment.best_s),
        "score": number(hit.score),
        "confidence": {"label": hit.confidence.label.value, "p": number(hit.confidence.p)},
        "modalities": numbers(hit.modalities),
        "evidence": [_evidence_record(item, explain=explain) for item in hit.evidence],
        "unmatched": list(hit.unmatched),
    }


def video_record(video: VideoInfo) -> Record:
    """One line of ``ls``."""
    return {
        "schema": SCHEMA,
        "id": video.video_id,
        "path": video.path,
        "title": video.title,
        "duration_s": number(video.duration_s),
        "n_tokens": {modality.value: count for modality, count in video.n_tokens.items()},
        "sources": {modality.value: source for modality, source in video.sources.items()},
        "warnings": list(video.warnings),
        "indexed_at": video.indexed_at,
        "missing": video.missing,
    }


def shown_modalities(n_tokens: Iterable[Mapping[Modality, int]]) -> tuple[Modality, ...]:
    """What is told of, given the tokens of some videos or indexes: sound only where there is some."""
    has_sound = any(counts.get(Modality.AUDIO) for counts in n_tokens)
    return MODALITIES if has_sound else COMMON


def info_record(info: IndexInfo, n_missing: int) -> Record:
    """The one object of ``info``."""
    return {
        "schema": SCHEMA,
        "index": info.path,
        "preset": info.preset,
        "format_version": info.format_version,
        "n_videos": info.n_videos,
        "n_passages": info.n_passages,
        "n_tokens": {m.value: n for m, n in info.n_tokens.items() if n or m in COMMON},
        "n_files": info.n_files,
        "n_missing": n_missing,
        "duration_s": number(info.duration_s),
        "size_bytes": dict(info.size_bytes),
        "encoders": dict(info.encoders),
        "failures": [{"path": f.path, "error": f.error} for f in info.failures],
        "search_path": info.search_path,
        "health": None if info.health is None else asdict(info.health),
    }


def report_record(report: IndexReport, index: str, *, dry_run: bool) -> Record:
    """The one object of ``index``."""
    return {
        "schema": SCHEMA,
        "index": index,
        "dry_run": dry_run,
        "counts": {outcome.value: report.count(outcome) for outcome in Outcome},
        "n_pruned": report.n_pruned,
        "duration_s": number(report.duration_s),
        "took_s": number(report.took_s),
        "interrupted": report.interrupted,
        "warnings": list(report.warnings),
        "results": [_result_record(result) for result in report.results],
    }


def number(value: float | None) -> float | None:
    """A float that JSON can hold, without the noise of single precision."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), 6)


def numbers(values: Mapping[Any, float]) -> dict[str, float | None]:
    """Numbers by name."""
    return {str(name): number(value) for name, value in values.items()}


def _evidence_record(item: Evidence, *, explain: bool) -> Record:
    record: Record = {
        "modality": item.modality.value,
        "query_token": item.query_token,
        "contribution": number(item.contribution),
        "start_s": number(item.start_s),
        "end_s": number(item.end_s),
    }
    if explain:
        record |= {"similarity": number(item.similarity), "span": list(item.span)}
    optional: Record = {
        "text": item.text or None,
        "box": None if item.box is None else [number(edge) for edge in item.box],
        "field": item.field,
        "source": item.source or None,
    }
    return record | {name: value for name, value in optional.items() if value is not None}


def _result_record(result: FileResult) -> Record:
    return {
        "path": result.path,
        "outcome": result.outcome.value,
        "duration_s": number(result.duration_s),
        "took_s": number(result.took_s),
        "error": result.error,
        "reason": result.reason,
        "warnings": list(result.warnings),
        "n_tokens": {modality.value: count for modality, count in result.n_tokens.items()},
        "stage_s": numbers(result.stage_s),
    }
