"""Format 1 to 2: the ledger, and a manifest that says whether it is whole.

Tables and codes stay as they are. What the tables hold now is taken for right, since format 1 has no
checksums to compare it with.
"""

from __future__ import annotations

from pathlib import Path

from mmretrieve.storage.ledger import LEDGER, bring_up_to_date


def migrate(folder: Path) -> None:
    """Write the ledger anew."""
    (folder / LEDGER).unlink(missing_ok=True)
    bring_up_to_date(folder)
