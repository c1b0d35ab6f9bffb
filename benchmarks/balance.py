"""``balance``: losses and balance options of training, on captions and recognised speech.

The model is the smallest that the trainer takes: frozen tokens of the shipped text encoder, and for
queries and each modality one square matrix that starts as the identity. Two thirds of the videos are
learnt from, the last third is measured with. Two kinds of queries compete: sentences of another
annotator, which aim at the captions, and, a quarter as many, distinctive phrases of the speech.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.result import Result
from benchmarks.text_data import Collection, activitynet
from benchmarks.text_tokens import DIM, Reading, TokenCache
from mmretrieve.datatypes import Modality
from mmretrieve.documents import text_document
from mmretrieve.experiments.synthesis.keyphrases import Keyphrases
from mmretrieve.experiments.synthesis.material import Content
from mmretrieve.models.protocol import MODALITIES, NO_MODALITY, Document, TokenBatch
from mmretrieve.training.clamr.rows import Example
from mmretrieve.training.clamr.settings import (
    BalanceSettings,
    Loss,
    Mode,
    OptimiserSettings,
    TrainSettings,
)
from mmretrieve.training.clamr.trainer import Material, Trainer
from mmretrieve.training.clamr.validation import Validation

Array = NDArray[np.float32]
Tokens = Mapping[tuple[str, str], Array]
"""(kind, text) -> ``(n_tokens, DIM)``; the kind is a modality, or ``query``."""

_QUERY = "query"
_KINDS = {"ocr": Modality.OCR, "asr": Modality.SPEECH}
_MOST_TOKENS = 96
"""Of one modality of one document: what is later is left out, to fit the time of two cores."""

_BASE = TrainSettings(
    mode=Mode.HEAD,
    temperature=0.05,
    checkpoint_every=0,
    log_every=1_000_000,
    optimiser=OptimiserSettings(learning_rate=1e-3, epochs=2, batch_size=32),
)
ARMS: Mapping[str, TrainSettings] = {
    "hard_negative": _BASE,
    "contrastive": replace(_BASE, loss=Loss.CONTRASTIVE),
    "hard_positive": replace(_BASE, loss=Loss.HARD_POSITIVE),
    "pairwise": replace(_BASE, loss=Loss.PAIRWISE),
    "contrastive, AGM 0.5": replace(
        _BASE, loss=Loss.CONTRASTIVE, balance=BalanceSettings(gradient_modulation=0.5)
    ),
    "contrastive, dropout 0.3": replace(
        _BASE, loss=Loss.CONTRASTIVE, balance=BalanceSettings(modality_dropout=0.3)
    ),
    "contrastive, competition 0.3": replace(
        _BASE, loss=Loss.CONTRASTIVE, balance=BalanceSettings(competition=0.3)
    ),
    "hard_negative, AGM 0.5": replace(_BASE, balance=BalanceSettings(gradient_modulation=0.5)),
    "hard_negative, dropout 0.3": replace(_BASE, balance=BalanceSettings(modality_dropout=0.3)),
    "hard_negative, competition 0.3": replace(_BASE, balance=BalanceSettings(competition=0.3)),
}


class MatrixModel(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """One matrix for queries and one for each modality over frozen tokens."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self._tokens = tokens
        kinds = (_QUERY, *(m.value for m in _KINDS.values()))
        self.custom_text_proj = nn.ModuleDict({k: nn.Linear(DIM, DIM, bias=False) for k in kinds})
        with torch.no_grad():
            for layer in self.custom_text_proj.values():
                layer.weight.copy_(torch.eye(DIM))

    def encode_queries(self, texts: Sequence[str]) -> TokenBatch:
        """Tokens of known texts."""
        return self._batch([[(_QUERY, text)] for text in texts])

    def encode_documents(self, documents: Sequence[Document]) -> TokenBatch:
        """Tokens of the text modalities of known documents."""
        names = [m.value for m in _KINDS.values()]
        return self._batch(
            [[(n, text) for n in names if (text := getattr(d, n))] for d in documents]
        )

    def _batch(self, rows: Sequence[Sequence[tuple[str, str]]]) -> TokenBatch:
        parts = [[(kind, self._tokens[kind, text]) for kind, text in row] for row in rows]
        length = max(1, *(sum(len(t) for _, t in row) for row in parts))
        given = torch.zeros(len(rows), length, DIM)
        modality = torch.full((len(rows), length), NO_MODALITY)
        which = torch.full((len(rows), length), -1)
        kinds = list(self.custom_text_proj)
        for i, row in enumerate(parts):
            start = 0
            for kind, tokens in row:
                end = start + len(tokens)
                given[i, start:end] = torch.from_numpy(tokens)
                which[i, start:end] = kinds.index(kind)
                if kind != _QUERY:
                    modality[i, start:end] = MODALITIES.index(kind)
                start = end
        vectors = torch.zeros_like(given)
        for place, layer in enumerate(self.custom_text_proj.values()):
            own = (which == place)[..., None]
            if bool(own.any()):
                vectors = torch.where(own, layer(given), vectors)
        mask = which >= 0
        unit = nn.functional.normalize(vectors, dim=-1).masked_fill(~mask[..., None], 0)
        return TokenBatch(unit, mask, modality)


@dataclass(frozen=True, slots=True)
class Task:
    """Rows to learn from and to measure with, and the tokens of all their texts."""

    training: tuple[Example, ...]
    testing: tuple[Example, ...]
    tokens: Tokens


def run(data: Path, cache_folder: Path, only: Sequence[str], seeds: int) -> None:
    """Train every arm ``seeds`` times, and print what became of it."""
    result = Result("balance")
    task = make_task(activitynet(data), TokenCache(cache_folder))
    aimed = {k: sum(e.query_type == k for e in task.training) for k in _KINDS}
    result.note(
        f"{len(task.training):,} rows to learn from ({aimed['ocr']:,} aim at captions, {aimed['asr']:,} "
        f"at speech), {len(task.testing):,} to measure with, of other videos."
    )
    rows: list[tuple[Any, ...]] = []
    for name, settings in ARMS.items():
        if only and name not in only:
            continue
        found = [_train(task, replace(settings, seed=seed)) for seed in range(seeds)]
        if not rows:
            rows.append(("untrained", *_shown([before for before, _ in found])))
        rows.append((name, *_shown([after for _, after in found])))
        print(rows[-1], flush=True)
    columns = (
        "arm",
        "nDCG@10",
        "captions",
        "speech",
        "R@1",
        "modality accuracy",
        "macro F1",
        "won by speech",
    )
    result.add(f"token_max on unseen videos, mean of {seeds} seeds (range)", columns, rows)
    result.save()


def make_task(collection: Collection, cache: TokenCache) -> Task:
    """The collection in two parts, with phrases of the speech as further queries."""
    documents = [
        text_document(
            i, ocr=" ".join(d[Modality.OCR].split()), speech=" ".join(d[Modality.SPEECH].split())
        )
        for i, d in zip(collection.ids, collection.documents, strict=True)
    ]
    stored = cache.documents(collection.name, collection.documents, Reading.SHIPPED)
    tokens: dict[tuple[str, str], Array] = {}
    library: list[Content] = []
    for document, made in zip(documents, stored, strict=True):
        for modality in _KINDS.values():
            text = "".join(segment.text for segment in document.segments.get(modality, ()))
            tokens[modality.value, text] = made[modality][:_MOST_TOKENS]
            library.append(Content(document.doc_id, modality, (text,)))
    phrases = Keyphrases(library)
    queries = [
        (q, min(r), "ocr") for q, r in zip(collection.queries, collection.relevant, strict=True)
    ]
    for content in library:
        made_of = phrases.query(content) if content.modality is Modality.SPEECH else None
        if made_of is not None:
            queries.append((made_of, content.video_id, "asr"))
    texts = [query for query, _, _ in queries]
    encoded = cache.queries(f"{collection.name}-balance", texts)
    tokens |= {(_QUERY, text): array for text, array in zip(texts, encoded, strict=True)}
    videos = {document.doc_id: document for document in documents}
    measured = set(sorted(videos)[::3])
    rows = [
        Example(
            f"{kind}-{n}",
            query,
            kind,
            MODALITIES.index(_KINDS[kind].value),
            videos[i],
            f"query {n}",
        )
        for n, (query, i, kind) in enumerate(queries)
    ]
    first = tuple(e for e in rows if e.video_id not in measured)
    second = tuple(e for e in rows if e.video_id in measured)
    return Task(first, second, tokens)


def _train(task: Task, settings: TrainSettings) -> tuple[Validation, Validation]:
    with tempfile.TemporaryDirectory() as folder:
        model = MatrixModel(task.tokens)
        material = Material(task.training, task.testing)
        outcome = Trainer(model, material, settings, Path(folder) / "run", cpu=True).run()
    assert outcome.before is not None
    assert outcome.after is not None
    return outcome.before, outcome.after


def _shown(found: Sequence[Validation]) -> list[str]:
    columns = [
        [v.value("nDCG@10") for v in found],
        [v.value("nDCG@10", "ocr") for v in found],
        [v.value("nDCG@10", "asr") for v in found],
        [v.value("R@1") for v in found],
        [v.modality.accuracy for v in found],
        [v.modality.f1 for v in found],
        [v.modality.distribution[Modality.SPEECH] for v in found],
    ]
    return [
        f"{np.mean(c):.3f}" + (f" ({min(c):.3f}-{max(c):.3f})" if max(c) > min(c) else "")
        for c in columns
    ]
