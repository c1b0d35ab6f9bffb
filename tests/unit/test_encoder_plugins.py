"""Presets that installed packages add, by real distributions on the path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmretrieve import Engine
from mmretrieve.config import EncoderSettings, Settings
from mmretrieve.datatypes import GroupBy, Modality, Segment
from mmretrieve.documents import Document
from mmretrieve.encoders.registry import check_names, load_encoder
from mmretrieve.errors import EncoderPluginError, UsageError
from mmretrieve.scoring.aggregation import Scoring
from mmretrieve.search.searcher import UNFITTED

MODULE = '''
from mmretrieve.encoders.lite import LiteEncoder

class Shouting(LiteEncoder):
    """Text alone, and all of it as shouted."""

    def __init__(self, settings):
        super().__init__()
        self.settings = settings

    def query(self, text):
        return super().query(text.upper())

    def fingerprints(self):
        return {**super().fingerprints(), "shouting": "1" * 64}

def broken(settings):
    raise ZeroDivisionError("no weights today")

def no_encoder(settings):
    return object()
'''

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution with entry points, as pip would leave it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    (site / "shouting_encoder.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "shouting_encoder", raising=False)

    def make(name: str, **points: str) -> None:
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{preset} = {target}" for preset, target in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[mmretrieve.encoders]", *lines, ""]))

    return make


def test_an_index_with_a_preset_of_another_package(install: Install, tmp_path: Path) -> None:
    install("shouting", shout="shouting_encoder:Shouting")
    settings = Settings(preset="shout", encoder=EncoderSettings(weights="loud"))
    documents = [
        Document("a", segments={Modality.SPEECH: (Segment("the old harbour", 0.0, 2.0),)}),
        Document("b", segments={Modality.SPEECH: (Segment("a tax return", 0.0, 2.0),)}),
    ]
    with Engine.create(tmp_path / "ix", settings) as engine:
        engine.index(documents)
    with Engine.open(tmp_path / "ix") as engine:
        assert engine.info().preset == "shout"
        assert "shouting" in engine.info().encoders
        assert engine.settings.encoder.weights == "loud"
        result = engine.search("harbour")
        assert result.hits[0].video.video_id == "a"
        assert UNFITTED in result.notes
        # No weights are fitted for it: what null queries score is what counts.
        known = engine._current().nulls()[f"{Scoring().key} {GroupBy.MOMENT}"].nulls
        assert [h.confidence for h in result.hits] == [
            known.confidence(h.score, 1) for h in result.hits
        ]
        lite = load_encoder("lite")
        made = engine.encode_query("harbour").vectors["text"]
        np.testing.assert_array_equal(made, lite.query("HARBOUR").vectors["text"])


def test_a_failing_import_is_told(install: Install) -> None:
    install("absent", gone="not_there_at_all:make")
    with pytest.raises(EncoderPluginError, match=r"'gone' of absent .*not_there_at_all"):
        load_encoder("gone")


def test_a_failing_encoder_is_told(install: Install) -> None:
    install("shouting", bad="shouting_encoder:broken", empty="shouting_encoder:no_encoder")
    with pytest.raises(EncoderPluginError, match="ZeroDivisionError: no weights today"):
        load_encoder("bad")
    with pytest.raises(EncoderPluginError, match="it has no dim, dims, fingerprints"):
        load_encoder("empty")


def test_two_packages_with_one_name_are_told(install: Install) -> None:
    install("one", shout="shouting_encoder:Shouting")
    install("two", shout="shouting_encoder:Shouting")
    with pytest.raises(EncoderPluginError, match="'shout' is offered by one and two"):
        load_encoder("shout")


def test_the_names_of_this_package_are_taken(install: Install, tmp_path: Path) -> None:
    install("greedy", lite="shouting_encoder:Shouting")
    with pytest.raises(EncoderPluginError, match="'lite' is offered by mmretrieve and greedy"):
        check_names()
    with pytest.raises(EncoderPluginError, match="pip uninstall greedy"):
        Engine.create(tmp_path / "ix")
    assert not (tmp_path / "ix").exists()


def test_an_unknown_preset_lists_those_that_there_are(install: Install) -> None:
    install("shouting", shout="shouting_encoder:Shouting")
    with pytest.raises(UsageError, match="expected one of lite, clip, clamr, shout"):
        Settings(preset="whisper")
    with pytest.raises(UsageError, match="lite, clip, clamr, shout"):
        load_encoder("whisper")


def test_encoder_settings_do_not_touch_what_is_indexed_already() -> None:
    """Indexes made before these settings keep their key and their text."""
    assert Settings().content_key == "cf0d3437ef3341e7"
    assert "[encoder]" not in Settings().to_toml()
    other = Settings(encoder=EncoderSettings(weights="w", precision="bfloat16"))
    assert other.content_key == Settings().content_key
    assert Settings.from_toml(other.to_toml()) == other
