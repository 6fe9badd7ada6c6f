"""Accuracy by factor: bins, values, and columns that are not factors."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from duchenne.reporting.factors import factors_of

CLASSES = ["happiness", "anger"]


def measured(factors: list[object], right: list[bool]) -> dict[str, tuple[bool, pd.DataFrame]]:
    """Factors of samples by name, where ``factors`` holds an object or None for each."""
    number = len(factors)
    samples = [f"s{i}" for i in range(number)]
    label = np.arange(number) % 2
    predictions = pd.DataFrame(
        {
            "sample": samples,
            "fold": 1,
            "subject": [f"p{i}" for i in range(number)],
            "label": label,
            "predicted": np.where(right, label, 1 - label),
            "confidence": 0.8,
        }
    )
    texts = [None if item is None else json.dumps(item) for item in factors]
    found = factors_of(predictions.assign(factors=texts), CLASSES, 100, 0)
    return {name: (numeric, table) for name, numeric, table in found}


def test_numbers_are_binned_by_quantiles_and_words_by_value():
    right = [i >= 40 for i in range(100)]
    found = measured([{"yaw": i / 10, "light": "left" if i < 50 else "right"} for i in range(100)], right)
    numeric, yaw = found["yaw"]
    assert numeric
    assert yaw["n"].tolist() == [20] * 5
    assert yaw["war"].tolist() == [0, 0, 1, 1, 1]
    assert yaw["middle"].tolist() == pytest.approx([0.95, 2.95, 4.95, 6.95, 8.95])
    numeric, light = found["light"]
    assert not numeric
    assert light[["value", "n", "war"]].to_numpy().tolist() == [["left", 50, 0.2], ["right", 50, 1.0]]
    assert (light["low"] <= light["war"]).all()
    assert (light["war"] <= light["high"]).all()


def test_few_numbers_are_values_in_their_order():
    _, table = measured([{"scale": 10 if i % 2 else 9} for i in range(20)], [i % 2 == 0 for i in range(20)])["scale"]
    assert table[["value", "war"]].to_numpy().tolist() == [["9", 1.0], ["10", 0.0]]


def test_truth_values_are_words():
    numeric, table = measured([{"beard": i < 5} for i in range(20)], [True] * 20)["beard"]
    assert not numeric
    assert table["n"].tolist() == [15, 5]


def test_what_is_the_same_everywhere_or_a_name_or_a_list_is_no_factor():
    items = [{"camera": "one", "file": f"{i}.jpg", "points": [i], "gone": None} for i in range(20)]
    assert not measured(items, [True] * 20)


def test_samples_without_the_value_are_left_out():
    _, table = measured([{"light": "left"}, {"light": "right"}, None, {"light": None}, {}], [True] * 5)["light"]
    assert table["n"].tolist() == [1, 1]


def test_no_factors_at_all():
    assert not measured([None] * 5, [True] * 5)
