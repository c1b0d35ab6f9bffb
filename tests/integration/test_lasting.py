"""A reader that slept longer than old states are kept answers from the newest one, and never with an error of
a library."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.faults.library import QUERIES, documents
from mmretrieve import Engine
from mmretrieve.datatypes import SearchResult, Way
from mmretrieve.errors import IndexFormatError
from mmretrieve.reports import Outcome
from mmretrieve.search.hits import Describer
from mmretrieve.search.ranking import Ranker
from mmretrieve.storage import reader
from mmretrieve.storage.library import Library, read_library
from mmretrieve.storage.tables import open_table

pytestmark = pytest.mark.usefixtures("words_alone")


@pytest.fixture
def index(tmp_path: Path) -> Path:
    for first, last, edition in ((0, 8, 0), (0, 3, 1)):
        with Engine.create(tmp_path / "index") as engine:
            engine.index(list(documents(first, last, edition)))
    return tmp_path / "index"


def _compact(index: Path, *tables: str) -> None:
    """Nothing of an earlier state is left of these tables."""
    for name in tables:
        open_table(index, name).optimize.compact_files(target_rows_per_fragment=1 << 20)
        table = open_table(index, name)
        table.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)


def _replace_all(index: Path, edition: int = 5) -> None:
    with Engine.open(index) as writer:
        report = writer.index(list(documents(0, 8, edition)))
    assert report.count(Outcome.INDEXED) == 8
    _compact(index, "videos", "files", "passages", "keyframes")


def _told(result: SearchResult) -> list[tuple[object, ...]]:
    return [(h.video.path, h.moment.start_s, h.score, h.confidence) for h in result.hits]


@pytest.mark.parametrize(("owner", "step"), [(Ranker, "rank"), (Describer, "hits")])
@pytest.mark.parametrize("change", [_replace_all, lambda i: _compact(i, "passages")])
def test_a_search_goes_on_when_its_state_is_gone(
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    step: str,
    change: Callable[[Path], None],
) -> None:
    work: Any = getattr(owner, step)
    slept: list[int] = []

    def after_a_sleep(*arguments: Any, **named: Any) -> Any:
        if not slept:
            slept.append(1)
            change(index)
        return work(*arguments, **named)

    monkeypatch.setattr(owner, step, after_a_sleep)
    with Engine.open(index) as reader:
        found = _told(reader.search(QUERIES[0]))
    assert slept
    with Engine.open(index) as fresh:
        assert found == _told(fresh.search(QUERIES[0]))


def test_an_open_engine_outlives_a_compaction_without_a_commit(index: Path) -> None:
    with Engine.open(index) as reader:
        before = _told(reader.search(QUERIES[0]))
        _compact(index, "passages")
        assert reader.explain(QUERIES[0], "doc-004").score > 0
        assert _told(reader.search(QUERIES[2]))
        assert _told(reader.search(QUERIES[0])) == before


@pytest.fixture
def slept(index: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Not empty once a reader slept, just before it read all documents, while a writer replaced them."""
    done: list[int] = []

    def after_a_sleep(snapshot: reader.Snapshot) -> Library:
        if not done:
            done.append(1)
            _replace_all(index)
        return read_library(snapshot)

    monkeypatch.setattr(reader, "read_library", after_a_sleep)
    return done


def test_a_baseline_goes_on_when_its_state_is_gone(index: Path, slept: list[int]) -> None:
    with Engine.open(index) as asked:
        found = _told(asked.search_by(Way.RRF, QUERIES[0]))
    assert slept
    with Engine.open(index) as fresh:
        assert found == _told(fresh.search_by(Way.RRF, QUERIES[0]))


def test_similarities_of_many_queries_outlast_the_state_that_they_read(
    index: Path, slept: list[int]
) -> None:
    with Engine.open(index) as asked, Engine.open(index) as fresh:
        queries = [asked.encode_query(text) for text in QUERIES[:2]]
        found = asked.all_similarities(queries)
        assert slept
        wanted = [similar.values for similar in fresh.all_similarities(queries)]
        _replace_all(index, edition=6)
        for similar, values in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(similar.values, values)


def test_a_missing_file_of_the_newest_state_is_named(index: Path) -> None:
    for path in (index / "lance" / "passages.lance" / "data").iterdir():
        path.unlink()
    with Engine.open(index) as reader, pytest.raises(IndexFormatError, match="mmretrieve verify"):
        reader.search(QUERIES[0])
