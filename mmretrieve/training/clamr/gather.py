"""In-batch negatives of all processes, with gradients.

Every process scores its own queries against the documents of all. The gradient of a document is the
sum of what all processes ask of it, so that, after the mean over processes that data parallelism takes,
the step is that of one process with the whole batch.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.nn import functional

from mmretrieve.models.protocol import NO_MODALITY, TokenBatch

T = TypeVar("T")


class _Gather(torch.autograd.Function):  # type: ignore[misc]
    """Concatenate tensors of one shape; backwards each gets the sum of all gradients for it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.n = len(tensor)
        return _plain(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        first = distributed.get_rank() * ctx.n
        return gradient[first : first + ctx.n]


def world_size() -> int:
    """How many processes train together."""
    together = distributed.is_available() and distributed.is_initialized()
    return int(distributed.get_world_size()) if together else 1


def gather_documents(documents: TokenBatch) -> TokenBatch:
    """The documents of all processes in the order of their ranks, padded to one length. Every process
    must have as many documents."""
    if world_size() == 1:
        return documents
    length = torch.tensor(documents.mask.shape[1], device=documents.mask.device)
    distributed.all_reduce(length, distributed.ReduceOp.MAX)
    extra = int(length) - documents.mask.shape[1]
    vectors = functional.pad(documents.vectors, (0, 0, 0, extra))
    mask = functional.pad(documents.mask, (0, extra))
    modality = functional.pad(documents.modality, (0, extra), value=NO_MODALITY)
    return TokenBatch(
        _Gather.apply(vectors.contiguous()),
        _plain(mask.to(torch.uint8).contiguous()).bool(),
        _plain(modality.contiguous()),
    )


def total(tensor: Tensor) -> Tensor:
    """The sum over processes, without gradient."""
    summed = tensor.detach().clone()
    if world_size() > 1:
        distributed.all_reduce(summed)
    return summed


def gather_plain(tensor: Tensor) -> Tensor:
    """Tensors of one shape, in the order of ranks, without gradient."""
    return tensor if world_size() == 1 else _plain(tensor.contiguous())


def gather_objects(mine: T) -> list[T]:
    """One object a process, small and made by this program."""
    if world_size() == 1:
        return [mine]
    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, mine)
    return found


def rank() -> int:
    """The number of this process."""
    return int(distributed.get_rank()) if world_size() > 1 else 0


def _plain(tensor: Tensor) -> Tensor:
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    distributed.all_gather(parts, tensor)
    return torch.cat(parts)
