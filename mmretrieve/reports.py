"""Records that tell about an index and about a run of indexing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mmretrieve.datatypes import Modality


class Stage(StrEnum):
    """What indexing spends time on."""

    FINGERPRINT = "fingerprint"
    SPEECH = "speech"
    VISUAL = "visual"
    FRAMES = "frames"
    TEXT = "text"


class Outcome(StrEnum):
    """What became of one file in a run."""

    INDEXED = "indexed"
    UNCHANGED = "unchanged"
    MOVED = "moved"
    DUPLICATE = "duplicate"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Failed earlier and not changed since; tried again with ``retry_failed``."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """One file of a run. ``duration_s`` of video, ``took_s`` of work, ``error`` when it failed,
    ``reason``: why something was (or would be) done."""

    path: str
    outcome: Outcome
    duration_s: float = 0.0
    took_s: float = 0.0
    error: str | None = None
    warnings: tuple[str, ...] = ()
    n_tokens: Mapping[Modality, int] = field(default_factory=dict)
    stage_s: Mapping[Stage, float] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Sent at the start, after every file, and about once a second in between. ``done_s`` is the
    video time worked through, ``elapsed_s`` the time it took, ``eta_s`` the time to go as the files
    done so far suggest, None while none is done. ``result`` is set when a file was finished,
    ``busy`` are the paths under way."""

    n_done: int
    n_total: int
    done_s: float
    elapsed_s: float
    eta_s: float | None
    result: FileResult | None
    busy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one run of indexing did. ``n_pruned`` videos were removed since their files are gone;
    ``interrupted`` is true when it was stopped early (what was done is kept)."""

    results: tuple[FileResult, ...]
    n_pruned: int
    took_s: float
    interrupted: bool = False
    warnings: tuple[str, ...] = ()

    def count(self, outcome: Outcome) -> int:
        """How many files had this outcome."""
        return sum(result.outcome is outcome for result in self.results)

    def then(self, other: IndexReport) -> IndexReport:
        """Both runs as one."""
        return IndexReport(
            (*self.results, *other.results),
            self.n_pruned + other.n_pruned,
            self.took_s + other.took_s,
            self.interrupted or other.interrupted,
            (*self.warnings, *other.warnings),
        )

    @property
    def duration_s(self) -> float:
        """Video time that was indexed in this run."""
        return sum(r.duration_s for r in self.results if r.outcome is Outcome.INDEXED)


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """One video of the index. ``sources`` names for each modality with tokens where they came
    from; ``missing`` is true when the file is no longer at ``path``."""

    video_id: str
    path: str
    title: str
    duration_s: float
    n_tokens: Mapping[Modality, int]
    sources: Mapping[Modality, str]
    warnings: tuple[str, ...]
    indexed_at: str
    missing: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be indexed, and why."""

    path: str
    error: str


@dataclass(frozen=True, slots=True)
class Health:
    """The state that an index is in. ``last_run``, ``last_verify``, ``last_repair`` and ``last_trouble`` are
    the newest records of the log, None where there are none; ``writer`` is at work; ``unsettled`` when a
    run was killed and the next one has to tidy up; ``n_unsealed`` videos are searched without codes;
    ``n_versions`` and ``n_pieces`` are of all tables: compaction makes them fewer; ``n_waiting`` folders
    of codes wait to be removed."""

    writer: str | None
    unsettled: bool
    n_unsealed: int
    n_versions: int
    n_pieces: int
    n_waiting: int
    notes: tuple[str, ...] = ()
    last_run: Mapping[str, object] | None = None
    last_verify: Mapping[str, object] | None = None
    last_repair: Mapping[str, object] | None = None
    last_trouble: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """Counts and sizes of an index."""

    path: str
    preset: str
    format_version: int
    n_videos: int
    n_passages: int
    n_tokens: Mapping[Modality, int]
    n_files: int
    duration_s: float
    size_bytes: Mapping[str, int]
    encoders: Mapping[str, str]
    failures: tuple[Failure, ...]
    search_path: str
    health: Health | None = None


@dataclass(frozen=True, slots=True)
class SharedStretch:
    """Two videos that show the same: how alike (0 to 1), and the seconds of each that are shared."""

    first: str
    second: str
    similarity: float
    first_span: tuple[float, float]
    second_span: tuple[float, float]


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Files that show the same pictures. ``paths`` are all of them; those of equal bytes are stored as
    one video and listed in ``equal``, each set together; ``stretches`` tell of the others."""

    paths: tuple[str, ...]
    equal: tuple[tuple[str, ...], ...]
    stretches: tuple[SharedStretch, ...]

    @property
    def similarity(self) -> float:
        """Of the two that are least alike of those that were compared."""
        return min((stretch.similarity for stretch in self.stretches), default=1.0)
