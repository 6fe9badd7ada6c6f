"""Benchmarks: each can be imported, so that what it measures still exists under its name."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from duchenne.datasets.frozen import records
from duchenne.networks import networks
from duchenne.papers.library import library

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)  # one may use another
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_it_imports(name: str, monkeypatch: pytest.MonkeyPatch):
    assert load(name, monkeypatch).__doc__


def test_every_network_is_measured_on_a_gpu(monkeypatch: pytest.MonkeyPatch):
    gpu = load("gpu", monkeypatch)
    assert gpu.VARIANTS.keys() == networks().keys()
    found = {name: gpu.variant_of(name) for name in gpu.VARIANTS}
    assert all(variant.model.architecture == name for name, variant in found.items())
    assert found["poster_v2"].recipe.batch_size == 144


def test_the_exponent_of_growth_is_the_slope_of_the_last_three_sizes(monkeypatch: pytest.MonkeyPatch):
    growth = load("growth", monkeypatch)
    assert growth.exponent([1, 10, 100, 1000], [50.0, 2.0, 200.0, 20000.0]) == pytest.approx(2)


def test_the_hard_sets_are_frozen_and_their_networks_have_three_seeds(monkeypatch: pytest.MonkeyPatch):
    hard = load("hard", monkeypatch)
    assert hard.RUNS.keys() == records().keys()
    variants = library()["variants"]
    for dataset, runs in hard.RUNS.items():
        assert [(variants[name]["dataset"], variants[name]["seeds"]) for name in runs] == [(dataset, [0, 1, 2])] * len(
            runs
        )


def test_what_could_be_seen_follows_from_the_interval(monkeypatch: pytest.MonkeyPatch):
    # 80 % of the power at 5 %: 2.80 standard errors (Cohen 1988); an interval is 3.92 wide
    share = load("hard", monkeypatch).DETECTABLE
    assert 3.92 * share == pytest.approx(2.80, abs=5e-3)
