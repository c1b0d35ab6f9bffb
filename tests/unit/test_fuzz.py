"""What fuzzing found, and a short round of the fuzzer itself on what needs no worker."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.fuzz_mutate import mutate
from benchmarks.fuzz_target import Target
from benchmarks.fuzz_texts import text_targets
from mmretrieve.config import Settings
from mmretrieve.datatypes import Modality
from mmretrieve.errors import IndexFormatError, UsageError
from mmretrieve.storage.folder import Manifest, read_manifest, write_manifest

SPACES = {m.value: "text" for m in Modality}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spaces", 0),
        ("spaces", ["text"]),
        ("spaces", {"frames": 1}),
        ("encoders", None),
        ("encoders", {"text": [1]}),
        ("dims", {"text": "wide"}),
        ("dims", {"text": 0}),
        ("dim", "128"),
        ("dim", True),
        ("dim", -1),
        ("preset", 3),
        ("settings_toml", {}),
    ],
)
def test_a_manifest_of_other_types_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    write_manifest(tmp_path, Manifest("lite", 8, {"text": "0"}, SPACES, ""))
    path = tmp_path / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data[field] = value
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(IndexFormatError, match=field.rstrip("s")):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("jobs = 'two'", "'jobs' must be a whole number"),
        ("preset = 1", "'preset' must be a text"),
        ("[limits]\nmemory_mb = '4 GB'", r"'memory_mb' in \[limits\] must be a whole number"),
        ("[limits]\ntime_factor = nan", r"'time_factor' in \[limits\] must be a number"),
        ("[visual]\nenabled = 'yes'", r"'enabled' in \[visual\] must be true or false"),
    ],
)
def test_settings_of_other_types_are_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Settings.from_toml(text)


@pytest.mark.parametrize("target", text_targets(), ids=lambda target: target.name)
def test_a_short_round(target: Target, tmp_path: Path) -> None:
    target.prepare(tmp_path)
    outcomes = {target.feed(target.make(Random(f"test/{target.name}/{n}"))) for n in range(150)}
    target.close()
    assert outcomes


def test_an_input_follows_from_its_numbers() -> None:
    seeds = (b"1\n00:00:01,000 --> 00:00:02,000\nwords\n", b"other words")
    made = [mutate(seeds[0], seeds, Random(f"0/x/{n}"), text=True) for n in range(50)]
    again = [mutate(seeds[0], seeds, Random(f"0/x/{n}"), text=True) for n in range(50)]
    assert made == again
    assert len(set(made)) > 40
