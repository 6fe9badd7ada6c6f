"""Two runs on the same samples: by hand, and by properties of every comparison."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.errors import UserError
from duchenne.evaluation.comparing import compare
from duchenne.evaluation.statistics import evaluate

CLASSES = ["a", "b", "c"]


def frame(label: list[int], predicted: list[int], **columns: object) -> pd.DataFrame:
    """Predictions with one subject a sample, one fold and confidence 1 unless said otherwise."""
    names = [f"s{i}" for i in range(len(label))]
    default = {"sample": names, "fold": 1, "subject": names, "confidence": 1.0}
    return pd.DataFrame({**default, "label": label, "predicted": predicted, **columns})


@st.composite
def two_runs(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    number = draw(st.integers(2, 30))
    whole = st.lists(st.integers(0, 2), min_size=number, max_size=number)
    label, people = draw(whole), [f"p{i}" for i in draw(whole)]
    return tuple(frame(label, draw(whole), subject=people) for _ in range(2))


LABEL = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
FIRST = frame(LABEL, [0, 0, 0, 1, 1, 1, 1, 2, 0, 0])  # recalls 3/4, 1, 1/3
SECOND = frame(LABEL, [0, 0, 1, 1, 1, 1, 0, 2, 2, 2])  # recalls 2/4, 2/3, 1


def test_by_hand():
    found = compare(FIRST, SECOND, CLASSES, 200)
    assert found.metrics.loc["war", ["first", "second", "difference"]].tolist() == pytest.approx([0.7, 0.7, 0])
    assert found.metrics.loc["uar", "difference"] == pytest.approx((2 / 4 + 2 / 3 + 1) / 3 - (3 / 4 + 1 + 1 / 3) / 3)
    # F1: a 2·3/(4+5), b 2·3/(3+4), c 2·1/(3+1); then a 2·2/(4+3), b 2·2/(3+4), c 2·3/(3+3)
    assert found.metrics.loc["uf1", "first"] == pytest.approx((6 / 9 + 6 / 7 + 2 / 4) / 3)
    assert found.metrics.loc["uf1", "second"] == pytest.approx((4 / 7 + 4 / 7 + 1) / 3)
    assert found.per_class["n"].tolist() == [4, 3, 3]
    assert found.per_class["difference"].tolist() == pytest.approx([-1 / 4, -1 / 3, 2 / 3])
    # Right in the first alone: s2, s6; in the second alone: s8, s9. Two of four: p = 1.
    assert found.mcnemar == (2, 2, 1)


def test_runs_that_are_all_right_or_all_wrong_leave_doubt():
    label = [0, 1] * 20
    right, wrong = frame(label, label), frame(label, [1, 0] * 20)
    for first, second, sign in ((right, wrong, -1), (wrong, right, 1)):
        found = compare(first, second, CLASSES[:2], 100)
        assert found.metrics.loc["war", "difference"] == sign
        ends = [sign * 0.025 ** (1 / 40), sign]
        assert found.metrics.loc["war", ["low", "high"]].tolist() == pytest.approx(sorted(ends))
        ends = [sign * 0.025 ** (1 / 20), sign]  # 20 people a class
        assert found.metrics.loc["uar", ["low", "high"]].tolist() == pytest.approx(sorted(ends))
        assert found.per_class.loc["a", ["low", "high"]].tolist() == pytest.approx(sorted(ends))


def test_mcnemar_by_hand():
    # Six samples that the first alone has right, none that the second alone has: p = 2 / 2⁶.
    found = compare(frame([0] * 8, [0] * 8), frame([0] * 8, [1] * 6 + [0] * 2), CLASSES, 100)
    assert found.mcnemar == (6, 0, pytest.approx(2 / 64))


def test_where_the_two_disagree():
    first = frame([0, 1, 2, 2], [0, 0, 1, 0], confidence=[0.9, 0.5, 0.6, 0.8])
    second = frame([0, 1, 2, 2], [0, 1, 0, 1], confidence=[0.9, 0.4, 0.9, 0.3])
    table = compare(first, second, CLASSES, 100).disagreements
    assert table.index.tolist() == ["s2", "s3", "s1"]  # both together 1.5, 1.1 and 0.9 sure
    assert table["right"].tolist() == ["neither", "neither", "second"]
    assert table.loc["s1", ["subject", "actual", "first", "second"]].tolist() == ["s1", "b", "a", "b"]
    assert table.loc["s1", ["first_confidence", "second_confidence"]].tolist() == [0.5, 0.4]


def test_the_difference_of_the_confusions_by_hand():
    found = compare(FIRST, SECOND, CLASSES, 100).confusion
    expected = [[-1 / 4, 1 / 4, 0], [1 / 3, -1 / 3, 0], [-2 / 3, 0, 2 / 3]]
    assert found.to_numpy() == pytest.approx(np.array(expected))
    assert found.index.tolist() == found.columns.tolist() == CLASSES


def test_the_interval_of_two_subjects_by_hand():
    """Subject p gains its one sample, q its two lose one: resamples pp, pq, qp, qq give 1, 0, 0 and −1/2."""
    label, people = [0, 0, 0], ["p", "q", "q"]
    first, second = frame(label, [1, 0, 0], subject=people), frame(label, [0, 1, 0], subject=people)
    row = compare(first, second, CLASSES, 2000).metrics.loc["war"]
    assert (row["difference"], row["low"], row["high"]) == (0, -1 / 2, 1)


def test_what_both_have_in_common_does_not_widen_the_interval():
    """Half of the people are easy for both runs: each WAR is unsure, their difference is not."""
    easy = np.repeat([0, 1], 100)
    first = frame([0] * 200, easy.tolist())
    second = frame([0] * 200, np.where(np.arange(200) == 150, 0, easy).tolist())
    row = compare(first, second, CLASSES, 1000).metrics.loc["war"]
    alone = evaluate(first, CLASSES, 1000)
    assert row["difference"] == pytest.approx(1 / 200)
    assert row["high"] - row["low"] < (alone["war_high"] - alone["war_low"]) / 5


@given(two_runs())
@settings(max_examples=30)
def test_the_values_are_those_of_each_run_alone(runs: tuple[pd.DataFrame, pd.DataFrame]):
    found = compare(*runs, CLASSES, 100)
    for column, run in zip(("first", "second"), runs, strict=True):
        alone = evaluate(run, CLASSES, 100)
        for name in ("war", "uar", "uf1"):
            assert found.metrics.loc[name, column] == pytest.approx(alone[name])
        for name, row in found.per_class.iterrows():
            assert row[column] == pytest.approx(alone[f"recall_{name}"])
    assert found.confusion.sum(axis=1).to_numpy() == pytest.approx(0, abs=1e-12)


@given(two_runs())
@settings(max_examples=30)
def test_the_other_way_round_every_difference_changes_its_sign(runs: tuple[pd.DataFrame, pd.DataFrame]):
    there, back = compare(*runs, CLASSES, 100), compare(*reversed(runs), CLASSES, 100)
    for one, two in ((there.metrics, back.metrics), (there.per_class, back.per_class)):
        ends = two[["difference", "low", "high"]].to_numpy()
        assert one[["difference", "high", "low"]].to_numpy() == pytest.approx(-ends, nan_ok=True)
    assert set(there.disagreements.index) == set(back.disagreements.index)
    assert there.mcnemar.p == back.mcnemar.p


def test_a_run_is_like_itself_in_any_order():
    found = compare(FIRST, FIRST.sample(frac=1, random_state=0), CLASSES, 100)
    assert found.disagreements.empty
    assert found.metrics["difference"].eq(0).all()
    # by hand: 10 people of whom none differs, though 1 - 0.025 ** (1 / 10) of all might
    assert found.metrics.loc["war", ["low", "high"]].tolist() == pytest.approx([0.025**0.1 - 1, 1 - 0.025**0.1])
    assert found.mcnemar == (0, 0, 1)


def test_a_class_without_samples_is_left_out():
    found = compare(frame([0, 1], [0, 2]), frame([0, 1], [0, 1]), CLASSES, 100)
    assert found.per_class.index.tolist() == ["a", "b"]
    assert found.confusion.index.tolist() == ["a", "b"]


def test_other_samples_are_counted_and_named():
    with pytest.raises(UserError, match=r"9 in both, 1 only in the first \(such as 's0'\); compare runs of one"):
        compare(FIRST, SECOND.iloc[1:], CLASSES)
    renamed = SECOND.assign(sample=["x", *SECOND["sample"][1:]])
    with pytest.raises(UserError, match=r"1 only in the first .* and 1 only in the second \(such as 'x'\)"):
        compare(FIRST, renamed, CLASSES)


def test_other_labels_are_counted_and_named():
    with pytest.raises(UserError, match="2 samples have another label in the second run, such as 's0', a and b"):
        compare(FIRST, SECOND.assign(label=[1, 1, *LABEL[2:]]), CLASSES)


def test_a_prediction_outside_the_classes_is_refused():
    with pytest.raises(ValueError, match="predicted 7 of sample 's0'"):
        compare(FIRST, SECOND.assign(predicted=7), CLASSES)
