"""Random weights of the true architectures, small enough for a test: backbones with their vision and
audio towers, a byte-level BPE tokenizer as Qwen's, LoRA, projection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.models.dialects import DIALECTS, Backbone

WIDTH = 32
DIM = 128
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CORPUS = (
    "a red balloon floats over the old harbour while people wait",
    "the speaker explains how a late interaction model ranks videos",
    "Query: OCR: ASR: Description: Video: Audio: system user assistant",
    "You are a helpful assistant. You are Qwen, a virtual human",
    "opening hours Monday to Friday, entrance on the left, no smoking",
)


def tokenizer(kind: Backbone) -> Any:
    """A byte-level BPE tokenizer with the pre-tokenizer and the marks of the real ones."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(_CORPUS * 3, trainer)
    d = DIALECTS[kind]
    marks = (d.augmentation, d.turn_open, d.turn_close, d.frames_open, d.frames_pad, d.frames_close)
    made.add_special_tokens([m for m in (*marks, d.audio_open, d.audio_pad, d.audio_close) if m])
    return made


def backbone(kind: Backbone, tokens: Any, seed: int = 0) -> Any:
    """A backbone with random weights that are large enough for tokens to differ."""
    import torch

    torch.manual_seed(seed)
    made = _vl(tokens) if kind is Backbone.QWEN_VL else _omni(tokens)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
    return made.eval()


def _text(tokens: Any) -> dict[str, Any]:
    return {
        "vocab_size": tokens.get_vocab_size(),
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [2, 1, 1],
        },
        "bos_token_id": None,
        "eos_token_id": tokens.token_to_id("<|im_end|>"),
        "pad_token_id": tokens.token_to_id("<|endoftext|>"),
    }


_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": WIDTH,
    "fullatt_block_indexes": [1],
}


def _vl(tokens: Any) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    mark = tokens.token_to_id
    config = Qwen2_5_VLConfig(
        text_config=_text(tokens),
        vision_config={**_VISION, "tokens_per_second": 2},
        image_token_id=mark("<|endoftext|>"),
        video_token_id=mark("<|video_pad|>"),
        vision_start_token_id=mark("<|vision_start|>"),
        vision_end_token_id=mark("<|vision_end|>"),
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def _omni(tokens: Any) -> Any:
    from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

    mark = tokens.token_to_id
    config = Qwen2_5OmniThinkerConfig(
        text_config=_text(tokens),
        vision_config=_VISION,
        audio_config={
            "num_mel_bins": 16,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "d_model": 32,
            "output_dim": WIDTH,
            "n_window": 100,
        },
        audio_token_index=mark("<|AUDIO|>"),
        video_token_index=mark("<|VIDEO|>"),
        image_token_index=mark("<|endoftext|>"),
        vision_start_token_id=mark("<|vision_bos|>"),
        vision_end_token_id=mark("<|vision_eos|>"),
        audio_start_token_id=mark("<|audio_bos|>"),
        audio_end_token_id=mark("<|audio_eos|>"),
    )
    return Qwen2_5OmniThinkerForConditionalGeneration(config)


def clamr(kind: Backbone, seed: int = 0) -> Any:
    """A whole model in memory."""
    import torch

    from mmretrieve.models.clamr import Clamr
    from mmretrieve.models.pictures import PatchShape
    from mmretrieve.models.turns import TurnBuilder

    tokens = tokenizer(kind)
    network = backbone(kind, tokens, seed)
    pace = 2.0 if kind is Backbone.QWEN_VL else 25.0
    n_mels = 16 if kind is Backbone.QWEN_OMNI else 0
    turns = TurnBuilder(tokens, DIALECTS[kind], PatchShape(), pace, n_mels=n_mels)
    torch.manual_seed(seed + 1)
    return Clamr(kind, network, turns, DIM).eval()


def write_clamr(folder: Path, kind: Backbone, *, lora: bool = True, seed: int = 0) -> Path:
    """A folder of weights as ``mmretrieve.models.loading.save`` writes it: adapter, projection and
    backbone. The adapter is no identity."""
    import torch

    from mmretrieve.models.adapters import LoraSettings, add_adapter
    from mmretrieve.models.loading import save

    model = clamr(kind, seed)
    if lora:
        add_adapter(model, LoraSettings(r=4, alpha=8, dropout=0.0))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0, 0.2)
    save(model, folder)
    return folder


def picture(seed: int, height: int = 60, width: int = 90) -> NDArray[np.uint8]:
    """Random blocks of colour."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.repeat(np.repeat(blocks, height // 4, 0), width // 6, 1)


def tone(seconds: float, hertz: float = 440.0) -> NDArray[np.float32]:
    """A tone at 16 kHz."""
    at = np.arange(int(seconds * 16_000), dtype=np.float32) / 16_000
    return (0.3 * np.sin(2 * np.pi * hertz * at)).astype(np.float32)


def write_json(path: Path, data: object) -> None:
    """For settings that a test makes up."""
    path.write_text(json.dumps(data), encoding="utf-8")


CLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 56,
        "layers": 2,
        "width": 32,
        "head_width": 16,
        "patch_size": 14,
    },
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def write_clip(folder: Path, config: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """A folder of an open_clip model as the hub has them, with random weights."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "model_cfg": config or CLIP_CONFIG,
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    }
    write_json(folder / "open_clip_config.json", data)
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
    save_file(dict(model.state_dict()), folder / "open_clip_model.safetensors")
    return folder


def write_colbert(folder: Path, **settings: object) -> Path:
    """A folder of a ColBERT-type model as PyLate saves it: BERT, a dense layer, marks, lengths."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        _CORPUS * 3,
        trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False),
    )
    ends = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    tokenizer = BertTokenizerFast(tokenizer_object=made)
    tokenizer.add_tokens(["[Q] ", "[D] "])
    tokenizer.save_pretrained(str(folder))
    torch.manual_seed(0)
    network = BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            initializer_range=0.3,
        )
    )
    network.save_pretrained(str(folder))
    (folder / "1_Dense").mkdir(exist_ok=True)
    write_json(
        folder / "1_Dense" / "config.json",
        {
            "in_features": 32,
            "out_features": 16,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    weight = {"linear.weight": torch.randn(16, 32) / 32**0.5}
    save_file(weight, folder / "1_Dense" / "model.safetensors")
    write_json(
        folder / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
        ],
    )
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "query_prefix": "[Q] ",
            "document_prefix": "[D] ",
            "query_length": 12,
            "document_length": 16,
            "do_query_expansion": True,
            "attend_to_expansion_tokens": False,
            "skiplist_words": [",", "."],
            "similarity_fn_name": "MaxSim",
            **settings,
        },
    )
    return folder
