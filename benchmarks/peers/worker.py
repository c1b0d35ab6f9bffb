"""One engine in a process of its own: ``python -m benchmarks.peers.worker``, asked in lines of JSON.

It times searches itself, so that talking to it is not part of any latency.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.registry import load
from benchmarks.peers.subject import Array, Dial, Updatable
from benchmarks.search_corpus import Block, Corpus

_SAMPLE_S = 0.05
_PROBE_TOKENS, _N_DELETES = 32, 20
Answer = dict[str, Any]


class Memory(threading.Thread):
    """Samples what this process holds of its own (``RssAnon``: files mapped into memory are the
    system's to take back, and not counted)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = own_memory()
        self._over = threading.Event()

    def run(self) -> None:
        """Look until :meth:`stop`."""
        while not self._over.wait(_SAMPLE_S):
            self.peak = max(self.peak, own_memory())

    def stop(self) -> int:
        """The largest size seen, in bytes."""
        self._over.set()
        self.join()
        return max(self.peak, own_memory())


class Worker:
    """Answers commands about one engine and one corpus; queries lie in a file by kind."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._subject = load(order["name"])
        self._corpus = Corpus(Path(order["corpus"]), order["merged"])
        self._more = Path(order["more"]) if order["more"] else None
        self._folder = Path(order["folder"])
        self._threads = int(order["threads"])
        self._queries: dict[str, list[Array]] = {}
        with np.load(order["queries"]) as stored:
            for kind in ("even", "natural"):
                ends = np.cumsum(stored[f"{kind}_lengths"])[:-1]
                parts = np.split(stored[kind].astype(np.float32), ends)
                self._queries[kind] = [np.ascontiguousarray(p) for p in parts]
        self._dials: dict[str, Dial] = {}

    def commands(self) -> Mapping[str, Callable[[Mapping[str, Any]], Answer]]:
        """What can be asked."""
        return {
            "build": self._build,
            "open": self._open,
            "search": self._search,
            "facts": self._facts,
            "update": self._update,
        }

    def _build(self, _: Mapping[str, Any]) -> Answer:
        memory = Memory()
        before = own_memory()
        memory.start()
        start = time.perf_counter()
        self._subject.build(self._corpus, self._folder, self._threads)
        took_s = time.perf_counter() - start
        size = sum(f.stat().st_size for f in self._folder.rglob("*") if f.is_file())
        return {
            "seconds": took_s,
            "before_bytes": before,
            "peak_bytes": memory.stop(),
            "disk_bytes": size,
        }

    def _open(self, _: Mapping[str, Any]) -> Answer:
        start = time.perf_counter()
        self._subject.open(self._corpus, self._folder, self._threads)
        took_s = time.perf_counter() - start
        self._dials = {d.name: d for d in self._subject.dials()}
        return {"seconds": took_s, "dials": list(self._dials)}

    def _search(self, asked: Mapping[str, Any]) -> Answer:
        query = self._queries[asked["kind"]][asked["query"]]
        dial = self._dials[asked["dial"]]
        start = time.perf_counter()
        found = self._subject.search(query, asked["k"], dial, asked["case"])
        took_s = time.perf_counter() - start
        return {"seconds": took_s, "ids": [int(i) for i in found]}

    def _facts(self, _: Mapping[str, Any]) -> Answer:
        return {"own_bytes": own_memory(), "facts": dict(self._subject.facts())}

    def _update(self, asked: Mapping[str, Any]) -> Answer:
        """Add the videos of another corpus, then delete some of them, one by one."""
        subject, dial = self._subject, self._dials[asked["dial"]]
        if not isinstance(subject, Updatable) or self._more is None:
            return {"updatable": False}
        more = Corpus(self._more, self._corpus.merged)
        block = _renumbered(more.block(0, more.n_videos), self._corpus)

        def finds(passage: int) -> bool:
            """Whether a passage answers its own first tokens."""
            start = int(more.offsets[passage])
            query = np.asarray(more.vectors[start : start + _PROBE_TOKENS], np.float32)
            found = subject.search(query, 10, dial, asked["case"])
            return passage + self._corpus.n_passages in [int(i) for i in found]

        start = time.perf_counter()
        subject.add(block)
        add_s = time.perf_counter() - start
        visible = [finds(p) for p in range(0, more.n_passages, max(1, more.n_passages // 20))]
        delete_s, gone = [], []
        for video in range(min(more.n_videos, _N_DELETES)):
            start = time.perf_counter()
            subject.delete([video + self._corpus.n_videos])
            delete_s.append(time.perf_counter() - start)
            gone.append(not finds(int(more.videos[video])))
        return {
            "updatable": True,
            "add_seconds": add_s,
            "n_tokens": more.n_tokens,
            "n_asked": len(visible),
            "n_visible": sum(visible),
            "delete_seconds": delete_s,
            "n_gone": sum(gone),
        }


def _renumbered(block: Block, after: Corpus) -> Block:
    """``block`` as the videos that come after those of a corpus."""
    return replace(
        block,
        first_video=after.n_videos,
        passage=block.passage + after.n_passages,
        video=block.video + after.n_videos,
    )


def own_memory() -> int:
    """Bytes that only this process holds (Linux; 0 elsewhere)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def main() -> None:
    """Serve until there is nothing more to read. What engines print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: Answer) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        worker = Worker(json.loads(sys.stdin.readline()))
    except Exception:
        say({"error": traceback.format_exc(limit=-1)})
        return
    say({"ready": True})
    commands = worker.commands()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            say(commands[asked["do"]](asked))
        except Exception:
            # Whatever goes wrong in an engine is told as its result.
            say({"error": traceback.format_exc(limit=-3)})


if __name__ == "__main__":
    main()
