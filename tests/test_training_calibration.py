"""Temperature scaling: the fit, what it changes, and what it leaves as it is."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import training_networks  # noqa: F401  (registers the tiny networks)
from pydantic import ValidationError
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss
from training_tools import CLASSES, COMPUTE, drawn_project, variant

from duchenne import stages
from duchenne.config import Catalog
from duchenne.evaluation.statistics import at_temperature, evaluate
from duchenne.export import export
from duchenne.faces.store import FaceStore
from duchenne.files import file_digest, read_json
from duchenne.prediction.model import Model
from duchenne.protocol import Protocol
from duchenne.published import evaluate_model
from duchenne.training.calibration import RANGE, calibrate, fit_temperature, nll
from duchenne.training.errors import TrainingError
from duchenne.training.fingerprint import start_digest
from duchenne.training.settings import Variant
from duchenne.training.trained import load_trained, predict
from duchenne.workspace import Workspace


def drawn(seed: int, samples: int, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 5), and labels that were drawn with exactly the probabilities of their softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (samples, 5))
    return logits, (softmax(logits, axis=1).cumsum(axis=1) < rng.random((samples, 1))).sum(axis=1)


@pytest.mark.parametrize("factor", [2.5, 0.4, 1.0])
def test_a_temperature_that_was_put_in_is_found_again(factor: float):
    logits, labels = drawn(1, 40_000)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_no_temperature_of_a_grid_is_better(seed: int):
    logits, labels = drawn(seed, 60)
    logits = logits.astype(np.float32) * np.float32(1 + seed)
    found = fit_temperature(logits, labels)
    grid = np.geomspace(*RANGE, 2001)
    losses = -log_softmax(logits.astype(float) / grid[:, None, None], axis=2)[:, range(60), labels].mean(axis=1)
    assert nll(logits, labels, found) <= losses.min() + 1e-12
    assert found == pytest.approx(grid[losses.argmin()], rel=0.003)
    assert nll(logits, labels) == pytest.approx(
        log_loss(labels, softmax(logits.astype(float), axis=1), labels=range(5))
    )


def test_logits_of_any_kind_have_no_worse_likelihood_and_the_same_classes():
    rng = np.random.default_rng(3)
    for size in (1, 2, 30):
        logits = rng.normal(0, 5, (size, 3)).astype(np.float32)
        for labels in (logits.argmax(1), logits.argmin(1), rng.integers(3, size=size)):
            found = fit_temperature(logits, labels)
            assert RANGE[0] <= found <= RANGE[1]
            assert nll(logits, labels, found) <= nll(logits, labels)
            assert ((logits.astype(float) / found).argmax(1) == logits.argmax(1)).all()


def test_predictions_at_another_temperature_are_those_of_divided_logits():
    logits, labels = drawn(4, 50)
    names = list("abcde")

    def frame(temperature: np.ndarray) -> pd.DataFrame:
        shares = softmax(logits / temperature[:, None], axis=1)
        columns = {f"p_{name}": shares[:, i] for i, name in enumerate(names)}
        return pd.DataFrame({"label": labels, "confidence": shares.max(axis=1)} | columns)

    temperatures = np.where(np.arange(50) < 20, 0.3, 4.0)
    back = at_temperature(frame(temperatures), names, temperatures)
    pd.testing.assert_frame_equal(back, frame(np.ones(50)), rtol=1e-11)


def test_a_rule_without_a_validation_part_is_refused():
    common = variant().model_dump() | {"calibration": "temperature"}
    with pytest.raises(ValidationError, match=r"calibration temperature is fitted on the validation part.*val_share"):
        Variant.model_validate(common | {"selection": "test", "protocol": Protocol(kind="official", val_share=0)})
    assert Variant.model_validate(common | {"selection": "last"}).calibration == "temperature"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Workspace]:
    """Noisy faces of 30 people, and a network of two folds that has learned a little of them."""
    return drawn_project(tmp_path_factory.mktemp("calibrated"))


def with_calibration(catalog: Catalog, kind: str) -> Catalog:
    config = catalog.variants["small"].model_copy(update={"calibration": kind})
    return catalog.model_copy(update={"variants": {"small": config}})


def contents(workspace: Workspace) -> dict[str, str]:
    """Digest of every file of models and results."""
    folders = (workspace.model("small"), workspace.results("small"))
    return {str(path): file_digest(path) for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def both(project: tuple[Catalog, Workspace]) -> tuple[Workspace, dict, dict]:
    """The project with a calibrated run; its files, predictions and metrics before and after."""
    catalog, workspace = project
    found = []
    for kind in ("none", "temperature", "none", "temperature"):
        for stage in ("train", "evaluate"):
            stages.run(stage, with_calibration(catalog, kind), workspace, "small")
        frame = pd.read_parquet(workspace.results("small") / "predictions.parquet")
        metrics = read_json(workspace.results("small") / "metrics.json")
        found.append({"files": contents(workspace), "predictions": frame, "metrics": metrics})
    assert found[0]["files"] == found[2]["files"]  # not a byte
    assert found[1]["files"] == found[3]["files"]
    return workspace, *found[:2]


def test_switching_it_on_and_off_trains_nothing_again(both: tuple[Workspace, dict, dict]):
    workspace, before, after = both
    changed = {Path(name).name for name, digest in before["files"].items() if after["files"][name] != digest}
    # not training.json, with the id of the run; record.json has the digests of the cards
    assert changed == {"card.json", "predictions.parquet", "metrics.json", "record.json"}
    assert start_digest(workspace.fold("small", 1) / "card.json") == next(
        digest for name, digest in before["files"].items() if name.endswith("fold_1/card.json")
    )


def test_only_confidences_change_and_the_metrics_have_both(both: tuple[Workspace, dict, dict]):
    workspace, before, after = both
    same = ["sample", "fold", "subject", "label", "predicted"]
    pd.testing.assert_frame_equal(before["predictions"][same], after["predictions"][same])
    for name in ("nll", "ece"):
        for end in ("", "_low", "_high"):
            assert after["metrics"][f"{name}_uncalibrated{end}"] == before["metrics"][f"{name}{end}"]
    temperatures = {
        fold: read_json(path / "card.json")["calibration"] for fold, path in workspace.folds("small").items()
    }
    assert not any(entry["temperature"] == pytest.approx(1, abs=0.01) for entry in temperatures.values())
    factor = before["predictions"]["fold"].map({fold: 1 / each["temperature"] for fold, each in temperatures.items()})
    expected = at_temperature(before["predictions"], CLASSES, factor.to_numpy())
    pd.testing.assert_frame_equal(after["predictions"], expected, rtol=1e-9)
    assert after["metrics"]["nll"] == pytest.approx(evaluate(expected, CLASSES, 100)["nll"])


def test_the_card_says_what_it_was_fitted_on(both: tuple[Workspace, dict, dict]):
    workspace, _, _ = both
    split = pd.read_parquet(workspace.split("small"))
    labels = pd.read_csv(workspace.root / "raw" / "manifest.csv").set_index("path")["label"].map(CLASSES.index)
    for fold, path in workspace.folds("small").items():
        network, card = load_trained(path)
        entry = card["calibration"]
        own = split[(split["fold"] == fold) & (split["part"] == "val")]
        logits, _ = predict(network, FaceStore(workspace.faces("drawn")), own, card, COMPUTE)
        truth = labels[own["sample"]].to_numpy()
        losses = {each: -log_softmax(logits / t, axis=1)[range(len(own)), truth].mean() for each, t in ends(entry)}
        assert entry["samples"] == len(own)
        assert entry["nll"] == pytest.approx(losses, rel=1e-5)
        assert entry["nll"]["after"] < entry["nll"]["before"]
        assert "calibration" not in card["variant"]


def ends(entry: dict) -> tuple[tuple[str, float], ...]:
    return ("before", 1.0), ("after", entry["temperature"])


def test_labels_of_other_parts_play_no_role(project: tuple[Catalog, Workspace], both: tuple[Workspace, dict, dict]):
    catalog, workspace = project
    split = pd.read_parquet(workspace.split("small"))
    labels = pd.read_csv(workspace.root / "raw" / "manifest.csv").set_index("path")["label"].map(CLASSES.index)
    own = split[split["fold"] == 1].assign(label=lambda frame: frame["sample"].map(labels))
    store, folder = FaceStore(workspace.faces("drawn")), workspace.fold("small", 1)
    known = read_json(folder / "card.json")["calibration"]
    other = own.assign(label=own["label"].where(own["part"] == "val", 0))
    assert calibrate(folder, other, store, catalog.compute) == known
    with pytest.raises(
        TrainingError, match=r"fold_1: calibration: temperature.*has no sample: raise protocol.val_share"
    ):
        calibrate(folder, own[own["part"] != "val"], store, catalog.compute)


def test_a_part_without_an_error_stops_at_the_end_of_the_range(
    project: tuple[Catalog, Workspace], both: tuple[Workspace, dict, dict], caplog: pytest.LogCaptureFixture
):
    catalog, workspace = project
    split = pd.read_parquet(workspace.split("small"))
    store, folder = FaceStore(workspace.faces("drawn")), workspace.fold("small", 1)
    text = (folder / "card.json").read_text()
    network, card = load_trained(folder)
    own = split[split["fold"] == 1]
    logits, _ = predict(network, store, own, card, catalog.compute)
    with caplog.at_level(logging.WARNING):
        entry = calibrate(folder, own.assign(label=logits.argmax(axis=1)), store, catalog.compute)
    (folder / "card.json").write_text(text)
    assert entry["temperature"] == RANGE[0]
    assert "fold_1: the temperature is 0.1, the end of its range" in caplog.text


def test_whoever_uses_the_folder_uses_the_temperature(
    project: tuple[Catalog, Workspace], both: tuple[Workspace, dict, dict], tmp_path: Path
):
    catalog, workspace = project
    folder, picture = workspace.fold("small", 1), workspace.root / "raw" / "00.png"
    network, card = load_trained(folder)
    temperature = card["calibration"]["temperature"]
    stated = export(folder, "torch", tmp_path / "small.pt2")
    x = torch.randn(3, 3, 64, 64)
    logits, shares = torch.export.load(tmp_path / "small.pt2").module()(x)
    torch.testing.assert_close(shares, (network(x) / temperature).softmax(1))
    torch.testing.assert_close(logits, network(x))
    assert stated["temperature"] == temperature

    one = Model(folder, device="cpu")
    row = one.predict([picture]).iloc[0]
    two = Model(folder, device="cpu")
    del two.card["calibration"]
    plain = two.predict([picture]).iloc[0]
    columns = [f"p_{name}" for name in CLASSES]
    expected = plain[columns].to_numpy(float) ** (1 / temperature)
    assert row[columns].to_numpy(float) == pytest.approx(expected / expected.sum(), rel=1e-9)

    metrics = evaluate_model(catalog, workspace, "small", folder, 1, tmp_path / "out")
    assert {"nll_uncalibrated", "ece_uncalibrated_low"} <= set(metrics)
    own = pd.read_parquet(workspace.results("small") / "predictions.parquet").query("fold == 1")
    again = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    pd.testing.assert_frame_equal(again, own.reset_index(drop=True))


@pytest.mark.parametrize("wrong", [0, -1.5, "hot", None])
def test_a_card_with_no_temperature_that_can_be_used_is_refused(
    both: tuple[Workspace, dict, dict], tmp_path: Path, wrong: object
):
    workspace, _, _ = both
    card = read_json(workspace.fold("small", 1) / "card.json")
    card["calibration"]["temperature"] = wrong
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(TrainingError, match=r"calibration\.temperature"):
        load_trained(tmp_path)
