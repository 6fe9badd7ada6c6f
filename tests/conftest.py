"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real faces and reference outputs; tests that need it are skipped where there is none."""
    path = Path(os.environ.get("DUCHENNE_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip("no folder of real faces and reference outputs: set DUCHENNE_SHARED")
    return path
