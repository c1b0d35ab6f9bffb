"""What a check of an index found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """``error``: a promise is broken, something is lost or wrong. ``warning``: nothing is lost, but
    ``repair`` has work to do. ``note``: as it should be; the next run tidies it up by itself."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Part(StrEnum):
    """What a finding is about."""

    MANIFEST = "manifest"
    LEDGER = "ledger"
    FILES = "files"
    TABLES = "tables"
    ROWS = "rows"
    VECTORS = "vectors"
    THUMBNAILS = "thumbnails"
    CODES = "codes"
    CHANCE = "chance"
    FOLDER = "folder"
    LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Finding:
    """``what`` is wrong ``where`` (a path in the index folder, a table, a video), and what ``fix``es it."""

    severity: Severity
    part: Part
    what: str
    where: str
    fix: str


@dataclass(frozen=True, slots=True)
class HealthReport:
    """``checked``: what was looked at, by name, and how many."""

    path: str
    findings: tuple[Finding, ...]
    checked: Mapping[str, int] = field(default_factory=dict)
    deep: bool = False
    took_s: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether every promise holds: notes alone are no matter."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)

    def count(self, severity: Severity) -> int:
        """How many findings of this severity."""
        return sum(finding.severity is severity for finding in self.findings)


REPAIR = "mmretrieve repair"
NEXT_RUN = "the next `mmretrieve index` or `remove` tidies it up"


def error(part: Part, what: str, where: str, fix: str = REPAIR) -> Finding:
    """A broken promise."""
    return Finding(Severity.ERROR, part, what, where, fix)


def warning(part: Part, what: str, where: str, fix: str = REPAIR) -> Finding:
    """Work for ``repair``; nothing is lost."""
    return Finding(Severity.WARNING, part, what, where, fix)


def note(part: Part, what: str, where: str, fix: str = NEXT_RUN) -> Finding:
    """Something to know."""
    return Finding(Severity.NOTE, part, what, where, fix)
