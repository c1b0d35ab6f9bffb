"""Similarities of tokens on a device of PyTorch: products of integers that are exact, and the bytes of a
query's tables."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmretrieve.kernels.arrays import Bytes, Codebook, Codes, Floats, Tokens8
from mmretrieve.kernels.plain import TINY, eight_bit_levels, unpack
from mmretrieve.kernels.torch_memory import DeviceArrays, Rows, upload

_EXACT_WIDTH = 1024  # 1024 * 127 * 127 < 2^24: all such sums are integers that float32 can hold
_precision = threading.Lock()


@dataclass(frozen=True, slots=True)
class Source:
    """Values of the tokens of one modality: ``of(rows)`` is ``(n, nq)`` of a floating type and takes
    about ``token_bytes`` for each token."""

    of: Callable[[Rows], Tensor]
    token_bytes: int


def similarities(arrays: DeviceArrays, tokens: Tokens8, query: Tokens8) -> Source:
    """Of tokens in eight bits to those of a query."""
    columns = _Columns.of(query, arrays.device)

    def of(rows: Rows) -> Tensor:
        values, scales = arrays.rows(tokens.values, rows), arrays.rows(tokens.scales, rows)
        return columns.products(values).mul_(scales[:, None]).mul_(columns.scales)

    return Source(of, token_bytes(tokens.values.shape[1], len(query)))


def coded_similarities(
    arrays: DeviceArrays, codes: Codes, book: Codebook, sims: Floats, query: Tokens8
) -> Source:
    """Of coded tokens; ``sims`` and ``query`` as in ``Kernels.score_residuals``."""
    levels, scale = eight_bit_levels(book)
    # The four levels that a byte stands for, as one number: a look-up then is one read.
    every_byte = levels[unpack(np.arange(256, dtype=np.uint8)[:, None])]
    fours = upload(every_byte.view(np.int32)[:, 0], arrays.device)
    columns, near = _Columns.of(query, arrays.device), upload(sims, arrays.device)
    worth = float(scale)

    def of(rows: Rows) -> Tensor:
        residual = arrays.rows(codes.residual, rows)
        found = fours.index_select(0, residual.flatten().to(torch.int32))
        values = found.view(torch.int8).view(len(residual), 4 * residual.shape[1])
        centroid = _unsigned(arrays.rows(codes.centroid, rows))
        products = columns.products(values).mul_(worth).mul_(columns.scales)
        return products.add_(near.index_select(0, centroid))

    return Source(of, token_bytes(4 * codes.residual.shape[1], len(query)))


def table_bytes(arrays: DeviceArrays, codes: Codes, table: Bytes, nq: int) -> Source:
    """Bytes of tokens' centroids. bfloat16 is the smallest floating type that holds 0 ... 255."""
    values = upload(table[:, :nq], arrays.device).to(torch.bfloat16)

    def of(rows: Rows) -> Tensor:
        return values.index_select(0, _unsigned(arrays.rows(codes.centroid, rows)))

    return Source(of, token_bytes(0, nq))


def token_bytes(width: int, nq: int) -> int:
    """About what the work on one token takes: its vector as bytes, four-byte levels and floats, three
    numbers a query token, and its number."""
    return (12 if width > _EXACT_WIDTH else 8) * width + 16 * nq + 32


@dataclass(frozen=True, slots=True)
class _Columns:
    """A query: ``values`` ``(width, nq)`` of a floating type, ``scales`` ``(nq,)``."""

    values: Tensor
    scales: Tensor

    @staticmethod
    def of(query: Tokens8, device: torch.device) -> _Columns:
        exact = torch.float32 if query.values.shape[1] <= _EXACT_WIDTH else torch.float64
        return _Columns(upload(query.values, device).to(exact).T, upload(query.scales, device))

    def products(self, values: Tensor) -> Tensor:
        """``(n, nq)`` float32: products of ``(n, width)`` int8 and the query, exact where float32 can
        hold them."""
        rows = values.to(self.values.dtype)
        matmul = torch.backends.cuda.matmul
        name, full = (
            ("fp32_precision", "ieee") if hasattr(matmul, "fp32_precision") else _BEFORE_2_9
        )
        # TF32 promises ten bits of each factor, which is enough, but not how many of a sum: another
        # module may have switched it on for its encoder. The same goes for autocast.
        with _precision, torch.autocast(values.device.type, enabled=False):
            given = getattr(matmul, name)
            setattr(matmul, name, full)
            try:
                out = rows @ self.values
            finally:
                setattr(matmul, name, given)
        return out.to(torch.float32)


_BEFORE_2_9 = ("allow_tf32", False)


def quantized(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """``(n, dim)`` int8 and ``(n,)`` scales, as ``Kernels.quantize`` gives them.

    Raises:
        ValueError: a value is not finite.
    """
    rows = vectors.to(torch.float32)
    if not torch.isfinite(rows).all():
        raise ValueError("vectors: a value is not finite")
    largest = rows.abs().amax(1)
    # Tensors divided by tensors: with a number on one side PyTorch multiplies by an inverse, which
    # rounds otherwise than NumPy does.
    bound = torch.full_like(largest, 127)
    factor = torch.where(largest > TINY, bound / largest, 0)
    return (rows * factor[:, None]).round_().to(torch.int8), largest / bound


def _unsigned(centroid: Tensor) -> Tensor:
    return centroid.to(torch.int32).bitwise_and_(0xFFFF)
