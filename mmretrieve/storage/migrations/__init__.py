"""Steps from one format of the index to the next. Every step is done in place, under the writer's lock, and
can be interrupted at any point: the manifest says the old format until all else is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mmretrieve.storage.folder import FORMAT_VERSION, read_manifest, replace_manifest
from mmretrieve.storage.migrations import from_1

Step = Callable[[Path], None]
"""Turns the index in a folder from one format into the next, all but its manifest."""

STEPS: Mapping[int, Step] = {1: from_1.migrate}
"""Old format -> the step that leads away from it."""


def migrate(folder: Path) -> tuple[int, ...]:
    """Bring an index to the format of this program. The caller holds the writer's lock.

    Returns:
        The formats that it had before each step; empty where nothing was to be done.

    Raises:
        IndexFormatError: it is of a newer format, or damaged.
        OSError: it cannot be written; it is as it was, and can be used.
    """
    left = []
    manifest = read_manifest(folder)
    while manifest.format_version < FORMAT_VERSION:
        STEPS[manifest.format_version](folder)
        left.append(manifest.format_version)
        manifest = replace(manifest, format_version=manifest.format_version + 1)
        replace_manifest(folder, manifest)
    return tuple(left)
