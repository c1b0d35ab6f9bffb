"""What CLaMR reads: golden sequences, modality spans, positions and caps, against hand-built ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmretrieve.errors import MediaError, UsageError, WeightsError
from mmretrieve.models.dialects import DIALECTS, Backbone
from mmretrieve.models.pictures import (
    MIN_PIXELS,
    PatchShape,
    fitted,
    patches,
    read_picture,
    shrunk,
    spread,
)
from mmretrieve.models.protocol import Document
from mmretrieve.models.turns import AUDIO, FRAMES, METADATA, OCR, SPEECH, Limits, TurnBuilder
from tests import tiny_models as tiny

PACE = {Backbone.QWEN_VL: 2.0, Backbone.QWEN_OMNI: 25.0}
MAX_PIXELS = 224 * 224


def builder(kind: Backbone = Backbone.QWEN_VL, limits: Limits | None = None) -> TurnBuilder:
    return TurnBuilder(
        tiny.tokenizer(kind), DIALECTS[kind], PatchShape(), PACE[kind], limits, n_mels=16
    )


def read_whole(kind: Backbone, text: str) -> list[int]:
    """A chat as one string, its marks read as marks: how the original processors do it."""
    ids: list[int] = tiny.tokenizer(kind).encode(text, add_special_tokens=False).ids
    return ids


DOCUMENT = Document(
    frames=[tiny.picture(1), tiny.picture(2), tiny.picture(3)],  # 60 x 90: 2 x 3 tokens
    speech="the old harbour",
    ocr="no smoking",
    metadata="opening hours",
)
VL_TURN = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "<|vision_start|>{frames}<|vision_end|> OCR: no smoking ASR: the old harbour"
    " Description: opening hours<|im_end|>\n"
)


def test_a_document_is_the_chat_turn_of_all_its_modalities() -> None:
    turn = builder().document(DOCUMENT)
    wanted = read_whole(Backbone.QWEN_VL, VL_TURN.format(frames="<|video_pad|>" * 12))
    assert turn.ids.tolist() == wanted


def test_modalities_go_by_span_and_scaffolding_has_none() -> None:
    made, turn = builder(), builder().document(DOCUMENT)
    start = turn.ids.tolist().index(made.mark("<|vision_start|>"))
    lengths = {
        FRAMES: 12,
        OCR: len(read_whole(Backbone.QWEN_VL, " OCR: no smoking")),
        SPEECH: len(read_whole(Backbone.QWEN_VL, " ASR: the old harbour")),
        METADATA: len(read_whole(Backbone.QWEN_VL, " Description: opening hours")),
    }
    wanted = [-1] * (start + 1) + [FRAMES] * 12 + [-1]
    for modality in (OCR, SPEECH, METADATA):
        wanted += [modality] * lengths[modality]
    wanted += [-1] * 2  # the end of the turn and the line
    assert turn.modality.tolist() == wanted


def test_positions_of_a_video_are_its_grid_and_text_goes_on_after_the_largest() -> None:
    made, turn = builder(), builder().document(DOCUMENT)
    start = turn.ids.tolist().index(made.mark("<|vision_start|>")) + 1
    before = np.arange(start)
    assert (turn.positions[:, :start] == before).all()
    # Two patches in time, a second a frame and two positions a second: four apart.
    assert turn.positions[0, start : start + 12].tolist() == [start] * 6 + [start + 4] * 6
    rows = [start, start, start, start + 1, start + 1, start + 1]
    assert turn.positions[1, start : start + 12].tolist() == rows * 2
    assert turn.positions[2, start : start + 12].tolist() == [start, start + 1, start + 2] * 4
    after = turn.positions[:, start + 12 :]
    assert (after == start + 5 + np.arange(after.shape[1])).all()


def test_a_text_without_frames_has_one_row_of_positions() -> None:
    turn = builder().document(Document(speech="people wait"))
    assert (turn.positions == np.arange(len(turn))).all()
    assert set(turn.modality.tolist()) == {-1, SPEECH}
    assert turn.patches is None


def test_spans_are_characters_of_the_text_without_its_prefix() -> None:
    text = "Ein Ballon über dem Hafen"
    turn = builder().document(Document(ocr=text))
    spans = turn.spans[turn.modality == OCR]
    assert (spans[:2] == 0).all()  # of the prefix
    mine = spans[spans[:, 1] > 0]
    assert sorted({i for a, b in mine.tolist() for i in range(a, b)}) == list(range(len(text)))
    assert not turn.spans[turn.modality == -1].any()


def test_marks_inside_a_text_are_text() -> None:
    made = builder()
    turn = made.document(Document(speech="<|im_end|><|video_pad|><|endoftext|> hello"))
    assert (turn.ids == made.mark("<|video_pad|>")).sum() == 0
    assert (turn.ids == made.mark("<|im_end|>")).sum() == 2  # of the two turns
    asked = made.query("<|endoftext|> what")
    assert (asked.ids == made.mark("<|endoftext|>")).sum() == 10


def test_a_query_is_prefix_text_and_augmentation() -> None:
    turn = builder().query("a red balloon")
    wanted = read_whole(Backbone.QWEN_VL, "Query: a red balloon" + "<|endoftext|>" * 10)
    assert turn.ids.tolist() == wanted
    assert (turn.modality == -1).all()
    assert (turn.positions == np.arange(len(turn))).all()


def test_a_long_query_keeps_its_augmentation() -> None:
    made = builder()
    turn = made.query("balloon " * 200)
    assert len(turn) == 64
    assert (turn.ids[-10:] == made.mark("<|endoftext|>")).all()
    assert made.n_query_tokens("balloon " * 200) > 64
    assert made.n_query_tokens("a red balloon") == len(made.query("a red balloon"))


def test_texts_are_cut_one_by_one_and_then_together() -> None:
    long = "the speaker explains " * 400
    whole = Document(speech=long, ocr=long, metadata=long)
    turn = builder().document(whole)
    assert [int((turn.modality == m).sum()) for m in (OCR, SPEECH, METADATA)] == [512] * 3
    tight = builder(limits=Limits(max_tokens=700)).document(whole)
    assert len(tight) == 700
    counts = [int((tight.modality == m).sum()) for m in (OCR, SPEECH, METADATA)]
    assert counts[0] == 512
    assert 0 < counts[1] < 512
    assert counts[2] == 0
    assert tight.ids[-2] == builder().mark("<|im_end|>")


def test_blank_texts_leave_nothing() -> None:
    turn = builder().document(Document(speech=" \n ", ocr="", metadata="x"))
    assert set(turn.modality.tolist()) == {-1, METADATA}


def test_a_lone_surrogate_is_read() -> None:
    assert len(builder().document(Document(speech="a\ud800b"))) > 2
    assert len(builder().query("a\ud800b")) > 10


def test_at_most_ten_frames_spread_over_the_video() -> None:
    turn = builder().document(Document(frames=[tiny.picture(i) for i in range(25)]))
    assert turn.kept_frames == (1, 3, 6, 8, 11, 13, 16, 18, 21, 23)
    assert turn.patches is not None
    assert turn.patches.grid == (5, 4, 6)


@pytest.mark.torch
def test_omni_hears() -> None:
    pytest.importorskip("transformers")
    kind = Backbone.QWEN_OMNI
    document = Document(frames=[tiny.picture(1)], ocr="no smoking", audio=tiny.tone(1.0))
    made, turn = builder(kind), builder(kind).document(document)
    wanted = (
        f"<|im_start|>system\n{DIALECTS[kind].system}<|im_end|>\n<|im_start|>user\nVideo: <|vision_bos|>"
        + "<|VIDEO|>" * 6
        + "<|vision_eos|>Audio: <|audio_bos|>"
        + "<|AUDIO|>" * 25  # a second
        + "<|audio_eos|> OCR: no smoking<|im_end|>\n"
    )
    assert turn.ids.tolist() == read_whole(kind, wanted)
    assert ((turn.modality == AUDIO) == (turn.ids == made.mark("<|AUDIO|>"))).all()
    assert turn.mel is not None
    assert turn.mel.shape == (16, 100)


def test_vl_does_not_hear() -> None:
    assert builder().document(Document(audio=tiny.tone(1.0))).mel is None


def test_a_foreign_tokenizer_is_told() -> None:
    with pytest.raises(WeightsError, match="no token"):
        TurnBuilder(
            tiny.tokenizer(Backbone.QWEN_VL),
            DIALECTS[Backbone.QWEN_OMNI],
            PatchShape(),
            25.0,
            n_mels=16,
        ).document(Document(frames=[tiny.picture(0)]))


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_sizes_are_whole_tokens_within_bounds_and_stay(height: int, width: int) -> None:
    rows, columns = fitted(height, width, PatchShape(), MAX_PIXELS)
    assert rows % 28 == columns % 28 == 0
    assert MIN_PIXELS <= rows * columns <= MAX_PIXELS
    assert fitted(rows, columns, PatchShape(), MAX_PIXELS) == (rows, columns)


def test_usual_sizes() -> None:
    shape = PatchShape()
    assert fitted(1080, 1920, shape, MAX_PIXELS) == (168, 280)
    assert fitted(224, 224, shape, MAX_PIXELS) == (224, 224)
    assert fitted(60, 90, shape, MAX_PIXELS) == (56, 84)
    small = shrunk(tiny.picture(0, 400, 600), shape, MAX_PIXELS)
    assert small.shape == (168, 252, 3)
    assert shrunk(small, shape, MAX_PIXELS) is small


def test_patches_are_cut_token_by_token() -> None:
    shape = PatchShape(side=2, merge=2, temporal=2, mean=(0, 0, 0), std=(1 / 255,) * 3)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (56, 56, 3), dtype=np.uint8) for _ in range(3)]
    made = patches(frames, shape, MAX_PIXELS)
    assert made.grid == (2, 28, 28)
    assert made.values.shape == (2 * 28 * 28, 3 * 2 * 2 * 2)
    stacked = [*frames, frames[-1]]
    row = 0
    for t in range(2):
        for token_y in range(14):
            for token_x in range(14):
                for patch_y in range(2):
                    for patch_x in range(2):
                        y, x = token_y * 4 + patch_y * 2, token_x * 4 + patch_x * 2
                        wanted = [
                            stacked[2 * t + f][y + dy, x + dx, c]
                            for c in range(3)
                            for f in range(2)
                            for dy in range(2)
                            for dx in range(2)
                        ]
                        np.testing.assert_allclose(made.values[row], wanted, rtol=1e-5, atol=1e-4)
                        row += 1


def test_pictures_from_files_and_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(tiny.picture(5)).save(path)
    assert (read_picture(path) == tiny.picture(5)).all()
    assert (read_picture(str(path)) == tiny.picture(5)).all()
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"b\.png"):
        read_picture(tmp_path / "b.png")
    with pytest.raises(UsageError, match="uint8"):
        read_picture(np.zeros((4, 4, 3), np.float32))


def test_spread() -> None:
    assert spread(3, 10) == [0, 1, 2]
    assert spread(10, 10) == list(range(10))
    assert spread(4, 2) == [1, 3]
