"""``concurrency``: a writer and four readers for some minutes, every answer checked, and the index after."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.at_work import Bound, at_work, prepared, tell
from benchmarks.result import Result
from mmretrieve.health.findings import Severity
from mmretrieve.health.verify import verify

N_READERS = 4


def run(minutes: float, seed: int) -> int:
    """Print the tally and write the result; 1 where anything was wrong or torn."""
    result, bound = Result("concurrency"), Bound(seconds=60 * minutes)
    with tempfile.TemporaryDirectory(prefix="mmretrieve-concurrency-") as name:
        folder = Path(name) / "index"
        prepared(folder)
        tallies, took_s = at_work(folder, bound, bound, N_READERS, seed)
        report = verify(folder, deep=True)
    errors = tell(result, tallies, took_s)
    bad = [f for f in report.findings if f.severity is not Severity.NOTE]
    searches = sum(t.operations.get("search", 0) for t in tallies.values())
    writes = tallies["writer"].total
    result.note(
        f"{searches:,} answers and {writes:,} writes in {took_s / 60:.1f} minutes, {len(errors)} wrong or "
        "torn: a document that the state does not have, a score other than brute force over the tables "
        "gives, or an error. A reader now and then keeps asking a state that the writer has left behind."
    )
    result.note(f"`verify --deep` afterwards: {len(bad)} errors or warnings.")
    for finding in bad[:5]:
        result.note(f"{finding.where}: {finding.what}")
    result.save()
    return int(bool(errors or bad))
