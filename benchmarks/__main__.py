"""``python -m benchmarks COMMAND``; see ``benchmarks/README.md``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.result import ROOT

DATA = ROOT.parent / "shared" / "data"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; the number is the exit code."""
    given = _parser().parse_args(arguments)
    command: str = given.command
    if command == "videos":
        return _videos(given)
    if command == "text":
        from benchmarks import text

        text.run(_existing(given.data), given.cache)
        return 0
    if command == "latency":
        from benchmarks import latency

        latency.run(given.index, given.repeats, given.profile)
        return 0
    if command == "kernels":
        from benchmarks import kernels

        kernels.run()
        return 0
    from benchmarks import crash

    return crash.run(given.folder, given.times, given.seed)


def _videos(given: argparse.Namespace) -> int:
    from benchmarks import videos

    if given.skip_index and given.index is None:
        sys.exit("--skip-index needs --index DIR: the index made before")
    videos.run(_existing(given.data), given.index, given.skip_index)
    return 0


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

    latency = commands.add_parser("latency", help="start-up, re-run and warm search times")
    latency.add_argument("--index", type=Path, metavar="DIR", help="instead of the demo clips")
    latency.add_argument("--repeats", type=int, default=10, metavar="N", help="of cold processes")
    latency.add_argument("--profile", action="store_true", help="of searches in the largest index")

    commands.add_parser("kernels", help="speed of the compiled kernels against NumPy")

    crash = commands.add_parser("crash", help="kill -9 while indexing, then compare")
    crash.add_argument("folder", type=Path, nargs="?", help="videos; default: the demo clips")
    crash.add_argument("--times", type=int, default=10, metavar="N")
    crash.add_argument("--seed", type=int, default=0)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", default=DATA, help="measurement data")


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        sys.exit(f"{folder} is not there: name the measurement data with --data DIR")
    return folder


if __name__ == "__main__":
    sys.exit(main())
