"""Which engines there are, and where each of them runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from benchmarks.peers.subject import Subject


@dataclass(frozen=True, slots=True)
class Entry:
    """An engine: ``module:class`` of its adapter, its environment (None: the program's own), and
    its threads: those of BLAS may have to be one where the adapter has threads of its own. The largest
    corpus, in tokens, that it is worth waiting for, or that fits into memory."""

    name: str
    adapter: str
    environment: str | None = None
    one_blas_thread: bool = False
    max_tokens: int | None = None


OURS = "mmretrieve"
BASELINE = "NumPy exact"
ENTRIES = (
    Entry(OURS, "engine:Engine"),
    Entry(BASELINE, "numpy_exact:NumpyExact", "threadpoolctl", True, 12_000_000),
    Entry("maxsim-cpu", "maxsim:MaxsimCpu", "maxsim-cpu", max_tokens=12_000_000),
    Entry("LanceDB scan", "lance:LanceScan", max_tokens=2_000_000),
    Entry("LanceDB IVF_PQ 16", "lance:LancePq16", max_tokens=12_000_000),
    Entry("LanceDB IVF_PQ 64", "lance:LancePq64", max_tokens=12_000_000),
    Entry("FAISS XTR SQ8", "faiss_xtr:FaissXtr", max_tokens=12_000_000),
    Entry("FAISS XTR PQ", "faiss_xtr:FaissXtrPq", max_tokens=12_000_000),
    Entry("fast-plaid", "plaid:Plaid", "fast-plaid", max_tokens=12_000_000),
    Entry("fast-plaid 8 bits", "plaid:Plaid8", "fast-plaid", max_tokens=12_000_000),
    Entry("TACHIOM", "tac:Tachiom", "tachiom", max_tokens=12_000_000),
)


def find_peers(names: str) -> tuple[Entry, ...]:
    """Entries but for the program and the baseline: ``all``, ``none``, or comma-separated names, or words
    that begin some.

    Raises:
        ValueError: no peer begins like that.
    """
    peers = tuple(e for e in ENTRIES if e.name not in (OURS, BASELINE))
    if names in ("all", "none"):
        return peers if names == "all" else ()
    found: list[Entry] = []
    for wanted in names.split(","):
        word = wanted.strip().lower()
        exact = [e for e in peers if e.name.lower() == word]
        matching = exact or [e for e in peers if e.name.lower().startswith(word)]
        if not matching:
            raise ValueError(f"no peer {wanted!r}: expected some of {[e.name for e in peers]}")
        found += [e for e in matching if e not in found]
    return tuple(found)


def entry(name: str) -> Entry:
    """The entry of that name."""
    return next(e for e in ENTRIES if e.name == name)


def load(name: str) -> Subject:
    """A new adapter."""
    module, _, kind = entry(name).adapter.partition(":")
    made: Subject = getattr(import_module(f"benchmarks.peers.{module}"), kind)()
    return made


def names(entries: Sequence[Entry]) -> str:
    """Names for people."""
    return ", ".join(e.name for e in entries)
