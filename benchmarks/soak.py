"""``soak``: a writer and readers at work on one index for thousands of operations, every answer checked."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.at_work import Bound, at_work, prepared, tell
from benchmarks.result import Result

N_READERS = 2
SEARCH_SHARE = 0.8


def run(n_operations: int, seed: int) -> int:
    """Print the tally and write the result; 1 where anything was wrong."""
    result = Result("soak")
    searches = int(SEARCH_SHARE * n_operations / N_READERS)
    writes = n_operations - searches * N_READERS
    with tempfile.TemporaryDirectory(prefix="mmretrieve-soak-") as name:
        folder = Path(name) / "index"
        prepared(folder)
        tallies, took_s = at_work(folder, Bound(writes), Bound(searches), N_READERS, seed)
        size_mib = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 2**20
    errors = tell(result, tallies, took_s)
    result.note(
        f"Wrong: a document that the index does not have, a score that differs from brute force over "
        f"the tables, or an error. In the end the index took {size_mib:.1f} MiB."
    )
    result.save()
    return int(bool(errors))
