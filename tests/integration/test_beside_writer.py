"""Searching while another process would be writing: what is asked of the index, counted."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from mmretrieve import Engine
from mmretrieve.document_ingest import DocumentIngestor
from mmretrieve.documents import text_document
from mmretrieve.encoders.registry import load_encoder
from mmretrieve.search.judging import background
from mmretrieve.storage.folder import read_manifest
from mmretrieve.storage.nulls import measured_tokens, read_nulls
from mmretrieve.storage.records import VideoEntry
from mmretrieve.storage.writer import IndexWriter

pytestmark = pytest.mark.slow
N = 6


def _document(number: int) -> str:
    return f"the {('red', 'green', 'blue')[number % 3]} ship number {number} leaves the harbour"


def _entry(engine: Engine, number: int) -> VideoEntry:
    with closing(DocumentIngestor(engine.settings, load_encoder("lite"))) as ingestor:
        return ingestor.ingest(text_document(f"late{number}", speech=_document(number))).entry


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    made = Engine.create(tmp_path / "index")
    made.index([text_document(f"doc{i}", speech=_document(i)) for i in range(N)])
    return made


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one with every measurement of null scores."""
    found: list[str] = []

    def counted(*given: object) -> object:
        found.append("measured")
        return background(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("mmretrieve.search.searcher.background", counted)
    return found


def test_a_state_near_the_measured_one_is_searched_at_once(
    engine: Engine, measured: list[str]
) -> None:
    with IndexWriter(engine.folder, read_manifest(engine.folder)) as writer, Engine.open(
        engine.folder
    ) as reader:  # fmt: skip
        reader.search("ship")
        for number in range(3):
            writer.commit([_entry(engine, number)], [])
            hits = reader.search(_document(number)).hits
            assert f"late{number}" in {hit.video.video_id for hit in hits}
        assert measured == []
        for number in range(3, 3 * N):
            writer.commit([_entry(engine, number)], [])
        reader.search("ship")
        assert measured == ["measured"], "the state is not near any more"


def test_when_the_writer_has_ended_what_counts_is_measured_exactly(
    engine: Engine, measured: list[str]
) -> None:
    with Engine.open(engine.folder) as reader:
        with IndexWriter(engine.folder, read_manifest(engine.folder)) as writer:
            writer.commit([_entry(engine, 0)], [])
            reader.search("ship")
            assert measured == []
        late = reader.search("ship").hits
        assert measured == ["measured"]
    with Engine.open(engine.folder) as other:
        assert other.search("ship").hits == late


def test_a_run_leaves_what_was_measured_on_its_last_state(
    engine: Engine, measured: list[str]
) -> None:
    engine.index([text_document("one more", speech="a bell rings twice")])
    assert len(measured) == 2  # by moment and by video
    version = engine._opened().version
    assert read_nulls(engine.folder, version)
    assert measured_tokens(engine.folder) == engine._opened().n_tokens
    with Engine.open(engine.folder) as reader:
        reader.search("a bell rings twice")
    engine.remove(["one more"])
    assert read_nulls(engine.folder, engine._opened().version)
    assert len(measured) == 4
