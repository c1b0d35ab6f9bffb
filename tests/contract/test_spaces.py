"""An index whose frames live in another vector space, of another width, than its text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmretrieve.datatypes import (
    COMMON,
    METADATA_PASSAGE,
    MODALITIES,
    Filter,
    Modality,
    QueryTokens,
)
from mmretrieve.errors import UsageError
from mmretrieve.kernels.choose import kernels
from mmretrieve.scoring import reference
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.search.prepared import Space, prepare
from mmretrieve.search.ranking import Ranker
from mmretrieve.search.selection import select
from mmretrieve.search.stages import Limits
from mmretrieve.storage.codes.policy import Limits as CodeLimits
from mmretrieve.storage.reader import Snapshot
from mmretrieve.storage.records import VideoEntry
from tests import codes_index as ci

WIDTHS = {"picture": 48, "text": 32}
SPACES = [Space(ci.SPACES[m.value], WIDTHS[ci.SPACES[m.value]]) for m in MODALITIES]


@pytest.mark.parametrize("by_video", [False, True])
@pytest.mark.parametrize("sealed", [ci.EXACT, ci.CODED], ids=["exact", "coded"])
def test_one_score_over_two_spaces(tmp_path: Path, sealed: CodeLimits, by_video: bool) -> None:
    entries = ci.library(tmp_path, 40, ci.TWO_WIDTHS)
    ci.upkeep(tmp_path, sealed, ci.TWO_WIDTHS)
    snapshot = Snapshot(tmp_path, ci.TWO_WIDTHS, kernels)
    ranker, rng = Ranker(snapshot, kernels(), Limits()), np.random.default_rng(3)
    scoring = Scoring(weights={Modality.FRAMES: 2.0})
    scale = np.array([scoring.scale[m] for m in MODALITIES], np.float32)
    number = {v.video_id: i for i, v in enumerate(snapshot.videos)}
    for _ in range(5):
        query = {name: ci.unit_rows(rng, 5, width) for name, width in WIDTHS.items()}
        tokens = QueryTokens("q", query, ("t",) * 5, np.arange(5, dtype=np.int32))
        stages = ranker.stages(prepare(tokens, SPACES, kernels()), scoring, by_video)
        ranking = ranker.rank(stages, select(snapshot, Filter()), 200)
        wanted = {}
        for entry in entries:
            for key, values in documents(entry, query, by_video).items():
                null = stages.rule.calibration.null
                sharp = reference.evidence(values[None], null, scale, scoring.power)
                score = reference.aggregate(sharp, scoring.aggregation, scoring.weight_vector)[0]
                wanted[number[entry.video.video_id], key] = score
        found = {
            (int(v), int(p)): float(s)
            for v, p, s in zip(
                ranking.documents.video, ranking.documents.passage, ranking.scores, strict=True
            )
        }
        assert found.keys() <= wanted.keys()
        assert len(found) == min(200, len(wanted))
        for at, score in found.items():
            assert score == pytest.approx(wanted[at], rel=2e-3, abs=1e-4)
        best = max(wanted.values())
        assert max(found.values()) == pytest.approx(best, rel=2e-3)


def documents(
    entry: VideoEntry, query: dict[str, np.ndarray], by_video: bool
) -> dict[int, np.ndarray]:
    """Maxima of each document of a video, ``(n_modalities, nq)``."""
    found: dict[int, np.ndarray] = {}
    cells = [(p, t) for p, t in entry.passages if len(t.vectors)]
    about = [c for c in cells if c[0].number == METADATA_PASSAGE]
    timed = {p.number for p, _ in cells} - {METADATA_PASSAGE}
    for key in {METADATA_PASSAGE} if by_video or not timed else timed:
        mine = cells if by_video else [c for c in cells if c[0].number == key] + about
        values = np.full((len(MODALITIES), 5), -np.inf, np.float32)
        for passage, tokens in mine:
            m = MODALITIES.index(passage.modality)
            rows = tokens.vectors.astype(np.float16).astype(np.float32)
            own = reference.maxima(query[ci.SPACES[passage.modality.value]], [rows])[0]
            values[m] = np.maximum(values[m], own)
        found[key] = values
    return found


def test_a_query_without_one_of_the_spaces_is_told(tmp_path: Path) -> None:
    rows = ci.unit_rows(np.random.default_rng(0), 2, 32)
    query = QueryTokens("q", {"text": rows}, ("t",) * 2, np.arange(2, dtype=np.int32))
    with pytest.raises(UsageError, match="space 'picture': expected width 48, got none"):
        prepare(query, SPACES, kernels())


def test_an_index_that_knows_nothing_of_sound() -> None:
    """Manifests of encoders that do not hear, and all older ones, name no space for it."""
    spaces = {m.value: ci.SPACES[m.value] for m in COMMON}
    manifest = replace(ci.TWO_WIDTHS, spaces=spaces)
    assert manifest.space(Modality.AUDIO) == manifest.space(Modality.METADATA) == "text"
    assert manifest.width(Modality.AUDIO) == 32
    assert replace(manifest, dims={}).one_width == 48


@pytest.mark.parametrize("hears", [False, True])
def test_sound_has_weight_where_the_index_has_some(tmp_path: Path, hears: bool) -> None:
    ci.library(tmp_path, 3, ci.TWO_WIDTHS, modalities=MODALITIES if hears else COMMON)
    snapshot = Snapshot(tmp_path, ci.TWO_WIDTHS)
    ranker, rng = Ranker(snapshot, kernels(), Limits()), np.random.default_rng(0)
    vectors = {name: ci.unit_rows(rng, 4, width) for name, width in WIDTHS.items()}
    asked = QueryTokens("q", vectors, tuple("abcd"), np.arange(4, dtype=np.int32))
    query = prepare(asked, SPACES, kernels())
    place, alone = MODALITIES.index(Modality.AUDIO), dict.fromkeys(COMMON, 0.0)
    for scoring, weight in (
        (Scoring(), float(hears)),
        (Scoring(weights={Modality.AUDIO: 3.0}), 3.0 * hears),
        (Scoring(weights=alone), 1.0),
    ):
        stages = ranker.stages(query, scoring, by_video=False)
        assert stages.rule.scoring.weight_vector[place] == weight
        ranking = ranker.rank(stages, select(snapshot, Filter()), 5)
        assert bool(len(ranking.order)) == (hears or scoring.weights != alone)
