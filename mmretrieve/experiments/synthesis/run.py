"""From an index to a file of queries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mmretrieve.datatypes import COMMON, Modality
from mmretrieve.engine import Engine
from mmretrieve.errors import UsageError
from mmretrieve.experiments.synthesis import prompts
from mmretrieve.experiments.synthesis.endpoint import Endpoint, ask
from mmretrieve.experiments.synthesis.keyphrases import Keyphrases
from mmretrieve.experiments.synthesis.material import Content, contents, pictures
from mmretrieve.experiments.synthesis.output import (
    Made,
    Progress,
    one_a_video,
    write_rows,
    write_table,
)

KEYPHRASES = "keyphrases-1"
"""Maker of queries without a model; the number changes with the method."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """``output``: ``*.json`` (one query a video) or ``*.jsonl`` (joined rows, one a video and modality).
    Without ``endpoint``: by phrases. ``jobs``: requests at a time."""

    output: Path
    modalities: tuple[Modality, ...] = COMMON
    endpoint: Endpoint | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        """Check where to write.

        Raises:
            UsageError: another kind of file, or a folder that is not there.
        """
        if self.output.suffix not in (".json", ".jsonl"):
            raise UsageError(
                f"--output {self.output}: expected a name that ends in .json (one query a video) or "
                ".jsonl (rows with content, to train on)"
            )
        if not self.output.parent.is_dir():
            raise UsageError(f"--output {self.output}: there is no folder {self.output.parent}")


@dataclass(frozen=True, slots=True)
class Report:
    """``n_queries`` written, by modality; ``n_contents`` looked at, ``n_resumed`` of them taken over from
    a run that was broken off, ``n_empty`` that no query could be made of."""

    n_queries: Mapping[Modality, int]
    n_contents: int
    n_resumed: int
    n_empty: int


def synthesize(
    engine: Engine, wanted: Wanted, on_made: Callable[[int, int], None] | None = None
) -> Report:
    """Make queries of everything in the index and write them. A run that was broken off goes on.

    Raises:
        UsageError: the index holds nothing to make queries of, or the output cannot be written.
        EndpointError: the server cannot be used; what is done is kept.
    """
    library = contents(engine)
    chosen = [c for c in library if c.modality in wanted.modalities]
    if not chosen:
        raise UsageError("the index has nothing to make queries of: index videos first")
    progress = Progress(wanted.output, _maker(wanted.endpoint))
    try:
        found = {id(c): made for c in chosen if (made := progress.made(c)) is not None}
        n_resumed = len(found)
        missing = [c for c in chosen if id(c) not in found]
        for content, query in _make(engine, library, missing, wanted):
            found[id(content)] = progress.add(content, query)
            if on_made is not None:
                on_made(len(found), len(chosen))
    finally:
        progress.close()
    done = [found[id(content)] for content in chosen]
    written = _write(engine, library, done, wanted.output)
    progress.remove()
    return Report(
        {m: sum(w.modality is m for w in written) for m in COMMON},
        len(chosen),
        n_resumed,
        sum(m.query is None for m in done),
    )


def _make(
    engine: Engine, library: Sequence[Content], missing: Sequence[Content], wanted: Wanted
) -> Iterator[tuple[Content, str | None]]:
    if wanted.endpoint is None:
        phrases = Keyphrases(library)
        yield from ((content, phrases.query(content)) for content in missing)
        return
    endpoint = wanted.endpoint

    def one(content: Content) -> str | None:
        frames = content.modality is Modality.FRAMES
        shown = list(pictures(engine, content, prompts.MOST_PICTURES)) if frames else []
        if frames and not shown:
            return None
        return ask(endpoint, prompts.messages(content, shown))

    with ThreadPoolExecutor(wanted.jobs) as pool:
        # A few at a time, so that a server that is gone is not asked for everything.
        for first in range(0, len(missing), 4 * wanted.jobs):
            part = missing[first : first + 4 * wanted.jobs]
            yield from zip(part, pool.map(one, part), strict=True)


def _maker(endpoint: Endpoint | None) -> str:
    if endpoint is None:
        return KEYPHRASES
    address = hashlib.sha256(endpoint.address.encode()).hexdigest()[:8]
    return f"{endpoint.model} prompt-{prompts.VERSION} {address}"


def _write(
    engine: Engine, library: Sequence[Content], made: Sequence[Made], output: Path
) -> list[Made]:
    found = [m for m in made if m.query is not None]
    if not found:
        raise UsageError(
            "no query could be made: expected videos with text, speech or pictures that tell them apart"
        )
    if output.suffix == ".json":
        found = one_a_video(found)
        write_table(output, found)
        return found
    wanted = {m.video_id for m in found}
    images = {
        c.video_id: _write_pictures(engine, c, output)
        for c in library
        if c.modality is Modality.FRAMES and c.video_id in wanted
    }
    write_rows(output, found, library, images)
    return found


def _write_pictures(engine: Engine, content: Content, output: Path) -> list[str]:
    """Keyframes beside the rows; their names, from the folder of the rows."""
    folder = output.with_name(output.stem + "-frames")
    folder.mkdir(exist_ok=True)
    name = hashlib.sha256(content.video_id.encode()).hexdigest()[:16]
    names = []
    for number, picture in enumerate(pictures(engine, content)):
        path = folder / f"{name}-{number}.jpg"
        path.write_bytes(picture)
        names.append(f"{folder.name}/{path.name}")
    return names
