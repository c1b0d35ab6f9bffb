"""``search``: the search structure against its bars and its peers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.peers.client import Place
from benchmarks.peers.registry import OURS, Entry, find_peers
from benchmarks.result import RESULTS, Result, load
from benchmarks.search_base import Array, Base, load_base, load_queries
from benchmarks.search_cases import MERGED, Case, find_cases
from benchmarks.search_data import Grown, write_corpus
from benchmarks.search_measure import Setting, measure_cases, measure_peers
from benchmarks.search_plots import draw
from benchmarks.search_records import Records
from benchmarks.search_report import report
from benchmarks.search_truth import Truth, find_truth
from benchmarks.text_tokens import TokenCache

_ADDED_TOKENS = 50_000


@dataclass(frozen=True, slots=True)
class Options:
    """``sizes`` in tokens; ``budget_s``: how long to time each engine, at each size and number of
    threads, beyond one round of all queries."""

    data: Path
    cache: Path
    sizes: tuple[int, ...]
    peers: tuple[Entry, ...]
    cases: tuple[Case, ...]
    threads: tuple[int, ...]
    budget_s: float


def options(
    data: Path, cache: Path, sizes: str, peers: str, cases: str, threads: str, budget_s: float
) -> Options:
    """Read what was typed.

    Raises:
        ValueError: no such peer, case or number.
    """
    return Options(
        data,
        cache.absolute(),
        tuple(sorted(int(float(size)) for size in sizes.split(","))),
        find_peers(peers),
        find_cases(cases) if cases != "none" else (),
        tuple(int(n) for n in threads.split(",")),
        budget_s,
    )


def run(given: Options) -> None:
    """Measure, print the tables, write the result and the pictures."""
    result = Result("search")
    tokens = TokenCache(given.cache)
    base = load_base(given.data, tokens)
    even, natural = load_queries(given.data, tokens)
    grown = Grown(base)
    folder = given.cache / f"search-{grown.key}"
    queries = _write_queries(folder, even, natural)
    records = Records(task=MERGED.name)
    loads = []
    for n_tokens in given.sizes:
        setting = _setting(given, grown, base, folder, n_tokens, (even, natural), queries)
        for threads in given.threads:
            print(f"{n_tokens} tokens, {threads} threads", file=sys.stderr, flush=True)
            measure_peers(setting, given.peers, threads, records)
            if given.cases:
                measure_cases(setting, given.cases, threads, records)
            loads.append(load()[0])
    report(result, records)
    _notes(result, given, base, natural, loads)
    for path in draw(records, RESULTS):
        print(f"drawn: {path.name}")
    result.save()


def _setting(
    given: Options,
    grown: Grown,
    base: Base,
    folder: Path,
    n_tokens: int,
    asked: tuple[Sequence[Array], Sequence[Array]],
    queries: Path,
) -> Setting:
    """Everything about one size, truth included."""
    here = folder / f"{n_tokens:.0e}".replace("+0", "")
    corpus = write_corpus(grown, base, n_tokens, here / "corpus")
    write_corpus(grown, base, _ADDED_TOKENS, here / "more", first=corpus.n_videos)
    key = f"{grown.key} {n_tokens}"
    cases = [*given.cases, MERGED]
    print(f"{n_tokens} tokens: right answers", file=sys.stderr, flush=True)
    truths: dict[str, dict[str, Truth]] = {
        "even": find_truth(corpus, key, asked[0], cases, folder / "truth"),
        "natural": find_truth(corpus, key, asked[1], cases[:1], folder / "truth"),
    }
    place = Place(here / "corpus", queries, here / "indexes", False, here / "more")
    merged = replace(place, index=here / "indexes-merged", merged=True, more=None)
    for where in (place, merged):
        where.index.mkdir(parents=True, exist_ok=True)
    environments = given.cache / "environments"
    return Setting(
        n_tokens, key, place, merged, truths, len(asked[0]), given.budget_s, environments
    )


def _write_queries(folder: Path, even: Sequence[Array], natural: Sequence[Array]) -> Path:
    """One file that every engine reads its queries from."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "queries.npz"
    np.savez(
        path,
        allow_pickle=False,
        even=np.concatenate(even),
        even_lengths=[len(q) for q in even],
        natural=np.concatenate(natural),
        natural_lengths=[len(q) for q in natural],
    )
    return path


def _notes(
    result: Result, given: Options, base: Base, natural: Sequence[Array], loads: Sequence[float]
) -> None:
    lengths = [len(q) for q in natural]
    result.note(
        f"Data: {len(base.vectors):,} real tokens of Cranfield abstracts and ActivityNet descriptions "
        f"and recognised speech in {base.n_videos} videos of neighbouring passages; larger corpora add "
        "copies with noise of length 0.15 shared by a passage and modality and 0.15 of each token's own, "
        "kept as float16. The ten nearest passages are therefore often copies of one: harder to tell "
        "apart than different documents, for every engine alike."
    )
    result.note(
        f"Queries: 50 of 32 tokens, whole queries that people wrote joined and cut, and 50 as written "
        f"({min(lengths)} to {max(lengths)} tokens, {np.mean(lengths):.1f} on average). One at a time, "
        "k = 10. Recall against exact float32 scores of the same float16 vectors, worked out apart."
    )
    result.note(
        "Every engine runs in a process of its own that times itself. Per query the baseline is asked, "
        "then every setting of one engine; ratios are medians over these pairs. One thread: bound to "
        "one core. Indexes are built with two threads in another process. Settings come from fastest to "
        "slowest until one reaches recall 0.995. Memory is what a process holds of its own, mapped files "
        f"not counted. {OURS} solves the same task (passages as one modality, no metadata) in the tables "
        "with peers, and its own cases in the table of cases."
    )
    result.note(
        "Baseline: NumPy in blocks that stay in the cache, the size found by trial, a thread for each "
        "core; variables that would slow OpenBLAS down are removed from every process. TACHIOM is "
        "given the ids of the true word pieces. LanceDB knows cosine alone for multivectors."
    )
    result.note(f"Load average (1 min) after each size and number of threads: {loads}.")
