"""Training of a fold: it learns, survives interruptions, and records what it did."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import training_networks  # noqa: F401  (registers tiny networks)
from accelerate import Accelerator
from metric_tools import documented_metrics
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, brier_score_loss, f1_score
from training_tools import CLASSES, COMPUTE, SMALL, parts, variant, write_store

from duchenne.faces.store import FaceStore
from duchenne.metrics import METRICS
from duchenne.training.device import Placement
from duchenne.training.errors import TrainingError
from duchenne.training.fold import train_fold
from duchenne.training.measure import measure, score, scores
from duchenne.training.settings import Augment, Compute, Variant
from duchenne.training.trained import load_trained, predict

PLAIN = {"sam_rho": None, "augment": Augment()}
TIMES = ["seconds", "images_per_second", "ended"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "drawn"
    samples = write_store(folder, 36)
    return FaceStore(folder), parts(samples, 20, 8)


@pytest.fixture
def train(drawn, tmp_path):
    store, samples = drawn

    def run(config, name="run", **changes) -> Path:
        arguments = {
            "classes": CLASSES, "fold": 1, "samples": samples, "store": store,
            "out": tmp_path / name / "out", "work": tmp_path / name / "work", "compute": COMPUTE,
        }  # fmt: skip
        arguments |= changes
        train_fold(config, **arguments)
        return arguments["out"]

    return run


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "weights.safetensors")


def same(a: Path, b: Path) -> bool:
    one, two = weights(a), weights(b)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def history(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "history.csv").drop(columns=TIMES)


def test_it_learns_what_can_be_seen(train):
    out = train(variant(epochs=8, selection="val"))
    last = pd.read_csv(out / "history.csv").iloc[-1]
    assert last["train_war"] > 0.9
    assert last["val_war"] > 0.9


def test_same_seed_same_weights_other_seed_others(train):
    config = variant(epochs=2)
    first, again = train(config, "first"), train(config, "again")
    assert same(first, again)
    pd.testing.assert_frame_equal(history(first), history(again))
    assert not same(first, train(variant(epochs=2, seed=1), "other"))


def test_workers_and_memory_format_of_data_change_nothing(train):
    config = variant(epochs=2, augment=Augment(rotate=10, jitter={"brightness": 0.2}))
    workers = Compute(device="cpu", precision="fp32", loader_workers=2)
    assert same(train(config, "alone"), train(config, "helped", compute=workers))


def python_path() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}


KILLED = """
import os, signal, sys
from pathlib import Path
import pandas as pd
from duchenne.faces.store import FaceStore
from duchenne.training.fold import train_fold
from duchenne.training.settings import Variant
from training_tools import CLASSES, COMPUTE

class Killer(FaceStore):
    left = int(sys.argv[3])
    def frame(self, sample, i=0):
        Killer.left -= 1
        if Killer.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().frame(sample, i)

store = Killer(Path(sys.argv[1]))
work = Path(sys.argv[2])
samples = pd.read_parquet(work.parent / "samples.parquet")
config = Variant.model_validate_json(sys.argv[4])
train_fold(config, CLASSES, 1, samples, store, work.parent / "out", work, COMPUTE)
"""


def resumable():
    """Everything that has a state: SAM over Adam, an average, mixup, balanced draws, a schedule, stochastic depth."""
    return variant(
        architecture="test_vit", epochs=3, ema_decay=0.9, mix={"mixup": 0.4, "cutmix": 1.0}, sampler="balanced",
        schedule="one_cycle", augment=Augment(rotate=10), lr=1e-3,
        options=SMALL | {"img_size": 64, "drop_path_rate": 0.3},
    )  # fmt: skip


def test_a_killed_training_ends_bit_for_bit_like_one_that_was_not(train, drawn, tmp_path):
    store, samples = drawn
    whole = tmp_path / "whole" / "work"
    states = {}

    def keep_state(row):
        states[row["epoch"]] = torch.load(whole / "state.pt", weights_only=True)

    expected = train(resumable(), "whole", on_epoch=keep_state)

    work = tmp_path / "killed" / "work"
    work.mkdir(parents=True)
    samples.to_parquet(work.parent / "samples.parquet")
    one_epoch = 20 + 8 + 8  # frames of an epoch: training, validation and test
    arguments = [str(store.path), str(work), str(one_epoch + 11), resumable().model_dump_json()]
    died = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], env=python_path(), check=False, capture_output=True, text=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert torch.load(work / "state.pt", weights_only=True)["epoch"] == 1
    assert not (work.parent / "out").exists()

    resumed, rows = {}, []

    def note(row):
        rows.append(row)
        resumed[row["epoch"]] = torch.load(work / "state.pt", weights_only=True)

    out = train(resumable(), "killed", on_epoch=note)
    assert [row["epoch"] for row in rows] == [2, 3]
    assert same(out, expected)
    pd.testing.assert_frame_equal(history(out), history(expected))
    assert (out / "rules.parquet").read_bytes() == (expected / "rules.parquet").read_bytes()
    for part in ("network", "average", "optimizer"):
        torch.testing.assert_close(resumed[3][part], states[3][part], rtol=0, atol=0)
    moments = resumed[3]["optimizer"]["state"][0]
    assert moments["exp_avg"].abs().max() > 0  # Adam's own state is there under SAM
    cards = [json.loads((folder / "card.json").read_text()) for folder in (out, expected)]
    for card in cards:  # the history has times, and the seal covers its digest
        del card["seal"], card["files"]["history.csv"]
    assert cards[0] == cards[1]


def test_a_finished_fold_is_not_trained_again(train):
    config, epochs = variant(epochs=2), []
    out = train(config, on_epoch=epochs.append)
    expected = weights(out)
    shutil.rmtree(out)  # as DVC does before a stage runs
    noted = config.model_copy(update={"note": "another note"})
    assert train(noted, on_epoch=epochs.append) == out
    assert [row["epoch"] for row in epochs] == [1, 2]
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights(out).items())
    assert {path.name for path in out.iterdir()} == {
        "weights.safetensors", "card.json", "history.csv", "rules.parquet",
    }  # fmt: skip


def test_what_decides_the_weights_starts_from_scratch(train, drawn, tmp_path):
    _, samples = drawn
    config, epochs = variant(epochs=1), []
    train(config, on_epoch=epochs.append)
    relabelled = samples.assign(label=(samples["label"] + 1) % 3)
    moved = samples.assign(part=samples["part"].replace({"test": "train"}))
    for changes in ({"samples": relabelled}, {"samples": moved}, {"classes": CLASSES[::-1]}):
        train(config, on_epoch=epochs.append, **changes)
    train(variant(epochs=1, lr=1e-4), on_epoch=epochs.append)
    assert len(epochs) == 5


def test_edited_code_does_not_pass_for_finished(train, tmp_path):
    epochs = []
    train(variant(epochs=1), on_epoch=epochs.append)
    record = tmp_path / "run" / "work" / "done" / "finished.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"code": "before the edit"}))
    train(variant(epochs=1), on_epoch=epochs.append)
    assert len(epochs) == 2


def test_a_damaged_state_is_named(train, tmp_path):
    work = tmp_path / "run" / "work"
    work.mkdir(parents=True)
    (work / "state.pt").write_bytes(b"half a file")
    with pytest.raises(TrainingError, match=r"state\.pt cannot be read; delete it"):
        train(variant())


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(train, tmp_path):
    with pytest.raises(TrainingError, match=r"not finite in fold 1, epoch 1, step \d+, lr 1e\+30.* samples s\d{3}, s"):
        train(variant(lr=1e30, optimizer="sgd", **PLAIN))
    assert not (tmp_path / "run" / "out").exists()


def test_a_loss_that_is_finite_in_the_first_pass_of_sam_alone_stops_too(train):
    with pytest.raises(TrainingError, match="the loss is not finite in fold 1, epoch 1, step 1, lr"):
        train(still(sam_rho=1e38, lr=0.1))


@pytest.mark.parametrize(
    ("selection", "monitor", "column", "pick"),
    [
        ("val", "uar", "val_uar", "max"),
        ("val", "loss", "val_loss", "min"),
        ("test", "war", "test_war", "max"),
        ("train", "loss", "train_loss", "min"),
    ],
)
def test_the_selected_epoch_is_the_best_by_its_rule(train, selection, monitor, column, pick):
    out = train(variant(epochs=4, lr=8e-3, selection=selection, monitor=monitor))
    rows = pd.read_csv(out / "history.csv")
    best = rows[rows[column] == getattr(rows[column], pick)()]
    best = best[best[f"{selection}_loss"] == best[f"{selection}_loss"].min()]
    card = json.loads((out / "card.json").read_text())
    assert card["selection"] == {"rule": selection, "monitor": monitor, "epoch": int(best["epoch"].iloc[0])}
    assert "test_war" in rows


def test_a_metric_is_in_the_history_once_it_is_registered_and_may_pick_the_epoch(train, drawn):
    """The Brier score of docs/extending.md, of which less is better."""
    store, samples = drawn
    few = samples[(samples["part"] != "val") | (samples["label"] != 1) | (samples.index % 2 == 0)]  # unbalanced
    tiny = {"architecture": "tiny", "options": {}, "epochs": 4, "lr": 0.3} | PLAIN
    with documented_metrics() as metrics:
        assert "brier" in {metric.name for metric in metrics}
        out = train(variant(selection="test", monitor="brier", **tiny), samples=few)
        rows, (network, card) = pd.read_csv(out / "history.csv").set_index("epoch"), load_trained(out)
        assert {f"{part}_{name}" for part in ("train", "val", "test") for name in ["loss", *METRICS]} <= set(rows)
    picked = card["selection"]["epoch"]
    assert picked == rows["test_brier"].idxmin() != rows["test_brier"].idxmax()
    held_out = few[few["part"] == "val"]
    logits, _ = predict(network, store, held_out, card, COMPUTE)
    truth, answers = held_out["label"].to_numpy(), softmax(logits.astype(float), axis=1)
    expected = {
        "brier": brier_score_loss(truth, answers, labels=range(3), scale_by_half=False),
        "war": accuracy_score(truth, answers.argmax(1)),
        "uar": balanced_accuracy_score(truth, answers.argmax(1)),
    }
    assert {name: rows.loc[picked, f"val_{name}"] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_a_monitor_that_is_not_defined_stops_the_training():
    row = {"epoch": 3, "val_loss": 0.5, "val_auc": float("nan"), "val_kappa": 0.25, "val_nll": 0.5}
    with pytest.raises(TrainingError, match=r"AUC of the val part is nan after epoch 3, .* set another monitor"):
        score(row, variant(monitor="auc"))
    assert score(row, variant(monitor="kappa")) == [0.25, -0.5]
    assert score(row, variant(monitor="nll")) == [-0.5, -0.5]


def test_a_fold_whose_epoch_another_definition_picked_is_trained_again(train, monkeypatch):
    tiny = {"architecture": "tiny", "options": {}, "epochs": 1} | PLAIN
    seen = []
    train(variant(monitor="uf1", **tiny), on_epoch=seen.append)
    monkeypatch.setitem(METRICS, "kappa", replace(METRICS["kappa"], function=lambda r: r.total))
    train(variant(monitor="uf1", **tiny), on_epoch=seen.append)
    assert len(seen) == 1
    monkeypatch.setitem(METRICS, "uf1", replace(METRICS["uf1"], function=METRICS["war"].function))
    train(variant(monitor="uf1", **tiny), on_epoch=seen.append)
    assert len(seen) == 2


def test_last_keeps_the_last_epoch_and_needs_no_validation(train, drawn):
    _, samples = drawn
    out = train(variant(selection="last"), samples=samples[samples["part"] != "val"])
    assert json.loads((out / "card.json").read_text())["selection"]["epoch"] == 3
    assert pd.read_csv(out / "history.csv")["val_uar"].isna().all()


def test_the_lowest_training_loss_need_not_be_that_of_the_last_epoch(train, drawn):
    """Without learning the epochs differ by their augmentation alone; no validation part is needed."""
    _, samples = drawn
    still = variant(epochs=4, selection="train", monitor="loss", lr=1e-30, seed=1, sam_rho=None)
    out = train(still, samples=samples[samples["part"] != "val"])
    lowest = pd.read_csv(out / "history.csv").set_index("epoch")["train_loss"].idxmin()
    assert json.loads((out / "card.json").read_text())["selection"]["epoch"] == lowest
    assert lowest < 4
    assert score({"train_loss": 0.5, "val_loss": 9.0, "epoch": 1}, still) == [-0.5, -0.5]


def test_kept_weights_are_those_that_were_measured(train, drawn):
    store, samples = drawn
    for name, average in (("plain", None), ("average", 0.8)):
        out = train(variant(epochs=3, ema_decay=average), name)
        model, card = load_trained(out)
        held_out = samples[samples["part"] == "val"]
        logits, _ = predict(model, store, held_out, card, COMPUTE)
        row = pd.read_csv(out / "history.csv").set_index("epoch").loc[card["selection"]["epoch"]]
        loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.tensor(held_out["label"].to_numpy()))
        assert loss.item() == pytest.approx(row["val_loss"], rel=1e-4)
        assert np.mean(logits.argmax(1) == held_out["label"]) == pytest.approx(row["val_war"])


def test_history_has_the_learning_rate_of_the_official_schedule(train):
    out = train(variant(schedule="exponential", gamma=0.5, lr=1e-3))
    assert pd.read_csv(out / "history.csv")["lr"].tolist() == pytest.approx([1e-3, 5e-4, 2.5e-4])


def test_training_starts_from_the_weights_it_is_given(train):
    start = train(variant(epochs=1), "start")
    still = variant(epochs=1, lr=1e-30, seed=5, **PLAIN)
    out = train(still, "still", init=start)
    learnt = {name for name, tensor in weights(out).items() if not torch.equal(tensor, weights(start)[name])}
    assert all("running" in name or "num_batches" in name for name in learnt)


def test_metrics_of_unbalanced_labels_by_hand():
    logits = 5 * torch.eye(3)[[0, 0, 0, 2, 0, 1]]
    found = scores(torch.tensor([0, 0, 0, 0, 1, 1]), logits)
    assert found["war"] == pytest.approx(4 / 6)
    assert found["uar"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found["uf1"] == pytest.approx((2 * 3 / (2 * 3 + 1 + 1) + 2 * 1 / (2 * 1 + 1)) / 2)


def test_unbalanced_parts_are_measured_by_class_means():
    """Four of five samples are of class 0, and only these are right: WAR 4/5, UAR 1/2, UF1 of class 0 8/9, of 1 0."""
    labels = torch.tensor([0, 0, 0, 0, 1])
    batches = [(torch.tensor([[3.0, 0.0]] * 5), labels, torch.arange(5))]
    network = torch.nn.Identity()
    found = measure(Placement(Accelerator(cpu=True), "fp32"), network, batches)
    assert (found["war"], found["uar"]) == (pytest.approx(4 / 5), pytest.approx(1 / 2))
    assert found["uf1"] == pytest.approx((8 / 9 + 0) / 2)
    assert found["nll"] == pytest.approx(found["loss"])


def still(**recipe) -> Variant:
    """A linear network whose weights stay as they were drawn, for an epoch."""
    defaults = {"epochs": 1, "lr": 1e-30, "sam_rho": None, "augment": Augment(hflip=0)}
    return variant(architecture="tiny", options={}, **(defaults | recipe))


def test_of_equal_epochs_the_first_is_kept(train):
    out = train(still(epochs=3))
    assert pd.read_csv(out / "history.csv")[["val_uar", "val_loss"]].nunique().tolist() == [1, 1]
    assert load_trained(out)[1]["selection"]["epoch"] == 1


@pytest.mark.parametrize("part", ["train", "val"])
def test_the_history_has_the_metrics_of_unbalanced_parts(train, drawn, part):
    store, samples = drawn
    few = samples[(samples["label"] != 1) | (samples.index % 5 == 0)]
    out = train(still(), samples=few)
    row, (network, card) = pd.read_csv(out / "history.csv").iloc[0], load_trained(out)
    own = few[few["part"] == part]
    predicted = predict(network, store, own, card, COMPUTE)[0].argmax(1)
    assert row[f"{part}_war"] == pytest.approx(accuracy_score(own["label"], predicted))
    assert row[f"{part}_uar"] == pytest.approx(balanced_accuracy_score(own["label"], predicted))
    assert row[f"{part}_uf1"] == pytest.approx(f1_score(own["label"], predicted, average="macro"))
    assert row[f"{part}_war"] != pytest.approx(row[f"{part}_uar"])


def test_a_lonely_last_sample_waits_for_another_epoch(train, drawn):
    _, samples = drawn
    few = samples[samples["part"] != "train"].assign(part=["val"] * 8 + ["train"] * 5 + ["test"] * 3)
    rows = pd.read_csv(train(variant(epochs=1, batch_size=4), samples=few) / "history.csv")
    assert rows["train_war"][0] in (0, 0.25, 0.5, 0.75, 1)  # of four images, not five


def test_another_class_list_gets_a_new_head_and_says_so(train, caplog):
    start = train(variant(epochs=1), "start")
    other = [*CLASSES, "fear"]
    out = train(variant(epochs=1, lr=1e-30, **PLAIN), "other", classes=other, init=start)
    assert "the head starts from random weights" in caplog.text
    assert weights(out)["fc.weight"].shape[0] == 4
    assert torch.equal(weights(out)["conv1.0.weight"], weights(start)["conv1.0.weight"])


def test_initial_weights_that_do_not_fit_are_listed(train):
    start = train(variant(epochs=1), "start")
    entries = weights(start)
    entries["stray.weight"] = entries.pop("conv1.0.weight")
    save_file(entries, start / "weights.safetensors")
    with pytest.raises(TrainingError, match=r"does not fit test_resnet:\n  conv1\.0\.weight\n  stray\.weight"):
        train(variant(epochs=1), "other", init=start)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[s["part"] != "val"], "selection val needs samples in part val"),
        (lambda s: s.assign(sample="nobody" + s["sample"]), "36 samples have no face in the store"),
        (lambda s: s.assign(label=s["label"] + 1), "labels are none of the 3 classes, the first is 3 of 's002'"),
    ],
)
def test_samples_that_cannot_train_stop_at_once(train, drawn, change, message):
    with pytest.raises(TrainingError, match=message):
        train(variant(), samples=change(drawn[1]))


def test_bf16_and_clipping_and_mixup_learn(train):
    compute = Compute(device="cpu", precision="bf16")
    out = train(variant(epochs=3, clip_grad=1.0, mix={"mixup": 0.2}, label_smoothing=0.1), compute=compute)
    assert json.loads((out / "card.json").read_text())["precision"] == "bf16"
    losses = pd.read_csv(out / "history.csv")["train_loss"]
    assert losses.iloc[-1] < losses.iloc[0]


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_training_and_measuring_multiply_in_the_precision_that_is_asked_for(train, precision, dtype):
    seen = set()

    def note(module, _, output):
        if isinstance(module, torch.nn.Conv2d):
            seen.add((module.training, output.dtype))

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        train(variant(epochs=1, **PLAIN), compute=Compute(device="cpu", precision=precision))
    finally:
        hook.remove()
    assert seen == {(True, dtype), (False, dtype)}


def test_gradients_are_clipped_to_their_norm(train):
    """A step of SGD changes the weights by lr times the gradient, whose norm is at most clip_grad."""
    start = train(still(), "start")
    moved = {}
    for clip in (None, 0.05, 1e3):
        config = still(batch_size=20, optimizer="sgd", lr=0.1, clip_grad=clip)
        out = train(config.model_copy(update={"selection": "last"}), f"clip_{clip}", init=start)
        change = [(tensor - weights(start)[name]).flatten() for name, tensor in weights(out).items()]
        moved[clip] = torch.cat(change).norm().item()
    assert moved[0.05] == pytest.approx(0.1 * 0.05, rel=1e-3)
    assert moved[None] > 2 * moved[0.05]
    assert moved[1e3] == pytest.approx(moved[None], rel=1e-6)


def test_the_average_of_the_weights_warms_up(train, tmp_path):
    """At step i from 0 it keeps 1 - i^(-2/3) of itself, ema_decay at most: at first it is the weights."""
    states = []

    def keep_state(_):
        states.append(torch.load(tmp_path / "run" / "work" / "state.pt", weights_only=True))

    train(still(epochs=5, batch_size=20, lr=0.1, ema_decay=0.5), on_epoch=keep_state)  # a step an epoch
    expected = states[0]["network"]["head.weight"]
    for state, kept in zip(states, [0, 0, 1 - 2 ** (-2 / 3), 0.5, 0.5], strict=True):
        expected = kept * expected + (1 - kept) * state["network"]["head.weight"]
        torch.testing.assert_close(state["average"]["head.weight"], expected)
    assert not torch.equal(states[-1]["average"]["head.weight"], states[-1]["network"]["head.weight"])


def test_soft_targets_are_the_votes_of_the_samples(train, drawn, monkeypatch):
    samples = drawn[1].copy()
    samples["votes"] = [[1.0, 2.0 + i, 0.0] for i in range(len(samples))]  # the label has at most a third of them
    seen = []

    def loss(logits, target):
        seen.append(target)
        return torch.nn.functional.cross_entropy(logits, target)

    monkeypatch.setattr("duchenne.training.classification.create_loss", lambda recipe: loss)
    out = train(variant(epochs=1, targets="soft", **PLAIN), samples=samples)
    shares = torch.cat(seen)
    counts = torch.tensor([[1.0, 2.0 + i, 0.0] for i in range(20)])
    torch.testing.assert_close(shares[shares[:, 0].argsort(descending=True)], counts / counts.sum(1, keepdim=True))
    with pytest.raises(TrainingError, match="20 of 20 training samples have no votes"):
        train(variant(epochs=1, targets="soft", **PLAIN), samples=drawn[1])

    train(variant(epochs=1, targets="soft", **PLAIN), samples=samples)  # the same votes: finished
    assert len(seen) == 3
    samples["votes"] = [[2.0, 1.0, 0.0]] * len(samples)
    assert not same(out, train(variant(epochs=1, targets="soft", **PLAIN), "other", samples=samples))
    train(variant(epochs=1, targets="soft", **PLAIN), samples=samples)
    assert len(seen) == 9


def test_a_network_that_says_the_same_of_every_sample_is_warned_of(caplog):
    network = torch.nn.Linear(3, 3)
    three, six = ((torch.eye(3).repeat(n, 1), torch.arange(3).repeat(n), torch.arange(3 * n)) for n in (1, 2))
    arguments = (Placement(Accelerator(cpu=True), "fp32"), network)
    with torch.no_grad():
        network.weight.copy_(torch.eye(3))
        assert measure(*arguments, [six])["uar"] == 1
        network.weight.zero_()
        assert measure(*arguments, [three])["uar"] == pytest.approx(1 / 3)
        assert not caplog.text  # three samples get the same class by chance in one of nine cases
        measure(*arguments, [six])
    assert "all 6 evaluated samples are assigned to one class" in caplog.text
