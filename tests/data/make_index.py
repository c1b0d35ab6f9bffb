"""Writes ``tests/data/index_format_N.tar.xz``: a small index in the format of the program that runs this,
and what it holds. Run it when a new format is made, before the change:

    python -m tests.data.make_index

Each is kept for good, so that every later program is tested on indexes of every format.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.contents import content
from benchmarks.faults.library import QUERIES, documents, quick_encoder
from mmretrieve import Engine
from mmretrieve.storage.folder import FORMAT_VERSION


def main() -> None:
    """Two runs, so that there are pieces, versions, deletions and several segments."""
    target = Path(__file__).with_name(f"index_format_{FORMAT_VERSION}.tar.xz")
    with tempfile.TemporaryDirectory() as name, quick_encoder():
        index = Path(name) / "index"
        with Engine.create(index) as engine:
            engine.index(documents(0, 3))
            engine.index([*documents(3, 4), *documents(0, 1, edition=1)])
        held = content(index, QUERIES)
        (Path(name) / "content.json").write_text(json.dumps(asdict(held)), encoding="utf-8")
        with tarfile.open(target, "w:xz") as archive:
            archive.add(index, "index")
            archive.add(Path(name) / "content.json", "content.json")


if __name__ == "__main__":
    main()
