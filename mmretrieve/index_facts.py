"""What an index says of itself."""

from __future__ import annotations

from pathlib import Path

from mmretrieve.config import Settings
from mmretrieve.datatypes import MODALITIES
from mmretrieve.documents import CONTAINER
from mmretrieve.encoders.registry import check_names, load_encoder
from mmretrieve.health.state import state_of
from mmretrieve.reports import Failure, IndexInfo, VideoInfo
from mmretrieve.storage.folder import Manifest
from mmretrieve.storage.journal import LOG_NAMES, Journal
from mmretrieve.storage.quarantine import QUARANTINE
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import VideoRecord


def new_manifest(settings: Settings) -> Manifest:
    """The manifest of an index that is to be made with these settings."""
    check_names()
    encoder = load_encoder(settings.preset, settings.encoder)
    return Manifest(
        preset=settings.preset,
        dim=encoder.dim,
        encoders=dict(encoder.fingerprints()),
        spaces={m.value: space for m, space in encoder.spaces.items()},
        settings_toml=settings.to_toml(),
        dims={s: width for s, width in encoder.dims.items() if width != encoder.dim},
    )


def index_info(snapshot: Snapshot, journal: Journal) -> IndexInfo:
    """Counts, sizes and failures."""
    manifest = snapshot.manifest
    return IndexInfo(
        path=str(snapshot.folder),
        preset=manifest.preset,
        format_version=manifest.format_version,
        n_videos=len(snapshot.videos),
        n_passages=snapshot.searchable.n_passages,
        n_tokens={m: sum(v.n_tokens.get(m, 0) for v in snapshot.videos) for m in MODALITIES},
        n_files=len(snapshot.files),
        duration_s=sum(v.duration_s for v in snapshot.videos),
        size_bytes=_sizes(snapshot.folder),
        encoders=manifest.encoders,
        failures=tuple(Failure(f.path, f.error) for f in snapshot.files if f.error is not None),
        search_path=f"{snapshot.searchable.description}; kernels {snapshot.kernels.name}",
        health=state_of(snapshot, journal),
    )


def video_info(record: VideoRecord, path: str) -> VideoInfo:
    """One video; ``path``: where its file was last seen."""
    return VideoInfo(
        video_id=record.video_id,
        path=path,
        title=record.title,
        duration_s=record.duration_s,
        n_tokens=record.n_tokens,
        sources=record.sources,
        warnings=record.warnings,
        indexed_at=record.indexed_at,
        missing=record.probe.container != CONTAINER and not Path(path).exists(),
    )


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes by table, of the token codes, and of what else there is."""
    lance, codes = folder / "lance", folder / "codes"
    parts = sorted(lance.iterdir()) if lance.is_dir() else []
    sizes = {p.name.removesuffix(".lance"): _size(p) for p in (*parts, codes) if p.is_dir()}
    logs = [folder / name for name in LOG_NAMES]
    sizes |= {"log": sum(p.stat().st_size for p in logs if p.is_file())}
    sizes |= {"quarantine": _size(folder / QUARANTINE)}
    return {name: size for name, size in sizes.items() if size or name not in ("log", QUARANTINE)}


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
