"""How the two backbones write a chat: marks, system turn, and the pace of time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Backbone(StrEnum):
    """What CLaMR is built on."""

    QWEN_VL = "qwen2.5-vl"
    QWEN_OMNI = "qwen2.5-omni"


@dataclass(frozen=True, slots=True)
class Dialect:
    """The marks of a backbone's tokenizer.

    ``system``: what stands in the system turn; ``frames_lead``/``audio_lead``: words before a block,
    which belong to the scaffolding; ``seconds_per_patch``: the time that a patch of two frames
    stands for, fixed in training whatever the real times are; ``audio_*`` are empty without a tower.
    """

    system: str
    frames_lead: str
    frames_open: str
    frames_pad: str
    frames_close: str
    seconds_per_patch: float
    audio_lead: str = ""
    audio_open: str = ""
    audio_pad: str = ""
    audio_close: str = ""
    turn_open: str = "<|im_start|>"
    turn_close: str = "<|im_end|>"
    augmentation: str = "<|endoftext|>"


DIALECTS: dict[Backbone, Dialect] = {
    Backbone.QWEN_VL: Dialect(
        system="You are a helpful assistant.",
        frames_lead="",
        frames_open="<|vision_start|>",
        frames_pad="<|video_pad|>",
        frames_close="<|vision_end|>",
        seconds_per_patch=2.0,  # one frame a second
    ),
    Backbone.QWEN_OMNI: Dialect(
        system=(
            "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of "
            "perceiving auditory and visual inputs, as well as generating text and speech."
        ),
        frames_lead="Video: ",
        frames_open="<|vision_bos|>",
        frames_pad="<|VIDEO|>",
        frames_close="<|vision_eos|>",
        seconds_per_patch=1.0,  # two frames a second
        audio_lead="Audio: ",
        audio_open="<|audio_bos|>",
        audio_pad="<|AUDIO|>",
        audio_close="<|audio_eos|>",
    ),
}
