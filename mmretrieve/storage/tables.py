"""Opening the LanceDB tables of an index to read from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmretrieve.errors import IndexFormatError


def open_table(folder: Path, name: str) -> Any:
    """The newest state of a table, a Lance dataset.

    Raises:
        IndexFormatError: it cannot be opened.
    """
    import lance

    try:
        return lance.dataset(str(folder / "lance" / f"{name}.lance"))
    except (ValueError, OSError) as error:
        raise IndexFormatError(
            f"table {name!r} of {folder} cannot be opened ({error}): index again into a new folder"
        ) from error


def table_exists(folder: Path, name: str) -> bool:
    """Whether a table has a committed state."""
    versions = folder / "lance" / f"{name}.lance" / "_versions"
    return versions.is_dir() and any(versions.glob("*.manifest"))
