"""Time and disk in docs/scale.md and README.md: the tables that benchmarks/budget.py writes by `duchenne plan`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("budget", ROOT / "benchmarks" / "budget.py")
budget = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(budget)


@pytest.mark.parametrize(
    ("path", "tables"), zip(budget.PAGES, (2, 1), strict=True), ids=lambda it: getattr(it, "name", "")
)
def test_the_tables_are_those_of_the_command(path: Path, tables: int):
    text = path.read_text(encoding="utf-8")
    assert text.count("-->\n| variant |") == tables
    assert budget.page(text) == text
