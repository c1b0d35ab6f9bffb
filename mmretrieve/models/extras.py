"""Optional packages: imported where they are used, and named with the command that installs them;
which device and which precision a setting means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib import import_module
from typing import Any

from mmretrieve.errors import MissingExtraError, SetupError, UsageError


class Precision(StrEnum):
    """How a model's weights are held. ``auto``: bfloat16 on a GPU, float32 on a CPU; ``nf4``: four
    bits, computed in bfloat16."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    NF4 = "nf4"


def require(module: str, extra: str) -> Any:
    """The module ``module``, which the extra ``extra`` brings.

    Raises:
        MissingExtraError: it is not installed, or does not run here; the message has the command.
    """
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:
        raise MissingExtraError(
            f'{module} cannot be imported ({error}): pip install "mmretrieve[{extra}]"'
        ) from error


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' bars, and without its warnings: that a backbone has no projection of its
    own, and that it has a head for words, is as it should be."""
    logging = transformers.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def precision_of(name: str) -> Precision:
    """The precision that a setting names.

    Raises:
        UsageError: no such precision.
    """
    try:
        return Precision(name)
    except ValueError:
        raise UsageError(f"precision {name!r}: expected one of {', '.join(Precision)}") from None


def device_of(name: str) -> str:
    """The device that a setting names; ``auto`` is the first GPU, else the CPU.

    Raises:
        UsageError: no kind of device.
        SetupError: a GPU that PyTorch does not see.
    """
    torch = require("torch", "torch")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda"} or not (number or "0").isdecimal():
        raise UsageError(f"device {name!r}: expected auto, cpu, cuda or cuda:1")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise SetupError(
            f"device {name!r}: PyTorch sees {torch.cuda.device_count()} GPUs here; use --device cpu, or "
            "install a PyTorch that is built for this GPU"
        )
    return name
