"""Arrays on a device of PyTorch, and which of them stay there."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = NDArray[Any]
Rows: TypeAlias = slice | Tensor
"""Rows of an array: a slice with both ends given, or int64 numbers on the device."""

_PIECE_BYTES = 1 << 26
_SIGNED = {np.dtype(np.uint16): np.int16, np.dtype(np.uint32): np.int32}


@dataclass(frozen=True, slots=True)
class _Held:
    of: weakref.ref[Array]
    tensor: Tensor
    n_bytes: int


class DeviceArrays:
    """Copies of a segment's arrays on a device, found again by the identity of the array.

    An array must not change while it lives; its copy goes with it. When ``capacity_bytes`` are full, the
    copy that was not asked for the longest goes; an array larger than that is never kept, and only the
    rows that are asked for are copied. May be used from several threads.
    """

    def __init__(self, device: torch.device, capacity_bytes: int) -> None:
        self.device = device
        self._capacity = capacity_bytes
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._n_bytes = 0
        # Re-entrant: collecting garbage inside of a method may call _forget on the same thread.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def n_bytes(self) -> int:
        """Bytes of the copies that are kept: at most the capacity."""
        return self._n_bytes

    def whole(self, array: Array) -> Tensor:
        """All of an array, as :func:`upload` gives it."""
        key = id(array)
        with self._lock:
            held = self._held.get(key)
            if held is not None and held.of() is array:
                self._held.move_to_end(key)
                return held.tensor
            if array.nbytes > self._capacity:
                return upload(array, self.device)
            while self._held and self._n_bytes + array.nbytes > self._capacity:
                _, oldest = self._held.popitem(last=False)
                self._n_bytes -= oldest.n_bytes
            tensor = upload(array, self.device)
            of = weakref.ref(array, _Forgetting(weakref.ref(self), key))
            self._held[key] = _Held(of, tensor, array.nbytes)
            self._n_bytes += array.nbytes
            return tensor

    def rows(self, array: Array, rows: Rows) -> Tensor:
        """Some rows of an array, as :func:`upload` gives them."""
        if array.nbytes <= self._capacity:
            kept = self.whole(array)
            return kept[rows] if isinstance(rows, slice) else kept.index_select(0, rows)
        numbers = rows if isinstance(rows, slice) else rows.cpu().numpy()
        return upload(array[numbers], self.device)

    def forget(self, key: int, of: weakref.ref[Array]) -> None:
        """Let the copy of an array go that is no more."""
        with self._lock:
            held = self._held.get(key)
            if held is not None and held.of is of:  # else another array has its identity by now
                del self._held[key]
                self._n_bytes -= held.n_bytes


@dataclass(frozen=True, slots=True)
class _Forgetting:
    """Called when an array is no more. Holds the cache weakly: a strong reference would be a cycle, and
    keep memory of the device until garbage is collected."""

    arrays: weakref.ref[DeviceArrays]
    key: int

    def __call__(self, of: weakref.ref[Array]) -> None:
        arrays = self.arrays()
        if arrays is not None:
            arrays.forget(self.key, of)


def upload(array: Array, device: torch.device) -> Tensor:
    """A copy on the device. PyTorch calculates little with uint16 and uint32: they come as the signed
    integers of the same bits."""
    plain = array.view(_SIGNED[array.dtype]) if array.dtype in _SIGNED else array
    dtype = torch.from_numpy(np.empty(0, plain.dtype)).dtype
    out = torch.empty(plain.shape, dtype=dtype, device=device)
    # In pieces, since a memory-mapped array may be larger than memory; each is copied, since PyTorch
    # warns of arrays that cannot be written to.
    step = max(1, _PIECE_BYTES * len(plain) // max(plain.nbytes, 1))
    for start in range(0, len(plain), step):
        piece = torch.from_numpy(np.array(plain[start : start + step]))
        out[start : start + step].copy_(piece)
    return out
