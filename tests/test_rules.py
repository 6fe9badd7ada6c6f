"""What a rule of choice is worth: test logits kept in one training run, and differences measured from files alone."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import training_networks  # noqa: F401  (registers tiny networks)
from training_tools import CLASSES, COMPUTE, parts, variant, write_store

from duchenne.errors import UserError
from duchenne.evaluation.rules import by_rule, check_kept, measure_rules, read_kept
from duchenne.evaluation.statistics import evaluate
from duchenne.faces.store import FaceStore
from duchenne.training.fold import train_fold
from duchenne.training.rules import LIMIT, Rules, cost
from duchenne.training.settings import Variant
from duchenne.training.trained import load_trained, predict

TWO = ["anger", "happiness"]
SURE = {0: [5.0, 0.0], 1: [0.0, 5.0]}  # predicted class -> logits


def kept(rule: str, epoch: int, samples: str, predicted: str) -> pd.DataFrame:
    """Logits of samples named by a letter each, with the predicted classes in ``predicted``."""
    logits = np.float32([SURE[int(label)] for label in predicted])
    table = pd.DataFrame({"rule": rule, "epoch": epoch, "sample": list(samples)})
    return table.assign(**{f"logit_{name}": logits[:, i] for i, name in enumerate(TWO)})


def reported(fold: int, samples: str, labels: str, predicted: str) -> pd.DataFrame:
    frame = pd.DataFrame({"sample": list(samples), "fold": fold, "subject": list(samples)})
    return frame.assign(label=list(map(int, labels)), predicted=list(map(int, predicted)), confidence=0.9)


def test_a_small_case_by_hand():
    """Validation gets 4 of 6 right, the test part's own choice 5, the last epoch 3."""
    frame = reported(1, "abcdef", "000111", "001110")
    table = pd.concat(
        [kept("last", 9, "abcdef", "011110"), kept("val", 3, "abcdef", "001110"), kept("test", 5, "abcdef", "000110")]
    )
    frames = by_rule(frame, {(0, 1): table}, TWO, "val")
    assert list(frames) == ["last", "val", "test"]
    found = measure_rules(frames, TWO, "uar", bootstrap=500, seed=3)
    assert [found[f"war_rule_{rule}"] for rule in frames] == pytest.approx([3 / 6, 4 / 6, 5 / 6])
    assert [found[f"epoch_rule_{rule}"] for rule in frames] == [9, 3, 5]
    assert found["uar_test_minus_val"] == pytest.approx((3 / 3 + 2 / 3) / 2 - (2 / 3 + 2 / 3) / 2)
    assert found["war_last_minus_val"] == pytest.approx(-1 / 6)
    assert not any("val_minus" in key for key in found)
    # the same people are drawn as for the reported values, and of both rules at once
    whole = evaluate(frame, TWO, 500, 3)
    for end in ("", "_low", "_high"):
        assert found[f"uar_rule_val{end}"] == whole[f"uar{end}"]
    times = np.random.default_rng(3).integers(6, size=(500, 6))
    gained = (times == 2).sum(axis=1) / 6  # only the third sample differs
    assert found["war_test_minus_val_low"] == pytest.approx(np.percentile(gained, 2.5))
    assert found["war_test_minus_val_high"] == pytest.approx(np.percentile(gained, 97.5))


def test_each_fold_chooses_its_own_epoch_and_without_validation_the_last_one_is_honest():
    """UAR of the first fold rises from 0.5 to 0.625, the second is the same, and that of the whole falls."""
    frame = pd.concat([reported(1, "abcde", "00001", "00000"), reported(2, "fghij", "01111", "01111")])
    frame = frame.reset_index(drop=True)
    tables = {
        (0, 1): pd.concat([kept("last", 4, "abcde", "00000"), kept("test", 2, "abcde", "01111")]),
        (0, 2): pd.concat([kept("last", 4, "fghij", "01111"), kept("test", 3, "fghij", "01111")]),
    }
    found = measure_rules(by_rule(frame, tables, TWO, "last"), TWO, "uar", 100)
    assert found["epoch_rule_test"] == 2.5
    assert found["uar_test_minus_last"] == pytest.approx((2 / 5 + 5 / 5) / 2 - (5 / 5 + 4 / 5) / 2)
    assert found["uar_test_minus_last_low"] < 0
    only = {
        (0, 1): tables[0, 1],
        (0, 2): tables[0, 2][tables[0, 2]["rule"] == "last"],
    }  # not defined in the test part of one fold
    assert list(by_rule(frame, only, TWO, "last")) == ["last"]


def test_an_epoch_that_is_also_the_reported_one_has_its_predictions_and_no_difference():
    frame = reported(1, "ab", "01", "11")  # the reported ones, which rounding has made others than the kept
    table = pd.concat([kept("last", 2, "ab", "01"), kept("val", 2, "ab", "01"), kept("test", 2, "ab", "01")])
    found = measure_rules(by_rule(frame, {(0, 1): table}, TWO, "val"), TWO, "uar", 100)
    assert {found[f"war_rule_{rule}"] for rule in ("last", "val", "test")} == {0.5}
    assert [found[f"war_test_minus_val{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]


def test_kept_logits_of_other_weights_or_samples_are_refused():
    table, logits = kept("val", 3, "ab", "01"), np.array([[5.0, 0.0], [0.0, 5.0]])
    where = Path("rules.parquet")
    check_kept(table, "val", pd.Series(["b", "a"]), logits[::-1] + 1e-3, "fp32", where)
    with pytest.raises(UserError, match="differ from those of the weights by 141%"):
        check_kept(table, "val", pd.Series(["a", "b"]), logits[::-1], "fp32", where)
    with pytest.raises(UserError, match="not of the same test samples"):
        check_kept(table, "val", pd.Series(["a", "c"]), logits, "fp32", where)
    with pytest.raises(UserError, match="fold 1 lacks the sample 'b'"):
        by_rule(reported(1, "ab", "01", "01"), {(0, 1): table[:1]}, TWO, "val")


def test_nothing_kept_is_nothing_measured(tmp_path):
    assert read_kept({}) == {}
    for fold in (1, 2):
        (tmp_path / f"fold_{fold}").mkdir()
    kept("last", 1, "a", "0").to_parquet(tmp_path / "fold_1" / "rules.parquet")
    folds = {(0, fold): tmp_path / f"fold_{fold}" for fold in (1, 2)}
    assert read_kept(folds) == {}  # fold 2 is of an older version
    assert list(read_kept({(0, 1): folds[0, 1]})) == [(0, 1)]
    assert measure_rules(by_rule(reported(1, "a", "0", "0"), {}, TWO, "val"), TWO, "uar") == {}


def epoch(number: int, **values: float) -> dict[str, float]:
    return {"epoch": number, "train_loss": 1.0 / number} | values


def test_the_rules_prefer_what_selection_prefers():
    rules = Rules(variant(monitor="war"), ["val", "test"], ["a"])
    memory: dict = {}
    rows = [(0.5, 1.0, 0.1), (0.6, 2.0, 0.3), (0.6, 1.0, 0.3), (0.6, 1.0, float("nan")), (0.4, 0.5, 0.2)]
    for number, (war, loss, test) in enumerate(rows, 1):
        row = epoch(number, val_war=war, val_loss=loss, test_war=test, test_loss=1.0)
        rules.keep(memory, row, torch.full((1, 3), float(number)))
    assert {rule: known["epoch"] for rule, known in memory.items()} == {"last": 5, "val": 3, "test": 2}
    table = rules.table(memory, CLASSES)
    assert table["logit_anger"].tolist() == [5, 3, 2]
    rules.keep(None, row, torch.zeros(1, 3))
    assert rules.table(None, CLASSES) is None  # the earlier epochs were not kept


def test_chance_alone_favours_the_epoch_that_is_chosen_on_the_test_part():
    """Random answers to random labels: the choice on the test part gains, that in validation does not."""
    gains = {"test": [], "val": []}
    for seed in range(40):
        random = np.random.default_rng(seed)
        labels = {part: torch.from_numpy(random.integers(3, size=90)) for part in ("val", "test")}
        rules, memory = Rules(variant(), labels, map(str, range(90))), {}
        for number in range(1, 9):
            row, logits = epoch(number), {}
            for part in labels:
                logits[part] = torch.from_numpy(random.normal(size=(90, 3)).astype(np.float32))
                right = logits[part].argmax(1) == labels[part]
                recalls = [right[labels[part] == label].double().mean() for label in range(3)]
                row |= {f"{part}_uar": float(sum(recalls) / 3), f"{part}_loss": 1.0}
            rules.keep(memory, row, logits["test"])
        frame = pd.DataFrame(
            {"sample": map(str, range(90)), "fold": 1, "subject": None, "label": labels["test"].numpy()}
        )
        frame["predicted"] = memory["val"]["logits"].argmax(1).numpy()
        found = measure_rules(by_rule(frame, {(0, 1): rules.table(memory, CLASSES)}, CLASSES, "val"), CLASSES, "uar", 2)
        gains["test"].append(found["uar_test_minus_val"])
        gains["val"].append(found["uar_rule_val"] - 1 / 3)
    assert min(gains["test"]) >= 0
    # the expected maximum of 8 normal values is 1.42 standard deviations, here 0.05 each
    assert np.mean(gains["test"]) == pytest.approx(1.42 * 0.05, abs=0.02)
    assert abs(np.mean(gains["val"])) < 0.02


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "drawn"
    samples = write_store(folder, 36)
    return FaceStore(folder), parts(samples, 20, 8)


@pytest.fixture
def train(drawn, tmp_path):
    store, samples = drawn

    def run(name: str, changed: dict | None = None, on_epoch=None, samples=samples, **recipe) -> Path:
        out, work = tmp_path / name / "out", tmp_path / name / "work"
        config = variant(architecture="tiny", options={}, **{"epochs": 4, "sam_rho": None, "lr": 0.02} | recipe)
        config = Variant.model_validate(config.model_dump() | (changed or {}))
        train_fold(config, CLASSES, 1, samples, store, out, work, COMPUTE, on_epoch=on_epoch)
        return out

    return run


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_predicting_the_test_part_after_every_epoch_changes_no_weight(train):
    """Also with draws of every kind: mixup, random erasing, dropout and stochastic depth."""
    augment = {"augment": {"erase": {}}, "mix": {"mixup": 0.4}, "ema_decay": 0.9}
    on, off = (files(train(str(each), {"test_each_epoch": each}, **augment)) for each in (True, False))
    assert on.keys() == off.keys() | {"rules.parquet"}
    assert on["weights.safetensors"] == off["weights.safetensors"]
    cards = [json.loads(made["card.json"]) for made in (on, off)]
    for card in cards:  # the tables beside it have times and rules
        del card["seal"], card["files"]
    assert cards[0] == cards[1]


@pytest.mark.parametrize("selection", ["last", "val", "test"])
def test_the_kept_logits_of_the_headline_are_those_of_its_weights(train, drawn, selection):
    store, samples = drawn
    out = train("run", {"selection": selection})
    history, (network, card) = pd.read_csv(out / "history.csv").set_index("epoch"), load_trained(out)
    table = pd.read_parquet(out / "rules.parquet")
    assert set(table["rule"]) == {"last", "val", "test"}
    own = table[table["rule"] == selection]
    assert set(own["epoch"]) == {card["selection"]["epoch"]}
    tested = samples[samples["part"] == "test"].iloc[::-1]
    logits, _ = predict(network, store, tested, card, COMPUTE)
    check_kept(table, selection, tested["sample"], logits, "fp32", out)
    for rule, part in (("val", "val"), ("test", "test")):
        best = history.sort_values([f"{part}_uar", f"{part}_loss"], ascending=[False, True]).index[0]
        assert set(table.loc[table["rule"] == rule, "epoch"]) == {best}


def test_a_resumed_training_keeps_the_same_predictions_byte_for_byte(train):
    """Without learning all epochs are equal, so that the first one is preferred, before the stop."""
    expected = files(train("whole", lr=1e-30))["rules.parquet"]
    table = pd.read_parquet(train("whole", lr=1e-30) / "rules.parquet")
    assert table.groupby("rule")["epoch"].first().to_dict() == {"last": 4, "val": 1, "test": 1}

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("stopped", on_epoch=stop, lr=1e-30)
    assert files(train("stopped", lr=1e-30))["rules.parquet"] == expected


def test_epochs_that_were_not_kept_leave_no_file(train, tmp_path):
    def stop(row: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("late", {"test_each_epoch": False}, on_epoch=stop)
    out = train("late", {"test_each_epoch": True})  # resumes after the first epoch
    assert "rules.parquet" not in files(out)
    assert len(pd.read_csv(out / "history.csv")) == 4


def test_auto_leaves_out_a_test_part_that_costs_much(train, drawn):
    _, samples = drawn
    assert cost(9408, 7490, sam=False) > LIMIT > cost(7847, 24870, sam=False)  # DFEW with 4 windows a clip, FERV39k
    more = samples.assign(part=samples["part"].replace("val", "test"))  # 16 of 20 samples: 27 % without SAM
    assert "rules.parquet" not in files(train("dear", {"selection": "last"}, samples=more, epochs=1))
    assert "rules.parquet" in files(train("with_sam", {"selection": "last"}, samples=more, epochs=1, sam_rho=0.05))
    assert "rules.parquet" in files(train("asked", {"selection": "test"}, samples=more, epochs=1))
    assert "test_uar" not in pd.read_csv(
        train("none", samples=samples[samples["part"] != "test"], epochs=1) / "history.csv"
    )
