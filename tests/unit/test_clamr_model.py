"""CLaMR's network: random weights of the true architectures, run, adapted, saved and loaded."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmretrieve.errors import MissingExtraError, SetupError, UsageError, WeightsError
from mmretrieve.models.dialects import Backbone
from mmretrieve.models.extras import Precision, device_of, precision_of
from mmretrieve.models.pictures import PatchShape, patches
from mmretrieve.models.protocol import Document, TokenBatch
from mmretrieve.models.sound import mel_frames, n_audio_tokens
from mmretrieve.models.turns import Turn
from tests import tiny_models as tiny

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from mmretrieve.models import adapters, loading  # noqa: E402
from mmretrieve.models.adapters import LoraSettings, add_adapter  # noqa: E402
from mmretrieve.models.batching import groups, in_batches, run_batches  # noqa: E402

pytestmark = pytest.mark.torch

KINDS = list(Backbone)
DOCUMENTS = [
    Document(
        frames=[tiny.picture(1), tiny.picture(2), tiny.picture(3)],
        speech="the old harbour",
        ocr="no smoking",
        metadata="opening hours",
        audio=tiny.tone(1.0),
    ),
    Document(speech="how a late interaction model ranks videos " * 4),
    Document(frames=[tiny.picture(4, 56, 56)], audio=tiny.tone(0.5, 300.0)),
    Document(metadata="x"),
]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.value)
def model(request: pytest.FixtureRequest) -> Any:
    return tiny.clamr(request.param)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.value)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_clamr(tmp_path_factory.mktemp("clamr"), request.param)


def encode(model: Any, documents: Sequence[Document]) -> TokenBatch:
    with torch.inference_mode():
        made: TokenBatch = model.encode_documents(documents)
    return made


def test_a_batch_is_padded_on_the_left_and_masked(model: Any) -> None:
    batch = encode(model, DOCUMENTS)
    lengths = [len(model.turns.document(d)) for d in DOCUMENTS]
    assert batch.vectors.shape == (4, max(lengths), tiny.DIM)
    assert batch.vectors.dtype == torch.float32
    assert batch.mask.dtype == torch.bool
    assert batch.modality.dtype == torch.int64
    for row, length in enumerate(lengths):
        assert not batch.mask[row, : max(lengths) - length].any()
        assert batch.mask[row, max(lengths) - length :].all()
    norms = batch.vectors.norm(dim=-1)
    assert torch.allclose(norms[batch.mask], torch.ones(1), atol=1e-5)
    assert not norms[~batch.mask].any()
    assert (batch.modality[~batch.mask] == -1).all()


def test_tokens_do_not_depend_on_batch_mates(model: Any) -> None:
    together = encode(model, DOCUMENTS)
    for row, document in enumerate(DOCUMENTS):
        alone = encode(model, [document])
        mine = together.vectors[row][together.mask[row]]
        assert torch.allclose(mine, alone.vectors[0], atol=1e-5)
        assert (together.modality[row][together.mask[row]] == alone.modality[0]).all()
    queries = ["a red balloon", "who explains how videos are ranked in the old harbour?"]
    with torch.inference_mode():
        both, one = model.encode_queries(queries), model.encode_queries(queries[:1])
    assert torch.allclose(both.vectors[0][both.mask[0]], one.vectors[0], atol=1e-5)
    assert (both.modality == -1).all()


def test_modalities_see_what_comes_before_them(model: Any) -> None:
    speech = tiny_speech(model, DOCUMENTS[0])
    other = dataclasses.replace(DOCUMENTS[0], frames=[tiny.picture(9)] * 3)
    assert (speech - tiny_speech(model, other)).abs().max() > 0.05
    later = dataclasses.replace(DOCUMENTS[0], metadata="no more")
    assert torch.allclose(speech, tiny_speech(model, later), atol=1e-5)


def tiny_speech(model: Any, document: Document) -> Any:
    batch = encode(model, [document])
    return batch.vectors[0][batch.modality[0] == 1]


def test_positions_are_those_of_omni() -> None:
    model = tiny.clamr(Backbone.QWEN_OMNI)
    for document in DOCUMENTS:
        turn = model.turns.document(document)
        grids = [turn.patches.grid] if turn.patches is not None else None
        theirs, _ = model.backbone.model.get_rope_index(
            torch.from_numpy(turn.ids)[None],
            None,
            torch.tensor(grids) if grids is not None else None,
            torch.ones(1, len(turn), dtype=torch.long),
            False,
            torch.tensor([turn.mel.shape[1]]) if turn.mel is not None else None,
            torch.tensor([1.0]),
        )
        assert (theirs[:, 0].numpy() == turn.positions).all()


def test_positions_are_those_of_vl_up_to_the_end_of_the_video() -> None:
    """After it, this version of transformers goes on from the height and the width alone; the weights
    were trained when it went on from the largest position, as Omni's still does."""
    model = tiny.clamr(Backbone.QWEN_VL)
    for document, same in ((DOCUMENTS[0], False), (DOCUMENTS[2], True)):
        turn = model.turns.document(document)
        assert turn.patches is not None
        pad = model.turns.mark("<|video_pad|>")
        theirs, _ = model.backbone.model.get_rope_index(
            torch.from_numpy(turn.ids)[None],
            torch.from_numpy(2 * (turn.ids == pad))[None],
            video_grid_thw=torch.tensor([turn.patches.grid]),
            second_per_grid_ts=torch.tensor([2.0]),
            attention_mask=torch.ones(1, len(turn), dtype=torch.long),
        )
        end = int(np.flatnonzero(turn.ids == pad)[-1]) + 1 if not same else len(turn)
        assert (theirs[:, 0, :end].numpy() == turn.positions[:, :end]).all()


def test_patches_are_those_of_the_original_processor() -> None:
    """A still picture fills both frames of a patch, as two equal frames of a video do."""
    original = transformers.Qwen2VLImageProcessorPil(
        size={"shortest_edge": 56 * 56, "longest_edge": 224 * 224}
    )
    for height, width in ((60, 90), (224, 224), (400, 720), (720, 300)):
        image = tiny.picture(3, height, width)
        made = patches([image, image], PatchShape(), 224 * 224)
        theirs = original(images=[image], return_tensors="np")
        assert theirs["image_grid_thw"].tolist() == [list(made.grid)]
        np.testing.assert_allclose(made.values, theirs["pixel_values"], atol=1e-5)


@pytest.mark.parametrize(
    ("n_samples", "n_tokens"), [(640, 1), (16_000, 25), (16_001, 25), (30_123, 47)]
)
def test_mel_frames_are_those_of_the_original_processor(n_samples: int, n_tokens: int) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, n_samples).astype(np.float32)
    original = transformers.WhisperFeatureExtractor(feature_size=128, chunk_length=10)
    theirs = original(
        sound, sampling_rate=16_000, padding="max_length", return_attention_mask=True,
        return_tensors="np",
    )  # fmt: skip
    made = mel_frames(sound)
    assert made is not None
    assert made.shape == (128, int(theirs["attention_mask"].sum()))
    np.testing.assert_allclose(made, theirs["input_features"][0][:, : made.shape[1]], atol=2e-4)
    assert n_audio_tokens(made.shape[1]) == n_tokens


def test_sound_that_is_too_short_or_no_sound() -> None:
    assert mel_frames(np.zeros(300, np.float32)) is None
    with pytest.raises(UsageError, match="16000 Hz"):
        mel_frames(np.zeros((2, 16_000), np.float32))


def test_saved_and_loaded_the_tokens_are_the_same(folder: Path, tmp_path: Path) -> None:
    first = loading.load(str(folder))
    wanted = encode(first, DOCUMENTS).vectors
    loading.save(first, tmp_path / "again")
    again = loading.load(str(tmp_path / "again"))
    assert torch.equal(encode(again, DOCUMENTS).vectors, wanted)
    bare = tiny.clamr(first.kind)
    assert (
        encode(bare, DOCUMENTS).vectors - wanted
    ).abs().max() > 0.05  # the adapter does something
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {"adapter_model.safetensors", "custom_text_proj.safetensors"} <= files
    assert not {f for f in files if f.endswith((".bin", ".pt"))}


def test_a_backbone_elsewhere_is_named_by_the_adapter(folder: Path, tmp_path: Path) -> None:
    model = loading.load(str(folder))
    wanted = encode(model, DOCUMENTS[:1]).vectors
    loading.save(model, tmp_path / "small", base="qwen/tiny")
    assert not (tmp_path / "small" / "backbone").exists()
    with pytest.raises(WeightsError, match="hf download qwen/tiny"):
        loading.load(str(tmp_path / "small"), lookup=lambda name: None)
    found = loading.load(str(tmp_path / "small"), lookup=lambda name: folder / "backbone")
    assert torch.equal(encode(found, DOCUMENTS[:1]).vectors, wanted)
    given = loading.load(str(tmp_path / "small"), backbone=str(folder / "backbone"))
    assert torch.equal(encode(given, DOCUMENTS[:1]).vectors, wanted)


def test_one_folder_with_the_projection_among_the_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny.write_clamr(tmp_path / "parts", Backbone.QWEN_VL, lora=False)
    wanted = encode(loading.load(str(folder)), DOCUMENTS).vectors
    whole = tmp_path / "whole"
    shutil.copytree(folder / "backbone", whole)
    shutil.copy(folder / "tokenizer.json", whole)
    state = load_file(whole / "model.safetensors")
    projection = load_file(folder / "custom_text_proj.safetensors")
    state |= {f"custom_text_proj.{name}": value for name, value in projection.items()}
    save_file(state, whole / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(encode(loading.load(str(whole)), DOCUMENTS).vectors, wanted)
    assert loading.dim_of(loading.find(str(whole))) == tiny.DIM


def test_the_thinker_of_a_whole_omni_checkpoint(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny.write_clamr(tmp_path, Backbone.QWEN_OMNI)
    wanted = encode(loading.load(str(folder)), DOCUMENTS).vectors
    state = load_file(folder / "backbone" / "model.safetensors")
    older = (
        ("language_model.", "model."),
        ("visual.", "visual."),
        ("audio_tower.", "audio_tower."),
    )
    for new, old in older:
        state = {name.replace(f"model.{new}", old): value for name, value in state.items()}
    whole = {f"thinker.{name}": value for name, value in state.items()}
    save_file(whole, folder / "backbone" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "backbone" / "config.json").read_text())
    tiny.write_json(
        folder / "backbone" / "config.json",
        {"model_type": "qwen2_5_omni", "thinker_config": config},
    )
    assert torch.equal(encode(loading.load(str(folder)), DOCUMENTS).vectors, wanted)


@pytest.mark.parametrize(
    ("kind", "lead"),
    [(Backbone.QWEN_VL, ""), (Backbone.QWEN_OMNI, "thinker.")],
    ids=[kind.value for kind in KINDS],
)
def test_an_adapter_with_the_names_of_the_public_checkpoints(
    tmp_path: Path, kind: Backbone, lead: str
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny.write_clamr(tmp_path, kind)
    wanted = encode(loading.load(str(folder)), DOCUMENTS).vectors
    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    assert "base_model.model.custom_text_proj.lora_A.weight" in state
    older = {
        name.replace("base_model.model.model.language_model.", f"base_model.model.{lead}model."): v
        for name, v in state.items()
    }
    assert older.keys() != state.keys()
    save_file(older, path, metadata={"format": "pt"})
    assert torch.equal(encode(loading.load(str(folder)), DOCUMENTS).vectors, wanted)


def test_a_new_adapter_changes_nothing_and_alone_is_trained(model: Any) -> None:
    fresh = tiny.clamr(model.kind)
    before = encode(fresh, DOCUMENTS).vectors
    add_adapter(fresh, LoraSettings(r=4, alpha=4, dropout=0.0))
    assert torch.equal(encode(fresh, DOCUMENTS).vectors, before)
    trained = [name for name, p in fresh.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in trained)
    assert len(trained) == 2 * (2 * 7 + 1)  # two layers of seven projections, and the one to tokens
    assert not any("visual" in name or "audio_tower" in name for name in trained)
    batch = fresh.encode_documents(DOCUMENTS)
    (batch.vectors[..., 0] ** 2).sum().backward()
    grads = [p.grad for _, p in fresh.named_parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in grads)
    assert any(g.abs().max() > 0 for g in grads)


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "backbone" / "model.safetensors").rename(broken / "backbone" / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pickled"):
        loading.load(str(broken))
    shutil.rmtree(broken)
    shutil.copytree(folder, broken)
    (broken / adapters.WEIGHTS_FILE).rename(broken / "adapter_model.bin")
    with pytest.raises(WeightsError, match=r"\.bin"):
        loading.load(str(broken))


def test_what_is_missing_or_does_not_fit_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such folder"):
        loading.load(str(tmp_path / "nothing"))
    broken = tmp_path / "broken"
    for name, message in (
        ("custom_text_proj.safetensors", "no custom_text_proj"),
        ("tokenizer.json", r"no tokenizer\.json"),
        ("backbone/config.json", r"config\.json"),
        ("backbone/model.safetensors", r"no \*\.safetensors"),
    ):
        shutil.copytree(folder, broken)
        (broken / name).unlink()
        with pytest.raises(WeightsError, match=message):
            loading.load(str(broken))
        shutil.rmtree(broken)
    shutil.copytree(folder, broken)
    (broken / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="cannot be read"):
        loading.load(str(broken))


def test_an_adapter_of_another_backbone_is_told(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny.write_clamr(tmp_path, Backbone.QWEN_VL)
    path = folder / "adapter_model.safetensors"
    deeper = {n.replace("layers.1.", "layers.7."): v for n, v in load_file(path).items()}
    save_file(deeper, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"layers\.7"):
        loading.load(str(folder))


def test_a_tokenizer_of_another_model_is_told(tmp_path: Path) -> None:
    folder = tiny.write_clamr(tmp_path, Backbone.QWEN_VL)
    other = tiny.tokenizer(Backbone.QWEN_VL)
    swapped = json.loads(other.to_str())
    marks = {token["content"]: token for token in swapped["added_tokens"]}
    pad, close = marks["<|video_pad|>"], marks["<|vision_end|>"]
    pad["content"], close["content"] = close["content"], pad["content"]
    (folder / "tokenizer.json").write_text(json.dumps(swapped))
    with pytest.raises(WeightsError, match="different models"):
        loading.load(str(folder))


def test_bfloat16_is_near_float32(folder: Path) -> None:
    whole = encode(loading.load(str(folder)), DOCUMENTS)
    half = encode(loading.load(str(folder), precision=Precision.BFLOAT16), DOCUMENTS)
    assert half.vectors.dtype == torch.float32
    cosine = (whole.vectors * half.vectors).sum(-1)[whole.mask]
    assert cosine.mean() > 0.99


def test_four_bits_need_their_package(folder: Path) -> None:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"mmretrieve\[clamr-4bit\]"):
            loading.load(str(folder), precision=Precision.NF4)
    else:
        pytest.skip("bitsandbytes is installed here")


def test_settings_name_devices_and_precisions() -> None:
    assert precision_of("nf4") is Precision.NF4
    with pytest.raises(UsageError, match="bfloat16"):
        precision_of("half")
    assert device_of("cpu") == "cpu"
    with pytest.raises(UsageError, match="cuda:1"):
        device_of("gpu")
    with pytest.raises(SetupError, match="GPUs here"):
        device_of("cuda:99")


def test_groups_are_of_like_length_and_bounded() -> None:
    lengths = [5, 100, 7, 90, 6, 300]
    made = groups(lengths, 200)
    assert made == [[5], [1, 3], [2, 4, 0]]
    assert sorted(i for group in made for i in group) == list(range(6))


class Crowded:
    """A model on a device that holds three sequences at once."""

    def __init__(self, model: Any, room: int) -> None:
        self.model, self.room, self.freed = model, room, 0
        self.tried: list[int] = []

    def __call__(self, turns: Sequence[Turn]) -> TokenBatch:
        self.tried.append(len(turns))
        if len(turns) > self.room:
            raise torch.OutOfMemoryError("no room")
        made: TokenBatch = self.model(turns)
        return made

    def free(self) -> None:
        self.freed += 1


def test_a_batch_that_does_not_fit_is_halved(model: Any) -> None:
    turns = [model.turns.query("balloon " * n) for n in (3, 1, 4, 1, 5, 9, 2)]
    crowded = Crowded(model, 2)
    with torch.inference_mode():
        made = run_batches(crowded, turns, 10_000, torch.OutOfMemoryError, crowded.free)
    assert crowded.tried == [7, 3, 1, 2, 4, 2, 2]
    assert crowded.freed == 3
    for rows, turn in zip(made, turns, strict=True):
        (alone,) = in_batches(model, [turn])
        np.testing.assert_allclose(rows.vectors, alone.vectors, atol=1e-5)
        assert rows.modality.tolist() == [-1] * len(turn)


def test_a_sequence_that_never_fits_is_told(model: Any) -> None:
    crowded = Crowded(model, 0)
    turns = [model.turns.query("a"), model.turns.query("b")]
    with pytest.raises(SetupError, match="nf4"):
        run_batches(crowded, turns, 10_000, torch.OutOfMemoryError, crowded.free)
    assert crowded.tried == [2, 1]
