"""Metrics by group of people: against scikit-learn, an independent bootstrap and an independent permutation test."""

from __future__ import annotations

import json
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets_tools import index
from sklearn.metrics import accuracy_score, f1_score, recall_score

from duchenne.evaluation.groups import (
    SAMPLES,
    SUBJECTS,
    attribute_of,
    flat_gaps,
    grouped,
    holm,
    measure_groups,
)

CLASSES = ["happiness", "anger", "fear"]


def people(number: int, each: int, right: dict[str, float], seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    """Predictions of ``each`` samples of people, alternately of the groups in ``right``, which is how often right."""
    rng = np.random.default_rng(seed)
    names = list(right)
    rows, factors = [], []
    for person in range(number):
        group = names[person % len(names)]
        for k in range(each):
            label = int(rng.integers(3))
            predicted = label if rng.random() < right[group] else int(rng.integers(3))
            sample = {"sample": f"s{person}_{k}", "fold": 1, "subject": f"p{person}"}
            rows.append(sample | {"label": label, "predicted": predicted})
            factors.append(json.dumps({"gender": group, "yaw": float(rng.normal())}))
    return pd.DataFrame(rows), pd.Series(factors)


@pytest.fixture(scope="module")
def three() -> tuple[pd.DataFrame, np.ndarray, dict]:
    """Three groups, of which the third is worse: the predictions, the group of each and the result for the column."""
    predictions, factors = people(36, 6, {"a": 0.9, "b": 0.85, "c": 0.5})
    found = measure_groups(predictions, factors, CLASSES, 4000, seed=1)
    (column,) = found["columns"]
    return predictions, np.array([json.loads(text)["gender"] for text in factors]), column


def of(predictions: pd.DataFrame, chosen: np.ndarray) -> tuple[list[int], list[int]]:
    return predictions["label"][chosen].tolist(), predictions["predicted"][chosen].tolist()


def test_groups_have_the_values_of_scikit_learn(three: tuple):
    predictions, groups, column = three
    assert [row["group"] for row in column["groups"]] == ["a", "b", "c"]
    for row in column["groups"]:
        truth, guess = of(predictions, groups == row["group"])
        assert (row["n"], row["subjects"], row["few"]) == (72, 12, False)
        assert row["war"] == pytest.approx(accuracy_score(truth, guess))
        assert row["uar"] == pytest.approx(recall_score(truth, guess, average="macro"))
        assert row["uf1"] == pytest.approx(f1_score(truth, guess, average="macro"))
        assert row["war_low"] < row["war"] < row["war_high"]
    f1 = [row["uf1"] for row in column["groups"]]
    assert column["measures"]["mean_uf1"]["value"] == pytest.approx(np.mean(f1))


def test_measures_of_the_protocol_by_their_definition(three: tuple):
    predictions, groups, column = three
    shares, recalls = [], []
    for group in "abc":
        truth, guess = of(predictions, groups == group)
        shares.append(np.bincount(guess, minlength=3) / len(guess))
        recalls.append(recall_score(truth, guess, average=None))
    distances = [0.5 * sum(abs(a - b)) for a, b in combinations(shares, 2)]
    assert column["measures"]["statistical_parity"]["value"] == pytest.approx(np.mean(distances))
    spread = np.max(recalls, axis=0) - np.min(recalls, axis=0)
    assert column["measures"]["equal_opportunity"]["value"] == pytest.approx(spread.mean())


def test_the_gap_has_the_interval_of_a_bootstrap_over_people(three: tuple):
    predictions, groups, column = three
    gap = column["gaps"]["war"]
    right = (predictions["label"] == predictions["predicted"]).to_numpy()
    shares = {group: right[groups == group].mean() for group in "abc"}
    most, least = max(shares, key=shares.get), min(shares, key=shares.get)
    assert (gap["largest"], gap["smallest"]) == (most, least)
    assert gap["difference"] == pytest.approx(shares[most] - shares[least])
    rng, places = np.random.default_rng(9), predictions.groupby("subject").indices
    names, drawn = list(places), []
    for _ in range(4000):
        rows = np.concatenate([places[names[i]] for i in rng.integers(len(names), size=len(names))])
        drawn.append(right[rows][groups[rows] == most].mean() - right[rows][groups[rows] == least].mean())
    assert [gap["low"], gap["high"]] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.012)


def test_p_is_that_of_a_permutation_of_groups_among_people():
    predictions, factors = people(30, 4, {"a": 0.85, "b": 0.7, "c": 0.72}, seed=2)
    (column,) = measure_groups(predictions, factors, CLASSES, 4000)["columns"]
    groups = np.array([json.loads(text)["gender"] for text in factors])
    truth, guess = predictions["label"].to_numpy(), predictions["predicted"].to_numpy()
    owners = predictions.groupby("subject", sort=False).head(1).index.to_numpy()
    place = pd.factorize(predictions["subject"])[0]

    def gap(of_samples: np.ndarray) -> float:
        recalls = []
        for group in "abc":
            own = of_samples == group
            recalls.append(np.mean([(guess[own & (truth == k)] == k).mean() for k in np.unique(truth[own])]))
        return max(recalls) - min(recalls)

    rng = np.random.default_rng(5)
    spread = np.array([gap(rng.permutation(groups[owners])[place]) for _ in range(1500)])
    assert column["gaps"]["uar"]["difference"] == pytest.approx(gap(groups))
    assert column["p"] == pytest.approx((spread >= gap(groups)).mean(), abs=0.04)
    assert column["gaps"]["uar"]["chance"] == pytest.approx(spread.mean(), abs=0.006)
    assert column["p_holm"] == column["p"]


def test_a_real_difference_is_found_and_none_is_not():
    predictions, factors = people(40, 8, {"a": 1.0, "b": 0.4})
    assert measure_groups(predictions, factors, CLASSES, 500)["columns"][0]["p"] < 0.005
    ps = []
    for seed in range(40):
        predictions, factors = people(24, 5, {"a": 0.7, "b": 0.7, "c": 0.7}, seed)
        ps += [column["p"] for column in measure_groups(predictions, factors, CLASSES, 100)["columns"]]
    assert np.mean(np.array(ps) < 0.5) == pytest.approx(0.5, abs=0.25)


def test_small_groups_are_counted_and_not_measured():
    predictions, factors = people(24, 3, {"a": 0.8, "b": 0.8, "c": 0.8, "d": 0.8})
    found = measure_groups(predictions, factors, CLASSES, 100)
    assert found["columns"][0]["groups"][0] == {"group": "a", "n": 18, "subjects": 6, "classes": 3, "few": True}
    assert "gaps" not in found["columns"][0]
    assert (found["comparisons"], found["tests"], flat_gaps(found)) == (0, 0, {})
    predictions, factors = people(8, 20, {"a": 0.8, "b": 0.8})  # 80 samples, of 4 people
    assert [row["few"] for row in measure_groups(predictions, factors, CLASSES, 100)["columns"][0]["groups"]] == [1, 1]
    nameless = predictions.assign(subject=None)
    column = measure_groups(nameless, factors, CLASSES, 100)["columns"][0]
    assert [row["few"] for row in column["groups"]] == [False, False]
    assert (SAMPLES, SUBJECTS) == (30, 5)


def test_a_person_in_two_groups_is_drawn_once_and_not_tested():
    predictions, _ = people(20, 6, {"a": 0.8, "b": 0.6})
    ages = pd.Series([json.dumps({"age": 25 if i % 2 else 45}) for i in range(len(predictions))])
    (column,) = measure_groups(predictions, ages, CLASSES, 200)["columns"]
    assert (column["p"], column["gaps"]["uar"]["chance"], "p_holm" in column) == (None, None, False)
    assert column["gaps"]["uar"]["low"] < column["gaps"]["uar"]["difference"] < column["gaps"]["uar"]["high"]


def test_without_an_error_the_interval_is_not_a_point():
    predictions, factors = people(20, 6, {"a": 1.0, "b": 1.0})
    gap = measure_groups(predictions, factors, CLASSES, 100)["columns"][0]["gaps"]["war"]
    assert (gap["difference"], gap["low"], gap["high"]) == (
        0,
        pytest.approx(-0.308, abs=1e-3),
        pytest.approx(0.308, abs=1e-3),
    )


def test_only_columns_of_people_are_groups_and_the_test_is_corrected_for_their_number():
    predictions, factors = people(30, 6, {"a": 0.9, "b": 0.6})
    more = [
        json.dumps(json.loads(text) | {"Race": "xyz"[i // 6 % 3], "light": "left" if i % 2 else "right", "sex": "one"})
        for i, text in enumerate(factors)
    ]
    found = measure_groups(predictions, pd.Series(more), CLASSES, 300)
    assert [(column["column"], column["attribute"]) for column in found["columns"]] == [
        ("gender", "gender"),
        ("Race", "ethnicity"),
    ]
    assert (found["comparisons"], found["tests"]) == (1 + 3, 2)
    assert [column["p_holm"] for column in found["columns"]] == holm([column["p"] for column in found["columns"]])
    flat = flat_gaps(found)
    assert set(flat) == {
        f"{m}_gap_{c}{e}" for m in ("war", "uar", "uf1") for c in ("gender", "race") for e in ("", "_low", "_high")
    }
    assert flat["uar_gap_gender"] == found["columns"][0]["gaps"]["uar"]["difference"]


def test_no_factors_are_no_groups():
    predictions, _ = people(10, 2, {"a": 1.0})
    empty = {"limits": {"samples": 30, "subjects": 5}, "comparisons": 0, "tests": 0, "columns": []}
    assert measure_groups(predictions, pd.Series([None] * 20), CLASSES, 100) == empty


@pytest.mark.parametrize(
    ("name", "values", "expected", "edges"),
    [
        (
            "age",
            ["2.9", 3, 9.99, "10", 70, None],
            ["under 3", "3 to under 10", "3 to under 10", "10 to under 20", "70 and over", None],
            8,
        ),
        ("Age", ["20-39", "4-19", "70+"], ["20-39", "4-19", "70+"], 0),
        ("tone", [0.2, 1.5, 3.0], ["under 1.5", "1.5 to under 3", "3 and over"], 2),
        ("fitzpatrick", ["1", "6", "", "6"], ["1", "6", None, "6"], 0),
        ("melanin", [0.1, 0.2, 0.3, 0.4], ["under 0.2", "0.2 to under 0.3", "0.3 and over", "0.3 and over"], 2),
        ("gender", ["male", "Unsure", "female", " male"], ["male", None, "female", "male"], 0),
    ],
)
def test_values_become_groups(name: str, values: list, expected: list, edges: int):
    found, ends = grouped(pd.Series(values, name=name, dtype=object))
    assert found.astype(object).where(found.notna(), None).tolist() == expected
    assert len(ends) == edges


def test_names_of_columns():
    named = {"Sex": "gender", "Age group": "age", "skin-tone": "skin tone", "ETHNICITY": "ethnicity", "agent": None}
    assert {name: attribute_of(name) for name in named} == named


def test_holm_by_hand():
    assert holm([0.04, 0.001, 0.03, 0.9]) == pytest.approx([0.09, 0.004, 0.09, 0.9])
    assert holm([]) == []


@pytest.mark.skipif("DUCHENNE_SHARED" not in os.environ, reason="needs the London set")
def test_the_london_set_has_groups_of_people():
    root = Path(os.environ["DUCHENNE_SHARED"]) / "data" / "london"
    if not root.is_dir():
        pytest.skip("needs the London set")
    rows = index("manifest", root, classes=["happiness", "neutral"], labels={"smiling": "happiness"}).rows
    frame = rows[["sample", "subject", "label"]].assign(fold=1, predicted=rows["label"])
    found = measure_groups(frame.reset_index(drop=True), rows["factors"].reset_index(drop=True), ["a", "b"], 100)
    columns = {column["column"]: column for column in found["columns"]}
    assert set(columns) == {"age", "gender", "ethnicity"}
    manifest = pd.read_csv(root / "manifest.csv")
    counts = manifest["gender"].value_counts()
    assert {row["group"]: row["n"] for row in columns["gender"]["groups"]} == counts.to_dict()
    assert sum(row["n"] for row in columns["age"]["groups"]) == manifest["age"].notna().sum()
    assert columns["age"]["unknown"] == manifest["age"].isna().sum()
