"""Takes the measurements of ``search``: who builds, who is asked when, against which truth."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.peers.client import Client, PeerFailedError, Place
from benchmarks.peers.environments import Environment, PeerAbsentError, find_environment
from benchmarks.peers.registry import BASELINE, OURS, Entry, entry
from benchmarks.search_cases import MERGED, Case
from benchmarks.search_records import Build, Opened, Records, Speed, Update
from benchmarks.search_truth import Truth

ENOUGH = 0.995
"""Slower settings are not tried once one reaches this recall."""
_REST_S = 0.04
"""How long threads of BLAS and OpenMP may spin after a product, so as not to disturb who is next."""
_SWEEP_LIMIT_S = 90.0
_LEAST_QUERIES = 10
_MOST_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Setting:
    """One size. ``truths`` by kind of query and case; ``budget_s``: how long to go on timing one engine
    after every query was asked once."""

    n_tokens: int
    key: str
    place: Place
    merged_place: Place
    truths: Mapping[str, Mapping[str, Truth]]
    n_queries: int
    budget_s: float
    environments: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """What to time: a dial, a case, a kind of queries."""

    dial: str
    case: str
    kind: str = "even"


def build(setting: Setting, who: Entry, merged: bool, records: Records) -> Environment:
    """Build an index in a process of its own, with all threads, unless it is there already.

    Raises:
        PeerAbsentError: no environment.
        PeerFailedError: the engine failed.
    """
    environment = find_environment(setting.environments, who.environment)
    place = setting.merged_place if merged else setting.place
    folder = _index(place, who)
    mark = folder.with_suffix(".json")
    if mark.exists():
        stored = json.loads(mark.read_text(encoding="ascii"))
        if stored["key"] == setting.key:
            records.builds.append(Build(**stored["build"]))
            return environment
    print(f"  {who.name}: building", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with Client(who, environment, _of(place, who), 2) as client:
        done = client.build()
    made = Build(
        who.name,
        setting.n_tokens,
        merged,
        done["seconds"],
        done["disk_bytes"],
        done["before_bytes"],
        done["peak_bytes"],
    )
    records.builds.append(made)
    mark.write_text(json.dumps({"key": setting.key, "build": asdict(made)}), encoding="ascii")
    return environment


def measure_peers(setting: Setting, peers: Sequence[Entry], threads: int, records: Records) -> None:
    """The common task: every engine in turn with the baseline, query by query."""
    with _baseline(setting, threads) as baseline:
        if baseline is None:
            records.absent.append((BASELINE, setting.n_tokens, "does not fit into memory"))
        for who in (entry(OURS), *peers):
            _one_peer(setting, who, threads, baseline, records)
        if baseline is not None:
            _note_opened(setting, entry(BASELINE), threads, True, baseline, records)


def _one_peer(
    setting: Setting, who: Entry, threads: int, baseline: Client | None, records: Records
) -> None:
    if who.max_tokens is not None and setting.n_tokens > who.max_tokens:
        records.absent.append((who.name, setting.n_tokens, "not tried at this size"))
        return
    try:
        environment = build(setting, who, True, records)
        with Client(who, environment, _of(setting.merged_place, who), threads) as client:
            plans = [Plan(dial, MERGED.name) for dial in client.open()]
            measured = _measure(setting, who.name, threads, client, baseline, plans, True)
            records.speeds += measured
            _note_opened(setting, who, threads, True, client, records)
    except (PeerAbsentError, PeerFailedError) as error:
        _note_absent(setting, who, error, records)


def measure_cases(setting: Setting, cases: Sequence[Case], threads: int, records: Records) -> None:
    """The program's own ways of searching, in turn with each other and the baseline."""
    who = entry(OURS)
    with _baseline(setting, threads) as baseline:
        try:
            environment = build(setting, who, False, records)
            with Client(who, environment, _of(setting.place, who), threads) as client:
                dials = client.open()
                plans = [Plan(d, c.name, k) for d in dials for k, c in _asked(cases)]
                records.speeds += _measure(
                    setting, who.name, threads, client, baseline, plans, False
                )
                _note_opened(setting, who, threads, False, client, records)
                _note_update(setting, client, dials[0], records)
        except (PeerAbsentError, PeerFailedError) as error:
            _note_absent(setting, who, error, records)


def _note_absent(setting: Setting, who: Entry, error: Exception, records: Records) -> None:
    records.absent.append((who.name, setting.n_tokens, str(error)))
    print(f"  {who.name}: absent: {error}", file=sys.stderr, flush=True)


def _asked(cases: Sequence[Case]) -> list[tuple[str, Case]]:
    """All cases with queries of even length, the first also with those that people wrote."""
    return [*(("even", c) for c in cases), *(("natural", c) for c in cases[:1])]


def _measure(
    setting: Setting,
    name: str,
    threads: int,
    client: Client,
    baseline: Client | None,
    plans: Sequence[Plan],
    stop: bool,
) -> list[Speed]:
    """Recall of every plan first, which warms everything up, then times. ``stop``: plans are ever
    slower settings of one task."""
    recalls: dict[Plan, list[float]] = {}
    for plan in plans:
        recalls[plan] = _recalls(setting, client, plan)
        if stop and _mean(recalls[plan]) >= ENOUGH:
            break
    times: dict[Plan, list[float]] = {plan: [] for plan in recalls}
    reference: dict[Plan, list[float]] = {plan: [] for plan in recalls}
    start = time.perf_counter()
    n_fewest = min(map(len, recalls.values()))
    for turn in range(_MOST_ROUNDS * setting.n_queries):
        query = turn % n_fewest
        if turn >= n_fewest and time.perf_counter() - start > setting.budget_s:
            break
        base_s = _baseline_turn(baseline, query)
        time.sleep(_REST_S)
        for plan in recalls:
            seconds, _ = client.search(plan.kind, query, plan.dial, plan.case)
            times[plan].append(seconds)
            reference[plan].append(base_s)
    done = [
        Speed(
            name, plan.dial, plan.case, plan.kind, setting.n_tokens, threads,
            _mean(found), len(found), tuple(times[plan]), tuple(reference[plan]),
        )
        for plan, found in recalls.items()
    ]  # fmt: skip
    for one in done:
        told = f"recall {one.recall:.3f}, p50 {one.p50_ms:.2f} ms, {one.to_baseline:.2f} x"
        print(f"  {name}: {one.dial}, {one.case}, {one.kind}: {told}", file=sys.stderr, flush=True)
    return done


def _baseline_turn(baseline: Client | None, query: int) -> float:
    time.sleep(_REST_S)
    if baseline is None:
        return float("nan")
    return baseline.search("even", query, "exact", MERGED.name)[0]


def _recalls(setting: Setting, client: Client, plan: Plan) -> list[float]:
    """Recall@10 of query after query; of fewer than all where they take too long."""
    truth = setting.truths[plan.kind][plan.case]
    start, found = time.perf_counter(), []
    for query in range(setting.n_queries):
        _, ids = client.search(plan.kind, query, plan.dial, plan.case)
        found.append(truth.recall(query, ids))
        late = time.perf_counter() - start > _SWEEP_LIMIT_S
        if late and len(found) >= _LEAST_QUERIES:
            break
    return found


@contextmanager
def _baseline(setting: Setting, threads: int) -> Iterator[Client | None]:
    """The baseline's process, ready; None where the corpus is too large for it."""
    who = entry(BASELINE)
    if who.max_tokens is not None and setting.n_tokens > who.max_tokens:
        yield None
        return
    environment = find_environment(setting.environments, who.environment)
    with Client(who, environment, _of(setting.merged_place, who), threads) as client:
        client.open()
        client.search("even", 0, "exact", MERGED.name)
        yield client


def _note_opened(
    setting: Setting, who: Entry, threads: int, merged: bool, client: Client, records: Records
) -> None:
    told = client.facts()
    records.opened.append(
        Opened(who.name, setting.n_tokens, threads, merged, told["own_bytes"], told["facts"])
    )


def _note_update(setting: Setting, client: Client, dial: str, records: Records) -> None:
    told = client.update(dial, "plain")
    if told["updatable"]:
        deletes = sorted(told["delete_seconds"])
        records.updates.append(
            Update(
                setting.n_tokens,
                told["n_tokens"] / told["add_seconds"],
                told["n_visible"] / told["n_asked"],
                1e3 * deletes[len(deletes) // 2],
                told["n_gone"] / len(deletes),
            )
        )


def _of(place: Place, who: Entry) -> Place:
    return Place(place.corpus, place.queries, _index(place, who), place.merged, place.more)


def _index(place: Place, who: Entry) -> Path:
    return place.index / who.name.replace(" ", "-").lower()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
