"""The files of the tables against the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmretrieve.health.findings import Finding, Part, error, warning
from mmretrieve.storage.ledger import Ledger, hash_of, newest_versions, table_files, version_of


@dataclass(frozen=True, slots=True)
class FileState:
    """Paths below ``lance/``. ``damaged`` maps a file to what is wrong with it; ``missing`` are in the
    ledger and not there; ``n_new`` files are not in the ledger yet; ``versions``: table -> newest version
    that is there."""

    damaged: Mapping[str, str] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    n_files: int = 0
    n_new: int = 0
    versions: Mapping[str, int] = field(default_factory=dict)

    def damage_of(self, table: str) -> dict[str, str]:
        """Damaged files of one table, by path below its folder."""
        start = f"{table}.lance/"
        return {p.removeprefix(start): w for p, w in self.damaged.items() if p.startswith(start)}

    def can_open(self, table: str) -> bool:
        """Whether the file that describes the newest version of a table is whole: Lance may crash on one
        that is not."""
        newest = self.versions.get(table)
        return newest is not None and all(
            version_of(path) != newest for path in self.damage_of(table)
        )


def look_at_files(folder: Path, ledger: Ledger) -> FileState:
    """Compare all files with the ledger, byte for byte."""
    damaged, there, n_new = {}, set(), 0
    for path, size_bytes in table_files(folder):
        there.add(path)
        known = ledger.files.get(path)
        if known is None:
            n_new += 1
        elif known.size_bytes != size_bytes:
            damaged[path] = f"has {size_bytes:,} bytes, was written with {known.size_bytes:,}"
        else:
            try:
                if hash_of(folder / "lance" / path) != known.blake3:
                    damaged[path] = "has other content than was written (wrong checksum)"
            except FileNotFoundError:  # a writer cleaned up
                there.discard(path)
            except OSError as failure:
                damaged[path] = f"cannot be read ({failure.strerror})"
    missing = frozenset(ledger.files.keys() - there)
    return FileState(damaged, missing, len(there), n_new, newest_versions(there))


def file_findings(state: FileState, ledger: Ledger, needed: frozenset[str]) -> Iterator[Finding]:
    """What is wrong with files. ``needed``: those that the newest versions are made of, by path below
    ``lance/``; others belong to states of the past, which nobody opens any more."""
    for path, what in sorted(state.damaged.items()):
        table, _, rest = path.partition(".lance/")
        version = version_of(rest)
        if path in needed or (version is not None and version == state.versions.get(table)):
            yield error(Part.FILES, what, f"lance/{path}")
        else:
            yield warning(Part.FILES, f"{what}; of an earlier state", f"lance/{path}")
    for path in sorted(state.missing & needed):
        yield error(Part.FILES, "is not there", f"lance/{path}")
    for table, version in sorted(ledger.versions.items()):
        there = state.versions.get(table)
        if there is None:
            yield error(Part.TABLES, "has no version that can be opened", f"table {table}")
        elif there < version:
            yield error(
                Part.TABLES, f"is at version {there}, was written up to {version}", f"table {table}"
            )
