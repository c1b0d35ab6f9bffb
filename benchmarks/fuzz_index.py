"""Target of ``fuzz``: files of an index, altered on disk. An answer is right, or there is a named error."""

from __future__ import annotations

from pathlib import Path
from random import Random

from benchmarks.fuzz_mutate import mutate
from benchmarks.fuzz_target import WrongError
from mmretrieve import Engine
from mmretrieve.datatypes import QueryTokens
from mmretrieve.documents import text_document
from mmretrieve.errors import MmretrieveError
from mmretrieve.kernels.choose import kernels
from mmretrieve.search.searcher import Request, Searcher
from mmretrieve.storage.codes.policy import Limits
from mmretrieve.storage.codes.update import rebuild
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.nulls import read_nulls
from mmretrieve.storage.reader import Snapshot

_LISTED = Limits(exact_below=1, lists_from=1, grace_s=0)
_SUBJECTS = (
    "bread dough oven", "penguins ice storm", "orchestra violin overture", "ferry harbour dawn",
    "bees pollen apple", "chess knight endgame", "volcano lava ash", "tides moon ocean",
)  # fmt: skip
_ASKED = ("a violin in an orchestra", "why the moon makes tides")
_SCORE = 2e-3

Answer = tuple[tuple[str, float | None, float], ...]


class IndexFiles:
    """``manifest.json``, ``nulls.json`` and all files of the codes; of the last every second kind."""

    weight = 1.0

    def __init__(self, coded: bool) -> None:
        self._coded = coded
        self.name = f"index files, {'coded' if coded else 'exact'} segments"

    def prepare(self, folder: Path) -> None:
        self._index = folder / "index"
        self._kernels = kernels()
        with Engine.create(self._index) as engine:
            engine.index(
                [
                    text_document(f"{subject} {n}", title=subject, speech=_said(subject, n))
                    for subject in _SUBJECTS
                    for n in range(4)
                ]
            )
            self._queries = {text: engine.encode_query(text) for text in _ASKED}
        if self._coded:
            rebuild(self._index, read_manifest(self._index), self._kernels, _LISTED)
        places = [self._index / "manifest.json", self._index / "nulls.json"]
        places += sorted(p for p in (self._index / "codes").rglob("*") if p.is_file())
        self._files = [(path, path.read_bytes()) for path in places if path.is_file()]
        self._encoders = read_manifest(self._index).encoders
        self._right = self._answers()

    def make(self, rng: Random) -> bytes:
        """Two bytes that say which file, then what it is to hold."""
        at = rng.randrange(len(self._files))
        path, data = self._files[at]
        others = [d for _, d in self._files[:8]]
        text = path.suffix == ".json" and rng.random() < 0.7
        return at.to_bytes(2, "big") + mutate(data, others, rng, text)

    def feed(self, data: bytes) -> str:
        path, whole = self._files[int.from_bytes(data[:2], "big") % len(self._files)]
        path.write_bytes(data[2:])
        try:
            found = self._answers()
        except MmretrieveError as error:
            return type(error).__name__
        finally:
            path.write_bytes(whole)
        if not _same(found, self._right):
            raise WrongError(f"{path.name}: another answer than that of the whole index")
        return "right"

    def close(self) -> None:
        """Nothing is held."""

    def _answers(self) -> list[Answer]:
        manifest = read_manifest(self._index)
        if manifest.encoders != self._encoders:
            raise MmretrieveError("the engine refuses other weights")
        snapshot = Snapshot(self._index, manifest, lambda: self._kernels)
        stored = read_nulls(self._index, snapshot.version)
        searcher = Searcher(snapshot, self._encoded, self._kernels, stored)
        return [
            tuple(
                (hit.video.video_id, hit.moment.start_s, hit.score)
                for hit in searcher.search(text, Request(k=5)).hits
            )
            for text in _ASKED
        ]

    def _encoded(self, text: str) -> QueryTokens:
        return self._queries[text] if text in self._queries else self._null(text)

    def _null(self, text: str) -> QueryTokens:
        from mmretrieve.encoders.registry import load_encoder

        if not hasattr(self, "_encoder"):
            self._encoder = load_encoder("lite")
        self._queries[text] = self._encoder.query(text)
        return self._queries[text]


def _said(subject: str, number: int) -> str:
    return ". ".join(
        f"Part {number} tells what {word} has to do with {subject}" for word in subject.split()
    )


def _same(found: list[Answer], right: list[Answer]) -> bool:
    """The same documents in the same order with the same scores, but for what rounding may swap."""
    for a, b in zip(found, right, strict=True):
        if len(a) != len(b) or any(abs(x[2] - y[2]) > _SCORE for x, y in zip(a, b, strict=True)):
            return False
        scores = dict((x[:2], x[2]) for x in b)
        if any(abs(scores.get(x[:2], b[-1][2]) - x[2]) > _SCORE for x in a):
            return False
    return True
