"""Tables of docs/results.md and docs/hard.md are those of benchmarks/results.py, and the first page stays short."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("results_tables", ROOT / "benchmarks" / "results.py")
results = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(results)
TEXTS = [path.read_text(encoding="utf-8") for path in results.PAGES]


def test_every_table_is_made_from_its_file():
    assert [results.page(text) for text in TEXTS] == TEXTS
    named = [name for text in TEXTS for name in re.findall(r"<!-- ([\w-]+\.csv) -->", text)]
    assert sorted(named) == sorted(path.name for path in results.FOLDER.iterdir())


def test_one_page_answers_all_questions():
    assert len(TEXTS[0].splitlines()) <= 170


def test_a_metric_is_shown_in_per_cent_with_its_interval(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("run,n,uar,uar_low,uar_high,nll,gain\na,96,0.8958,0.8333,0.9479,0.4,-0.015\nb,3,0.5,,,,\n", "utf-8")
    assert results.markdown(path).splitlines() == [
        "| run | n | UAR, % | NLL | gain in UAR, points |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| a | 96 | 89.6 (83.3 to 94.8) | 0.4 | -1.5 |",
        "| b | 3 | 50.0 |  |  |",
    ]


def test_recording_takes_what_a_run_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    (tmp_path / "demo.csv").write_text("run,note,n,uar\na,mine,1,0.1\n", "utf-8")
    (tmp_path / "results" / "a").mkdir(parents=True)
    measured = {"n": 96, "uar": 0.895833, "war": 0.9}
    (tmp_path / "results" / "a" / "metrics.json").write_text(json.dumps(measured), "utf-8")
    results.record("demo", tmp_path)
    assert (tmp_path / "demo.csv").read_text("utf-8") == "run,note,n,uar\na,mine,96,0.8958\n"


def test_a_run_that_was_not_measured_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    (tmp_path / "demo.csv").write_text("run,uar\nnever_run,0.1\n", "utf-8")
    with pytest.raises(FileNotFoundError, match="never_run"):
        results.record("demo", tmp_path)
