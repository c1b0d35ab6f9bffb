"""CLaMR (Wan et al. 2025, arXiv 2506.06144): one backbone reads all modalities in one turn; a linear
layer makes a unit vector of each of its last hidden states. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmretrieve.models.dialects import Backbone
from mmretrieve.models.protocol import NO_MODALITY, Document, TokenBatch
from mmretrieve.models.turns import Turn, TurnBuilder

DIM = 128


class Clamr(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """``backbone``: a ``Qwen2_5_VLForConditionalGeneration`` or a
    ``Qwen2_5OmniThinkerForConditionalGeneration``; ``turns`` makes its sequences."""

    def __init__(
        self, kind: Backbone, backbone: nn.Module, turns: TurnBuilder, dim: int = DIM
    ) -> None:
        """The projection starts at random, in the backbone's type and on its device."""
        super().__init__()
        self.kind = kind
        self.turns = turns
        self.backbone = backbone
        width = backbone.config.get_text_config().hidden_size
        like = backbone.get_input_embeddings().weight
        self.custom_text_proj = nn.Linear(width, dim, device=like.device, dtype=like.dtype)

    @property
    def dim(self) -> int:
        """Width of a token."""
        return int(self.custom_text_proj.out_features)

    @property
    def device(self) -> torch.device:
        """Where the words are looked up, and sequences have to be."""
        return self.backbone.get_input_embeddings().weight.device

    def encode_queries(self, texts: Sequence[str]) -> TokenBatch:
        """``(n_texts, t, dim)`` float32; no token carries a modality."""
        return self.forward([self.turns.query(text) for text in texts])

    def encode_documents(self, documents: Sequence[Document]) -> TokenBatch:
        """``(n_documents, t, dim)`` float32, in one run; see
        :func:`mmretrieve.models.batching.in_batches` for many."""
        return self.forward([self.turns.document(document) for document in documents])

    def forward(self, turns: Sequence[Turn]) -> TokenBatch:
        """Sequences filled up on the left to the longest, and their tokens.

        Positions are given, not left to the backbone: they are those the weights were trained with,
        whatever a sequence is batched with and however a version of transformers counts.
        """
        ids, mask, modality, positions = (t.to(self.device) for t in _padded(turns, self._pad))
        output = self.backbone.model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions,
            use_cache=False,
            **self._seen(turns),
            **self._heard(turns),
        )
        hidden = output.last_hidden_state.masked_fill(~mask[..., None], 0)
        projected = self.custom_text_proj(hidden.to(_dtype_of(self.custom_text_proj))).float()
        vectors = nn.functional.normalize(projected, dim=-1).masked_fill(~mask[..., None], 0)
        return TokenBatch(vectors, mask, modality)

    @property
    def _pad(self) -> int:
        return self.turns.mark(self.turns.dialect.augmentation)

    def _seen(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        found = [turn.patches for turn in turns if turn.patches is not None]
        if not found:
            return {}
        return {
            "pixel_values_videos": torch.cat([torch.from_numpy(p.values) for p in found]).to(
                self.device
            ),
            "video_grid_thw": torch.tensor([p.grid for p in found], device=self.device),
        }

    def _heard(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        found = [torch.from_numpy(turn.mel) for turn in turns if turn.mel is not None]
        if not found:
            return {}
        lengths = torch.tensor([mel.shape[1] for mel in found])
        longest = int(lengths.max())
        frames = [nn.functional.pad(mel, (0, longest - mel.shape[1])) for mel in found]
        return {
            "input_features": torch.stack(frames).to(self.device),
            "feature_attention_mask": (torch.arange(longest) < lengths[:, None])
            .long()
            .to(self.device),
        }


def _padded(turns: Sequence[Turn], pad: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids, mask and modality ``(n, t)``, positions ``(3, n, t)``; what is real lies on the right."""
    n, longest = len(turns), max(len(turn) for turn in turns)
    ids = torch.full((n, longest), pad, dtype=torch.long)
    mask = torch.zeros((n, longest), dtype=torch.bool)
    modality = torch.full((n, longest), NO_MODALITY, dtype=torch.long)
    positions = torch.zeros((3, n, longest), dtype=torch.long)
    for row, turn in enumerate(turns):
        start = longest - len(turn)
        ids[row, start:] = torch.from_numpy(turn.ids)
        mask[row, start:] = True
        modality[row, start:] = torch.from_numpy(turn.modality)
        positions[:, row, start:] = torch.from_numpy(turn.positions)
    return ids, mask, modality, positions


def _dtype_of(layer: nn.Module) -> torch.dtype:
    return next(layer.parameters()).dtype
