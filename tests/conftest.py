"""Fixtures of all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # a test may take as long as the machine needs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[1]


LONG = (
    "test_pipeline.py", "test_pipeline_clips.py", "test_staleness.py", "test_tracking.py", "test_models_contract.py",
    "test_engines.py", "test_training_processes.py", "test_cli.py", "test_gap.py", "test_verify.py",
)  # fmt: skip
"""Files that take longest: begun last, one of them would keep one process busy while the others have nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first, the longest before the others."""
    place = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


@pytest.fixture(autouse=True)
def no_tracking_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are tracked in each test's own folder; what MLflow leaves in the environment ends with the test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Arithmetic in an order that does not depend on the machine's cores."""
    import torch  # not in the process that only hands out the tests

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without requests of its own; tests that need it are skipped where it is not installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium: apt-get install chromium")
    quiet = ["disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update"]
    if os.geteuid() == 0:
        quiet.append("no-sandbox")  # Chromium has no sandbox for root
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[f"--{name}" for name in quiet])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real faces and reference outputs; tests that need it are skipped where there is none."""
    path = Path(os.environ.get("DUCHENNE_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip("no folder of real faces and reference outputs: set DUCHENNE_SHARED")
    return path
