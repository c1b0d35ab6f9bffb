"""The other end of :mod:`benchmarks.peers.worker`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.peers.environments import CRIPPLING, Environment
from benchmarks.peers.registry import Entry
from benchmarks.result import ROOT

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
    "LANCE_CPU_THREADS",
    "LANCE_IO_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class PeerFailedError(Exception):
    """An engine failed; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker finds its corpus and queries and keeps its index. ``more``: a corpus with the
    same videos and some besides, to add."""

    corpus: Path
    queries: Path
    index: Path
    merged: bool
    more: Path | None = None


class Client:
    """A running worker. With one thread it is bound to one core: no engine can take more."""

    def __init__(self, entry: Entry, environment: Environment, place: Place, threads: int) -> None:
        """Start it.

        Raises:
            PeerFailedError: it does not start.
        """
        self._name = entry.name
        variables = {k: v for k, v in os.environ.items() if k not in CRIPPLING}
        variables |= dict.fromkeys(_THREADS, str(threads))
        if entry.one_blas_thread:
            variables["OPENBLAS_NUM_THREADS"] = variables["MKL_NUM_THREADS"] = "1"
        path = [str(ROOT), *([str(environment.path)] if environment.path else [])]
        variables["PYTHONPATH"] = os.pathsep.join(path)
        self._log = (place.index.parent / f"{place.index.name}.log").open("a+", encoding="utf-8")
        command = [str(environment.python), "-m", "benchmarks.peers.worker"]
        self._process = subprocess.Popen(
            [*_on_cores(threads), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=variables,
            cwd=ROOT,
            text=True,
        )
        order = {
            "name": entry.name,
            "corpus": str(place.corpus),
            "queries": str(place.queries),
            "folder": str(place.index),
            "merged": place.merged,
            "more": str(place.more) if place.more else None,
            "threads": threads,
        }
        try:
            self._send(order)
        except PeerFailedError as error:
            self.__exit__(type(error), error, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if kind is not None:
            self._process.kill()
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def build(self) -> Mapping[str, Any]:
        """Seconds, memory, and bytes on disk."""
        return self._send({"do": "build"})

    def open(self) -> Sequence[str]:
        """Names of dials."""
        dials: Sequence[str] = self._send({"do": "open"})["dials"]
        return dials

    def search(
        self, kind: str, query: int, dial: str, case: str, k: int = 10
    ) -> tuple[float, list[int]]:
        """Seconds and ids."""
        asked = {"do": "search", "kind": kind, "query": query, "dial": dial, "case": case, "k": k}
        found = self._send(asked)
        return found["seconds"], found["ids"]

    def facts(self) -> Mapping[str, Any]:
        """Memory of its own, and what the engine says of itself."""
        return self._send({"do": "facts"})

    def update(self, dial: str, case: str) -> Mapping[str, Any]:
        """How adding and deleting went."""
        return self._send({"do": "update", "dial": dial, "case": case})

    def _send(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerFailedError(f"{self._name} ended with {self._process.wait()}: {self._said()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerFailedError(f"{self._name}: {answer['error'].strip().splitlines()[-1]}")
        return answer

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-300:].strip().replace("\n", " ")


def _on_cores(threads: int) -> list[str]:
    """A command before the command that keeps it to so many cores, where there is one."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    return ["taskset", "-c", ",".join(map(str, cores))] if len(cores) == threads else []
