"""Pictures and sentences to points of one space, by any open_clip model from safetensors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.config import EncoderSettings
from mmretrieve.datatypes import Box
from mmretrieve.errors import SetupError, UsageError, WeightsError
from mmretrieve.models.extras import Precision, device_of, precision_of, require
from mmretrieve.models.folders import check_weights, read_json, resolve, sha256_of

MODEL = "ViT-B-32"
TAG = "laion2b_s34b_b79k"
MAX_GRID = 7
"""A finer grid of tokens is averaged down to so many on a side."""
_CONFIG = "open_clip_config.json"
_BATCH = 16


@dataclass(frozen=True, slots=True)
class PictureTokens:
    """``vectors``: ``(n_tokens, dim)`` float32 of unit length, the whole picture first; ``boxes``:
    the part of the picture that each stands for."""

    vectors: NDArray[np.float32]
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """``name``: what open_clip builds; ``weights``: a safetensors file."""

    name: str
    weights: Path
    config: dict[str, Any]


class OpenClip:
    """Weights are read at the first use; runs of the model wait for each other."""

    def __init__(self, settings: EncoderSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._loaded: _Network | None = None

    @property
    def dim(self) -> int:
        """Width of a token."""
        return int(self._source.config["embed_dim"])

    def fingerprints(self) -> Mapping[str, str]:
        """sha256 of the weights."""
        return self._fingerprints

    def text(self, text: str) -> NDArray[np.float32]:
        """``(dim,)`` float32 of unit length: a sentence; what the tower cannot hold is cut."""
        network = self._network
        with self._lock:
            return network.text(text)

    def images(self, images: Sequence[NDArray[np.uint8]]) -> list[PictureTokens]:
        """``(height, width, 3)`` uint8 RGB pictures to their tokens."""
        network, out = self._network, []
        for start in range(0, len(images), _BATCH):
            with self._lock:
                out += network.images(images[start : start + _BATCH])
        return out

    @cached_property
    def _source(self) -> _Source:
        return _find(self._settings)

    @cached_property
    def _fingerprints(self) -> Mapping[str, str]:
        source = self._source
        return {f"open_clip/{source.weights.name}": sha256_of(source.weights)}

    @property
    def _network(self) -> _Network:
        with self._lock:
            if self._loaded is None:
                self._loaded = _Network(self._source, self._settings)
            return self._loaded


def _find(settings: EncoderSettings) -> _Source:
    """The model and its weights: a file, a folder with ``open_clip_config.json``, a hub id that was
    fetched, or a pretrained tag whose hub repository was fetched."""
    open_clip = require("open_clip", "clip")
    weights = settings.weights
    if weights is not None and Path(weights).is_file():
        name = settings.model or MODEL
        if Path(weights).suffix != ".safetensors":
            raise WeightsError(
                f"{weights} is no safetensors file: pickled weights can run code and are not read"
            )
        return _Source(name, Path(weights), _built_in(open_clip, name))
    folder = _folder(open_clip, settings)
    config = read_json(folder / _CONFIG).get("model_cfg")
    if not isinstance(config, dict) or "embed_dim" not in config:
        raise WeightsError(f"{folder / _CONFIG} describes no open_clip model: fetch it again")
    files = [f for f in check_weights(folder) if "open_clip" in f.name or f.stem == "model"]
    if not files:
        raise WeightsError(
            f"{folder} has no open_clip_model.safetensors: expected it beside {_CONFIG}"
        )
    return _Source(f"local-dir:{folder}", files[0], config)


def _folder(open_clip: Any, settings: EncoderSettings) -> Path:
    name, weights = settings.model or MODEL, settings.weights
    if weights is None or not (Path(weights).is_dir() or "/" in weights):
        tag = weights or TAG
        hub = open_clip.pretrained.get_pretrained_cfg(name, tag).get("hf_hub", "").strip("/")
        if not hub and weights is not None:
            tags = open_clip.list_pretrained_tags_by_model(name)
            raise UsageError(
                f"weights {weights!r}: no file, no folder, and no tag of {name}; expected one of "
                f"{', '.join(tags) or 'nothing (open_clip knows no such model)'}"
            )
        if not hub:
            raise UsageError(
                f"model {name!r} needs --weights: a tag of open_clip.list_pretrained(), or a folder"
            )
        weights = hub
    try:
        return resolve(weights)
    except WeightsError as error:
        raise WeightsError(
            f"preset 'clip' has no weights here: hf download {weights}, or name a folder with "
            "--weights"
        ) from error


def _built_in(open_clip: Any, name: str) -> dict[str, Any]:
    config = open_clip.get_model_config(name)
    if config is None:
        raise UsageError(
            f"model {name!r} is no open_clip model: expected one of open_clip.list_models(), as "
            f"{MODEL} or ViT-L-14"
        )
    known: dict[str, Any] = config
    return known


class _Network:
    """A loaded model."""

    def __init__(self, source: _Source, settings: EncoderSettings) -> None:
        torch, open_clip = require("torch", "clip"), require("open_clip", "clip")
        precision = precision_of(settings.precision)
        if precision is Precision.NF4:
            raise UsageError("precision 'nf4' is for clamr: expected float32 or bfloat16")
        self._torch, self._device = torch, device_of(settings.device)
        try:
            self._model, self._prepare = _build(open_clip, source)
            open_clip.load_checkpoint(self._model, str(source.weights))
        except (RuntimeError, OSError, ValueError, KeyError, AssertionError) as error:
            raise WeightsError(
                f"{source.weights} cannot be loaded as {source.name} ({error}): name the model that "
                "the weights are of with --model"
            ) from error
        if precision is Precision.BFLOAT16:
            self._model = self._model.bfloat16()
        self._model = self._model.to(self._device).eval()
        self._tokenize = open_clip.get_tokenizer(source.name)
        self._dtype = next(self._model.parameters()).dtype
        self._crop = dict(self._model.visual.preprocess_cfg)
        self._tokens = _Patches.of(torch, self._model.visual)

    def text(self, text: str) -> NDArray[np.float32]:
        with self._torch.inference_mode():
            ids = self._tokenize([text]).to(self._device)
            made = self._model.encode_text(ids, normalize=True)
        row: NDArray[np.float32] = made[0].float().cpu().numpy()
        return row

    def images(self, images: Sequence[NDArray[np.uint8]]) -> list[PictureTokens]:
        from PIL import Image

        pictures = [Image.fromarray(np.ascontiguousarray(image)) for image in images]
        batch = self._torch.stack([self._prepare(picture) for picture in pictures])
        batch = batch.to(self._device, self._dtype)
        try:
            with self._torch.inference_mode():
                whole, cells = self._tokens(batch)
        except self._torch.OutOfMemoryError as error:
            if len(images) == 1:
                raise SetupError(f"a picture does not fit into memory ({error})") from error
            half = len(images) // 2
            return [*self.images(images[:half]), *self.images(images[half:])]
        out = []
        for image, summary, grid in zip(images, whole, cells, strict=True):
            rows, columns = grid.shape[:2]
            seen = seen_part(image.shape[0], image.shape[1], self._crop)
            boxes = [
                _inside(seen, y, x, rows, columns) for y in range(rows) for x in range(columns)
            ]
            vectors = np.concatenate([summary[None], grid.reshape(-1, grid.shape[-1])])
            out.append(PictureTokens(vectors, (seen, *boxes)))
        return out


def _build(open_clip: Any, source: _Source) -> tuple[Any, Any]:
    """The network with random weights, and what prepares a picture for it. No tower fetches any."""
    before = logging.root.manager.disable
    logging.disable(
        logging.WARNING
    )  # it would warn that the weights are random, as they are so far
    try:
        model, _, prepare = open_clip.create_model_and_transforms(
            source.name,
            pretrained=None,
            load_weights=False,
            pretrained_image=False,
            pretrained_text=False,
        )
    finally:
        logging.disable(before)
    return model, prepare


@dataclass(frozen=True, slots=True)
class _Patches:
    """Runs a tower; ``grid`` is what it has of tokens that can be projected, (0, 0) for none."""

    torch: Any
    visual: Any
    grid: tuple[int, int]

    @classmethod
    def of(cls, torch: Any, visual: Any) -> _Patches:
        """The plain vision transformer projects its summary by one matrix, which fits its other tokens
        as well. Towers that pool by attention, and convolutions, have none that are so trained."""
        plain = type(visual).__name__ == "VisionTransformer" and visual.attn_pool is None
        if not plain or visual.proj is None or visual.pool_type not in {"tok", "avg"}:
            return cls(torch, visual, (0, 0))
        visual.output_tokens = True
        return cls(torch, visual, tuple(visual.grid_size))

    def __call__(self, batch: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``(n, dim)``, and ``(n, rows, columns, dim)``, of unit length."""
        unit = self.torch.nn.functional.normalize
        if self.grid == (0, 0):
            whole = unit(self.visual(batch).float(), dim=-1).cpu().numpy()
            return whole, np.empty((len(whole), 0, 0, whole.shape[1]), np.float32)
        whole, tokens = self.visual(batch)
        if self.visual.final_ln_after_pool:
            tokens = self.visual.ln_post(tokens)
        cells = unit((tokens @ self.visual.proj).float(), dim=-1)
        n, _, dim = cells.shape
        cells = cells.reshape(n, *self.grid, dim)
        if max(self.grid) > MAX_GRID:
            size = [min(side, MAX_GRID) for side in self.grid]
            pooled = self.torch.nn.functional.adaptive_avg_pool2d(cells.permute(0, 3, 1, 2), size)
            cells = unit(pooled.permute(0, 2, 3, 1), dim=-1)
        return unit(whole.float(), dim=-1).cpu().numpy(), cells.cpu().numpy()


def seen_part(height: int, width: int, preprocess: Mapping[str, Any]) -> Box:
    """The part of a picture that the network sees, as ``preprocess`` of open_clip says: all of it
    (squeezed, or with bars around it), or a square in the middle."""
    if preprocess.get("resize_mode", "shortest") != "shortest":
        return (0.0, 0.0, 1.0, 1.0)
    size = preprocess.get("size", 224)
    rows, columns = (size, size) if isinstance(size, int) else size
    # Both sides are scaled alike until the picture covers the input, then the middle is cut out.
    scale = max(rows / height, columns / width)
    y, x = (1 - rows / (height * scale)) / 2, (1 - columns / (width * scale)) / 2
    return (x, y, 1 - x, 1 - y)


def _inside(seen: Box, y: int, x: int, rows: int, columns: int) -> Box:
    x0, y0, x1, y1 = seen
    w, h = (x1 - x0) / columns, (y1 - y0) / rows
    return (x0 + x * w, y0 + y * h, x0 + (x + 1) * w, y0 + (y + 1) * h)
