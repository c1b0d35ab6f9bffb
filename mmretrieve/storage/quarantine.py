"""Where a repair puts damaged files, so that nothing is deleted which somebody may still read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

QUARANTINE = "quarantine"
PENDING = "repair.json"
"""There while a repair has taken pieces out of tables and not yet put back what it kept of them."""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")


@dataclass(slots=True)
class Quarantine:
    """A new folder below ``quarantine`` of the index in ``folder``, made when something is put there."""

    folder: Path
    name: str = field(default_factory=_now)

    @property
    def place(self) -> Path:
        return self.folder / QUARANTINE / self.name

    @property
    def is_used(self) -> bool:
        """Whether anything was put there."""
        return self.place.is_dir()

    def new_file(self, name: str) -> Path:
        """Where a file of this name can be written, which is not there yet."""
        self.place.mkdir(parents=True, exist_ok=True)
        count = sum(1 for _ in self.place.glob("*"))
        return self.place / f"{count}-{name}"

    def take(self, path: Path) -> None:
        """Move a file or folder of the index there, if it exists."""
        if path.exists():
            target = self.place / path.relative_to(self.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
