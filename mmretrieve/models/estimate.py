"""Memory and time of a CLaMR model, computed from its architecture::

    python -m mmretrieve.models.estimate --backbone qwen2.5-vl-3b

Parameters and token counts are exact; seconds are estimates: floating-point operations over what a GPU
is said to do at best, times a share (:data:`UTILISATION`) that such models commonly reach. Needs
neither torch nor weights.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from mmretrieve.models.dialects import Backbone
from mmretrieve.models.pictures import PatchShape, fitted
from mmretrieve.models.turns import Limits

UTILISATION = 0.35
N_SCAFFOLDING = 25
"""Tokens of the chat around a document (more by some twenty for Omni's long system turn)."""
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Language:
    """A decoder with grouped key-value heads."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    tied: bool

    @property
    def kv_width(self) -> int:
        return self.width // self.heads * self.kv_heads

    @property
    def n_layers_parameters(self) -> int:
        """Of the layers and the last norm: what every token goes through."""
        d, kv = self.width, self.kv_width
        attention = d * d + d + 2 * (d * kv + kv) + d * d
        return self.layers * (attention + 3 * d * self.inner + 2 * d) + d

    @property
    def n_embedding_parameters(self) -> int:
        """Of the words, and of the head that predicts them unless that is the same."""
        return self.vocabulary * self.width * (1 if self.tied else 2)


@dataclass(frozen=True, slots=True)
class Vision:
    """Qwen2.5's vision tower. ``out``: the width of the language model."""

    out: int
    width: int = 1280
    layers: int = 32
    inner: int = 3420
    shape: PatchShape = field(default_factory=PatchShape)

    @property
    def n_parameters(self) -> int:
        d, merged = self.width, self.width * self.shape.merge**2
        patch = 3 * self.shape.temporal * self.shape.side**2 * d
        block = 3 * d * d + 3 * d + d * d + d + 3 * d * self.inner + 2 * self.inner + d + 2 * d
        merger = d + merged * merged + merged + merged * self.out + self.out
        return patch + self.layers * block + merger


@dataclass(frozen=True, slots=True)
class Audio:
    """Qwen2.5-Omni's audio tower: Whisper's encoder and a projection."""

    out: int
    width: int = 1280
    layers: int = 32
    inner: int = 5120
    n_mels: int = 128

    @property
    def n_parameters(self) -> int:
        d = self.width
        convolutions = 3 * self.n_mels * d + d + 3 * d * d + d
        block = 4 * d * d + 3 * d + 2 * d * self.inner + self.inner + d + 4 * d
        ends = 2 * d + d * self.out + self.out + 2 * self.out
        return convolutions + self.layers * block + ends


@dataclass(frozen=True, slots=True)
class Architecture:
    """A backbone and its projection to tokens."""

    kind: Backbone
    language: Language
    vision: Vision
    audio: Audio | None = None
    dim: int = 128

    @property
    def n_parameters(self) -> int:
        parts = self.language.n_layers_parameters + self.language.n_embedding_parameters
        audio = self.audio.n_parameters if self.audio is not None else 0
        return parts + self.vision.n_parameters + audio + self.n_projection_parameters

    @property
    def n_projection_parameters(self) -> int:
        return self.language.width * self.dim + self.dim

    def n_lora_parameters(self, r: int = 128) -> int:
        """Of an adapter on all projections of the language model and the one to tokens."""
        m = self.language
        sizes = [(m.width, m.width)] * 2 + [(m.width, m.kv_width)] * 2
        sizes += [(m.width, m.inner)] * 3
        return r * (m.layers * sum(a + b for a, b in sizes) + m.width + self.dim)


_SMALL = Language(2048, 36, 16, 2, 11008, 151936, tied=True)
_LARGE = Language(3584, 28, 28, 4, 18944, 152064, tied=False)

ARCHITECTURES: dict[str, Architecture] = {
    "qwen2.5-vl-3b": Architecture(Backbone.QWEN_VL, _SMALL, Vision(2048)),
    "qwen2.5-vl-7b": Architecture(Backbone.QWEN_VL, _LARGE, Vision(3584)),
    "qwen2.5-omni-3b": Architecture(
        Backbone.QWEN_OMNI,
        Language(2048, 36, 16, 2, 11008, 151936, tied=False),
        Vision(2048),
        Audio(2048),
    ),
    "qwen2.5-omni-7b": Architecture(Backbone.QWEN_OMNI, _LARGE, Vision(3584), Audio(3584)),
}

GPUS: dict[str, float] = {"T4": 65, "L4": 121, "RTX 4090": 165, "A100": 312, "H100": 989}
"""Half-precision TFLOP/s without sparsity, as their makers state them."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one turn holds."""

    n_frames: int
    n_text_tokens: int
    audio_s: float = 0.0
    height: int = 1080
    width: int = 1920

    def n_patches(self, shape: PatchShape, limits: Limits) -> int:
        """Patches of the vision tower; frames share them two by two."""
        rows, columns = fitted(self.height, self.width, shape, limits.max_pixels)
        pairs = math.ceil(min(self.n_frames, limits.max_frames) / shape.temporal)
        return pairs * (rows // shape.side) * (columns // shape.side)

    def n_tokens(self, shape: PatchShape, limits: Limits) -> int:
        """Of the sequence that the language model reads."""
        seen = self.n_patches(shape, limits) // shape.merge**2
        return seen + self.n_text_tokens + round(25 * self.audio_s) + N_SCAFFOLDING


PASSAGE = Load(n_frames=5, n_text_tokens=150)
"""A passage of twenty seconds: a keyframe every four, fifty spoken words, some lines on screen."""
LONGEST = Load(n_frames=10, n_text_tokens=1536)
"""A document at all its caps, as in training."""
PASSAGES_AN_HOUR = 181
"""One each twenty seconds, and one of the metadata."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one turn. ``flops``: of one forward run; ``bytes_stored``: of its tokens in float16."""

    n_tokens: int
    n_kept: int
    flops: float
    bytes_stored: int

    def seconds(self, tflops: float) -> float:
        """On a GPU with so many TFLOP/s at best."""
        return self.flops / (tflops * 1e12 * UTILISATION)


def estimate(model: Architecture, load: Load, limits: Limits | None = None) -> Estimate:
    """Operations of a forward run: two for each parameter and token, and attention's products."""
    chosen, shape = limits or Limits(), model.vision.shape
    n, patches = load.n_tokens(shape, chosen), load.n_patches(shape, chosen)
    m = model.language
    language = 2 * m.n_layers_parameters * n + 4 * m.layers * m.width * n * n / 2  # causal
    window = (112 // shape.side) ** 2
    vision = 2 * model.vision.n_parameters * patches
    vision += 4 * model.vision.layers * model.vision.width * patches * window
    audio = 0.0
    if model.audio is not None and load.audio_s:
        frames = 50 * load.audio_s  # after the first halving
        audio = 2 * model.audio.n_parameters * frames
    kept = n - N_SCAFFOLDING
    return Estimate(n, kept, language + vision + audio, kept * model.dim * 2)


def weights_bytes(model: Architecture, precision: str) -> float:
    """Of the weights alone. In four bits the linear layers take 4.13 bits a parameter with their
    scales, embeddings stay in bfloat16."""
    if precision == "nf4":
        embeddings = model.language.n_embedding_parameters
        return 2 * embeddings + (model.n_parameters - embeddings) * 4.13 / 8
    return model.n_parameters * {"bfloat16": 2, "float32": 4}[precision]


def working_bytes(
    model: Architecture, load: Load, batch: int = 4, precision: str = "bfloat16"
) -> float:
    """Of a forward run: a layer's inner states of all tokens of a batch, a few times over."""
    n = estimate(model, load).n_tokens * batch
    numbers = n * (3 * model.language.inner + 8 * model.language.width)
    return numbers * (4 if precision == "float32" else 2)


def training_bytes(model: Architecture, batch: int = 8, r: int = 128) -> float:
    """LoRA on a four-bit base with gradient checkpoints: the base; adapter and gradients in float32
    and two bytes of optimizer state; a state a layer and token; one layer in full."""
    n = estimate(model, LONGEST).n_tokens * batch
    adapter = model.n_lora_parameters(r) * (4 + 4 + 2)
    checkpoints = model.language.layers * n * model.language.width * 2
    return (
        weights_bytes(model, "nf4")
        + adapter
        + checkpoints
        + 3 * working_bytes(model, LONGEST, batch)
    )


def training_seconds(model: Architecture, n_rows: int, tflops: float) -> float:
    """One pass: forward, forward again for the checkpoints, and backward through the layers (the
    weights of the base take no gradients), which costs another forward run."""
    return n_rows * 3 * estimate(model, LONGEST).seconds(tflops)


def report(name: str) -> str:
    """All of it as Markdown."""
    model = ARCHITECTURES[name]
    load = PASSAGE if model.audio is None else Load(5, 150, audio_s=20.0)
    one, longest = estimate(model, load), estimate(model, LONGEST)
    lines = [
        f"### {name} (estimates, computed from the architecture)",
        "",
        f"{model.n_parameters / 1e9:.2f} billion parameters, {model.n_lora_parameters() / 1e6:.0f} "
        "million in an adapter of rank 128.",
        "",
        "| | float32 | bfloat16 | nf4 |",
        "|---|---|---|---|",
        "| weights, GiB | "
        + " | ".join(f"{weights_bytes(model, p) / GIB:.1f}" for p in _PRECISIONS)
        + " |",
        "| and 4 longest documents at once, GiB | "
        + " | ".join(
            f"{(weights_bytes(model, p) + working_bytes(model, LONGEST, 4, p)) / GIB:.1f}"
            for p in _PRECISIONS
        )
        + " |",
        "",
        f"A passage of 20 s has {one.n_kept} tokens ({one.bytes_stored / 1024:.0f} KiB), an hour of "
        f"video {PASSAGES_AN_HOUR * one.bytes_stored / 2**20:.0f} MiB; a document at all caps "
        f"{longest.n_kept} tokens. LoRA training, 8 such documents on one GPU: "
        f"{training_bytes(model) / GIB:.0f} GiB.",
        "",
        "| GPU | passage, s | an hour of video, s | 1,000 training rows, min |",
        "|---|---|---|---|",
    ]
    for gpu, tflops in GPUS.items():
        seconds = one.seconds(tflops)
        minutes = training_seconds(model, 1000, tflops) / 60
        lines.append(
            f"| {gpu} | {seconds:.3f} | {seconds * PASSAGES_AN_HOUR:.0f} | {minutes:.1f} |"
        )
    return "\n".join([*lines, ""])


_PRECISIONS = ("float32", "bfloat16", "nf4")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report of one backbone, or of all."""
    parser = argparse.ArgumentParser(description="Memory and time of CLaMR, from its architecture.")
    parser.add_argument("--backbone", choices=[*ARCHITECTURES, "all"], default="all")
    chosen = parser.parse_args(arguments).backbone
    names = list(ARCHITECTURES) if chosen == "all" else [chosen]
    sys.stdout.write("\n".join(report(name) for name in names))


if __name__ == "__main__":
    main()
