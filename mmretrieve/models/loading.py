"""A CLaMR model from a folder, and to one.

Two layouts are read. One folder holds everything: ``config.json`` and ``*.safetensors`` of the
backbone (``custom_text_proj`` among them). Or a folder holds an adapter (``adapter_config.json``,
``adapter_model.safetensors``), which names its backbone: a folder beside it, a path, or a hub id. The
projection is ``custom_text_proj.safetensors``, else among the backbone's weights. A tokenizer is
``tokenizer.json`` of either. Only safetensors are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmretrieve.errors import UsageError, WeightsError
from mmretrieve.models.adapters import base_of, has_adapter, load_adapter, save_adapter
from mmretrieve.models.dialects import DIALECTS, Backbone
from mmretrieve.models.extras import Precision, quiet, require
from mmretrieve.models.folders import Lookup, cached, check_weights, read_json, resolve
from mmretrieve.models.pictures import PatchShape
from mmretrieve.models.turns import Limits, TurnBuilder

if TYPE_CHECKING:
    from torch import Tensor

    from mmretrieve.models.clamr import Clamr

PROJECTION_FILE = "custom_text_proj.safetensors"
SETTINGS_FILE = "clamr.json"
BACKBONE_FOLDER = "backbone"
_PROJECTION = "custom_text_proj."
_KINDS = {
    "qwen2_5_vl": Backbone.QWEN_VL,
    "qwen2_5_omni": Backbone.QWEN_OMNI,
    "qwen2_5_omni_thinker": Backbone.QWEN_OMNI,
}


@dataclass(frozen=True, slots=True)
class Files:
    """Where the parts of a model lie. ``top`` is the folder that was named."""

    top: Path
    backbone: Path
    base: str


def find(source: str, backbone: str | None = None, lookup: Lookup = cached) -> Files:
    """The parts of a model; ``backbone`` goes before what the adapter names.

    Raises:
        WeightsError: a part is missing; the message has the command that fetches it.
    """
    top = resolve(source, lookup)
    base = backbone or base_of(top)
    if base is None and (top / BACKBONE_FOLDER).is_dir():
        base = BACKBONE_FOLDER
    if base is None:
        return Files(top, top, source)
    return Files(top, resolve(base, lookup, near=top), base)


def load(
    source: str,
    *,
    backbone: str | None = None,
    precision: Precision = Precision.AUTO,
    device: str = "cpu",
    lookup: Lookup = cached,
) -> Clamr:
    """The model of a folder or of a hub id that was fetched before, for inference.

    ``precision`` ``auto`` is bfloat16 on a GPU and float32 on a CPU.

    Raises:
        MissingExtraError: transformers, peft or (for ``nf4``) bitsandbytes is not installed.
        WeightsError: a part is missing, damaged, pickled, or does not fit the others.
    """
    require("torch", "clamr")
    require("transformers", "clamr")
    files = find(source, backbone, lookup)
    settings = _settings(files.top)
    model = _assemble(files, settings, precision, device)
    _load_projection(model, files)
    if base_of(files.top) is not None:
        check_weights(files.top)
        load_adapter(model, files.top)
    model.eval()
    return model


def save(model: Clamr, folder: Path, *, base: str | None = None) -> None:
    """Write a model: its adapter (if it has one) and its projection, and the backbone too unless
    ``base`` says where that is.

    Raises:
        UsageError: neither an adapter nor a backbone to write.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    projection = {
        name.replace("base_layer.", ""): value.detach().float().cpu().contiguous()
        for name, value in model.custom_text_proj.state_dict().items()
        if "lora_" not in name
    }
    save_file(projection, folder / PROJECTION_FILE, metadata={"format": "pt"})
    if has_adapter(model):
        save_adapter(model, folder, base or BACKBONE_FOLDER)
    if base is None:
        _save_backbone(model, folder / BACKBONE_FOLDER)
    model.turns.save_tokenizer(folder / "tokenizer.json")
    data = {
        "format": 1,
        "backbone": model.kind.value,
        "dim": model.dim,
        "limits": asdict(model.turns.limits),
    }
    (folder / SETTINGS_FILE).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def kind_of(folder: Path) -> Backbone:
    """Which backbone a folder holds.

    Raises:
        WeightsError: none that CLaMR is built on.
    """
    model_type = read_json(folder / "config.json").get("model_type")
    if model_type not in _KINDS:
        raise WeightsError(
            f"{folder / 'config.json'} is of a {model_type!r}: expected one of {', '.join(_KINDS)}"
        )
    return _KINDS[model_type]


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS_FILE
    return read_json(path) if path.is_file() else {}


def _assemble(files: Files, settings: dict[str, Any], precision: Precision, device: str) -> Clamr:
    from mmretrieve.models.clamr import DIM, Clamr

    kind = kind_of(files.backbone)
    check_weights(files.backbone)
    backbone = _backbone(files.backbone, kind, precision, device)
    turns = builder(files, kind, backbone.config, _limits(settings))
    model = Clamr(kind, backbone, turns, settings.get("dim", DIM))
    check_marks(model)
    return model


def _backbone(folder: Path, kind: Backbone, precision: Precision, device: str) -> Any:
    import torch
    import transformers

    options: dict[str, Any] = {"dtype": _dtype(precision, device), "use_safetensors": True}
    if precision is Precision.NF4:
        require("bitsandbytes", "clamr-4bit")
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_use_double_quant=True,
        )
    if device != "cpu":
        options["device_map"] = {"": device}
    name = {
        Backbone.QWEN_VL: "Qwen2_5_VLForConditionalGeneration",
        Backbone.QWEN_OMNI: "Qwen2_5OmniThinkerForConditionalGeneration",
    }[kind]
    try:
        with quiet(transformers):
            return getattr(transformers, name).from_pretrained(
                str(folder), local_files_only=True, **options
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise WeightsError(
            f"{folder} cannot be loaded as {kind.value} ({error}): fetch the model again"
        ) from error


def _dtype(precision: Precision, device: str) -> Any:
    import torch

    if precision is Precision.AUTO:
        precision = Precision.FLOAT32 if device == "cpu" else Precision.BFLOAT16
    return torch.float32 if precision is Precision.FLOAT32 else torch.bfloat16


def builder(files: Files, kind: Backbone, config: Any, limits: Limits) -> TurnBuilder:
    """What makes this model's sequences.

    Raises:
        WeightsError: no tokenizer, or one without the backbone's marks.
    """
    from tokenizers import Tokenizer

    path = next(
        (p for f in (files.top, files.backbone) if (p := f / "tokenizer.json").is_file()), None
    )
    if path is None:
        raise WeightsError(
            f"no tokenizer.json in {files.top} or {files.backbone}: fetch the backbone's tokenizer"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower one
        raise WeightsError(f"{path} cannot be read ({error}): fetch it again") from error
    vision = config.vision_config
    pace = vision.tokens_per_second if kind is Backbone.QWEN_VL else config.position_id_per_seconds
    shape = _shape(files, vision)
    n_mels = config.audio_config.num_mel_bins if kind is Backbone.QWEN_OMNI else 0
    return TurnBuilder(tokenizer, DIALECTS[kind], shape, pace, limits, n_mels)


def _shape(files: Files, vision: Any) -> PatchShape:
    found = [f / "preprocessor_config.json" for f in (files.top, files.backbone)]
    path = next((p for p in found if p.is_file()), None)
    data = read_json(path) if path is not None else {}
    shape = PatchShape(vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
    return PatchShape(
        shape.side,
        shape.merge,
        shape.temporal,
        tuple(data.get("image_mean", shape.mean)),
        tuple(data.get("image_std", shape.std)),
    )


def _limits(settings: dict[str, Any]) -> Limits:
    given = settings.get("limits", {})
    unknown = set(given) - {f.name for f in fields(Limits)}
    if unknown:
        raise WeightsError(
            f"{SETTINGS_FILE} has unknown limits {', '.join(sorted(unknown))}: it was written by a "
            "newer mmretrieve; update with `pip install -U mmretrieve`"
        )
    return Limits(**given)


def check_marks(model: Clamr) -> None:
    """Compare the tokenizer's marks with the ids that the backbone looks for.

    Raises:
        WeightsError: they are of different models.
    """
    config, dialect = model.backbone.config, model.turns.dialect
    pairs = [(dialect.frames_pad, config.video_token_id)]
    if model.turns.hears:
        pairs.append((dialect.audio_pad, config.audio_token_id))
    for mark, expected in pairs:
        if model.turns.mark(mark) != expected:
            raise WeightsError(
                f"the tokenizer gives {mark} the id {model.turns.mark(mark)}, the backbone expects "
                f"{expected}: they are of different models"
            )


def _load_projection(model: Clamr, files: Files) -> None:
    for folder in (files.top, files.backbone):
        state = _projection(folder)
        if state:
            break
    else:
        raise _no_projection(files)
    try:
        model.custom_text_proj.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(
            f"the projection of {files.top} does not fit {files.backbone} ({error}): name the "
            "backbone that it was trained on"
        ) from error


def hears_s(files: Files) -> float:
    """Seconds of sound that the model takes, without reading the weights; 0 without an audio tower."""
    if not DIALECTS[kind_of(files.backbone)].audio_pad:
        return 0.0
    return float(_limits(_settings(files.top)).max_audio_s)


def dim_of(files: Files) -> int:
    """Width of a token, without reading the weights.

    Raises:
        WeightsError: there is no projection.
    """
    from safetensors import safe_open

    for folder in (files.top, files.backbone):
        for path, key in _projection_keys(folder):
            if key.endswith("weight"):
                with safe_open(path, "np") as file:
                    return int(file.get_slice(key).get_shape()[0])
    raise _no_projection(files)


def _no_projection(files: Files) -> WeightsError:
    return WeightsError(
        f"no custom_text_proj in {files.top} or {files.backbone}: expected {PROJECTION_FILE}, or "
        "the projection among the weights (a plain Qwen has none; name CLaMR's weights)"
    )


def _projection_keys(folder: Path) -> Iterator[tuple[Path, str]]:
    """File and key of the parts of the projection, whatever stands before its name."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "np") as file:
                keys = list(file.keys())
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} cannot be read ({error}): fetch it again") from error
        for key in keys:
            name = key.rpartition(".")[2]
            if path.name == PROJECTION_FILE or key.endswith(_PROJECTION + name):
                yield path, key


def _projection(folder: Path) -> dict[str, Tensor]:
    """The projection among all safetensors of a folder."""
    from safetensors import safe_open

    state: dict[str, Tensor] = {}
    for path, key in _projection_keys(folder):
        with safe_open(path, "pt") as file:
            state[key.rpartition(".")[2]] = file.get_tensor(key)
    return state


def _save_backbone(model: Clamr, folder: Path) -> None:
    if getattr(model.backbone, "is_quantized", False):
        raise UsageError(
            "a backbone held in four bits is not written: say where the original is (base=...)"
        )
    state = {
        name.replace(".base_layer.", "."): value
        for name, value in model.backbone.state_dict().items()
        if "lora_" not in name
    }
    import transformers

    with quiet(transformers):
        model.backbone.save_pretrained(str(folder), state_dict=state)
