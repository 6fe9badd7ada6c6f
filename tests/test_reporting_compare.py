"""``duchenne compare``: finished runs compared with the first of them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from duchenne.errors import UserError
from duchenne.evaluation.statistics import evaluate
from duchenne.files import write_json
from duchenne.metrics import METRICS
from duchenne.reporting.compare import ComparedRuns, compare_runs, finished_runs, show
from duchenne.workspace import Workspace

CLASSES = ["anger", "fear", "happiness"]


def finish(workspace: Workspace, name: str, wrong: int, selection: str = "val", classes: list[str] = CLASSES) -> None:
    """Results of a run that is wrong on its first ``wrong`` samples of 60."""
    label = np.arange(60) % 3
    frame = pd.DataFrame({"sample": [f"s{i:02d}" for i in range(60)], "fold": 1, "label": label})
    frame["subject"] = [f"p{i // 3}" for i in range(60)]
    frame["predicted"] = np.where(np.arange(60) < wrong, (label + 1) % 3, label)
    probabilities = np.full((60, len(classes)), 0.1)
    probabilities[np.arange(60), frame["predicted"]] = 0.8
    frame["confidence"] = 0.8
    frame = frame.assign(**{f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)})
    results = workspace.results(name)
    metrics = evaluate(frame, classes, 100) | {"selection": selection, "missed": 0}
    if name == "better":  # the other is of an older version
        metrics |= {"uar_rule_test": 0.95, "uar_rule_test_low": 0.9, "uar_rule_test_high": 1.0}
    write_json(results / "metrics.json", metrics)
    frame.to_parquet(results / "predictions.parquet", index=False)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("project"))
    finish(workspace, "reference", wrong=12)
    finish(workspace, "better", wrong=3, selection="test")
    finish(workspace, "published/reference", wrong=12)
    finish(workspace, "others", wrong=0, classes=["anger", "fear", "sadness"])
    write_json(workspace.results("better") / "complexity.json", {"params": 58.3, "macs": 0.00859, "seconds": 0.2})
    return workspace


def compared(workspace: Workspace, names: list[str]) -> ComparedRuns:
    return compare_runs(finished_runs(workspace, names), bootstrap=200)


def test_values_differences_and_sizes(workspace: Workspace):
    found = compared(workspace, ["reference", "better", "published/reference"])
    assert found.frame["war"].tolist() == pytest.approx([48 / 60, 57 / 60, 48 / 60])
    assert np.isnan(found.frame.loc["reference", "difference_war"])
    better = found.frame.loc["better"]
    assert better["difference_war"] == pytest.approx(9 / 60)
    assert better["difference_war_low"] < 9 / 60 < better["difference_war_high"]
    assert better["p"] == pytest.approx(2 / 2**9)  # nine samples, all of them won
    assert (better["params"], better["macs"]) == (58.3, 0.00859)
    assert found.frame.loc["published/reference", "difference_war"] == 0
    assert list(found.pairs) == ["better", "published/reference"]
    assert found.pairs["better"].mcnemar == (0, 9, pytest.approx(2 / 2**9))


def test_the_json_has_everything_and_no_nan(workspace: Workspace):
    found = compared(workspace, ["reference", "better"])
    tree = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert tree["against"] == "reference"
    assert [run["run"] for run in tree["runs"]] == ["reference", "better"]
    pair = tree["pairs"]["better"]
    assert [row["metric"] for row in pair["metrics"]] == list(METRICS)
    assert [row["class"] for row in pair["per_class"]] == CLASSES
    assert pair["confusion"]["anger"] == pytest.approx({"anger": 0.15, "fear": -0.15, "happiness": 0})
    assert pair["mcnemar"] == {"only_first": 0, "only_second": 9, "p": pytest.approx(2 / 2**9)}
    assert len(pair["disagreements"]) == 9
    assert pair["disagreements"][0]["right"] == "second"


def test_the_terminal_shows_the_numbers(workspace: Workspace):
    text = io.StringIO()
    show(compared(workspace, ["reference", "better"]), Console(file=text, width=160))
    shown = text.getvalue()
    assert "0.00859" in shown
    for part in ("80.00 [", "95.00 [", "+15.00 [+", "9 / 0, p 0.0039", "58.30", "test (optimistic)", "s03", "better"):
        assert part in shown
    assert re.search(
        r"Kappa +│ 0\.700 \[0\.\d\d, 0\.\d\d\] +│ 0\.925 \[", shown
    )  # (0.8 - 1/3) / (2/3) and (0.95 - 1/3) / (2/3)
    assert re.search(r"NLL +│ \d\.\d{3} \[", shown)
    assert re.search(r"UAR if by test \(optimistic\) +│ – +│ 95\.00 \[90\.0, 100\.0\]", shown)
    assert "UAR if by val" not in shown
    assert "In per cent and points, but for AUC, NLL, Kappa" in " ".join(shown.split())
    assert [f"recall {name} (20)" in shown for name in CLASSES] == [True] * 3
    assert "9 samples that reference and better disagree on" in shown


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["reference"], "name two or more different runs, not reference"),
        (["better", "better"], "two or more different runs"),
        (["reference", "beter"], r"'beter' has no results: .*predictions\.parquet is missing \(did you mean 'better'"),
        (["reference", "x"], r"\(finished: better, others, published/reference, reference\)"),
        (["reference", "others"], "reference has the classes anger, fear, happiness, others has anger, fear, sadness"),
    ],
)
def test_what_cannot_be_compared_is_named(workspace: Workspace, names: list[str], message: str):
    with pytest.raises(UserError, match=message):
        compared(workspace, names)


def test_before_any_run_the_command_that_makes_them_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"'first' has no results: .* \(finished: none; `dvc repro` trains\)$"):
        finished_runs(Workspace(tmp_path), ["first"])


def test_runs_on_other_samples_are_named(workspace: Workspace, tmp_path: Path):
    finish(Workspace(tmp_path), "all", wrong=1)
    finish(Workspace(tmp_path), "part", wrong=1)
    path = Workspace(tmp_path).results("part") / "predictions.parquet"
    pd.read_parquet(path).iloc[2:].to_parquet(path)
    with pytest.raises(UserError, match=r"all \(first\) and part \(second\): .* 58 in both, 2 only in the first"):
        compared(Workspace(tmp_path), ["all", "part"])
