"""Figures: well-formed, the same every time, right numbers, and ready for a page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from duchenne.evaluation import calibration, evaluate
from duchenne.reporting import figures

CLASSES = ["happiness", "surprise", "anger"]


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    random = np.random.default_rng(0)
    label = np.repeat([0, 1, 1, 2], 10)
    return pd.DataFrame(
        {
            "sample": [f"s{i}" for i in range(40)],
            "fold": 1,
            "subject": [f"p{i % 8}" for i in range(40)],
            "label": label,
            "predicted": np.where(random.random(40) < 0.7, label, 0),
            "confidence": random.uniform(0.4, 1, 40),
        }
    )


def draw_all(predictions: pd.DataFrame) -> dict[str, str]:
    random = np.random.default_rng(1)
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3] * 2,
            "fold": [1] * 3 + [2] * 3,
            "train_loss": random.random(6),
            "train_war": random.random(6),
            "val_loss": random.random(6),
            "val_uar": random.random(6),
        }
    )
    parts = pd.DataFrame({"part": ["train", "train", "val", "test"], "label": [0, 1, 2, 0]})
    points, labels = random.normal(size=(40, 2)), predictions["label"].to_numpy()
    return {
        "confusion": figures.confusion(predictions, CLASSES),
        "curves": figures.curves(history, {1: 2, 2: 3}),
        "recalls": figures.recalls(evaluate(predictions, CLASSES, 100), CLASSES),
        "reliability": figures.reliability(calibration(predictions), 0.1),
        "embedding": figures.embedding(points, labels, CLASSES),
        "balance": figures.balance(parts, CLASSES),
    }


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_every_figure_is_svg_and_the_same_twice(predictions: pd.DataFrame):
    first, second = draw_all(predictions), draw_all(predictions)
    for name, svg in first.items():
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert svg == second[name]


def test_the_cells_of_the_confusion_matrix_are_the_counts(predictions: pd.DataFrame):
    shown = texts(figures.confusion(predictions, CLASSES))
    counts = pd.crosstab(predictions["label"], predictions["predicted"]).reindex(columns=range(3), fill_value=0)
    assert [int(text) for text in shown if text.isdigit()] == counts.to_numpy().ravel().tolist()
    assert "10 %" in shown or "100 %" in shown


@pytest.mark.parametrize("number", [2, 8, 15])
def test_the_confusion_matrix_takes_any_number_of_classes(number: int):
    frame = pd.DataFrame({"label": np.arange(number), "predicted": np.arange(number)})
    shown = texts(figures.confusion(frame, [f"class {i}" for i in range(number)]))
    assert shown.count("100 %") == number


def test_a_history_without_a_validation_part_shows_no_such_curve():
    history = pd.DataFrame({"epoch": [1], "fold": [1], "train_loss": [1.0], "train_war": [0.5], "val_loss": [np.nan]})
    shown = texts(figures.curves(history, {1: 1}))
    assert "training" in shown
    assert "validation" not in shown


def test_many_points_are_drawn_as_pixels():
    number = figures.VECTOR_POINTS + 1
    svg = figures.embedding(np.random.default_rng(0).normal(size=(number, 2)), np.zeros(number, int), CLASSES)
    assert "data:image/png" in svg
    assert len(svg) < 1_000_000


def test_inline_figures_share_a_page(predictions: pd.DataFrame):
    one, two = (
        figures.inline(figures.confusion(predictions, CLASSES), prefix, 'A <label> & "more"') for prefix in "ab"
    )
    ids_one, ids_two = (set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two))
    assert ids_one
    assert not ids_one & ids_two
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', one)[0]) <= {*ids_one, ""}
    assert ElementTree.fromstring(one).get("aria-label") == 'A <label> & "more"'
    assert not any(colour in one for colour in figures.VARIABLES)
    assert "<?xml" not in one
