"""Sound to log-mel frames, as Qwen2.5-Omni's audio tower takes them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.errors import UsageError

RATE_HZ = 16_000
HOP = 160
WINDOW = 400
TOKENS_A_SECOND = 25
"""What the tower makes: a token stands for four mel frames."""
_FEWEST_FRAMES = 4
"""Fewer mel frames than that leave no token."""


def mel_frames(samples: NDArray[np.float32], n_mels: int = 128) -> NDArray[np.float32] | None:
    """``(n_mels, ceil(n_samples / 160))`` float32; None for less than a token's worth of sound.

    Silence follows the sound, as it does where every sound is filled up to a fixed length: the last
    frames would see it mirrored otherwise.

    Raises:
        UsageError: not one row of floats.
    """
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise UsageError(
            f"audio of shape {samples.shape} and type {samples.dtype}: expected (n,) float32, mono, "
            f"{RATE_HZ} Hz"
        )
    n_frames = -(-len(samples) // HOP)
    if n_frames < _FEWEST_FRAMES:
        return None
    followed = np.concatenate([samples, np.zeros(WINDOW + HOP, np.float32)])
    made = _extractor(n_mels)(
        followed, sampling_rate=RATE_HZ, padding="do_not_pad", truncation=False, return_tensors="np"
    )
    frames: NDArray[np.float32] = made["input_features"][0][:, :n_frames]
    return frames


def n_audio_tokens(n_frames: int) -> int:
    """Tokens that the tower makes of so many mel frames: a convolution and a pooling halve them."""
    return ((n_frames - 1) // 2 + 1 - 2) // 2 + 1


@cache
def _extractor(n_mels: int) -> Any:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=n_mels)
