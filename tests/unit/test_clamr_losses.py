"""CLaMR's losses against loops over plain Python floats, and what masks and gaps may do to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

pytest.importorskip("torch", reason="needs PyTorch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmretrieve.datatypes import Aggregation
from mmretrieve.errors import UsageError
from mmretrieve.models.protocol import MODALITIES, NO_MODALITY, TokenBatch
from mmretrieve.training.clamr.aggregation import aggregate, only, similarities
from mmretrieve.training.clamr.losses import Loss, Targets, contest, row_losses

pytestmark = pytest.mark.torch

HOWS = (Aggregation.TOKEN_MAX, Aggregation.MODALITY_MAX)
T = 0.02
Vector = list[float]


@dataclass
class Plain:
    """A batch as lists: queries of token vectors, documents of (modality, vector), and what is right."""

    queries: list[list[Vector]]
    documents: list[list[tuple[int, Vector]]]
    label: list[int]
    target: list[int]
    same: list[list[bool]]


@st.composite
def plain_batches(draw: st.DrawFn) -> Plain:
    n = draw(st.integers(1, 5))
    extra = draw(st.integers(0, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def vector() -> Vector:
        made = torch.randn(4, generator=generator, dtype=torch.float64)
        return [float(v) for v in made / made.norm()]

    ids = st.integers(NO_MODALITY, len(MODALITIES) - 1)
    queries = [[vector() for _ in range(draw(st.integers(1, 4)))] for _ in range(n)]
    documents = [[(m, vector()) for m in draw(st.lists(ids, max_size=7))] for _ in range(n + extra)]
    label = draw(st.permutations(range(n + extra)))[:n]
    target = [draw(ids) for _ in range(n)]
    same = [
        [j != label[i] and draw(st.integers(0, 5)) == 0 for j in range(n + extra)] for i in range(n)
    ]
    return Plain(queries, documents, list(label), target, same)


def tensors(plain: Plain, pads: int = 0) -> tuple[TokenBatch, TokenBatch, Targets]:
    """Left-padded, with ``pads`` more pads than needed, and values in them that must not count."""
    queries = batch([[(NO_MODALITY, v) for v in query] for query in plain.queries], pads)
    targets = Targets(
        torch.tensor(plain.label),
        torch.tensor(plain.target),
        torch.tensor(plain.same, dtype=torch.bool),
    )
    return queries, batch(plain.documents, pads), targets


def batch(rows: list[list[tuple[int, Vector]]], pads: int) -> TokenBatch:
    length = max(map(len, rows)) + pads
    vectors = torch.full((len(rows), length, 4), 9.0, dtype=torch.float64)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    modality = torch.zeros(len(rows), length, dtype=torch.int64)
    for i, row in enumerate(rows):
        for j, (kind, vector) in enumerate(row, length - len(row)):
            vectors[i, j] = torch.tensor(vector, dtype=torch.float64)
            mask[i, j], modality[i, j] = True, kind
    return TokenBatch(vectors.requires_grad_(), mask, modality)


def plain_score(
    query: list[Vector], document: list[tuple[int, Vector]], how: Aggregation, allowed: set[int]
) -> float:
    """The aggregation, token by token."""
    sums = {}
    best = [-math.inf] * len(query)
    for modality in allowed & {m for m, _ in document if m != NO_MODALITY}:
        maxima = []
        for q in query:
            dots = [
                sum(a * b for a, b in zip(q, d, strict=True)) for m, d in document if m == modality
            ]
            maxima.append(max(dots))
        sums[modality] = sum(maxima) / len(query)
        best = [max(pair) for pair in zip(best, maxima, strict=True)]
    if not sums:
        return -math.inf
    return sum(best) / len(query) if how is Aggregation.TOKEN_MAX else max(sums.values())


def plain_losses(plain: Plain, loss: Loss, how: Aggregation) -> list[float]:
    """The losses, query by query."""
    every = set(range(len(MODALITIES)))
    found = []
    for i, query in enumerate(plain.queries):
        own, target = plain.label[i], plain.target[i]
        aimed = {target} if target != NO_MODALITY else every
        hard = loss in (Loss.HARD_POSITIVE, Loss.HARD_NEGATIVE)
        positive = plain_score(query, plain.documents[own], how, aimed if hard else every)
        if positive == -math.inf:
            continue
        negatives = []
        for j, document in enumerate(plain.documents):
            if plain.same[i][j]:
                continue
            if j != own:
                negatives.append(plain_score(query, document, how, every))
            if loss is Loss.HARD_NEGATIVE:
                wrong = every - aimed if j == own else every
                negatives += [plain_score(query, document, how, {m}) for m in wrong]
        if loss is Loss.PAIRWISE:
            found.append(math.log1p(math.exp((max(negatives, default=-math.inf) - positive) / T)))
        else:
            found.append(
                math.log(sum(math.exp((s - positive) / T) for s in [positive, *negatives]))
            )
    return found


@settings(max_examples=60, deadline=None)
@given(plain_batches(), st.sampled_from(list(Loss)), st.sampled_from(HOWS), st.integers(0, 3))
def test_losses_equal_the_loops_and_have_gradients(
    plain: Plain, loss: Loss, how: Aggregation, pads: int
) -> None:
    queries, documents, targets = tensors(plain, pads)
    found = row_losses(contest(similarities(queries, documents), targets, loss, how), loss, T)
    expected = plain_losses(plain, loss, how)
    assert found.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    found.sum().backward()
    for tokens in (queries, documents):
        assert tokens.vectors.grad is not None
        assert bool(torch.isfinite(tokens.vectors.grad).all())
        assert float(tokens.vectors.grad[~tokens.mask].abs().sum()) == 0.0
    scaffolding = documents.mask & (documents.modality == NO_MODALITY)
    assert documents.vectors.grad is not None
    assert float(documents.vectors.grad[scaffolding].abs().sum()) == 0.0


@settings(max_examples=40, deadline=None)
@given(plain_batches(), st.sampled_from(HOWS))
def test_scores_do_not_depend_on_batch_mates(plain: Plain, how: Aggregation) -> None:
    queries, documents, _ = tensors(plain)
    together = aggregate(similarities(queries, documents), how).tolist()
    for i, query in enumerate(plain.queries):
        for j, document in enumerate(plain.documents):
            alone = Plain([query], [document], [0], [0], [[False]])
            one_query, one_document, _ = tensors(alone, pads=2)
            score = aggregate(similarities(one_query, one_document), how).tolist()[0][0]
            assert score == pytest.approx(together[i][j], abs=1e-12)
            assert score == pytest.approx(plain_score(query, document, how, set(range(5))))


def unit(*values: float) -> Vector:
    length = math.sqrt(sum(v * v for v in values))
    return [v / length for v in values]


X, Y, Z = unit(1, 0, 0, 0), unit(0, 1, 0, 0), unit(0, 0, 1, 0)
FRAMES, SPEECH, OCR, METADATA, AUDIO = range(5)


@pytest.mark.parametrize("how", HOWS)
def test_a_missing_modality_neither_helps_nor_hurts(how: Aggregation) -> None:
    # All similarities are negative: a modality scored 0 for want of tokens would win.
    away = [-v for v in X]
    plain = Plain([[X]], [[(SPEECH, away)], []], [0], [SPEECH], [[False, False]])
    queries, documents, _ = tensors(plain, pads=1)
    scores = aggregate(similarities(queries, documents), how)
    assert scores.tolist() == [[-1.0, -math.inf]]
    alone = aggregate(
        similarities(queries, documents), how, only(similarities(queries, documents), OCR)
    )
    assert alone.tolist() == [[-math.inf, -math.inf]]


def test_each_loss_by_hand() -> None:
    # The answer is said (X); its own picture shows Y. The other document shows X and says Y.
    plain = Plain(
        [[X, Y]],
        [[(SPEECH, X), (FRAMES, Y)], [(FRAMES, X), (SPEECH, Y)]],
        [0], [SPEECH], [[False, False]],
    )  # fmt: skip
    queries, documents, targets = tensors(plain)
    found = similarities(queries, documents)

    def value(loss: Loss, how: Aggregation, temperature: float) -> float:
        return float(row_losses(contest(found, targets, loss, how), loss, temperature)[0].detach())

    joint, apart = HOWS
    # token_max: both documents score 1; a modality alone scores 1/2.
    assert value(Loss.CONTRASTIVE, joint, 1.0) == pytest.approx(math.log(2))
    assert value(Loss.HARD_POSITIVE, joint, 1.0) == pytest.approx(math.log(1 + math.e**0.5))
    # four pairs without the positive one: own frames, the other's frames and speech, 1/2 each
    assert value(Loss.HARD_NEGATIVE, joint, 1.0) == pytest.approx(math.log(4 + math.e**0.5))
    assert value(Loss.PAIRWISE, joint, 0.5) == pytest.approx(math.log(2))
    # modality_max: every score is 1/2
    assert value(Loss.HARD_POSITIVE, apart, 1.0) == pytest.approx(math.log(2))
    assert value(Loss.HARD_NEGATIVE, apart, 1.0) == pytest.approx(math.log(5))


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("how", HOWS)
def test_a_batch_that_teaches_nothing(loss: Loss, how: Aggregation) -> None:
    plain = Plain([[X], [Y]], [[], []], [0, 1], [OCR, OCR], [[False] * 2] * 2)
    queries, documents, targets = tensors(plain, pads=1)
    found = row_losses(contest(similarities(queries, documents), targets, loss, how), loss, T)
    assert found.shape == (0,)
    found.sum().backward()
    assert queries.vectors.grad is not None
    assert float(queries.vectors.grad.abs().sum()) == 0.0


def test_weighted_cannot_be_trained() -> None:
    queries, documents, _ = tensors(Plain([[X]], [[(OCR, X)]], [0], [OCR], [[False]]))
    with pytest.raises(UsageError, match="use token_max or modality_max"):
        aggregate(similarities(queries, documents), Aggregation.WEIGHTED)
