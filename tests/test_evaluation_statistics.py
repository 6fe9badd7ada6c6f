"""Metrics: by hand, against scikit-learn, and by their properties."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from duchenne.evaluation.statistics import calibration, evaluate, evaluate_parts, evaluate_without, mcnemar


def frame(label: list[int], predicted: list[int], **columns: object) -> pd.DataFrame:
    """Predictions with one subject a sample, one fold and confidence 1 unless said otherwise."""
    names = [f"s{i}" for i in range(len(label))]
    default = {"sample": names, "fold": 1, "subject": names, "confidence": 1.0}
    return pd.DataFrame({**default, "label": label, "predicted": predicted, **columns})


@st.composite
def predictions(draw: st.DrawFn, classes: int = 3) -> pd.DataFrame:
    number = draw(st.integers(2, 40))
    whole = st.integers(0, classes - 1)

    def column(values: st.SearchStrategy) -> list:
        return draw(st.lists(values, min_size=number, max_size=number))

    return frame(
        column(whole),
        column(whole),
        subject=[f"p{i}" for i in column(st.integers(0, 8))],
        fold=column(st.integers(1, 3)),
        confidence=column(st.floats(0, 1)),
    )


def test_by_hand():
    # a: 3 of 4 right; b: 1 of 2 right. F1 of a: 2·3 / (4 + 4); of b: 2·1 / (2 + 2).
    m = evaluate(frame([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]), ["a", "b"], 100)
    assert m["war"] == pytest.approx(4 / 6)
    assert m["uar"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert m["uf1"] == pytest.approx((6 / 8 + 2 / 4) / 2)
    assert m["recall_a"] == 3 / 4
    assert m["recall_b"] == 1 / 2
    assert m["ece"] == pytest.approx(2 / 6)  # confidence 1 everywhere, 2 of 6 wrong
    assert m["majority"] == pytest.approx(4 / 6)
    assert (m["n"], m["classes"], m["subjects"], m["folds"], m["resampled"]) == (6, 2, 6, 1, "subjects")


def test_without_copies_by_hand():
    # Without s0 and s5: a 2 of 3 right, b 1 of 1. F1 of a: 2·2 / (3 + 2); of b: 2·1 / (1 + 2).
    table = frame([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0])
    copied = table["sample"].isin(["s0", "s5"]).to_numpy()
    m = evaluate_without(table, copied, ["a", "b"], 100)
    assert m["n_without_duplicates"] == 4
    assert m["war_without_duplicates"] == pytest.approx(3 / 4)
    assert m["uar_without_duplicates"] == pytest.approx((2 / 3 + 1) / 2)
    assert m["uf1_without_duplicates"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert m["war_without_duplicates_low"] < 3 / 4 < m["war_without_duplicates_high"]


def test_without_copies_there_is_nothing_to_leave_out_and_where_all_are_copies_nothing_to_measure():
    table = frame([0, 1], [0, 0])
    assert evaluate_without(table, np.array([False, False]), ["a", "b"], 100) == {}
    assert evaluate_without(table, np.array([True, True]), ["a", "b"], 100) == {"n_without_duplicates": 0}


def test_each_set_of_a_composite_has_its_own_counts():
    names = ["casme2/s1/a", "casme2/s1/b", "casme2/s2/c", "smic/s1/a", "smic/s2/b", "smic/s2/c"]
    table = frame([0, 0, 1, 0, 1, 1], [0, 1, 1, 0, 0, 0], sample=names)
    parts = evaluate_parts(table, table["sample"].str.partition("/")[0], ["a", "b"], 100)
    assert parts["war_casme2"] == pytest.approx(2 / 3)
    assert parts["uar_casme2"] == pytest.approx((1 / 2 + 1) / 2)
    assert parts["uf1_smic"] == pytest.approx((2 / (1 + 3) + 0) / 2)
    assert parts["uar_smic_low"] <= parts["uar_smic"] <= parts["uar_smic_high"]
    assert not {name for name in parts if name.endswith("_samm")}


def test_a_part_of_the_samples_has_the_values_and_intervals_that_it_has_alone():
    random = np.random.default_rng(0)
    table = frame(random.integers(0, 2, 80), random.integers(0, 2, 80))
    part = pd.Series(["x", "y"] * 40)
    alone = evaluate(table[part == "x"], ["a", "b"], 200, seed=3)
    of_parts = evaluate_parts(table, part, ["a", "b"], 200, seed=3)
    without = evaluate_without(table, (part == "y").to_numpy(), ["a", "b"], 200, seed=3)
    for name, end in [(name, end) for name in ("war", "uf1") for end in ("", "_low", "_high")]:
        assert of_parts[f"{name}_x{end}"] == without[f"{name}_without_duplicates{end}"] == alone[f"{name}{end}"]


def test_ece_by_hand():
    # Bin 12 (0.8 to 0.867): 0.81 right, 0.85 wrong: |1 − 1.66|. Bin 9 (0.6 to 0.667): 0.62 right: |1 − 0.62|.
    m = evaluate(frame([0, 0, 0], [0, 1, 0], confidence=[0.81, 0.85, 0.62]), ["a", "b"], 100)
    assert m["ece"] == pytest.approx((0.66 + 0.38) / 3)


def test_calibration_bins_give_the_same_ece():
    random = np.random.default_rng(0)
    table = frame(random.integers(0, 2, 500), random.integers(0, 2, 500), confidence=random.uniform(0.5, 1, 500))
    bins = calibration(table)
    assert bins["n"].sum() == 500
    assert (bins["confidence"].between(bins["low"], bins["high"])).all()
    ece = (bins["n"] * (bins["accuracy"] - bins["confidence"]).abs()).sum() / 500
    assert ece == pytest.approx(evaluate(table, ["a", "b"], 100)["ece"])


def test_a_class_without_test_samples_is_named_and_left_out():
    m = evaluate(frame([0, 0, 1, 1], [0, 2, 1, 1]), ["a", "b", "c"], 100)
    assert m["absent"] == "c"
    assert "recall_c" not in m
    assert m["uar"] == pytest.approx((1 / 2 + 1) / 2)
    json.dumps(m, allow_nan=False)


def test_folds():
    # Fold 1: WAR 1/2, classes a 1, b 0. Fold 2 has class a alone: WAR and UAR 1.
    m = evaluate(frame([0, 1, 0, 0], [0, 0, 0, 0], fold=[1, 1, 2, 2]), ["a", "b"], 100)
    assert m["war"] == 3 / 4
    assert m["war_fold_mean"] == pytest.approx(3 / 4)
    assert m["uar_fold_mean"] == pytest.approx((1 / 2 + 1) / 2)
    assert m["uar_fold_std"] == pytest.approx(np.std([0.5, 1], ddof=1))
    assert m["uar"] == 1 / 2  # pooled: a 3 of 3, b 0 of 1


@given(predictions())
@settings(max_examples=60)
def test_agreement_with_scikit_learn(table: pd.DataFrame):
    m = evaluate(table, ["a", "b", "c"], 100)
    truth, guess = table["label"], table["predicted"]
    present = sorted(truth.unique())
    assert m["war"] == pytest.approx(accuracy_score(truth, guess))
    assert m["uar"] == pytest.approx(recall_score(truth, guess, labels=present, average="macro"))
    assert m["uf1"] == pytest.approx(f1_score(truth, guess, labels=present, average="macro"))


@given(predictions(), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_order_and_names_of_samples_do_not_matter(table: pd.DataFrame, random):
    order = list(range(len(table)))
    random.shuffle(order)
    shuffled = table.iloc[order].assign(sample=[f"x{i}" for i in order])
    one, two = evaluate(table, ["a", "b", "c"], 100), evaluate(shuffled, ["a", "b", "c"], 100)
    estimates = [key for key in one if not key.endswith(("_low", "_high"))]
    assert {k: one[k] for k in estimates} == pytest.approx({k: two[k] for k in estimates})


@given(predictions())
@settings(max_examples=30)
def test_bounds(table: pd.DataFrame):
    m = evaluate(table, ["a", "b", "c"], 100)
    for name in ("war", "uar", "uf1", "ece"):
        assert 0 <= m[f"{name}_low"] <= m[f"{name}_high"] <= 1
        assert 0 <= m[name] <= 1
    assert 1 / 3 <= m["majority"] <= 1


def test_all_right_or_all_wrong_leaves_doubt():
    """By hand: n units are all right with 2.5 % chance where the share of right ones is 0.025 ** (1 / n)."""
    answers = [0, 1] * 48
    right = evaluate(frame(answers, answers), ["a", "b"], 100)
    assert (right["war_low"], right["war_high"]) == (pytest.approx(0.025 ** (1 / 96)), 1)
    assert right["war_low"] == pytest.approx(binomtest(96, 96).proportion_ci(method="exact").low)
    for name in ("uar", "uf1", "recall_a", "recall_b"):  # 48 units a class
        assert (right[f"{name}_low"], right[f"{name}_high"]) == (pytest.approx(0.025 ** (1 / 48)), 1)
    wrong = evaluate(frame(answers, [1, 0] * 48), ["a", "b"], 100)
    assert (wrong["war_low"], wrong["war_high"]) == (0, pytest.approx(1 - 0.025 ** (1 / 96)))
    for name in ("uar", "uf1"):
        assert (wrong[f"{name}_low"], wrong[f"{name}_high"]) == (0, pytest.approx(1 - 0.025 ** (1 / 48)))


def test_samples_of_one_subject_count_as_one_where_all_are_right():
    answers, people = [0, 1] * 48, [f"p{i // 6}" for i in range(96)]  # 16 people, each of both classes
    m = evaluate(frame(answers, answers, subject=people), ["a", "b"], 100)
    for name in ("war", "uar", "uf1", "recall_a"):
        assert m[f"{name}_low"] == pytest.approx(0.025 ** (1 / 16))


def test_a_network_that_gives_every_face_one_class_has_the_exact_intervals_of_its_recalls():
    """By hand: 12 people of each class, of whom all are right in one class and none in the others."""
    answers, people = [0, 1, 2] * 12, [f"p{i // 3}" for i in range(36)]
    m = evaluate(frame(answers, [0] * 36, subject=people), ["a", "b", "c"], 100)
    least = 0.025 ** (1 / 12)
    assert m["uar"] == pytest.approx(1 / 3)
    assert m["uar_low"] == pytest.approx((least + 0 + 0) / 3)
    assert m["uar_high"] == pytest.approx((1 + 2 * (1 - least)) / 3)
    assert (m["recall_a_low"], m["recall_b_high"]) == (pytest.approx(least), pytest.approx(1 - least))


def test_a_sample_without_a_subject_stands_for_itself():
    people = ["p"] * 4 + ["q"] * 4 + [None] * 4  # two people and four samples
    m = evaluate(frame([0, 1] * 6, [0, 1] * 6, subject=people), ["a", "b"], 100)
    assert (m["war_low"], m["resampled"]) == (pytest.approx(0.025 ** (1 / 6)), "subjects")


def test_a_class_that_is_always_right_leaves_doubt_while_others_vary():
    m = evaluate(frame([0] * 5 + [1] * 40, [0] * 5 + [0, 1] * 20), ["a", "b"], 200)
    assert (m["recall_a_low"], m["recall_a_high"]) == (pytest.approx(0.025 ** (1 / 5)), 1)
    assert m["war_low"] > 0.3


def test_people_who_are_all_alike_leave_doubt():
    """Each is right about one of two classes: every resample has the same value, which nobody knows that well."""
    people = [f"p{i // 2}" for i in range(24)]
    m = evaluate(frame([0, 1] * 12, [0, 0] * 12, subject=people), ["a", "b"], 100)
    ends = binomtest(6, 12).proportion_ci(method="exact")
    assert (m["war_low"], m["war_high"]) == (pytest.approx(ends.low), pytest.approx(ends.high))
    assert m["uf1"] == pytest.approx(1 / 3)
    assert m["uf1_low"] < 1 / 3 < m["uf1_high"]


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    random = np.random.default_rng(0)
    table = frame(random.integers(0, 3, 90), random.integers(0, 3, 90))
    one, two, other = (evaluate(table, ["a", "b", "c"], 300, seed) for seed in (1, 1, 2))
    assert one == two
    assert one["uf1_low"] != other["uf1_low"]


def test_the_stream_of_resamples_stays_what_it_was():
    """Results written by other versions stay comparable: values of a table drawn from a seed, as first computed."""
    random = np.random.default_rng(0)
    table = random.dirichlet([1, 1, 1], 90)
    people, folds = [f"p{i // 6}" for i in range(90)], (1 + np.arange(90) // 45).tolist()
    own = frame([i % 3 for i in range(90)], table.argmax(axis=1).tolist(), subject=people, fold=folds)
    found = evaluate(own.assign(confidence=table.max(axis=1)), ["a", "b", "c"], 200, seed=3)
    expected = {
        "war": (0.35555555555555557, 0.25527777777777777, 0.45583333333333337),
        "uar": (0.35555555555555557, 0.25527777777777777, 0.45583333333333337),
        "uf1": (0.3562163587571936, 0.2535465755941286, 0.4531927051140382),
        "ece": (0.2365949647298233, 0.17431956713217672, 0.3693514408882576),
    }
    for name, values in expected.items():
        assert [found[name + end] for end in ("", "_low", "_high")] == pytest.approx(values, rel=1e-12)
    assert found["uar_fold_std"] == pytest.approx(0.06285393610547094, rel=1e-12)


def test_samples_of_one_subject_are_drawn_together():
    # Ten people, each right always or never: 100 samples tell as little as ten.
    right = np.repeat([0, 1], 50)
    people = np.repeat(np.arange(10), 10).astype(str)
    by_subject = evaluate(frame([0] * 100, right.tolist(), subject=people), ["a", "b"], 2000)
    by_sample = evaluate(frame([0] * 100, right.tolist(), subject=None), ["a", "b"], 2000)
    assert (by_subject["resampled"], by_sample["resampled"]) == ("subjects", "samples")
    assert by_sample["subjects"] == 0
    wide, narrow = (m["war_high"] - m["war_low"] for m in (by_subject, by_sample))
    assert wide == pytest.approx(narrow * 10**0.5, rel=0.15)


def test_one_subject_alone_says_nothing_about_others():
    assert evaluate(frame([0, 1, 1], [0, 1, 0], subject="p"), ["a", "b"], 100)["resampled"] == "samples"


def test_many_samples_are_resampled_in_blocks(monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(0)
    table = frame(random.integers(0, 2, 200), random.integers(0, 2, 200))
    whole = evaluate(table, ["a", "b"], 500)
    monkeypatch.setattr("duchenne.evaluation.statistics.BLOCK", 200 * 7)
    assert evaluate(table, ["a", "b"], 500) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": [0, 5]}, "label 5 of sample 's1' is not one of the 2 classes"),
        ({"predicted": [-1, 0]}, "predicted -1 of sample 's0' is not one of the 2 classes"),
        ({"sample": ["x", "x"]}, "sample 'x' is predicted twice"),
        ({"confidence": [0.5, np.nan]}, "confidence lies outside"),
    ],
)
def test_what_cannot_be_measured_is_refused(change: dict[str, list], message: str):
    with pytest.raises(ValueError, match=message):
        evaluate(frame([0, 1], [0, 1]).assign(**change), ["a", "b"], 100)


def test_no_predictions_are_refused():
    with pytest.raises(ValueError, match="no predictions"):
        evaluate(frame([0], [0]).iloc[:0], ["a", "b"], 100)


def test_mcnemar_by_hand():
    # Only the first is right on 5 samples, only the second on 1: p = 2 (C(6,0) + C(6,1)) / 2⁶ = 14/64.
    label = [0] * 10
    first = frame(label, [0] * 5 + [1] + [0] * 4)
    second = frame(label, [1] * 5 + [0] + [0] * 4)
    assert mcnemar(first, second) == (5, 1, pytest.approx(14 / 64))
    assert mcnemar(first, second.sample(frac=1, random_state=0)) == mcnemar(first, second)
    assert mcnemar(first, first) == (0, 0, 1)


def test_mcnemar_needs_the_same_samples():
    with pytest.raises(ValueError, match="same test samples"):
        mcnemar(frame([0, 1], [0, 1]), frame([0, 1, 1], [0, 1, 1]))


@pytest.mark.slow
def test_intervals_cover_the_true_accuracy():
    # 60 people of 5 samples; each person has their own accuracy around 0.7, so samples of one person are alike.
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(60), 5)
    covered = 0
    for trial in range(300):
        skill = random.beta(7, 3, 60)[people]
        wrong = (random.random(300) > skill).astype(int)
        m = evaluate(frame([0] * 300, wrong.tolist(), subject=people.astype(str)), ["a", "b"], 400, seed=trial)
        covered += m["war_low"] <= 0.7 <= m["war_high"]
    assert 0.90 <= covered / 300 <= 0.98
