"""Fixtures that more than one test module uses."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data(request: pytest.FixtureRequest) -> Path:
    """Folder with recorded clips and pictures, which is no part of the repository."""
    folder = request.config.rootpath.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the measurement data in {folder.name}, which is not here")
    return folder
