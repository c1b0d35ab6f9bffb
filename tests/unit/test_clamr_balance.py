"""What the balance options do to numbers."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch", reason="needs PyTorch")

import numpy as np
import torch

from mmretrieve.datatypes import Aggregation
from mmretrieve.models.protocol import MODALITIES, NO_MODALITY, Document, TokenBatch
from mmretrieve.training.clamr.aggregation import similarities
from mmretrieve.training.clamr.balance import (
    GradientModulation,
    competition,
    drop_modalities,
    losses_alone,
    modulate,
)
from mmretrieve.training.clamr.losses import Targets

pytestmark = pytest.mark.torch

FRAMES, SPEECH, OCR, METADATA, AUDIO = range(5)
NAN = math.nan
HOWS = [Aggregation.TOKEN_MAX, Aggregation.MODALITY_MAX]


def tokens(rows: list[list[tuple[int, list[float]]]]) -> TokenBatch:
    length = max(map(len, rows))
    vectors = torch.zeros(len(rows), length, len(rows[0][0][1]), dtype=torch.float64)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    modality = torch.full((len(rows), length), NO_MODALITY)
    for i, row in enumerate(rows):
        for j, (kind, vector) in enumerate(row):
            vectors[i, j], mask[i, j], modality[i, j] = torch.tensor(vector), True, kind
    return TokenBatch(vectors.requires_grad_(), mask, modality)


def axis(place: int, size: float = 1.0) -> list[float]:
    return [size if i == place else 0.0 for i in range(4)]


def diagonal(n: int) -> Targets:
    return Targets(torch.arange(n), torch.full((n,), SPEECH), torch.zeros(n, n, dtype=torch.bool))


def test_modulation_holds_back_the_modality_that_runs_ahead_of_its_past() -> None:
    agm = GradientModulation(alpha=0.5)
    first = [2.0, 1.0, NAN, 3.0, NAN]
    assert agm.factors(first) == [1.0] * 5  # no past yet
    assert agm.factors(first) == pytest.approx([1.0] * 5)  # as ever
    # Frames have learnt: 2.0 -> 0.5. By hand, with r = exp(mean of the others - own):
    factors = agm.factors([0.5, 1.0, NAN, 3.0, NAN])
    now = [math.exp(2.0 - 0.5), math.exp(1.75 - 1.0), math.exp(0.75 - 3.0)]
    usual = [math.exp(2.0 - 2.0), math.exp(2.5 - 1.0), math.exp(1.5 - 3.0)]
    expected = [math.exp(0.5 * (u - r)) for u, r in zip(usual, now, strict=True)]
    assert factors == pytest.approx([expected[0], expected[1], 1.0, expected[2], 1.0])
    assert factors[FRAMES] < 0.2
    assert factors[SPEECH] > 1
    assert agm.mean == pytest.approx([1.5, 1.0, 0.0, 3.0, 0.0])
    assert agm.count == [3, 3, 0, 3, 0]


def test_modulation_goes_on_from_its_state() -> None:
    one, other = GradientModulation(1.0), GradientModulation(1.0)
    one.factors([1.0, 2.0, NAN, NAN, NAN])
    other.restore(one.state())
    losses = [0.5, 2.5, NAN, NAN, NAN]
    assert one.factors(losses) == other.factors(losses)


def test_a_lone_modality_has_nobody_to_run_ahead_of() -> None:
    agm = GradientModulation(1.0)
    for loss in (3.0, 1.0):
        assert agm.factors([NAN, loss, NAN, NAN, NAN]) == [1.0] * 5


def test_modulation_scales_gradients_by_modality() -> None:
    weight = torch.ones(1, 3, 2, dtype=torch.float64, requires_grad=True)
    vectors = weight * 2
    modulate(vectors, torch.tensor([[FRAMES, SPEECH, NO_MODALITY]]), [0.25, 3.0, 9.0, 9.0, 9.0])
    vectors.sum().backward()
    assert weight.grad is not None
    assert weight.grad[0, :, 0].tolist() == [0.5, 6.0, 2.0]


def test_losses_of_each_modality_alone() -> None:
    # Speech tells the two apart, on-screen text does not; only one of them has metadata.
    queries = tokens([[(NO_MODALITY, axis(0))], [(NO_MODALITY, axis(1))]])
    documents = tokens(
        [
            [(SPEECH, axis(0)), (OCR, axis(2)), (METADATA, axis(0))],
            [(SPEECH, axis(1)), (OCR, axis(2))],
        ]
    )
    found = losses_alone(
        similarities(queries, documents), diagonal(2), Aggregation.TOKEN_MAX, temperature=0.5
    )
    each = math.log(1 + math.exp(-2))
    expected = [[0, 0], [2 * each, 2], [2 * math.log(2), 2], [0, 0], [0, 0]]
    assert found.tolist() == [pytest.approx(row) for row in expected]


@pytest.mark.parametrize("how", HOWS)
def test_competition_is_what_a_modality_decides(how: Aggregation) -> None:
    # All is decided by speech: exchanging it turns the answer round, exchanging text changes nothing.
    queries = tokens([[(NO_MODALITY, axis(0))], [(NO_MODALITY, axis(1))]])
    documents = tokens([[(SPEECH, axis(0)), (OCR, axis(2))], [(SPEECH, axis(1)), (OCR, axis(2))]])
    found = similarities(queries, documents)
    value = competition(found, how, 0.1, np.random.default_rng(0))
    p = 1 / (1 + math.exp(-10))
    mixed = 2 * 0.5 * math.log(0.5)
    divergence = p * math.log(p) + (1 - p) * math.log(1 - p) - mixed
    assert value.tolist() == pytest.approx(divergence / 2)
    value.backward()
    assert documents.vectors.grad is not None
    assert bool(torch.isfinite(documents.vectors.grad).all())
    assert float(documents.vectors.grad.abs().sum()) > 0


def test_competition_rises_when_it_is_paid_for() -> None:
    torch.manual_seed(3)
    queries = tokens([[(NO_MODALITY, axis(i))] for i in range(4)])
    weak = torch.randn(4, 4, dtype=torch.float64) * 0.1
    weak.requires_grad_()

    def term() -> torch.Tensor:
        strong = torch.eye(4, dtype=torch.float64)
        vectors = torch.stack([strong, torch.nn.functional.normalize(weak, dim=1)], dim=1)
        batch = TokenBatch(
            vectors, torch.ones(4, 2, dtype=torch.bool), torch.tensor([[SPEECH, OCR]] * 4)
        )
        found = similarities(queries, batch)
        return competition(found, Aggregation.TOKEN_MAX, 0.3, np.random.default_rng(0))

    before = float(term().detach())
    for _ in range(60):
        (gradient,) = torch.autograd.grad(term(), weak)
        with torch.no_grad():
            weak += 0.2 * gradient
    assert float(term().detach()) > before + 0.01


def test_nothing_to_exchange_is_worth_nothing() -> None:
    queries = tokens([[(NO_MODALITY, axis(0))], [(NO_MODALITY, axis(1))]])
    documents = tokens([[(SPEECH, axis(0))], [(OCR, axis(1))]])
    found = similarities(queries, documents)
    value = competition(found, Aggregation.TOKEN_MAX, 0.1, np.random.default_rng(0))
    assert value.tolist() == 0.0
    value.backward()
    assert queries.vectors.grad is not None
    assert float(queries.vectors.grad.abs().sum()) == 0.0


FULL = Document(
    frames=(np.zeros((2, 2, 3), np.uint8),),
    speech="said",
    ocr="written",
    metadata="known",
    audio=np.zeros(3, np.float32),
)


def present(document: Document) -> list[int]:
    values = [getattr(document, name) for name in MODALITIES]
    return [m for m, v in enumerate(values) if v is not None and len(v) > 0]


def test_dropout_spares_the_target_and_the_last() -> None:
    generator = np.random.default_rng(0)
    assert present(drop_modalities(FULL, SPEECH, 0.0, generator)) == [0, 1, 2, 3, 4]
    assert present(drop_modalities(FULL, SPEECH, 1.0, generator)) == [SPEECH]
    lasts = {tuple(present(drop_modalities(FULL, NO_MODALITY, 1.0, generator))) for _ in range(99)}
    assert lasts == {(m,) for m in range(5)}
    assert present(drop_modalities(Document(), SPEECH, 1.0, generator)) == []
    only_text = Document(ocr="written")
    assert present(drop_modalities(only_text, SPEECH, 1.0, generator)) == [OCR]
    n = 2000
    kept = [present(drop_modalities(FULL, OCR, 0.3, generator)) for _ in range(n)]
    share = sum(FRAMES in one for one in kept) / n
    assert abs(share - 0.7) < 4 * math.sqrt(0.21 / n)
    assert all(OCR in one for one in kept)
