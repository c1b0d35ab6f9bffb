"""The tables of ``search``."""

from __future__ import annotations

import numpy as np

from benchmarks.peers.registry import BASELINE, OURS
from benchmarks.result import Result
from benchmarks.search_bars import bars
from benchmarks.search_records import TARGETS, Records, cheapest

_MIB = 2**20
_QUERY_TOKENS, _DIM = 32, 128


def report(result: Result, records: Records) -> None:
    """Print everything and keep it."""
    result.add(
        "Bars (two threads)",
        ("bar", "asked", "tokens", "measured", "verdict"),
        [(b.name, b.asked, b.where, b.measured, b.verdict) for b in bars(records)],
    )
    _targets(result, records)
    _sweeps(result, records)
    _cases(result, records)
    _indexes(result, records)
    _baseline(result, records)
    result.add("Absent", ("engine", "tokens", "why"), sorted(set(records.absent)))


def _targets(result: Result, records: Records) -> None:
    """What it costs to be as right as that, read at an engine's fastest setting that is."""
    rows = []
    for n, threads in _settings(records):
        for engine in records.engines:
            sweep = records.sweep(engine, n, threads)
            if not sweep:
                continue
            cells: list[str | float] = []
            for target in TARGETS:
                found = cheapest(sweep, target)
                cells.append("not reached" if found is None else found.p50_ms)
                cells.append("" if found is None else found.to_baseline)
            rows.append((n, threads, engine, max(s.recall for s in sweep), *cells))
    columns = [c for t in TARGETS for c in (f"p50 ms at {t:.2f}", f"x {BASELINE}")]
    result.add(
        "Latency at equal recall@10 (plain MaxSim)",
        ("tokens", "threads", "engine", "best recall", *columns),
        rows,
    )


def _sweeps(result: Result, records: Records) -> None:
    rows = [
        (
            s.n_tokens, s.threads, s.engine, s.dial, s.recall, s.p50_ms, s.p95_ms, s.to_baseline,
            s.n_queries, len(s.seconds),
        )
        for n, threads in _settings(records)
        for engine in records.engines
        for s in records.sweep(engine, n, threads)
    ]  # fmt: skip
    columns = (
        "tokens", "threads", "engine", "setting", "recall@10", "p50 ms", "p95 ms", f"x {BASELINE}",
        "queries", "searches timed",
    )  # fmt: skip
    result.add("Every setting (plain MaxSim)", columns, rows)


def _cases(result: Result, records: Records) -> None:
    rows = [
        (
            s.n_tokens, s.threads, s.case, s.kind, s.dial, s.recall, s.p50_ms, s.p95_ms,
            s.to_baseline,
        )
        for s in records.speeds
        if s.engine == OURS and s.case != records.task
    ]  # fmt: skip
    columns = (
        "tokens", "threads", "case", "queries", "setting", "recall@10", "p50 ms", "p95 ms",
        f"x {BASELINE} (plain)",
    )  # fmt: skip
    result.add(f"Ways of searching ({OURS})", columns, rows)


def _indexes(result: Result, records: Records) -> None:
    """Bytes, build times and memory, on the common task; the program's own index besides."""
    rows = []
    for build in records.builds:
        opened = next(
            (
                o
                for o in records.opened
                if (o.engine, o.n_tokens, o.merged) == (build.engine, build.n_tokens, build.merged)
            ),
            None,
        )
        hot = None if opened is None else opened.hot_bytes
        name = build.engine if build.merged else f"{build.engine}, with modalities"
        rows.append(
            (
                build.n_tokens,
                name,
                build.seconds,
                build.disk_bytes / build.n_tokens,
                (build.peak_bytes - build.before_bytes) / _MIB,
                None if opened is None else opened.own_bytes / _MIB,
                None if hot is None else hot / build.n_tokens,
            )
        )
    columns = (
        "tokens", "engine", "build s", "bytes a token on disk", "build: peak MiB",
        "search: MiB of the process", "hot bytes a token",
    )  # fmt: skip
    result.add("Indexes", columns, rows)


def _baseline(result: Result, records: Records) -> None:
    """Whether the baseline was any good, and how steady the machine."""
    rows = []
    for n, threads in _settings(records):
        medians = [
            1e3 * float(np.median(s.baseline))
            for s in records.speeds
            if (s.n_tokens, s.threads) == (n, threads) and np.isfinite(s.baseline).all()
        ]
        opened = next(
            (
                o
                for o in records.opened
                if (o.engine, o.n_tokens, o.threads) == (BASELINE, n, threads)
            ),
            None,
        )
        if not medians or opened is None:
            continue
        gflops = 2 * n * _DIM * _QUERY_TOKENS / (1e6 * min(medians))
        facts = opened.facts
        square = next((v for k, v in facts.items() if k.startswith("GFLOPS")), None)
        rows.append(
            (
                n, threads, min(medians), max(medians), gflops, square,
                facts.get("BLAS kernel"), facts.get("block of tokens"),
            )
        )  # fmt: skip
    columns = (
        "tokens", "threads", "p50 ms, beside the luckiest engine", "beside the unluckiest",
        "GFLOPS of a search", "GFLOPS of a square product, one thread", "BLAS kernel",
        "tokens a block",
    )  # fmt: skip
    result.add(f"The baseline ({BASELINE})", columns, rows)


def _settings(records: Records) -> list[tuple[int, int]]:
    return list(dict.fromkeys((s.n_tokens, s.threads) for s in records.speeds))
