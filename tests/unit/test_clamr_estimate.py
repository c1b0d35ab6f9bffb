"""Parameters as the networks have them; tokens and bytes as the turns have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmretrieve.models.dialects import DIALECTS
from mmretrieve.models.estimate import (
    ARCHITECTURES,
    GPUS,
    LONGEST,
    Load,
    estimate,
    main,
    weights_bytes,
)
from mmretrieve.models.pictures import PatchShape
from mmretrieve.models.protocol import Document
from mmretrieve.models.turns import TurnBuilder
from tests import tiny_models as tiny


@pytest.mark.torch
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_are_those_of_the_networks(name: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = ARCHITECTURES[name]
    text = {
        "hidden_size": model.language.width,
        "num_hidden_layers": model.language.layers,
        "num_attention_heads": model.language.heads,
        "num_key_value_heads": model.language.kv_heads,
        "intermediate_size": model.language.inner,
        "vocab_size": model.language.vocabulary,
    }
    vision = {"hidden_size": 1280, "out_hidden_size": model.language.width}
    tied = {"tie_word_embeddings": model.language.tied}
    with torch.device("meta"):
        if model.audio is None:
            config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tied)
            network = transformers.Qwen2_5_VLForConditionalGeneration(config)
        else:
            audio = {"output_dim": model.language.width}
            config = transformers.Qwen2_5OmniThinkerConfig(
                text_config=text, vision_config=vision, audio_config=audio, **tied
            )
            network = transformers.Qwen2_5OmniThinkerForConditionalGeneration(config)
        projection = torch.nn.Linear(model.language.width, 128)
    counted = sum(p.numel() for part in (network, projection) for p in part.parameters())
    assert counted == model.n_parameters
    assert weights_bytes(model, "bfloat16") == 2 * counted
    assert weights_bytes(model, "nf4") < weights_bytes(model, "bfloat16") / 2


def test_tokens_are_those_of_a_turn() -> None:
    model = ARCHITECTURES["qwen2.5-vl-3b"]
    builder = TurnBuilder(tiny.tokenizer(model.kind), DIALECTS[model.kind], PatchShape(), 2.0)
    frames = [tiny.picture(0, 108, 192)] * 5
    turn = builder.document(Document(frames=frames))
    made = estimate(model, Load(5, 0, height=108, width=192))
    assert made.n_kept == int((turn.modality >= 0).sum())
    assert made.bytes_stored == made.n_kept * 256
    assert estimate(model, LONGEST).n_tokens <= builder.limits.max_tokens


def test_operations_grow_with_what_is_read() -> None:
    model = ARCHITECTURES["qwen2.5-omni-3b"]
    without, heard = estimate(model, Load(5, 150)), estimate(model, Load(5, 150, audio_s=20.0))
    assert heard.n_tokens == without.n_tokens + 500
    # Two operations for each parameter and token are the bulk of it.
    floor = 2 * (model.language.n_layers_parameters * 500 + 1000 * 637_676_544)
    assert 1 < (heard.flops - without.flops) / floor < 1.1
    assert heard.seconds(GPUS["A100"]) == pytest.approx(heard.flops / (312e12 * 0.35))


def test_the_page_has_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--backbone", "all"])
    page = Path(__file__).parents[2] / "docs" / "clamr.md"
    assert page.read_text(encoding="utf-8").endswith(capsys.readouterr().out)


def test_the_report_says_that_it_estimates(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--backbone", "qwen2.5-vl-3b"])
    shown = capsys.readouterr().out
    assert "3.75 billion parameters" in shown
    assert "estimates" in shown
    assert all(gpu in shown for gpu in GPUS)
    assert "omni" not in shown
