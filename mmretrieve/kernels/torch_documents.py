"""From maxima of cells to scores of documents, with PyTorch: what :mod:`mmretrieve.kernels.plain` and
:mod:`mmretrieve.scoring.aggregation` do in NumPy, a bounded number of passages at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmretrieve.datatypes import Aggregation
from mmretrieve.kernels.arrays import Layout
from mmretrieve.kernels.base import Numbers
from mmretrieve.kernels.torch_memory import DeviceArrays, Rows, upload
from mmretrieve.kernels.torch_products import Source
from mmretrieve.scoring.aggregation import Scoring


@dataclass(frozen=True, slots=True)
class Part:
    """Some videos, on the device: ``n_passages`` ``(n_videos,)``, the numbers of their ``passages``
    ``(n_passages,)`` in the layout, and which are ``timeless`` ``(n_passages,)`` bool. ``wanted`` are the
    numbers of documents in this part that are asked for, None for all. All but ``timeless`` int64."""

    n_passages: Tensor
    passages: Tensor
    timeless: Tensor
    wanted: Tensor | None

    def of_videos(self, best: Tensor) -> Tensor:
        """``(n_videos, ...)`` maxima over passages ``(n_passages, ...)``."""
        return torch.segment_reduce(best, "max", lengths=self.n_passages, axis=0, unsafe=True)

    def shared(self, best: Tensor, missing: float) -> Tensor:
        """What the timeless passage of each passage's video has; ``missing`` where there is none."""
        first = self.n_passages.cumsum(0) - self.n_passages
        alike = (-1,) + (1,) * (best.ndim - 1)
        about = torch.where(self.timeless[first].view(alike), best[first], missing)
        return about.index_select(0, self._video())

    def of_passages(self, best: Tensor, present: Tensor) -> Tensor:
        """Passages with their videos' metadata: timed ones that are ``present`` ``(n_passages,)``,
        timeless ones where no other of the video is; -inf for the rest."""
        video = self._video()
        timed = present & ~self.timeless
        with_timed = torch.zeros(len(self.n_passages), dtype=torch.bool, device=best.device)
        with_timed[video[timed]] = True
        alone = self.timeless & ~with_timed[video]
        joined = torch.maximum(best, self.shared(best, -torch.inf))
        return joined.masked_fill_(~(timed | alone)[:, None, None], -torch.inf)

    def _video(self) -> Tensor:
        numbers = torch.arange(len(self.n_passages), device=self.timeless.device)
        return torch.repeat_interleave(numbers, self.n_passages, output_size=len(self.timeless))


@dataclass(frozen=True, slots=True)
class Scan:
    """One pass over the cells of a layout. ``sources`` are the modalities that take part, ``keep``
    ``(n_cells,)`` bool the cells (None: all), ``block_bytes`` what tokens may take at a time."""

    layout: Layout
    arrays: DeviceArrays
    sources: Mapping[int, Source]
    keep: Tensor | None
    by_video: bool
    block_bytes: int

    def best(self, part: Part, nq: int) -> Tensor:
        """``(n_documents, len(sources), nq)`` float32: maxima, -inf where a document has nothing."""
        cells, passage = self._cells(part)
        modality = self.arrays.whole(self.layout.modality)[cells]
        begin, count = self.arrays.whole(self.layout.begin), self.arrays.whole(self.layout.count)
        takes_part = count[cells] > 0
        if self.keep is not None:
            takes_part &= self.keep[cells]
        shape = (len(part.passages), len(self.sources), nq)
        best = torch.full(shape, -torch.inf, dtype=torch.float32, device=cells.device)
        present = torch.zeros(shape[0], dtype=torch.bool, device=cells.device)
        needed = self._needed(part)
        for place, (m, source) in enumerate(self.sources.items()):
            mine = takes_part & (modality == m)
            present[passage[mine]] = True
            if needed is not None:
                mine &= needed[passage]
            own = cells[mine]
            found = maxima(source, begin[own], count[own].to(torch.int64), nq, self.block_bytes)
            best[:, place].index_copy_(0, passage[mine], found)
        return part.of_videos(best) if self.by_video else part.of_passages(best, present)

    def _cells(self, part: Part) -> tuple[Tensor, Tensor]:
        """``(n_cells,)`` numbers of cells in the layout, and of their passages in the part."""
        bounds = self.arrays.whole(self.layout.passages)
        first = bounds[part.passages]
        n_cells = bounds[part.passages + 1] - first
        cells = ranges(first, n_cells)
        numbers = torch.arange(len(part.passages), device=cells.device)
        return cells, torch.repeat_interleave(numbers, n_cells, output_size=len(cells))

    def _needed(self, part: Part) -> Tensor | None:
        """Passages whose maxima matter: those asked for, and metadata."""
        if self.by_video or part.wanted is None:
            return None
        needed = part.timeless.clone()
        needed[part.wanted] = True
        return needed


def parts(
    layout: Layout, arrays: DeviceArrays, per_part: int, only: Numbers | None, by_video: bool
) -> Iterator[Part]:
    """The layout in parts of at most ``per_part`` passages, or one video; with ``only``, the videos that
    the documents asked for belong to."""
    if only is None:
        for start, stop in _cuts(layout.videos[1:], per_part):
            yield _part(layout, arrays, torch.arange(start, stop, device=arrays.device), None)
        return
    of_document = only if by_video else np.searchsorted(layout.videos, only, side="right") - 1
    videos, place = np.unique(of_document, return_inverse=True)
    sizes = layout.videos[videos + 1] - layout.videos[videos]
    ends = np.cumsum(sizes)
    number = place if by_video else only - layout.videos[of_document] + (ends - sizes)[place]
    for start, stop in _cuts(ends, per_part):
        mine = number[np.searchsorted(place, start) : np.searchsorted(place, stop)]
        before = start if by_video else int(ends[start] - sizes[start])
        numbers = upload(videos[start:stop], arrays.device)
        yield _part(layout, arrays, numbers, upload(mine - before, arrays.device))


def _cuts(ends: Numbers, most: int) -> Iterator[tuple[int, int]]:
    """Neighbours of together at most ``most``, or one; ``ends`` are the sums of their sizes so far."""
    start = 0
    while start < len(ends):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + most, side="right")))
        yield start, stop
        start = stop


def _part(layout: Layout, arrays: DeviceArrays, videos: Tensor, wanted: Tensor | None) -> Part:
    bounds = arrays.whole(layout.videos)
    first = bounds[videos]
    n_passages = bounds[videos + 1] - first
    passages = ranges(first, n_passages)
    return Part(n_passages, passages, arrays.whole(layout.timeless)[passages] != 0, wanted)


def ranges(begin: Tensor, count: Tensor) -> Tensor:
    """``begin[i] ... begin[i] + count[i] - 1`` for every ``i``, one after the other; int64."""
    ends = count.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    shift = torch.repeat_interleave(begin - (ends - count), count, output_size=total)
    return shift + torch.arange(total, device=begin.device)


def maxima(source: Source, begin: Tensor, count: Tensor, nq: int, block_bytes: int) -> Tensor:
    """``(n_cells, nq)`` float32 over tokens ``begin[i] : begin[i] + count[i]`` (int64), -inf for none; of
    so many tokens at a time as take ``block_bytes``, and those that complete a cell."""
    out = torch.full((len(begin), nq), -torch.inf, dtype=torch.float32, device=begin.device)
    if not len(begin):
        return out
    per_block = max(1, block_bytes // source.token_bytes)
    ends = count.cumsum(0)
    marks = torch.arange(per_block, int(ends[-1]) + per_block, per_block, device=ends.device)
    start = 0
    for stop in torch.searchsorted(ends, marks, right=True).unique().tolist():
        if stop > start:
            n = count[start:stop]
            values = source.of(_together(begin[start:stop], n))
            # Not by atomic operations of a device: each maximum is one thread's.
            out[start:stop] = torch.segment_reduce(values, "max", lengths=n, axis=0, unsafe=True)
            start = stop
    return out


def _together(begin: Tensor, count: Tensor) -> Rows:
    """Tokens of cells: a slice, which is not copied, where each cell begins where the last one ends."""
    ends = begin + count
    joined = (begin[1:] == ends[:-1]).all().to(torch.int64)
    first, last, all_joined = torch.stack([begin[0], ends[-1], joined]).tolist()
    return slice(first, last) if all_joined else ranges(begin, count)


def evidence(similarity: Tensor, null: Tensor, inverse_scale: Tensor, scoring: Scoring) -> Tensor:
    """As :func:`mmretrieve.scoring.aggregation.evidence`, of ``(n, n_used, nq)`` with chance levels
    ``null`` ``(n_used, nq)`` and ``inverse_scale`` ``(n_used,)``."""
    above = (similarity - null).mul_(inverse_scale[:, None])
    if scoring.centre:
        above.clamp_min_(0)
    if scoring.power == 3.0:
        above = above * above * above
    elif scoring.power != 1.0:
        above = above.sign() * above.abs() ** scoring.power
    return above.masked_fill_(similarity.isneginf(), -torch.inf)


def aggregate(values: Tensor, weights: Tensor, how: Aggregation) -> Tensor:
    """``(n,)`` scores of ``(n, n_used, nq)`` values of modalities with ``weights`` ``(n_used,)`` above 0;
    -inf for a document with none of them. Sums are made in double precision, so that they do not
    depend on the order in which a device makes them for so many documents."""
    nq = values.shape[2]
    if how is Aggregation.TOKEN_MAX:
        best = (values * weights[:, None]).amax(1)
        return (best.sum(1, dtype=torch.float64) / nq).to(torch.float32)
    means = (values * (weights[:, None] / nq)).sum(2, dtype=torch.float64)
    if how is Aggregation.MODALITY_MAX:
        return means.amax(1).to(torch.float32)
    present = means.isfinite()
    scores = torch.where(present, means, 0).sum(1) / torch.where(present, weights, 0).sum(1)
    return scores.masked_fill_(~present.any(1), -torch.inf).to(torch.float32)
