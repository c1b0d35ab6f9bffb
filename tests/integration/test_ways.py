"""Every way of ranking on the demo clips, from Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mmretrieve import Engine, Filter, GroupBy, Modality
from mmretrieve.cli.app import app
from mmretrieve.datatypes import ConfidenceLabel, Way
from mmretrieve.demo import QUERIES
from mmretrieve.errors import UsageError
from mmretrieve.search.ways import scoring_of, selection_of

pytestmark = pytest.mark.slow

QUERY = "permission denied after git pull"
LATE = [way for way in Way if scoring_of(way) is not None]
PLAIN = [way for way in Way if scoring_of(way) is None]


@pytest.mark.parametrize("way", [way for way in LATE if way is not Way.AUDIO])
def test_evaluation_ranks_as_the_search_does(demo: Engine, way: Way) -> None:
    scoring, selection = scoring_of(way), selection_of(way)
    for text in [QUERIES[0].text, QUERIES[5].text, QUERY]:
        hits = demo.search(
            text, k=100, scoring=scoring, filter=selection, group_by=GroupBy.VIDEO
        ).hits
        found = demo.similarities(text)
        scores = dict(zip(found.units.video_ids, demo.ranking(way)(found), strict=True))
        assert {h.video.video_id for h in hits} == {v for v, s in scores.items() if np.isfinite(s)}
        for hit in hits:
            assert scores[hit.video.video_id] == pytest.approx(hit.score, abs=1e-5)
        assert [h.rank for h in demo.search_by(way, text, k=3).hits] == [1, 2, 3]


@pytest.mark.parametrize("way", PLAIN)
@pytest.mark.parametrize("unit", list(GroupBy))
def test_ways_of_papers_give_hits(demo: Engine, way: Way, unit: GroupBy) -> None:
    result = demo.search_by(way, QUERY, k=4, group_by=unit)
    assert result.aggregation is way
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)
    assert [hit.rank for hit in result.hits] == list(range(1, len(scores) + 1))
    assert all(hit.evidence == () for hit in result.hits)
    assert "no evidence" in result.notes[0]
    if way in (Way.MEAN, Way.POOLED, Way.BM25):
        assert result.hits[0].video.path.endswith("screen_0931.mp4")


def test_chance_and_filters_hold_for_them_too(demo: Engine) -> None:
    good = demo.search_by(Way.BM25, QUERY, min_confidence=ConfidenceLabel.HIGH)
    assert good.hits
    assert not good.no_good_match
    assert demo.search_by(Way.BM25, "zymurgy").hits == ()
    ocr = Filter(modalities=(Modality.OCR,), video_glob="*screen*")
    only = demo.search_by(Way.MEAN, QUERY, filter=ocr, group_by=GroupBy.VIDEO)
    assert [Path(h.video.path).name for h in only.hits] == ["screen_0931.mp4"]
    assert set(only.hits[0].modalities) == {Modality.OCR}
    with pytest.raises(UsageError, match="the filter leaves speech out"):
        demo.search_by(Way.SPEECH, QUERY, filter=ocr)
    with pytest.raises(UsageError, match="k=0"):
        demo.search_by(Way.RRF, QUERY, k=0)


def test_pooled_vectors_are_of_unit_length(demo: Engine) -> None:
    pooled = demo.pooled()
    assert pooled is demo.pooled()
    lengths = np.linalg.norm(pooled.vectors, axis=2)
    assert np.allclose(lengths[pooled.present], 1, atol=1e-5)
    assert not lengths[~pooled.present].any()


def test_on_the_command_line(demo_index: Path) -> None:
    args = ["query", QUERY, "--index", str(demo_index), "-k", "1", "--aggregate"]
    for way in (Way.BM25, Way.OCR, Way.CLAMR):
        result = CliRunner().invoke(app, [*args, way.value])
        assert result.exit_code == 0, result.output
        hit = json.loads(result.stdout)
        assert hit["video"]["path"].endswith("screen_0931.mp4")
        assert bool(hit["evidence"]) == (way is not Way.BM25)
    table = CliRunner().invoke(app, [*args, "mean", "--format", "table"])
    assert "screen_0931.mp4" in table.stdout
    refused = CliRunner().invoke(app, [*args, "rrf", "--weight", "ocr=2"])
    assert refused.exit_code == 2
    assert "rrf weighs nothing" in refused.stderr
