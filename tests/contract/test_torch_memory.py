"""Which arrays stay on a device, and for how long."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch")

import torch

from mmretrieve.kernels.arrays import Tokens8
from mmretrieve.kernels.plain import PlainKernels
from mmretrieve.kernels.torch_kernels import TorchKernels
from mmretrieve.kernels.torch_memory import DeviceArrays, upload

pytestmark = pytest.mark.torch


def test_arrays_are_copied_once_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []

    def counting(array: np.ndarray, device: torch.device) -> torch.Tensor:
        copied.append(array.nbytes)
        return upload(array, device)

    monkeypatch.setattr("mmretrieve.kernels.torch_memory.upload", counting)
    kept = DeviceArrays(torch.device("cpu"), 1000)
    a, b, c = (np.full(100, i, np.float32) for i in range(3))
    assert kept.whole(a) is kept.whole(a)
    assert kept.whole(b)[0] == 1
    assert (len(kept), kept.n_bytes, copied) == (2, 800, [400, 400])
    kept.whole(a)
    kept.whole(c)  # b was not asked for the longest
    assert (len(kept), kept.n_bytes, len(copied)) == (2, 800, 3)
    kept.whole(a)
    assert len(copied) == 3
    kept.whole(b)
    assert len(copied) == 4
    del a, b
    gc.collect()
    assert (len(kept), kept.n_bytes) == (0, 0)
    large = np.arange(300, dtype=np.uint16).reshape(100, 3).repeat(2, axis=1)
    copied.clear()
    rows = kept.rows(large, slice(3, 5)).tolist()
    chosen = kept.rows(large, torch.tensor([9, 2])).tolist()
    assert rows == large[3:5].tolist()
    assert chosen == large[[9, 2]].tolist()
    assert (len(kept), copied) == (0, [24, 24])


def test_memory_mapped_arrays(tmp_path: Path) -> None:
    values = np.random.default_rng(8).integers(-127, 128, (50, 32)).astype(np.int8)
    np.save(tmp_path / "values.npy", values)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    scales = np.ones(50, np.float32)
    scales.setflags(write=False)
    kernels = TorchKernels("cpu")
    query = Tokens8(values[:3], scales[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = kernels.dots(Tokens8(mapped, scales), query)
    np.testing.assert_array_equal(found, PlainKernels().dots(Tokens8(values, scales), query))
