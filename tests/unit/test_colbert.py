"""ColBERT-type text encoders in the layout of PyLate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmretrieve.datatypes import Modality, Segment
from mmretrieve.errors import UsageError, WeightsError
from tests import tiny_models as tiny

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from mmretrieve.encoders.colbert import ColbertEncoder, read_layout  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_colbert(tmp_path_factory.mktemp("colbert"))


@pytest.fixture(scope="module")
def parts(folder: Path) -> tuple[Any, Any, Any]:
    """Tokenizer, network and projection, as they are without this package."""
    from safetensors.torch import load_file

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    return tokenizer, network, load_file(folder / "1_Dense" / "model.safetensors")["linear.weight"]


def by_hand(parts: tuple[Any, Any, Any], ids: list[int], attention: list[int]) -> np.ndarray:
    _, network, weight = parts
    with torch.no_grad():
        hidden = network(
            input_ids=torch.tensor([ids]), attention_mask=torch.tensor([attention])
        ).last_hidden_state[0]
        made = torch.nn.functional.normalize(hidden @ weight.T, dim=-1)
    return np.asarray(made)


def test_a_query_is_marked_and_filled_with_masks(folder: Path, parts: tuple[Any, Any, Any]) -> None:
    encoder, tokenizer = ColbertEncoder(str(folder), "cpu"), parts[0]
    made = encoder.query("a red balloon")
    text = tokenizer("a red balloon", add_special_tokens=False)["input_ids"]
    mark = tokenizer.convert_tokens_to_ids("[Q] ")
    assert mark != tokenizer.unk_token_id
    ids = [tokenizer.cls_token_id, mark, *text, tokenizer.sep_token_id]
    n = len(ids)
    ids += [tokenizer.mask_token_id] * (12 - n)
    wanted = by_hand(parts, ids, [1] * n + [0] * (12 - n))
    np.testing.assert_allclose(made.vectors["text"], wanted, atol=1e-5)
    assert made.texts == ("[more]", "[more]", "a", "red", "balloon", *["[more]"] * 7)
    assert made.word.tolist() == [3, 3, 0, 1, 2, *[3] * 7]
    assert encoder.dim == 16
    long = encoder.query("a red balloon floats over the old harbour while people wait")
    assert len(long.texts) == 12
    assert long.n_dropped == 11 - 9
    with pytest.raises(UsageError, match="empty"):
        encoder.query(" ")


def test_a_document_skips_punctuation(folder: Path, parts: tuple[Any, Any, Any]) -> None:
    encoder, tokenizer = ColbertEncoder(str(folder), "cpu"), parts[0]
    segments = (Segment("the old harbour,"), Segment("no smoking."))
    made = encoder.texts({Modality.OCR: segments, Modality.SPEECH: ()})
    assert set(made) == {Modality.OCR}
    tokens = made[Modality.OCR]
    text = tokenizer("the old harbour,\nno smoking.", add_special_tokens=False)["input_ids"]
    mark = tokenizer.convert_tokens_to_ids("[D] ")
    ids = [tokenizer.cls_token_id, mark, *text, tokenizer.sep_token_id]
    skipped = {tokenizer.convert_tokens_to_ids(t) for t in (",", ".")}
    keep = [i for i, token in enumerate(ids) if token not in skipped]
    assert len(keep) == len(ids) - 2
    np.testing.assert_allclose(tokens.vectors, by_hand(parts, ids, [1] * len(ids))[keep], atol=1e-5)
    said = [
        segments[s].text[a:b]
        for s, a, b in zip(tokens.segment, tokens.char_start, tokens.char_end, strict=True)
    ]
    assert [word for word in said if word] == ["the", "old", "harbour", "no", "smoking"]


def test_a_long_document_goes_on_in_further_contexts(folder: Path) -> None:
    encoder = ColbertEncoder(str(folder), "cpu")
    text = " ".join(["the old harbour while people wait"] * 5)
    tokens = encoder.texts({Modality.SPEECH: (Segment(text),)})[Modality.SPEECH]
    said = [text[a:b] for a, b in zip(tokens.char_start, tokens.char_end, strict=True)]
    assert [word for word in said if word] == text.split()
    assert len(tokens.vectors) == 30 + 3 * 3  # three contexts of thirteen words and three marks


def test_queries_need_not_be_filled(tmp_path: Path) -> None:
    folder = tiny.write_colbert(tmp_path, do_query_expansion=False)
    assert len(ColbertEncoder(str(folder), "cpu").query("a red balloon").texts) == 6


def test_what_is_no_such_model_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"modules\.json is missing"):
        read_layout(tmp_path)
    other = tiny.write_colbert(tmp_path / "pooled")
    modules = json.loads((other / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Pooling", "type": "x.models.Pooling"})
    tiny.write_json(other / "modules.json", modules)
    with pytest.raises(WeightsError, match="Pooling"):
        read_layout(other)
    odd = tiny.write_colbert(tmp_path / "tanh")
    config = json.loads((odd / "1_Dense" / "config.json").read_text())
    config["activation_function"] = "torch.nn.modules.activation.Tanh"
    tiny.write_json(odd / "1_Dense" / "config.json", config)
    with pytest.raises(WeightsError, match="Tanh"):
        ColbertEncoder(str(odd), "cpu").query("a")
