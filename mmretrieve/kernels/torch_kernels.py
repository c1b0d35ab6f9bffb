"""The kernels with PyTorch, for CUDA devices; they run on a CPU too, which is how they are tested.

Imported only where they are asked for: ``import mmretrieve`` does not import PyTorch.

Raises:
    MissingExtraError: at import, where PyTorch is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.errors import MissingExtraError, SetupError, UsageError
from mmretrieve.kernels.arrays import (
    Bytes,
    ByteTables,
    Codebook,
    Codes,
    Floats,
    Layout,
    Lists,
    Rule,
    Tokens8,
    Vectors,
    padded,
)
from mmretrieve.kernels.base import Numbers
from mmretrieve.kernels.plain import PlainKernels

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingExtraError(
        "kernels for CUDA devices need PyTorch, which is not installed: "
        'pip install "mmretrieve[torch]"'
    ) from error

from mmretrieve.kernels.torch_documents import Part, Scan, aggregate, evidence, maxima, parts
from mmretrieve.kernels.torch_memory import DeviceArrays, upload
from mmretrieve.kernels.torch_products import (
    Source,
    coded_similarities,
    quantized,
    similarities,
    table_bytes,
    token_bytes,
)

Worth = Callable[[Tensor], Tensor]
"""From maxima ``(n, n_used, nq)`` to what they are worth."""


def torch_kernels(device: str = "cuda") -> TorchKernels:
    """Kernels for ``cuda``, ``cuda:1`` or ``cpu``.

    Raises:
        UsageError: another kind of device.
        SetupError: PyTorch does not see this device.
    """
    return TorchKernels(device)


class TorchKernels:
    """See :class:`mmretrieve.kernels.base.Kernels`.

    Tokens, codes, lists and layouts stay on the device once they were used, up to ``cache_bytes``: they
    must not change while they live. What a query brings is copied each time. What reads little stays
    with NumPy: building, and the vectors of the last candidates. Work is cut so that it
    takes about ``memory_bytes`` beside that, or what one video takes where that is more.

    Raises:
        UsageError: a device that is neither ``cpu`` nor a ``cuda`` one.
        SetupError: PyTorch does not see this device.
    """

    def __init__(
        self, device: str = "cuda", memory_bytes: int = 1 << 29, cache_bytes: int = 1 << 32
    ) -> None:
        self._device = _seen(device)
        self._half = memory_bytes // 2  # for documents; the other one is for tokens
        self._arrays = DeviceArrays(self._device, cache_bytes)
        self._host = PlainKernels()

    @property
    def name(self) -> str:
        return f"torch {self._device}"

    @property
    def arrays(self) -> DeviceArrays:
        """What stays on the device."""
        return self._arrays

    def quantize(self, vectors: NDArray[np.float16] | Floats) -> Tokens8:
        n, dim = vectors.shape
        values = np.zeros((n, -(-dim // 4) * 4), np.int8)
        scales = np.empty(n, np.float32)
        for block in self._blocks(n, token_bytes(dim, 0)):
            rounded, scale = quantized(self._up(vectors[block]))
            values[block, :dim], scales[block] = _host(rounded), _host(scale)
        return Tokens8(values, scales)

    def encode(self, vectors: Vectors, centroid: NDArray[np.uint16], book: Codebook) -> Bytes:
        return self._host.encode(vectors, centroid, book)

    def bounds(self, sims: Floats) -> Floats:
        return self._host.bounds(sims)

    def exact_maxima(
        self, vectors: Vectors, begin: Numbers, count: NDArray[np.int32], query: Floats
    ) -> Floats:
        return self._host.exact_maxima(vectors, begin, count, query)

    def dots(self, tokens: Tokens8, query: Tokens8) -> Floats:
        out = np.empty((len(tokens), len(query)), np.float32)
        source = similarities(self._arrays, tokens, query)
        for block in self._blocks(len(tokens), source.token_bytes):
            out[block] = _host(source.of(block))
        return out

    def maxima(
        self, tokens: Tokens8, begin: Numbers, count: NDArray[np.int32], query: Tokens8
    ) -> Floats:
        source = similarities(self._arrays, tokens, query)
        return self._maxima(source, begin, count, len(query))

    def coded_maxima(
        self,
        codes: Codes,
        book: Codebook,
        sims: Floats,
        query: Tokens8,
        begin: Numbers,
        count: NDArray[np.int32],
    ) -> Floats:
        source = coded_similarities(self._arrays, codes, book, sims, query)
        return self._maxima(source, begin, count, len(query))

    def table(self, sims: Floats, rule: Rule, modality: int, floor: Floats, step: float) -> Bytes:
        n, nq = sims.shape
        out = np.zeros((n, padded(nq)), np.uint8)
        worth, low = self._evidence([modality], rule), self._up(floor)
        weight = float(rule.scoring.weight_vector[modality])
        for block in self._blocks(n, token_bytes(0, nq)):
            values = worth(self._up(sims[block, None]))[:, 0] * weight
            steps = ((values - low) * float(np.float32(1 / step))).round_().clamp_(0, 255)
            out[block, :nq] = _host(steps.to(torch.uint8))
        return out

    def score_tokens(
        self,
        layout: Layout,
        tokens: Sequence[Tokens8 | None],
        queries: Sequence[Tokens8 | None],
        rule: Rule,
        keep: Bytes | None = None,
        only: Numbers | None = None,
    ) -> Floats:
        sources = {
            m: similarities(self._arrays, mine, query)
            for m, (mine, query) in enumerate(zip(tokens, queries, strict=True))
            if mine is not None and query is not None and _weight(rule, m) > 0
        }
        worth = self._evidence(list(sources), rule)
        return self._scores(layout, sources, worth, rule, keep, only)

    def score_codes(
        self,
        layout: Layout,
        codes: Sequence[Codes | None],
        tables: ByteTables,
        rule: Rule,
        keep: Bytes | None = None,
        only: Numbers | None = None,
    ) -> Floats:
        nq = tables.floor.shape[1]
        sources = {
            m: table_bytes(self._arrays, mine, table, nq)
            for m, (mine, table) in enumerate(zip(codes, tables.values, strict=True))
            if mine is not None and table is not None and _weight(rule, m) > 0
        }
        floor = self._up(tables.floor[list(sources)])
        weights = self._weights(sources, rule)[:, None]

        def worth(
            best: Tensor,
        ) -> Tensor:  # values grow with bytes: their maxima are maxima of bytes
            return best.mul_(tables.step).add_(floor).div_(weights)

        return self._scores(layout, sources, worth, rule, keep, only)

    def score_residuals(
        self,
        layout: Layout,
        codes: Sequence[Codes | None],
        books: Sequence[Codebook | None],
        sims: Sequence[Floats | None],
        queries: Sequence[Tokens8 | None],
        rule: Rule,
        keep: Bytes | None = None,
        only: Numbers | None = None,
    ) -> Floats:
        sources = {}
        for m, given in enumerate(zip(codes, books, sims, queries, strict=True)):
            mine, book, near, query = given
            if mine is None or book is None or near is None or query is None:
                continue
            if _weight(rule, m) > 0:
                sources[m] = coded_similarities(self._arrays, mine, book, near, query)
        worth = self._evidence(list(sources), rule)
        return self._scores(layout, sources, worth, rule, keep, only)

    def score_lists(
        self,
        layout: Layout,
        lists: Sequence[Lists | None],
        active: Sequence[Numbers],
        tables: ByteTables,
        by_video: bool,
        keep: Bytes | None = None,
    ) -> Floats:
        nq = padded(tables.floor.shape[1])
        out = np.empty(layout.n_videos if by_video else layout.n_passages, np.float32)
        kept = None if keep is None else self._up(keep) != 0
        done = 0
        for part in parts(layout, self._arrays, self._per_part(1, nq), None, by_video):
            shape = (len(part.passages), nq)
            best = torch.zeros(shape, dtype=torch.float32, device=self._device)
            for mine, centroids, table in zip(lists, active, tables.values, strict=True):
                if mine is not None and table is not None:
                    self._raise_named(best, part, mine, centroids, table)
            if kept is not None:
                best.masked_fill_(~kept[part.passages, None], 0)
            best = part.of_videos(best) if by_video else best.maximum(part.shared(best, 0))
            scores = best.sum(1)
            if kept is not None and not by_video:
                scores.masked_fill_(~kept[part.passages], 0)
            out[done : done + len(scores)] = _host(scores)
            done += len(scores)
        return out

    def select(self, scores: Floats, n: int) -> Numbers:
        if not len(scores) or n <= 0:
            return np.empty(0, np.int64)
        values = self._up(scores)
        last = values.topk(min(n, len(values)), sorted=False).values.amin()
        better = (values > last).nonzero()[:, 0]
        # Of equal ones the device may take any: the lower numbers are chosen here.
        equal = ((values == last) & (values > -torch.inf)).nonzero()[: n - len(better), 0]
        return np.asarray(_host(torch.cat([better, equal]).sort().values), np.int64)

    def assign(self, tokens: Tokens8, centroids: Tokens8) -> tuple[NDArray[np.uint16], Floats]:
        best = np.empty(len(tokens), np.uint16)
        product = np.empty(len(tokens), np.float32)
        source = similarities(self._arrays, tokens, centroids)
        for block in self._blocks(len(tokens), source.token_bytes):
            products = source.of(block)
            which = products.argmax(1, keepdim=True)  # the first of equal ones
            best[block] = _host(which)[:, 0]
            product[block] = _host(products.gather(1, which))[:, 0]
        return best, product

    def _up(self, array: NDArray[Any]) -> Tensor:
        return upload(array, self._device)

    def _blocks(self, n: int, row_bytes: int) -> Iterator[slice]:
        step = max(1, self._half // row_bytes)
        for start in range(0, n, step):
            yield slice(start, min(start + step, n))

    def _per_part(self, n_used: int, nq: int) -> int:
        """Passages at a time: their maxima, what is made of them, and their cells."""
        return max(1, self._half // (24 * n_used * nq + 256))

    def _maxima(self, source: Source, begin: Numbers, count: NDArray[np.int32], nq: int) -> Floats:
        out = np.empty((len(begin), nq), np.float32)
        for block in self._blocks(len(begin), 8 * nq + 64):
            counts = self._up(count[block]).to(torch.int64)
            found = maxima(source, self._up(begin[block]), counts, nq, self._half)
            out[block] = _host(found)
        return out

    def _weights(self, used: Sequence[int] | Mapping[int, Source], rule: Rule) -> Tensor:
        return self._up(np.maximum(rule.scoring.weight_vector[list(used)], np.float32(1e-9)))

    def _evidence(self, used: list[int], rule: Rule) -> Worth:
        null = self._up(rule.calibration.null[used])
        inverse = self._up(np.asarray(1 / rule.calibration.scale[used], np.float32))
        return lambda best: evidence(best, null, inverse, rule.scoring)

    def _scores(
        self,
        layout: Layout,
        sources: Mapping[int, Source],
        worth: Worth,
        rule: Rule,
        keep: Bytes | None,
        only: Numbers | None,
    ) -> Floats:
        n = layout.n_videos if rule.by_video else layout.n_passages
        out = np.full(n if only is None else len(only), -np.inf, np.float32)
        if not sources:
            return out
        nq = rule.calibration.null.shape[1]
        kept = None if keep is None else self._up(keep) != 0
        scan = Scan(layout, self._arrays, sources, kept, rule.by_video, self._half)
        weights = self._weights(sources, rule)
        per_part = self._per_part(len(sources), nq)
        done = 0
        for part in parts(layout, self._arrays, per_part, only, rule.by_video):
            best = scan.best(part, nq)
            wanted = best if part.wanted is None else best[part.wanted]
            scores = aggregate(worth(wanted), weights, rule.scoring.aggregation)
            out[done : done + len(scores)] = _host(scores)
            done += len(scores)
        return out

    def _raise_named(
        self, best: Tensor, part: Part, lists: Lists, centroids: Numbers, table: Bytes
    ) -> None:
        """Raise ``best`` ``(n_passages, padded nq)`` of a part of neighbours to the tables' bytes of the
        centroids that name a passage."""
        begin = lists.starts[centroids]
        ends = np.cumsum(lists.starts[centroids + 1] - begin)
        total = int(ends[-1]) if len(ends) else 0
        if not total:
            return
        shift = np.diff(ends, prepend=0) - ends + begin
        rows = self._up(table[centroids]).to(torch.float32)
        ends, shift, first = self._up(ends), self._up(shift), part.passages[0]
        for block in self._blocks(total, token_bytes(0, best.shape[1])):
            place = torch.arange(block.start, block.stop, device=self._device)
            which = torch.searchsorted(ends, place, right=True)
            named = self._arrays.rows(lists.passages, place + shift[which]).to(torch.int64) - first
            inside = (named >= 0) & (named < len(best))
            named, which = named[inside], which[inside]
            into = named[:, None].expand(-1, best.shape[1])
            best.scatter_reduce_(0, into, rows.index_select(0, which), "amax")


def _seen(device: str) -> torch.device:
    """The device of that name, with its number if it is a CUDA one."""
    kind, _, number = device.partition(":")
    if device != "cpu" and (kind != "cuda" or not (number or "0").isdecimal()):
        raise UsageError(f"device {device!r}: expected cpu, cuda, or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    n_seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(number) if number else (torch.cuda.current_device() if n_seen else 0)
    if index < n_seen:
        return torch.device("cuda", index)
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    raise SetupError(
        f"device {device!r}: PyTorch {torch.__version__} ({built}) sees {n_seen} CUDA devices. "
        "Ask for one that it sees or for cpu, or install a driver and a build of PyTorch for CUDA "
        "(https://pytorch.org/get-started/locally)"
    )


def _weight(rule: Rule, modality: int) -> float:
    return float(rule.scoring.weight_vector[modality])


def _host(tensor: Tensor) -> NDArray[Any]:
    return np.asarray(tensor.cpu().numpy())
