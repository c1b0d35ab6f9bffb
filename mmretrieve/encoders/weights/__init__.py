"""Weights that ship with the package, and the checksums that they must have."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from mmretrieve.errors import WeightsError

FOLDER = Path(__file__).parent

SHA256: dict[str, str] = {
    "bge_small_en_v1.5_int8.onnx": "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743",
    "bge_tokenizer.json": "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
    "text_projection.safetensors": "edd6b0ad1ab376cc6dc2afd29e0af66648ca86b1b33fef7a6ff952d041bcf0a6",
    "efficientnet_lite2.onnx": "fef10ab12a951f331518b5376943804d553e60a7ed388ff324e4ba15f260e534",
    "frame_head.safetensors": "259a3697fb69949d9ad346f0df7c56dc52398abc828707897af638fee505e334",
    "imagenet_classes.txt": "a142e5746d5d61c27a7560a02c5c4ec80943f1796abe8cfca0e834cc7d309220",
}


def weight_path(name: str) -> Path:
    """Path of a shipped file.

    Raises:
        WeightsError: the file is not there.
    """
    path = FOLDER / name
    if not path.is_file():
        raise WeightsError(
            f"weights {name!r} are missing from the installed package ({FOLDER}): "
            "reinstall with `pip install --force-reinstall --no-deps mmretrieve`"
        )
    return path


@cache
def sha256(name: str) -> str:
    """Hex digest of a shipped file as it lies on disk."""
    with weight_path(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify() -> dict[str, bool]:
    """File name -> whether its checksum is the published one."""
    return {name: sha256(name) == expected for name, expected in SHA256.items()}
