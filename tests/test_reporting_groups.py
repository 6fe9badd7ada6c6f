"""Groups of people and calibration on the page and in the terminal."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from reporting_tools import CLASSES, finished_project, run_of
from scipy.special import softmax
from typer.testing import CliRunner

from duchenne import cli
from duchenne.evaluation.groups import measure_groups
from duchenne.files import read_json, write_json
from duchenne.metrics import BINS
from duchenne.reporting import figures
from duchenne.reporting.page import write_report
from duchenne.reporting.registry import RUN_FIGURES


def measured() -> dict:
    """Groups of 60 people: 20 of <x> & 38 of y, too few of z."""
    rng = np.random.default_rng(0)
    label = rng.integers(4, size=240)
    people = np.repeat(np.arange(60), 4)
    group = np.where(people < 20, "<x>", np.where(people < 58, "y", "z"))
    right = rng.random(240) < np.where(group == "<x>", 0.5, 0.9)
    frame = pd.DataFrame({"sample": [f"s{i}" for i in range(240)], "fold": 1, "subject": [f"p{i}" for i in people]})
    frame = frame.assign(label=label, predicted=np.where(right, label, (label + 1) % 4))
    return measure_groups(frame, pd.Series([json.dumps({"sex": each}) for each in group]), CLASSES, 200)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("groups")
    workspace, catalog = finished_project(root)
    assert read_json(workspace.results("folds") / "groups.json")["columns"] == []
    write_json(workspace.results("folds") / "groups.json", measured())
    write_report(workspace, catalog, workspace.reports)
    return root


def test_the_page_has_the_groups_of_the_run_that_has_some(root: Path):
    (column,) = measured()["columns"]
    x, y, z = column["groups"]
    text = (root / "reports" / "index.html").read_text(encoding="utf-8")
    assert text.count("<h3>Groups of people</h3>") == 1
    section = text.split("<h3>Groups of people</h3>")[1].split("<h3>")[0]
    assert "no proof of discrimination, and its absence none of fairness" in section
    assert '<th scope="row">&lt;x&gt;</th>' in section
    cell = f"{100 * x['uar']:.1f} [{100 * x['uar_low']:.1f}, {100 * x['uar_high']:.1f}]"
    assert f'<td class="number">{cell}</td>' in section
    assert section.count("too few") == 3
    assert f"{100 * column['gaps']['war']['difference']:.1f} [" in section
    assert "y − &lt;x&gt;, by chance" in section
    assert "1 pair of groups was compared" in section
    assert f"p of the UAR gap {column['p']:.2g} ({column['p']:.2g})" in section
    with (root / "reports" / "groups.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["column"], row["group"], row["few"]) for row in rows] == [
        ("folds", "sex", "<x>", "False"),
        ("folds", "sex", "y", "False"),
        ("folds", "sex", "z", "True"),
    ]
    assert float(rows[1]["uf1"]) == pytest.approx(y["uf1"])
    assert (rows[2]["n"], rows[2]["war"]) == (str(z["n"]), "")


def test_the_command_shows_them_and_gives_them_to_programs(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(root)
    found = CliRunner().invoke(cli.app, ["groups", "folds", "folds_again", "--json"])
    assert json.loads(found.stdout)["folds"] == measured()
    monkeypatch.setenv("COLUMNS", "200")
    text = CliRunner().invoke(cli.app, ["groups", "folds", "folds_again"]).stdout
    assert "folds: sex. In per cent" in text
    assert f"{100 * measured()['columns'][0]['groups'][1]['war']:.1f} [" in text
    assert "too few" in text
    assert "folds_again: the dataset has no column of age, gender, ethnicity or skin tone" in text


def test_the_reliability_diagram_has_the_accuracies_before_calibration():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (200, 4))
    label = np.where(rng.random(200) < 0.6, logits.argmax(1), rng.integers(4, size=200))
    temperatures = {1: 2.0, 2: 3.0}
    fold = np.where(np.arange(200) < 120, 1, 2)

    def frame(factor: np.ndarray) -> pd.DataFrame:
        shares = softmax(logits / factor[:, None], axis=1)
        columns = {f"p_{name}": shares[:, i] for i, name in enumerate(CLASSES)}
        same = {"fold": fold, "label": label, "predicted": logits.argmax(1), "confidence": shares.max(1)}
        return pd.DataFrame(same | columns)

    after = frame(np.vectorize(temperatures.get)(fold))
    cards = {number: {"calibration": {"temperature": value}} for number, value in temperatures.items()}
    metrics = {"ece": 0.05, "ece_uncalibrated": 0.2, "nll": 0.8, "nll_uncalibrated": 1.4, "war": 0.6}
    run = run_of(predictions=after, cards=cards, classes=CLASSES, metrics=metrics)
    figure = Figure()
    figures.reliability(figure, run)
    (circles,) = [line for line in figure.axes[0].lines if line.get_label() == "accuracy, not calibrated"]
    before = frame(np.ones(200))
    place = np.minimum((before["confidence"] * BINS).astype(int), BINS - 1)
    right = (before["label"] == before["predicted"]).groupby(place).mean()
    assert circles.get_ydata() == pytest.approx(right.to_numpy())
    assert circles.get_xdata() == pytest.approx(before["confidence"].groupby(place).mean().to_numpy())
    assert figure.legends[0].get_title().get_text() == "ECE 5.0 %, not calibrated 20.0 %"
    entry = RUN_FIGURES["reliability"]
    words = entry.drawn(run).caption
    assert "before the temperatures (2.00 to 3.00, fitted on the validation part); NLL of the test part 1.400" in words
    assert "Before temperature scaling: mean confidence" in entry.alt(run)
