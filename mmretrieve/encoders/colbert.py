"""Text tokens by a ColBERT-type model in the layout of PyLate and sentence-transformers.

``modules.json`` names a transformer and the dense layers after it; ``config_sentence_transformers.json``
the marks that stand before queries and documents, their lengths, and whether queries are filled up
with mask tokens. A query is cut and filled to its length; a longer document goes on in further
contexts. Punctuation that the model was trained to skip is left out of documents.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmretrieve.datatypes import Modality, QueryTokens, Segment, TokenEmbeddings
from mmretrieve.encoders.spans import asked_text, joined, of_segments, query_words
from mmretrieve.errors import WeightsError
from mmretrieve.models.extras import device_of, quiet, require
from mmretrieve.models.folders import check_weights, fingerprints, read_json, resolve

SPACE = "text"
_MORE = "[more]"
_TEXTS = (Modality.OCR, Modality.SPEECH, Modality.METADATA)


@dataclass(frozen=True, slots=True)
class ColbertLayout:
    """What a model's folder says of it. ``transformer``: folder of the network and the tokenizer;
    ``dense``: folders of the layers after it, in order."""

    transformer: Path
    dense: tuple[Path, ...]
    query_prefix: str
    document_prefix: str
    query_length: int
    document_length: int
    expands: bool
    attends: bool
    skipped: frozenset[str]


def read_layout(folder: Path) -> ColbertLayout:
    """The layout of a folder.

    Raises:
        WeightsError: no ``modules.json``, or a module that is neither transformer nor dense layer.
    """
    import json

    path = folder / "modules.json"
    if not path.is_file():
        raise WeightsError(
            f"{path} is missing: expected a ColBERT-type model as PyLate saves it (modules.json, "
            "1_Dense/, config_sentence_transformers.json)"
        )
    modules = sorted(json.loads(path.read_text(encoding="utf-8")), key=lambda m: m["idx"])
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    if not kinds or kinds[0] != "Transformer" or set(kinds[1:]) - {"Dense", "Normalize"}:
        raise WeightsError(
            f"{path} has the modules {', '.join(kinds)}: expected a Transformer, then Dense layers"
        )
    places = [folder / module["path"] for module in modules]
    settings = read_json(folder / "config_sentence_transformers.json")
    return ColbertLayout(
        transformer=places[0],
        dense=tuple(p for p, kind in zip(places, kinds, strict=True) if kind == "Dense"),
        query_prefix=settings.get("query_prefix") or "",
        document_prefix=settings.get("document_prefix") or "",
        query_length=settings.get("query_length") or 32,
        document_length=settings.get("document_length") or 180,
        expands=bool(settings.get("do_query_expansion", True)),
        attends=bool(settings.get("attend_to_expansion_tokens", False)),
        skipped=frozenset(settings.get("skiplist_words") or ()),
    )


class ColbertEncoder:
    """The text side of a preset; see :class:`~mmretrieve.encoders.clip.TextTokens`."""

    def __init__(self, folder: str, device: str = "auto") -> None:
        """``folder``: of the model, or a hub id that was fetched before."""
        self._given = folder
        self._device = device
        self._lock = threading.Lock()
        self._loaded: _Network | None = None

    @property
    def dim(self) -> int:
        """Width of a token."""
        layout = self._layout
        if layout.dense:
            return int(read_json(layout.dense[-1] / "config.json")["out_features"])
        return int(read_json(layout.transformer / "config.json")["hidden_size"])

    def fingerprints(self) -> Mapping[str, str]:
        """sha256 of all that decides a token."""
        return self._fingerprints

    def query(self, text: str) -> QueryTokens:
        """All tokens of a query, marks and fillings included, as the model was trained.

        Raises:
            UsageError: nothing but blanks.
        """
        asked = asked_text(text)
        row = self._network.query(asked)
        pieces, words = query_words(asked, row.spans)
        words[words < 0] = words.max(initial=0) + 1
        texts = tuple(piece or _MORE for piece in pieces)
        return QueryTokens(text, {SPACE: row.vectors}, texts, words, row.n_cut)

    def texts(self, parts: Mapping[Modality, Sequence[Segment]]) -> dict[Modality, TokenEmbeddings]:
        """Each modality in contexts of its own: documents are what such a model is trained on."""
        out: dict[Modality, TokenEmbeddings] = {}
        for modality in _TEXTS:
            segments = parts.get(modality, ())
            if any(segment.text.strip() for segment in segments):
                row = self._network.document(joined(segments))
                out[modality] = of_segments(row.vectors, row.spans, segments)
        return out

    @cached_property
    def _layout(self) -> ColbertLayout:
        return read_layout(resolve(self._given))

    @cached_property
    def _fingerprints(self) -> Mapping[str, str]:
        return dict(fingerprints(resolve(self._given), "colbert"))

    @property
    def _network(self) -> _Network:
        with self._lock:
            if self._loaded is None:
                self._loaded = _Network(self._layout, device_of(self._device))
            return self._loaded


@dataclass(frozen=True, slots=True)
class _Row:
    """``vectors``: ``(n, dim)`` float32 of unit length; ``spans``: ``(n, 2)`` characters, both 0 for
    what is no text; ``n_cut``: tokens left out."""

    vectors: NDArray[np.float32]
    spans: NDArray[np.int64]
    n_cut: int = 0


class _Network:
    """A loaded model."""

    def __init__(self, layout: ColbertLayout, device: str) -> None:
        torch, transformers = require("torch", "colbert"), require("transformers", "colbert")
        self._torch, self._layout, self._device = torch, layout, device
        check_weights(layout.transformer)
        self._tokenizer = _tokenizer(layout.transformer)
        self._vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        self._first, self._last = _ends(self._tokenizer)
        self._mark = {prefix: self._prefix(prefix) for prefix in _prefixes(layout)}
        self._mask = self._vocabulary.get(_mask_token(layout.transformer))
        try:
            with quiet(transformers):
                self._model = transformers.AutoModel.from_pretrained(
                    str(layout.transformer), local_files_only=True, use_safetensors=True
                )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise WeightsError(
                f"{layout.transformer} cannot be loaded ({error}): fetch the model again"
            ) from error
        self._model = self._model.to(device).eval()
        self._dense = [_dense(torch, folder, device) for folder in layout.dense]
        self._skipped = frozenset(
            self._vocabulary[word] for word in layout.skipped if word in self._vocabulary
        )
        if layout.expands and self._mask is None:
            raise WeightsError(
                f"{layout.transformer} has no mask token to fill queries with: expected one in "
                "tokenizer_config.json"
            )

    def query(self, text: str) -> _Row:
        """Cut to the length of queries, and filled to it with mask tokens."""
        layout = self._layout
        ids, spans, n_cut = self._marked(text, layout.query_prefix, layout.query_length)
        attention = [1] * len(ids)
        if layout.expands:
            lacking = layout.query_length - len(ids)
            ids += [self._mask] * lacking
            spans += [(0, 0)] * lacking
            attention += [int(layout.attends)] * lacking
        return _Row(self._run(ids, attention), np.array(spans, np.int64), n_cut)

    def document(self, text: str) -> _Row:
        """In as many contexts as it takes; without what the model skips."""
        layout = self._layout
        vectors, spans, rest, start = [], [], text, 0
        while rest.strip():
            ids, found, n_cut = self._marked(rest, layout.document_prefix, layout.document_length)
            keep = [i for i, token in enumerate(ids) if token not in self._skipped]
            vectors.append(self._run(ids, [1] * len(ids))[keep])
            spans += [_moved(found[i], start) for i in keep]
            read = max((b for _, b in found), default=0)
            if not n_cut or not read:
                break
            rest, start = rest[read:], start + read
        return _Row(np.concatenate(vectors), np.array(spans, np.int64).reshape(-1, 2))

    def _marked(
        self, text: str, prefix: str, length: int
    ) -> tuple[list[int], list[tuple[int, int]], int]:
        """Ids of a context, the characters of ``text`` that they stand for, and how many did not go
        in: the first special token, the prefix, the text, the last special token."""
        made = self._tokenizer.encode(_sound(text), add_special_tokens=False)
        lead = [*self._first, *self._mark[prefix]]
        room = length - len(lead) - len(self._last)
        ids = [*lead, *made.ids[:room], *self._last]
        spans = [(0, 0)] * len(lead) + made.offsets[:room] + [(0, 0)] * len(self._last)
        return ids, spans, max(len(made.ids) - room, 0)

    def _prefix(self, prefix: str) -> list[int]:
        """A prefix is one token of its own where the tokenizer knows it, else its pieces."""
        if prefix in self._vocabulary:
            return [self._vocabulary[prefix]]
        ids: list[int] = self._tokenizer.encode(prefix, add_special_tokens=False).ids
        return ids

    def _run(self, ids: Sequence[int], attention: Sequence[int]) -> NDArray[np.float32]:
        torch = self._torch
        with torch.inference_mode():
            row = torch.tensor([list(ids)], device=self._device)
            mask = torch.tensor([list(attention)], device=self._device)
            hidden = self._model(input_ids=row, attention_mask=mask).last_hidden_state[0]
            for layer in self._dense:
                hidden = layer(hidden)
            made = torch.nn.functional.normalize(hidden.float(), dim=-1).cpu().numpy()
        vectors: NDArray[np.float32] = made
        return vectors


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        made = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower one
        raise WeightsError(f"{path} cannot be read ({error}): fetch the model again") from error
    made.no_truncation()
    made.no_padding()
    made.encode_special_tokens = True  # marks inside a text are text
    return made


def _mask_token(folder: Path) -> str:
    path = folder / "tokenizer_config.json"
    given = read_json(path).get("mask_token") if path.is_file() else None
    name = given.get("content") if isinstance(given, dict) else given
    return str(name or "[MASK]")


def _prefixes(layout: ColbertLayout) -> tuple[str, str]:
    return layout.query_prefix, layout.document_prefix


def _ends(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    around = tokenizer.encode("", add_special_tokens=True).ids
    middle = (len(around) + 1) // 2
    return list(around[:middle]), list(around[middle:])


def _sound(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _moved(span: tuple[int, int], by: int) -> tuple[int, int]:
    return span if span == (0, 0) else (span[0] + by, span[1] + by)


def _dense(torch: Any, folder: Path, device: str) -> Any:
    from safetensors.torch import load_file

    config = read_json(folder / "config.json")
    activation = str(config.get("activation_function", "Identity")).rpartition(".")[2]
    if activation != "Identity":
        raise WeightsError(
            f"{folder} has the activation {activation}: expected Identity, as ColBERT's projections"
        )
    layer = torch.nn.Linear(
        config["in_features"], config["out_features"], bias=bool(config.get("bias"))
    )
    (path, *_) = check_weights(folder)
    state = {key.rpartition(".")[2]: value for key, value in load_file(path).items()}
    try:
        layer.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit {folder / 'config.json'} ({error})") from error
    return layer.to(device).eval()
