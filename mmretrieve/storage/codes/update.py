"""Bringing token codes up to date with the tables, under the writer's lock."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmretrieve.datatypes import MODALITIES, Modality
from mmretrieve.errors import CodesError, IndexFormatError
from mmretrieve.kernels.base import Kernels, Numbers
from mmretrieve.storage.codes.build import Source
from mmretrieve.storage.codes.catalogue import (
    CODES,
    BookState,
    Catalogue,
    digest,
    next_number,
    remove_others,
    write_catalogue,
)
from mmretrieve.storage.codes.cells import count_tokens
from mmretrieve.storage.codes.codebook import Trained
from mmretrieve.storage.codes.policy import Held, Limits, Plan, plan
from mmretrieve.storage.codes.reading import Opened, nothing_opened, open_all
from mmretrieve.storage.codes.sample import Part
from mmretrieve.storage.codes.sealing import Sealed, Sealer
from mmretrieve.storage.codes.segment import Books, SegmentKind, tokens_of_videos
from mmretrieve.storage.codes.training import train_books
from mmretrieve.storage.folder import Manifest
from mmretrieve.storage.tables import open_table

_ROUNDS = 2
"""What a first round seals may show that a codebook no longer fits."""
UNSTABLE_ROWS = (
    "this index was made before rows had stable ids, so it is searched without token codes: index "
    "again into a new folder"
)


@dataclass(frozen=True, slots=True)
class Report:
    """What an update did. ``n_sealed`` videos were new; ``built`` and ``dropped`` are segments;
    ``trained`` modalities got a new codebook; ``n_unusable`` tokens of the new segments are not
    finite and count as zeros."""

    n_sealed: int = 0
    built: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    trained: tuple[Modality, ...] = ()
    n_unusable: int = 0
    notes: tuple[str, ...] = ()
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Round:
    """What one round works with. ``parts`` say which videos of each opened segment are alive."""

    opened: Opened
    parts: tuple[Part, ...]
    fresh: frozenset[str]
    plan: Plan
    n_live: Numbers


def update(
    folder: Path,
    manifest: Manifest,
    kernels: Kernels,
    limits: Limits | None = None,
    *,
    gpu: bool = False,
) -> Report:
    """Make the codes cover just the videos of the index in ``folder``. The caller holds the writer's
    lock. Interrupted at any point, the codes are as they were before.

    Raises:
        CodesError: they cannot be written (no space, for one); they are as they were.
    """
    return _update(folder, Source(None, manifest, kernels), limits or Limits(), gpu, anew=False)


def rebuild(
    folder: Path,
    manifest: Manifest,
    kernels: Kernels,
    limits: Limits | None = None,
    *,
    gpu: bool = False,
) -> Report:
    """Write all codes anew. The caller holds the writer's lock.

    Raises:
        CodesError: they cannot be written; they are as they were.
    """
    return _update(folder, Source(None, manifest, kernels), limits or Limits(), gpu, anew=True)


def _update(folder: Path, source: Source, limits: Limits, gpu: bool, anew: bool) -> Report:
    start_s = time.perf_counter()
    codes, report = folder / CODES, Report()
    try:
        source = replace(source, dataset=open_table(folder, "passages"))
        if not source.dataset.has_stable_row_ids:
            return Report(notes=(UNSTABLE_ROWS,))
        ids = _live(folder)
        codes.mkdir(exist_ok=True)
        for number in range(_ROUNDS):
            opened = open_all(codes, source.manifest)
            _clean(codes, opened.catalogue, limits)
            usable = nothing_opened(opened.catalogue) if anew and number == 0 else opened
            made = _round(codes, source, ids, usable, limits, gpu)
            if made is None:
                break
            report = _joined(report, made, opened.faults)
    except (OSError, IndexFormatError) as error:
        raise CodesError(
            f"token codes in {codes} cannot be written ({error}): searching goes on without new "
            "ones; mend that, then run `mmretrieve index` again"
        ) from error
    return replace(report, took_s=time.perf_counter() - start_s)


def _round(
    codes: Path, source: Source, ids: Mapping[str, str], opened: Opened, limits: Limits, gpu: bool
) -> Report | None:
    """One plan carried out; None if there was nothing to do."""
    work = _planned(source, ids, opened, limits)
    kept = set(work.plan.keep)
    known = {entry.folder.name for entry in opened.catalogue.segments}
    sampled = opened.samples is not None and opened.catalogue.sampled == digest(ids)
    if not work.plan.build and kept == known and (sampled or not ids):
        return None
    sealer = Sealer(codes, source, next_number(codes, opened.catalogue), limits.lists_from)
    try:
        trained = train_books(source, ids, work.plan.train, work.n_live, gpu)
        books = tuple(
            trained[m].book if m in trained else book for m, book in enumerate(opened.books)
        )
        coded = books if work.plan.kind is SegmentKind.CODED else None
        sealed = [sealer.segment(revisions, coded, work.fresh) for revisions in work.plan.build]
        catalogue = _catalogue(sealer, work, ids, sealed, trained, books)
        write_catalogue(codes, catalogue)
    except BaseException:
        sealer.discard()
        raise
    return Report(
        len(work.fresh),
        tuple(s.entry.folder.name for s in sealed),
        tuple(sorted(known - kept)),
        tuple(MODALITIES[m] for m in sorted(trained)),
        sum(s.tally.n_unusable for s in sealed),
    )


def _planned(source: Source, ids: Mapping[str, str], opened: Opened, limits: Limits) -> _Round:
    covered: set[str] = set()
    parts, held = [], []
    for entry, segment in opened.segments:
        names = [r.decode() for r in segment.revision.tolist()]
        alive = np.array([n in ids and n not in covered for n in names], bool)
        mine = {n for n, lives in zip(names, alive, strict=True) if lives}
        mine |= {r.decode() for r in segment.without_rows.tolist()} & (ids.keys() - covered)
        covered |= mine
        parts.append(Part(segment, alive))
        n_live, n_all = (tokens_of_videos(segment, c) for c in (alive, np.ones_like(alive)))
        held.append(Held(entry.folder.name, frozenset(mine), n_live, n_all, entry.kind))
    fresh = frozenset(ids.keys() - covered)
    n_fresh = count_tokens(source.dataset, fresh)
    new = Held(None, fresh, n_fresh, n_fresh) if fresh else None
    n_live = sum((part.n_live for part in held), n_fresh)
    usable = {m.value for m, b in zip(MODALITIES, opened.books, strict=True) if b is not None}
    states = {name: s for name, s in opened.catalogue.books.items() if name in usable}
    chosen = plan(held, new, states, limits)
    return _Round(opened, tuple(parts), fresh, chosen, n_live)


def _catalogue(
    sealer: Sealer,
    work: _Round,
    ids: Mapping[str, str],
    sealed: Sequence[Sealed],
    trained: Mapping[int, Trained],
    books: Books,
) -> Catalogue:
    """What is valid after a round: samples and, if there are new ones, codebooks are written here."""
    before, kept = work.opened.catalogue, set(work.plan.keep)
    entries = [e for e, _ in work.opened.segments if e.folder.name in kept]
    parts = [p for p in work.parts if p.segment.name in kept]
    parts += [Part(s.segment, np.ones(len(s.segment.revision), bool)) for s in sealed]
    passages, whole = sealer.samples(parts, ids) if ids else (None, None)
    is_coded = work.plan.kind is SegmentKind.CODED
    codebook = sealer.codebook(books) if trained else before.codebook
    catalogue = Catalogue(
        segments=(*entries, *(s.entry for s in sealed)),
        codebook=codebook if is_coded else None,
        books=_states(before.books, work.n_live, sealed, trained) if is_coded else {},
        sample_passages=passages,
        sample_videos=whole,
        sampled=digest(ids),
        next_number=sealer.number,
    )
    gone = before.folders() - catalogue.folders()
    retired = {name: at for name, at in before.retired.items() if (sealer.codes / name).exists()}
    return replace(catalogue, retired=retired | dict.fromkeys(gone, time.time()))


def _states(
    before: Mapping[str, BookState],
    n_live: Numbers,
    sealed: Sequence[Sealed],
    trained: Mapping[int, Trained],
) -> dict[str, BookState]:
    """How well codebooks fit, what was sealed just now included."""
    states = {}
    for m, modality in enumerate(MODALITIES):
        if m in trained:
            states[modality.value] = BookState(int(n_live[m]), trained[m].similarity)
        elif (state := before.get(modality.value)) is not None:
            n = sum(int(s.tally.watched[m]) for s in sealed)
            total = sum(float(s.tally.similarity[m]) for s in sealed)
            states[modality.value] = replace(
                state, n_since=state.n_since + n, sum_since=state.sum_since + total
            )
    return states


def _live(folder: Path) -> dict[str, str]:
    """Revision -> video id of the videos of the index."""
    rows = open_table(folder, "videos").to_table(columns=["revision", "video_id"])
    columns = (rows[name].to_pylist() for name in ("revision", "video_id"))
    return dict(zip(*columns, strict=True))


def _clean(codes: Path, catalogue: Catalogue, limits: Limits) -> None:
    """Remove what earlier writers left, and what was let go of so long ago that no reader opens it: the
    oldest sooner where it is much."""
    now_s, live = time.time(), catalogue.folders()
    room = limits.waste * sum(_size(codes / name) for name in live)
    least_s = min(limits.least_grace_s, limits.grace_s)
    waiting: set[str] = set()
    for name, at in sorted(catalogue.retired.items(), key=lambda item: -item[1]):
        room -= _size(codes / name)
        if now_s - at < (limits.grace_s if room >= 0 else least_s):
            waiting.add(name)
    remove_others(codes, live | waiting)


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:
        return 0  # removed already


def _joined(report: Report, made: Report, faults: tuple[str, ...]) -> Report:
    return Report(
        report.n_sealed + made.n_sealed,
        (*(name for name in report.built if name not in made.dropped), *made.built),
        (*report.dropped, *(name for name in made.dropped if name not in report.built)),
        tuple(dict.fromkeys((*report.trained, *made.trained))),
        report.n_unusable + made.n_unusable,
        (*report.notes, *faults),
    )
