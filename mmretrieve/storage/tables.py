"""Opening the LanceDB tables of an index to read from."""

from __future__ import annotations

from collections.abc import Collection
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


def unreadable_deletions(dataset: Any, known: Collection[str | None] = ()) -> dict[str, str]:
    """Files that say which rows are deleted and cannot be read, by path below the table: what is wrong.
    ``known`` ones are not looked at.

    Lance can commit a version whose deletion file was not written, where a disk fails (seen in 13.0).
    """
    import pyarrow as pa

    wrong = {}
    for fragment in dataset.get_fragments():
        name = fragment.deletion_file()
        if not name or name in known:
            continue
        path = Path(dataset.uri.removeprefix("file://"), name)
        try:
            if not path.stat().st_size:
                raise OSError("it is empty")
            if path.suffix == ".arrow":
                with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
                    reader.read_all()
        except (OSError, ValueError) as error:
            wrong[name] = f"cannot be read ({error})"
    return wrong
