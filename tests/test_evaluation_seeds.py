"""Predictions of several seeds: values by hand, intervals against another computation, comparisons."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from duchenne.errors import UserError
from duchenne.evaluation.comparing import compare
from duchenne.evaluation.groups import measure_groups
from duchenne.evaluation.rules import by_rule, measure_rules
from duchenne.evaluation.statistics import (
    by_fold,
    by_seed,
    evaluate,
    evaluate_without,
    in_resamples,
    of_first_seed,
    tables_of,
    units_of,
)
from duchenne.metrics import METRICS

TWO = ["a", "b"]


def seeds(label: str, predicted: dict[int, str], subject: str | None = None, fold: str | None = None) -> pd.DataFrame:
    """Predictions of each seed, samples in another order for each."""
    names = [f"s{i}" for i in range(len(label))]
    frames = []
    for seed, answers in predicted.items():
        frame = pd.DataFrame({"sample": names, "seed": seed, "label": list(map(int, label))})
        frame["predicted"] = list(map(int, answers))
        frame["fold"] = 1 if fold is None else list(map(int, fold))
        frame["subject"] = names if subject is None else list(subject)
        frames.append(frame.sample(frac=1, random_state=seed))
    return pd.concat(frames, ignore_index=True)


def drawn(number: int, samples: int = 60, right: float = 0.7, first: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(number)
    labels = "".join(map(str, rng.integers(2, size=samples)))
    answers = {
        seed: "".join(label if rng.random() < right else str(1 - int(label)) for label in labels)
        for seed in range(first, first + number)
    }
    return seeds(labels, answers, subject="".join(chr(97 + i // 4) for i in range(samples)))


def test_values_by_hand():
    # seed 3: 3 of 4 and 1 of 2 right; seed 7: 4 of 4 and 0 of 2
    frame = seeds("000011", {3: "000110", 7: "000000"}, fold="112212")
    m = evaluate(frame, TWO, 100)
    assert m["war"] == pytest.approx((4 / 6 + 4 / 6) / 2)
    assert m["uar"] == pytest.approx(((3 / 4 + 1 / 2) / 2 + (1 + 0) / 2) / 2)
    assert m["recall_a"] == pytest.approx((3 / 4 + 1) / 2)
    assert m["uf1"] == pytest.approx(((6 / 8 + 2 / 4) / 2 + (8 / 10 + 0) / 2) / 2)
    assert m["uar_seed_std"] == pytest.approx(np.std([0.625, 0.5], ddof=1))
    assert m["uar_seed_best"] == pytest.approx(0.625)
    assert m["war_seed_std"] == pytest.approx(0)
    assert (m["seeds"], m["n"], m["subjects"], m["folds"], m["majority"]) == (2, 6, 6, 2, pytest.approx(4 / 6))
    # folds: samples 0, 1, 4 and 2, 3, 5; WAR of seed 3: 3/3 and 1/3, of seed 7: 2/3 and 2/3
    assert by_fold(frame, TWO)["war"].loc[[1, 2]].tolist() == pytest.approx([5 / 6, 1 / 2])
    assert m["war_fold_mean"] == pytest.approx(2 / 3)
    assert m["war_fold_std"] == pytest.approx(np.std([5 / 6, 1 / 2], ddof=1))
    assert by_seed(frame, TWO)["uar"].to_dict() == pytest.approx({3: 0.625, 7: 0.5})


def test_best_is_the_lowest_where_lower_is_better():
    frame = seeds("01", {0: "01", 1: "00"}).assign(confidence=0.9)
    m = evaluate(frame, TWO, 10)
    assert m["ece_seed_best"] == pytest.approx(0.1)  # of seed 0; seed 1: |0.5 - 0.9|
    assert m["ece"] == pytest.approx((0.1 + 0.4) / 2)


def test_one_seed_is_as_none():
    frame = drawn(1)
    assert evaluate(frame, TWO, 200, 5) == evaluate(frame.drop(columns="seed"), TWO, 200, 5)


def test_the_same_answers_with_every_seed_are_as_one_seed():
    frame = drawn(1)
    thrice = pd.concat([frame.assign(seed=seed) for seed in (0, 1, 2)])
    several = evaluate(thrice, TWO, 200, 5)
    for key, value in evaluate(frame, TWO, 200, 5).items():
        assert several[key] == pytest.approx(value), key
    assert several["war_seed_std"] == pytest.approx(0, abs=1e-12)


def test_intervals_draw_subjects_and_one_seed_less_than_there_are():
    frame = drawn(3)
    right = frame.assign(right=frame["label"] == frame["predicted"]).pivot_table("right", "subject", "seed", "sum")
    m = evaluate(frame, TWO, 4000, 2)
    rng = np.random.default_rng(0)
    people = rng.integers(len(right), size=(20000, len(right)))
    chosen = rng.integers(3, size=(20000, 2))
    values = np.stack([right.to_numpy()[people].sum(axis=1)[np.arange(20000), chosen[:, i]] for i in (0, 1)])
    ends = np.percentile(values.mean(axis=0) / 60, [2.5, 97.5])
    assert [m["war_low"], m["war_high"]] == pytest.approx(ends, abs=0.012)
    alone = evaluate(of_first_seed(frame), TWO, 4000, 2)
    assert m["war_high"] - m["war_low"] != pytest.approx(alone["war_high"] - alone["war_low"], abs=0.005)


@pytest.mark.parametrize("number", [2, 3, 8])
def test_the_spread_over_seeds_has_the_variance_of_their_mean(number: int):
    """All people are alike, so that only seeds differ: the variance of the mean is s² / n, without bias."""
    shares = np.random.default_rng(number).permutation(np.arange(number))
    frame = seeds("0" * 8, {seed: "0" * share + "1" * (8 - share) for seed, share in enumerate(shares)}, "x" * 8)
    people = pd.concat([frame.assign(sample=frame["sample"] + name, subject=name) for name in "pqr"])
    table = tables_of(people, TWO, units_of(people)[0])
    (spread,) = in_resamples([table], [METRICS["war"]], TWO, 20000, 0)
    values = shares / 8
    assert spread["war"].var() == pytest.approx(values.var(ddof=1) / number, rel=0.05)
    assert spread["war"].mean() == pytest.approx(values.mean(), abs=0.01)


def test_without_subjects_samples_are_drawn_not_rows():
    frame = drawn(2).assign(subject=None)
    m = evaluate(frame, TWO, 500)
    assert (m["resampled"], m["n"], m["subjects"]) == ("samples", 60, 0)
    twice = pd.concat([frame.assign(seed=frame["seed"] + more) for more in (0, 2)])  # no more people than before
    width = m["war_high"] - m["war_low"]
    again = evaluate(twice, TWO, 500)
    assert again["war_high"] - again["war_low"] > 0.7 * width


def test_copies_are_left_out_for_every_seed():
    frame = seeds("000011", {3: "000110", 7: "000000"})
    found = evaluate_without(frame, frame["sample"].isin(["s0", "s5"]).to_numpy(), TWO, 50)
    assert found["n_without_duplicates"] == 4
    assert found["war_without_duplicates"] == pytest.approx((3 / 4 + 3 / 4) / 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.iloc[:-1], "no prediction with one of the seeds"),
        (lambda frame: frame.assign(label=[1 - frame["label"].iloc[0], *frame["label"][1:]]), "another label with"),
        (lambda frame: pd.concat([frame, frame[:1]]), "is predicted twice"),
    ],
)
def test_seeds_that_do_not_predict_the_same_samples_are_refused(change, message: str):
    with pytest.raises(UserError, match=message):
        evaluate(change(drawn(2)), TWO, 10)


def test_a_comparison_is_paired_over_people_and_seeds():
    first = drawn(3)
    wrong = (first["sample"].str[1:].astype(int) % 10 == 0).to_numpy()  # 6 samples, made wrong for every seed
    second = first.assign(predicted=np.where(wrong, 1 - first["label"], first["predicted"]))
    found = compare(first, second, TWO, 500, 0)
    lost = (wrong & (first["label"] == first["predicted"])).to_numpy().sum() / 180
    row = found.metrics.loc["war"]
    assert row["difference"] == pytest.approx(-lost)
    assert row["low"] < -lost < row["high"] <= 0
    # as if the seeds were not the same: each draws its own, and the interval is wider
    apart = compare(first, second.assign(seed=second["seed"] + 3), TWO, 500, 0).metrics.loc["war"]
    assert apart["difference"] == pytest.approx(-lost)
    assert apart["high"] - apart["low"] > 1.2 * (row["high"] - row["low"])
    assert found.mcnemar is None
    a, b = (of_first_seed(frame).set_index("sample")["predicted"] for frame in (first, second))
    assert set(found.disagreements.index) == {name for name in a.index if a[name] != b[name]}
    assert found.per_class["n"].sum() == 60


def test_several_seeds_are_compared_with_one():
    first, second = drawn(3), drawn(3)
    second = second[second["seed"] == 1].drop(columns="seed")
    row = compare(first, second, TWO, 200).metrics.loc["war"]
    each = by_seed(first, TWO)["war"]
    assert row["difference"] == pytest.approx(each[1] - each.mean())
    assert row["low"] < row["difference"] < row["high"]


def kept(epochs: dict[str, tuple[int, str]]) -> pd.DataFrame:
    tables = []
    for rule, (epoch, answers) in epochs.items():
        logits = np.float32([[5, 0] if answer == "0" else [0, 5] for answer in answers])
        names = [f"s{i}" for i in range(len(answers))]
        known = {"rule": rule, "epoch": epoch, "sample": names, "logit_a": logits[:, 0], "logit_b": logits[:, 1]}
        tables.append(pd.DataFrame(known))
    return pd.concat(tables)


def test_each_network_chooses_its_own_epoch():
    frame = seeds("0011", {0: "0010", 1: "0111"})
    tables = {
        (0, 1): kept({"last": (4, "0010"), "test": (2, "0011")}),
        (1, 1): kept({"last": (4, "0111"), "test": (4, "0111")}),
    }
    found = measure_rules(by_rule(frame, tables, TWO, "last"), TWO, "uar", 100)
    assert found["war_rule_last"] == pytest.approx((3 / 4 + 3 / 4) / 2)
    assert found["war_rule_test"] == pytest.approx((1 + 3 / 4) / 2)
    assert found["war_test_minus_last"] == pytest.approx(1 / 8)
    assert found["epoch_rule_test"] == 3
    with pytest.raises(UserError, match="seed 1, fold 1 lacks the sample"):
        by_rule(frame, tables | {(1, 1): tables[1, 1][:3]}, TWO, "last")


def test_groups_count_people_once():
    frame = drawn(2, samples=100)
    frame["subject"] = frame["sample"].str[1:].astype(int).map(lambda i: f"p{i // 4}")
    factors = frame["subject"].map(lambda name: f'{{"gender": "{"f" if int(name[1:]) % 2 else "m"}"}}')
    found = measure_groups(frame, factors, TWO, 50)["columns"][0]
    assert [(row["n"], row["subjects"]) for row in found["groups"]] == [(48, 12), (52, 13)]
    women = frame[frame["subject"].str[1:].astype(int) % 2 == 1]
    assert found["groups"][0]["war"] == pytest.approx((women["label"] == women["predicted"]).mean())
