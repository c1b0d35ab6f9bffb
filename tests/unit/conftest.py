"""Indexes that several test modules work on copies of."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmretrieve.storage.codes.policy import Limits
from mmretrieve.storage.records import VideoEntry
from tests import codes_index as ci


@pytest.fixture(scope="module", params=[ci.EXACT, ci.CODED], ids=["exact", "coded"])
def limits(request: pytest.FixtureRequest) -> Limits:
    found: Limits = request.param
    return replace(found, lists_from=100)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, limits: Limits) -> tuple[Path, list[VideoEntry]]:
    folder = tmp_path_factory.mktemp("made")
    first = ci.library(folder, 20)
    ci.upkeep(folder, limits)
    rng = np.random.default_rng(4)
    more = [ci.entry(f"more {n}", rng) for n in range(5)]
    ci.commit(folder, more)
    ci.upkeep(folder, limits)
    ci.upkeep(folder, limits)
    assert len(ci.opened(folder).segments) == 2
    return folder, [*first, *more]


@pytest.fixture
def entries(tmp_path: Path, made: tuple[Path, list[VideoEntry]]) -> list[VideoEntry]:
    """Two segments: of 20 videos, and of 5."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    return made[1]
