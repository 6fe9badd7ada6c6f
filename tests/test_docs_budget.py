"""Time and disk in docs/compute.md and README.md: the tables that benchmarks/budget.py derives from the library."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from duchenne.config import whole_library

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("budget", ROOT / "benchmarks" / "budget.py")
budget = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(budget)


@pytest.mark.parametrize("path", budget.PAGES, ids=lambda path: path.name)
def test_the_tables_are_those_of_the_library(path: Path):
    text = path.read_text(encoding="utf-8")
    assert "budget -->\n| variant |" in text
    assert budget.page(text) == text


def test_hours_follow_from_the_recipe():
    found = budget.budget("poster_v2_rafdb")
    recipe = whole_library().variants["poster_v2_rafdb"].recipe
    assert (found.trained, found.folds, found.epochs) == (12271, 1, recipe.epochs)
    operations = 12271 * recipe.epochs * 2 * 6 * 8.59e9  # two passes: it trains with SAM
    assert recipe.sam_rho
    assert found.hours * 3600 * budget.RATE == pytest.approx(operations)


def test_leaving_one_subject_out_trains_every_sample_in_all_folds_but_one():
    found = budget.budget("frl_dgt_megc2019")
    assert (found.folds, found.trained) == (68, 442 * 67)
