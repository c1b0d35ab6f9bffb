"""``python -m benchmarks COMMAND``; see ``benchmarks/README.md``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.result import ROOT

DATA = ROOT.parent / "shared" / "data"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; the number is the exit code."""
    given = _parser().parse_args(arguments)
    return _COMMANDS[given.command](given)


def _text(given: argparse.Namespace) -> int:
    from benchmarks import text

    text.run(_existing(given.data), given.cache)
    return 0


def _projections(given: argparse.Namespace) -> int:
    from benchmarks import projections

    only = [name for name in given.only.split(",") if name]
    projections.run(_existing(given.data), given.cache, given.projection, only)
    return 0


def _quality(given: argparse.Namespace) -> int:
    from benchmarks import quality

    only = [name for name in given.only.split(",") if name]
    quality.run(_existing(given.data), given.cache, only, readme=not given.no_readme)
    return 0


def _abstention(given: argparse.Namespace) -> int:
    from benchmarks import abstention

    abstention.run(_existing(given.data), given.cache, fit=given.fit)
    return 0


def _parts(given: argparse.Namespace) -> int:
    from benchmarks import parts

    parts.run(_existing(given.data), given.cache)
    return 0


def _latency(given: argparse.Namespace) -> int:
    from benchmarks import latency

    latency.run(given.index, given.repeats, given.profile)
    return 0


def _soak(given: argparse.Namespace) -> int:
    from benchmarks import soak

    return soak.run(given.operations, given.seed)


def _growth(given: argparse.Namespace) -> int:
    from benchmarks import growth

    growth.run(_existing(given.data), given.cache.absolute())
    return 0


def _kernels(_: argparse.Namespace) -> int:
    from benchmarks import kernels

    kernels.run()
    return 0


def _crash(given: argparse.Namespace) -> int:
    from benchmarks import crash

    return crash.run(given.folder, given.times, given.seed)


def _balance(given: argparse.Namespace) -> int:
    from benchmarks import balance

    only = [name for name in given.only.split(";") if name]
    balance.run(_existing(given.data), given.cache, only, given.seeds)
    return 0


def _fuzz(given: argparse.Namespace) -> int:
    from benchmarks import fuzz

    wanted = fuzz.Wanted(given.inputs, given.containers, given.seconds, given.seed, given.keep)
    return fuzz.run(wanted, given.only, given.at)


def _load(given: argparse.Namespace) -> int:
    from benchmarks import load

    return load.run(given.videos, given.folder, given.seconds)


def _updates(given: argparse.Namespace) -> int:
    from benchmarks import updates

    return updates.run(given.updates, given.videos, given.documents, given.seconds)


def _faults(given: argparse.Namespace) -> int:
    from benchmarks.faults import run

    return run.run(given.kills, given.faults, (given.clip_kills, given.worker_faults), given.seed)


def _concurrency(given: argparse.Namespace) -> int:
    from benchmarks import concurrency

    return concurrency.run(given.minutes, given.seed)


def _videos(given: argparse.Namespace) -> int:
    from benchmarks import videos

    if given.skip_index and given.index is None:
        sys.exit("--skip-index needs --index DIR: the index made before")
    videos.run(_existing(given.data), given.index, given.skip_index)
    return 0


def _search(given: argparse.Namespace) -> int:
    from benchmarks.peers.environments import CRIPPLING

    for name in CRIPPLING:
        os.environ.pop(name, None)  # before NumPy is imported, which reads them once
    from benchmarks import search

    try:
        wanted = search.options(
            _existing(given.data), given.cache, given.sizes, given.peers, given.cases, given.threads,
            given.seconds,
        )  # fmt: skip
    except ValueError as error:
        sys.exit(str(error))
    search.run(wanted)
    return 0


_COMMANDS = {
    "videos": _videos,
    "text": _text,
    "projections": _projections,
    "quality": _quality,
    "abstention": _abstention,
    "parts": _parts,
    "latency": _latency,
    "search": _search,
    "soak": _soak,
    "growth": _growth,
    "kernels": _kernels,
    "crash": _crash,
    "balance": _balance,
    "fuzz": _fuzz,
    "load": _load,
    "updates": _updates,
    "faults": _faults,
    "concurrency": _concurrency,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    videos = commands.add_parser("videos", help="speed of indexing and quality of search on clips")
    _add_data(videos)
    videos.add_argument("--index", type=Path, metavar="DIR", help="make the index here and keep it")
    videos.add_argument("--skip-index", action="store_true", help="search the one in --index")

    text = commands.add_parser("text", help="joint context and sharpening on text collections")
    _add_data(text)
    text.add_argument(
        "--cache", type=Path, metavar="DIR", default=Path(".benchmark-cache"), help="keeps tokens"
    )

    _add_projections(commands)

    quality = commands.add_parser("quality", help="every way of ranking on every collection")
    _add_data(quality)
    quality.add_argument(
        "--cache", type=Path, metavar="DIR", default=Path(".benchmark-cache"), help="keeps indexes"
    )
    quality.add_argument("--only", default="", metavar="NAME,...", help="some of the collections")
    quality.add_argument("--no-readme", action="store_true", help="leave its table as it is")

    latency = commands.add_parser("latency", help="start-up, re-run and warm search times")
    latency.add_argument("--index", type=Path, metavar="DIR", help="instead of the demo clips")
    latency.add_argument("--repeats", type=int, default=10, metavar="N", help="of cold processes")
    latency.add_argument("--profile", action="store_true", help="of searches in the largest index")

    _add_weighting(commands)
    search = commands.add_parser("search", help="the search structure, its bars and its peers")
    _add_data(search)
    search.add_argument(
        "--cache", type=Path, metavar="DIR", default=Path(".benchmark-cache"),
        help="keeps tokens, corpora, right answers, indexes and the environments of peers",
    )  # fmt: skip
    search.add_argument("--sizes", default="1e5,1e6", metavar="N,...", help="tokens; up to 1e8")
    search.add_argument("--peers", default="all", metavar="NAMES", help="all, none, or names")
    search.add_argument("--cases", default="all", metavar="NAMES", help="all, none, or names")
    search.add_argument("--threads", default="2,1", metavar="N,...")
    search.add_argument(
        "--seconds", type=float, default=20, help="to time each engine beyond one round of queries"
    )
    growth = commands.add_parser("growth", help="search time against tokens, up to 1e8")
    _add_data(growth)
    growth.add_argument("--cache", type=Path, metavar="DIR", default=Path(".benchmark-cache"))
    commands.add_parser("kernels", help="speed of the compiled kernels against NumPy")

    _add_balance(commands)
    _add_reliability(commands)
    _add_life(commands)
    _add_fuzz(commands)
    return parser


def _add_reliability(commands: Any) -> None:
    soak = commands.add_parser("soak", help="a writer and readers at work, every answer checked")
    soak.add_argument("--operations", type=int, default=10_000, metavar="N")
    soak.add_argument("--seed", type=int, default=0)
    crash = commands.add_parser("crash", help="kill -9 while indexing, then compare")
    crash.add_argument("folder", type=Path, nargs="?", help="videos; default: the demo clips")
    crash.add_argument("--times", type=int, default=10, metavar="N")
    crash.add_argument("--seed", type=int, default=0)

    faults = commands.add_parser("faults", help="kills, full disks and errors at every stage")
    faults.add_argument("--kills", type=int, default=200, metavar="N", help="of small indexes")
    faults.add_argument("--faults", type=int, default=100, metavar="N", help="of other kinds")
    faults.add_argument("--clip-kills", type=int, default=60, metavar="N", help="of video runs")
    faults.add_argument("--worker-faults", type=int, default=30, metavar="N", help="in video runs")
    faults.add_argument("--seed", type=int, default=0)
    concurrency = commands.add_parser(
        "concurrency", help="a writer and four readers, every answer checked"
    )
    concurrency.add_argument("--minutes", type=float, default=10, metavar="N")
    concurrency.add_argument("--seed", type=int, default=0)


def _add_balance(commands: Any) -> None:
    balance = commands.add_parser("balance", help="losses and balance options of training")
    _add_data(balance)
    balance.add_argument(
        "--cache", type=Path, metavar="DIR", default=Path(".benchmark-cache"), help="keeps tokens"
    )
    balance.add_argument("--only", default="", metavar="NAME;...", help="some of the arms")
    balance.add_argument("--seeds", type=int, default=2, metavar="N")


def _add_life(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Years of use: many videos, many updates."""
    load = commands.add_parser("load", help="thousands of small videos: memory, re-scan, search")
    load.add_argument("--videos", type=int, default=10_000, metavar="N")
    load.add_argument("--folder", type=Path, metavar="DIR", help="keeps the library and its index")
    load.add_argument(
        "--seconds", type=float, default=86_400, help="indexing is interrupted after so long"
    )
    updates = commands.add_parser("updates", help="single updates, and the room that they take")
    updates.add_argument("--updates", type=int, default=1_000, metavar="N")
    updates.add_argument("--videos", type=int, default=200, metavar="N")
    updates.add_argument("--documents", type=int, default=200, metavar="N")
    updates.add_argument("--seconds", type=float, default=86_400, help="stopped after so long")


def _add_fuzz(commands: Any) -> None:
    fuzz = commands.add_parser("fuzz", help="damaged and hostile inputs, thousands of them")
    fuzz.add_argument("--inputs", type=int, default=60_000, metavar="N")
    fuzz.add_argument("--containers", type=int, default=3_000, metavar="N", help="of the inputs")
    fuzz.add_argument("--seconds", type=float, default=1e9, metavar="S", help="stop after so long")
    fuzz.add_argument("--seed", type=int, default=0)
    fuzz.add_argument("--only", default="", metavar="NAME,...", help="targets named like this")
    fuzz.add_argument(
        "--at", type=int, metavar="NUMBER", help="that input alone, untouched by faults"
    )
    fuzz.add_argument("--keep", type=Path, metavar="DIR", help="write inputs with faults here")


def _add_weighting(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    abstention = commands.add_parser(
        "abstention", help="how often a query without an answer is told so, and one with an answer"
    )
    _add_data(abstention)
    abstention.add_argument(
        "--cache", type=Path, metavar="DIR", default=Path(".benchmark-cache"),
        help="keeps the indexes, as `quality` does",
    )  # fmt: skip
    abstention.add_argument(
        "--fit", action="store_true", help="fit new weights of the signs and print them, too"
    )

    parts = commands.add_parser("parts", help="what each part of the ranking adds")
    _add_data(parts)
    parts.add_argument("--cache", type=Path, metavar="DIR", default=Path(".benchmark-cache"))


def _add_projections(commands: Any) -> None:
    projections = commands.add_parser(
        "projections", help="a trained text projection on collections"
    )
    _add_data(projections)
    projections.add_argument("projection", type=Path, help="written by training")
    projections.add_argument(
        "--only", default="", metavar="NAME,...", help="some of the collections"
    )
    projections.add_argument(
        "--cache", type=Path, metavar="DIR", default=Path(".benchmark-cache"), help="keeps states"
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", default=DATA, help="measurement data")


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        sys.exit(f"{folder} is not there: name the measurement data with --data DIR")
    return folder


if __name__ == "__main__":
    sys.exit(main())
