"""The registry of metrics: definitions against scikit-learn, and the contract of every registered metric."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_tools import documented_metrics
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    log_loss,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from duchenne.evaluation.comparing import compare
from duchenne.evaluation.statistics import by_fold, evaluate
from duchenne.metrics import METRICS, Metric, Predictions, Resamples, measured, metric_of, register
from duchenne.papers.printed import Table
from duchenne.protocol import Protocol
from duchenne.training.settings import Recipe, Variant

SEEDS = st.integers(0, 2**32 - 1)


def draw(seed: int, number: int = 60, classes: int = 4, digits: int = 9, skill: float = 1.0) -> pd.DataFrame:
    """Random predictions of some people in two folds; few digits make ties."""
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, number)
    raw = np.exp(random.normal(size=(number, classes)) + skill * np.eye(classes)[label]).round(digits) + 10.0**-digits
    table = raw / raw.sum(axis=1, keepdims=True)
    frame = pd.DataFrame({"sample": [f"s{i}" for i in range(number)], "fold": 1 + random.integers(0, 2, number)})
    frame = frame.assign(subject=[f"p{i}" for i in random.integers(0, 9, number)], label=label)
    frame = frame.assign(predicted=table.argmax(axis=1), confidence=table.max(axis=1))
    return frame.assign(**{f"p_{name}": table[:, i] for i, name in enumerate(names(classes))})


def names(classes: int) -> list[str]:
    return [f"c{i}" for i in range(classes)]


def table_of(frame: pd.DataFrame) -> np.ndarray:
    return frame.filter(regex="^p_").to_numpy()


def arrays(frame: pd.DataFrame, units: np.ndarray) -> Predictions:
    columns = (frame[name].to_numpy() for name in ("label", "predicted", "confidence"))
    table = table_of(frame)
    return Predictions(*columns, units, table.shape[1], table)


def auc_of(label: np.ndarray, table: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean over the classes that have samples and others beside them, one call of scikit-learn each."""
    areas = [
        roc_auc_score(label == i, table[:, i], sample_weight=weights)
        for i in range(table.shape[1])
        if 0 < (label == i).sum() < len(label)
    ]
    return float(np.mean(areas)) if areas else float("nan")


@pytest.fixture(scope="module", autouse=True)
def documented() -> Iterator[list[Metric]]:
    """The metrics of the guide keep the contract too."""
    with documented_metrics() as found:
        yield found


@given(SEEDS, st.integers(1, 40), st.integers(2, 6), st.sampled_from([0, 1, 9]))
@settings(max_examples=40)
def test_every_definition_is_that_of_scikit_learn(seed: int, number: int, classes: int, digits: int):
    frame = draw(seed, number, classes, digits)
    label, guess, table = frame["label"].to_numpy(), frame["predicted"].to_numpy(), table_of(frame)
    found, every = measured(label, table, guess), range(classes)
    present = sorted(set(label))
    expected = {
        "war": accuracy_score(label, guess),
        "uar": recall_score(label, guess, labels=present, average="macro"),
        "uf1": f1_score(label, guess, labels=present, average="macro", zero_division=0),
        "auc": auc_of(label, table),
        "nll": log_loss(label, table, labels=every),
        "brier": brier_score_loss(label, table, labels=every, scale_by_half=False),
        "gmean": np.prod(recall_score(label, guess, labels=present, average=None)) ** (1 / len(present)),
    }
    with np.errstate(invalid="ignore"):
        same = len(set(label) | set(guess)) == 1
        expected["kappa"] = np.nan if same else cohen_kappa_score(label, guess, labels=list(every))
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True, abs=1e-12)


@given(SEEDS, st.integers(3, 6))
@settings(max_examples=30)
def test_top2_is_that_of_scikit_learn(seed: int, classes: int):
    frame = draw(seed, 30, classes)
    found = measured(frame["label"].to_numpy(), table_of(frame), frame["predicted"].to_numpy())["top2"]
    assert found == pytest.approx(top_k_accuracy_score(frame["label"], table_of(frame), k=2, labels=range(classes)))


def test_by_hand():
    label, table = (
        np.array([0, 0, 1, 2]),
        np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8]]),
    )
    found = measured(label, table, table.argmax(axis=1))
    # Class 0: its 0.5 ties with 0.5 and beats 0.1, its 0.2 beats 0.1: 2.5 of 4 pairs. Class 1: 0.4 beats 0.3 and 0.1
    # of the three: 2 of 3. Class 2: all of 3.
    assert found["auc"] == pytest.approx((2.5 / 4 + 2 / 3 + 1) / 3)
    assert found["top2"] == 3 / 4  # the second sample has class 0 last
    assert found["nll"] == pytest.approx(-np.log(0.5 * 0.2 * 0.4 * 0.8) / 4)
    # Right: 2 of 4. By chance: (2·2 + 1·1 + 1·1) / 16.
    assert found["kappa"] == pytest.approx((1 / 2 - 6 / 16) / (1 - 6 / 16))


def test_of_equal_probabilities_the_earlier_class_counts():
    table = np.full((4, 3), 1 / 3)
    assert measured(np.array([0, 0, 1, 2]), table, table.argmax(axis=1))["top2"] == 3 / 4


def test_a_probability_of_zero_costs_much_and_not_everything():
    table = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert measured(np.array([0, 1]), table, np.array([0, 0]))["nll"] == pytest.approx(-np.log(2**-52) / 2)


@given(SEEDS)
@settings(max_examples=6)
def test_a_resample_is_what_its_samples_give_when_they_are_repeated(seed: int):
    """Every metric: counting a unit k times is the same as k copies of its samples."""
    random = np.random.default_rng(seed)
    frame = draw(seed, 40, 3, digits=1)
    units = random.integers(0, 6, 40)
    units[:6] = range(6)
    times = random.multinomial(6, [1 / 6] * 6, size=5)
    drawn = arrays(frame, units).drawn(times.astype(float))
    for metric in METRICS.values():
        values = metric(drawn)
        for row, value in zip(times, values, strict=True):
            copies = frame.loc[np.repeat(frame.index, row[units])]
            alone = metric(arrays(copies, np.zeros(len(copies), int)).whole())
            assert value == pytest.approx(alone[0], nan_ok=True, abs=1e-9), metric.name


@given(SEEDS, st.integers(2, 6))
@settings(max_examples=30)
def test_every_value_and_interval_is_in_range(seed: int, classes: int):
    found = evaluate(draw(seed, 30, classes), names(classes), 40)
    for name, metric in METRICS.items():
        if name in found:
            assert metric.low <= found[f"{name}_low"] <= found[f"{name}_high"] <= metric.high + 1e-12
            assert metric.low - 1e-12 <= found[name] <= metric.high + 1e-12


def test_a_perfect_network_has_the_best_value_of_every_metric_and_is_not_certain():
    label = np.arange(60) % 3
    table = np.eye(3)[label]
    frame = draw(0, 60, 3).assign(label=label, predicted=label, confidence=1.0)
    frame = frame.assign(**{f"p_c{i}": table[:, i] for i in range(3)}, subject=frame["sample"])
    found = evaluate(frame, names(3), 100)
    for name, metric in METRICS.items():
        assert found[name] == (metric.high if metric.better == "higher" else metric.low), name
        assert (found[f"{name}_low"] < found[f"{name}_high"]) == (metric.mean_over is not None), name
    assert found["auc_low"] == pytest.approx(0.025 ** (1 / 20))  # 20 units a class, as for UAR
    assert found["kappa_low"] == pytest.approx(2 * 0.025 ** (1 / 60) - 1)


@pytest.mark.parametrize("counts", [[5, 3, 2], [4, 0, 4]])
def test_what_guessing_gives_is_what_always_predicting_the_commonest_class_gives(counts: list[int]):
    label = np.repeat(np.arange(3), counts)
    found = measured(label, np.tile([0.5, 0.3, 0.2], (len(label), 1)), np.zeros(len(label), int))
    for name, metric in METRICS.items():
        if metric.guessing is not None:
            assert metric.guessing(np.array(counts)) == pytest.approx(found[name]), name


def test_values_that_are_not_defined_are_left_out():
    found = evaluate(draw(0, 30, 2), names(2), 50)
    assert "top2" not in found
    one_class = draw(1, 30, 3).assign(label=0, predicted=0)
    found = evaluate(one_class, names(3), 50)
    assert not {"auc", "kappa", "auc_low", "kappa_fold_mean"} & found.keys()
    assert found["war"] == 1


def test_folds_without_a_value_are_left_out_of_their_mean():
    frame = draw(2, 60, 3).assign(fold=[1] * 20 + [2] * 20 + [3] * 20)
    frame.loc[frame["fold"] == 3, "label"] = 0
    each, found = by_fold(frame, names(3)), evaluate(frame, names(3), 50)
    assert each["auc"].isna().tolist() == [False, False, True]
    assert found["auc_fold_mean"] == pytest.approx(each["auc"][:2].mean())
    assert found["auc_fold_std"] == pytest.approx(each["auc"][:2].std())
    for fold, own in frame.groupby("fold"):
        assert each.loc[fold, "nll"] == pytest.approx(log_loss(own["label"], table_of(own), labels=range(3)))


def test_without_probabilities_the_metrics_of_them_are_left_out():
    frame = draw(3, 40, 3)
    plain = frame.drop(columns=[f"p_{name}" for name in names(3)])
    found = evaluate(plain, names(3), 50)
    assert {name for name in METRICS if name in found} == {
        name for name, metric in METRICS.items() if metric.needs != "probabilities"
    }
    both = evaluate(frame, names(3), 50)
    assert found.items() <= both.items()
    assert set(compare(frame, plain, names(3), 50).metrics.index) == set(METRICS) & found.keys()


def test_without_confidence_the_metrics_of_it_are_left_out():
    frame = draw(3, 40, 3)
    plain = frame[["sample", "fold", "subject", "label", "predicted"]]
    found = evaluate(plain, names(3), 50)
    assert {name for name in METRICS if name in found} == {
        name for name, metric in METRICS.items() if metric.needs == "predicted"
    }
    assert found.items() <= evaluate(frame, names(3), 50).items()
    mixed = compare(frame, plain, names(3), 50)
    assert "ece" not in mixed.metrics.index
    assert mixed.disagreements.empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p_c1": 0.9}, r"probabilities of sample 's0' are not shares that sum to 1: p_c0 0\.\d+, p_c1 0\.9"),
        ({"p_c1": np.nan}, "of sample 's0' are not shares"),
        ({"p_c0": -0.5, "p_c1": 1.0, "p_c2": 0.5}, "of sample 's0' are not shares"),
        ("p_c1", "for some classes only: p_c1 missing"),
    ],
)
def test_probabilities_that_cannot_be_are_refused(change: dict[str, float] | str, message: str):
    frame = draw(0, 10, 3)
    frame = frame.drop(columns=change) if isinstance(change, str) else frame.assign(**change)
    with pytest.raises(ValueError, match=message):
        evaluate(frame, names(3), 50)


def test_one_metric_alone_has_the_value_and_interval_that_it_has_among_all():
    frame = draw(4)
    every, one = evaluate(frame, names(4), 50), evaluate(frame, names(4), 50, metrics=("war",))
    assert one.items() <= every.items()
    assert not (METRICS.keys() - {"war"}) & one.keys()


def test_the_difference_of_two_runs_is_that_of_paired_resamples():
    """Both runs are drawn alike: AUC and NLL of each resample by scikit-learn."""
    first, second = draw(5, 40, 3), draw(6, 40, 3, skill=2)
    second = second.assign(**{name: first[name] for name in ("label", "subject", "fold")})
    found = compare(first, second, names(3), 25, seed=7).metrics
    # The two compared tables are sorted by sample, and units are numbered by first appearance.
    order = first["sample"].sort_values().index
    units = pd.factorize(first.loc[order, "subject"])[0]
    random, differences = np.random.default_rng(7), {"auc": [], "nll": []}
    drawn = random.integers(units.max() + 1, size=(25, units.max() + 1))
    label = first.loc[order, "label"].to_numpy()
    tables = [table_of(run.loc[order]) for run in (first, second)]
    for row in drawn:
        weights = np.bincount(row, minlength=units.max() + 1)[units]
        kept = weights > 0
        for name, of in (("auc", auc_of), ("nll", lambda y, p, w: log_loss(y, p, labels=range(3), sample_weight=w))):
            before, after = (of(label[kept], table[kept], weights[kept]) for table in tables)
            differences[name].append(after - before)
    for name, values in differences.items():
        assert found.loc[name, ["low", "high"]].tolist() == pytest.approx(np.percentile(values, [2.5, 97.5]).tolist())


def test_equal_runs_leave_doubt_about_the_difference_of_every_mean_of_shares():
    frame = draw(8)
    found = compare(frame, frame, names(4), 50).metrics
    assert (found["difference"] == 0).all()
    assert {name for name, row in found.iterrows() if row["low"] < 0 < row["high"]} == {
        name for name, metric in METRICS.items() if metric.mean_over
    }


def test_a_metric_may_be_the_monitor_and_a_misspelt_one_is_named():
    fields = {"dataset": "d", "protocol": Protocol(kind="official"), "model": {"architecture": "poster_v2"}}
    fields["recipe"] = Recipe(epochs=1, batch_size=1, lr=1)
    for name in [*METRICS, "loss"]:
        assert Variant(**fields, monitor=name).monitor == name
    with pytest.raises(ValueError, match=r"'kapa' is not a metric \(did you mean 'kappa'\?\): give one of war, uar, "):
        Variant(**fields, monitor="kapa")


def test_a_papers_column_may_be_any_metric_and_is_in_its_unit():
    columns = [{"name": name, "metric": name} for name in METRICS] + [{"name": "f", "metric": "brier_fold_2"}]
    rows = [{"method": "theirs", "printed": ["50"] * len(columns)}]
    table = Table(table="1", about="x", columns=columns, rows=rows)
    scales = {column.metric: table.scale(column) for column in table.columns}
    assert scales == {name: 100 if metric.percent else 1 for name, metric in METRICS.items()} | {"brier_fold_2": 1}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"name": "war"}, "there is already a metric 'war'"),
        ({"name": "top_3"}, "'top_3': a name has lower-case letters and digits alone"),
        ({"name": "loss"}, "'loss': .* is none of .*loss"),
        ({"name": "x", "high": np.inf, "mean_over": "samples"}, "needs a finite range"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(facts: dict[str, object], message: str):
    known = dict(METRICS)
    with pytest.raises(ValueError, match=message):
        register(**({"label": "L", "help": "h."} | facts))(lambda r: r.total)
    assert known == METRICS


def test_keys_of_results_belong_to_their_metric():
    assert metric_of("uar_fold_mean") is metric_of("uar") is METRICS["uar"]
    assert metric_of("recall_war") is None


def test_the_definition_is_the_function_and_not_its_description():
    changed = {**METRICS["kappa"].__dict__, "help": "other words."}
    assert Metric(**changed).definition == METRICS["kappa"].definition
    assert "chance" in METRICS["kappa"].definition
    assert "chance" not in METRICS["war"].definition  # one more metric changes no other's
    assert "def over_classes" in METRICS["uar"].definition
    assert len({metric.definition for metric in METRICS.values()}) == len(METRICS)


def test_the_registry_needs_neither_torch_nor_configuration():
    code = "import sys, duchenne.metrics; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "duchenne.config"} & set(re.findall(r"[\w.]+", said))
    assert "duchenne.metrics" in said


@pytest.mark.parametrize("wrong", [lambda r: r.recall, lambda r: np.array([0.5]), lambda r: 0.5])
def test_a_function_that_returns_another_shape_is_named(wrong: Callable[[Resamples], np.ndarray]):
    metric = Metric("odd", "Odd", "returns what it should not.", wrong)
    drawn = arrays(draw(0, 9, 3), np.arange(9)).drawn(np.ones((4, 9)))
    with pytest.raises(ValueError, match=r"metric 'odd': .* one value each, \(4,\)"):
        metric(drawn)
