"""Fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # a test may take as long as the machine needs

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_tracking_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are tracked in each test's own folder; what MLflow leaves in the environment ends with the test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Arithmetic in an order that does not depend on the machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real faces and reference outputs; tests that need it are skipped where there is none."""
    path = Path(os.environ.get("DUCHENNE_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip("no folder of real faces and reference outputs: set DUCHENNE_SHARED")
    return path
