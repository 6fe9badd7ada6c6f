"""A published checkpoint is measured like a trained run, and a different class order is noticed."""

import json
import logging

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from training_tools import CLASSES, SMALL

from duchenne import stages
from duchenne.config import Catalog
from duchenne.errors import UserError
from duchenne.importing import import_checkpoint
from duchenne.published import evaluate_checkpoint, evaluate_model
from duchenne.reporting.runs import Run
from duchenne.reporting.wording import start
from duchenne.stages.evaluate import _predictions
from duchenne.workspace import Workspace

RECIPE = {"epochs": 12, "batch_size": 8, "lr": 2e-3, "optimizer": "adamw", "augment": {"hflip": 0}}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Drawn faces, two of them copies of training faces; a network trained on them; its weights as if published."""
    root = tmp_path_factory.mktemp("published")
    raw = root / "raw"
    raw.mkdir()
    rng, rows, pictures = np.random.default_rng(0), [], []
    for i in range(60):
        picture = rng.integers(40, 120, (64, 64, 3), dtype=np.uint8)
        picture[i % 3 * 21 : i % 3 * 21 + 21] += 100
        pictures.append(picture)
        part = "train" if i < 42 else "test"
        rows.append({"path": f"{i}.png", "label": CLASSES[i % 3], "subject": f"p{i // 3}", "split": part})
    pictures[45] = pictures[0][:, ::-1]
    pictures[50] = pictures[5] - 20
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(raw / f"{i}.png"), picture)
    pd.DataFrame(rows).to_csv(raw / "manifest.csv", index=False)
    catalog = Catalog.model_validate(
        {
            "datasets": {
                "drawn": {
                    "layout": "manifest",
                    "root": raw,
                    "classes": CLASSES,
                    "faces": {"mode": "aligned", "size": 64, "encoding": "png"},
                }
            },
            "variants": {
                "small": {
                    "dataset": "drawn",
                    "init_from": "scratch",
                    "protocol": {"kind": "official", "near_duplicates": "ignore"},
                    "model": {"architecture": "test_resnet", "options": SMALL},
                    "recipe": RECIPE,
                }
            },
            "compute": {"jobs": 1, "device": "cpu", "precision": "fp32"},
            "report": {"bootstrap": 100},
        }
    )
    workspace = Workspace(root)
    for stage, name in (("index", "drawn"), ("align", "drawn"), ("split", "small"), ("train", "small")):
        stages.run(stage, catalog, workspace, name)
    stages.run("evaluate", catalog, workspace, "small")
    weights = load_file(workspace.model("small") / "fold_1" / "weights.safetensors")
    return catalog, workspace, weights


def publish(weights: dict, path):
    torch.save({"epoch": 1, "state_dict": {f"module.{name}": value for name, value in weights.items()}}, path)
    return path


def test_a_published_checkpoint_scores_what_the_network_behind_it_scores(project, tmp_path):
    catalog, workspace, weights = project
    metrics = evaluate_checkpoint(
        catalog, workspace, "small", publish(weights, tmp_path / "a.pth"), fold=1, out=tmp_path / "out"
    )
    assert metrics["war"] > 0.8
    ours = pd.read_parquet(workspace.results("small") / "predictions.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "predictions.parquet"), ours)


def test_what_the_value_would_be_without_copies_of_training_pictures_is_measured_too(project):
    _, workspace, _ = project
    found = pd.read_parquet(workspace.duplicates("small")).sort_values("sample")
    assert found[["sample", "part", "other", "mirrored"]].to_numpy().tolist() == [
        ["45.png", "test", "0.png", True],
        ["50.png", "test", "5.png", False],
    ]
    metrics = json.loads((workspace.results("small") / "metrics.json").read_text())
    predictions = pd.read_parquet(workspace.results("small") / "predictions.parquet")
    rest = predictions[~predictions["sample"].isin(["45.png", "50.png"])]
    assert (metrics["near_duplicates"], metrics["n"], metrics["n_without_duplicates"]) == (2, 18, 16)
    assert metrics["war_without_duplicates"] == pytest.approx((rest["label"] == rest["predicted"]).mean())
    for name in ("war", "uar", "uf1"):
        low, value, high = (metrics[f"{name}_without_duplicates{end}"] for end in ("_low", "", "_high"))
        assert low <= value <= high


@pytest.mark.parametrize(("asked", "used"), [("auto", "fp32"), ("bf16", "bf16")])
def test_published_weights_run_in_float32_on_every_machine_unless_bf16_is_asked_for(project, tmp_path, asked, used):
    catalog, workspace, weights = project
    other = catalog.model_copy(update={"compute": catalog.compute.model_copy(update={"precision": asked})})
    evaluate_checkpoint(other, workspace, "small", publish(weights, tmp_path / "a.pth"), fold=1, out=tmp_path / "out")
    found = pd.read_parquet(tmp_path / "out" / "predictions.parquet")["confidence"]
    trained = pd.read_parquet(workspace.results("small") / "predictions.parquet")["confidence"]
    assert found.equals(trained) == (used == "fp32")
    assert found.to_numpy() == pytest.approx(trained.to_numpy(), abs=0.05)


def test_outputs_in_another_order_are_noticed_and_the_order_named_mends_them(project, tmp_path, caplog):
    catalog, workspace, weights = project
    turned = {name: value.roll(1, 0) if name.startswith("fc.") else value for name, value in weights.items()}
    path = publish(turned, tmp_path / "b.pth")
    with caplog.at_level(logging.WARNING):
        wrong = evaluate_checkpoint(catalog, workspace, "small", path, fold=1, out=tmp_path / "out")
    order = [CLASSES[2], CLASSES[0], CLASSES[1]]
    assert wrong["war"] < 0.5
    assert f"--order {','.join(order)}" in caplog.text
    caplog.clear()
    right = evaluate_checkpoint(catalog, workspace, "small", path, fold=1, out=tmp_path / "out", order=order)
    assert right["war"] > 0.8
    assert "--order" not in caplog.text


def test_an_imported_network_is_measured_as_its_checkpoint_is(project, tmp_path, caplog):
    """Both with outputs in another order, the one named on the card, the other by --order."""
    catalog, workspace, weights = project
    turned = {name: value.roll(1, 0) if name.startswith("fc.") else value for name, value in weights.items()}
    path, order = publish(turned, tmp_path / "b.pth"), [CLASSES[2], CLASSES[0], CLASSES[1]]
    theirs = evaluate_checkpoint(catalog, workspace, "small", path, fold=1, out=tmp_path / "file", order=order)
    folder, _ = import_checkpoint(catalog, Workspace(tmp_path), path, "small", classes=order)
    ours = evaluate_model(catalog, workspace, "small", folder, fold=1, out=tmp_path / "folder")
    assert ours == theirs
    assert ours["war"] > 0.8
    assert not caplog.text
    frames = [pd.read_parquet(tmp_path / name / "predictions.parquet") for name in ("file", "folder")]
    pd.testing.assert_frame_equal(*frames)

    import_checkpoint(catalog, Workspace(tmp_path), path, "small", classes=CLASSES, force=True)
    evaluate_model(catalog, workspace, "small", folder, fold=1, out=tmp_path / "folder")
    assert f"import it again with --force --classes {','.join(order)}" in caplog.text
    import_checkpoint(catalog, Workspace(tmp_path), path, "small", classes=["fear", *CLASSES[1:]], force=True)
    with pytest.raises(UserError, match=r"fold_1 knows fear, .*; the classes of drawn are anger"):
        evaluate_model(catalog, workspace, "small", folder, fold=1, out=tmp_path / "folder")


def test_a_network_that_may_have_seen_the_test_samples_is_named(project, tmp_path, caplog):
    catalog, workspace, _ = project
    folder = workspace.fold("small", 1)
    evaluate_model(catalog, workspace, "small", folder, fold=1, out=tmp_path)
    assert not caplog.text
    protocol = catalog.variants["small"].protocol.model_copy(update={"kind": "kfold", "folds": 3})
    other = catalog.variants["small"].model_copy(update={"protocol": protocol})
    catalog = catalog.model_copy(update={"variants": {"other": other}})
    stages.run("split", catalog, workspace, "other")
    evaluate_model(catalog, workspace, "other", folder, fold=1, out=tmp_path)
    assert "was trained on another protocol: test samples of fold 1 may be among its own" in caplog.text
    caplog.clear()
    evaluate_model(catalog, workspace, "other", folder, fold=2, out=tmp_path)
    assert "was trained on another protocol" in caplog.text


def test_training_starts_from_an_imported_network_with_its_classes_in_the_order_of_the_dataset(project, tmp_path):
    catalog, workspace, weights = project
    turned = {name: value.roll(1, 0) if name.startswith("fc.") else value for name, value in weights.items()}
    path = publish(turned, tmp_path / "theirs.pth")
    import_checkpoint(catalog, workspace, path, "small", classes=[CLASSES[2], CLASSES[0], CLASSES[1]])
    still = catalog.variants["small"].recipe.model_copy(update={"epochs": 1, "lr": 1e-30})
    variant = catalog.variants["small"].model_copy(update={"init_from": "theirs", "recipe": still})
    catalog = catalog.model_copy(update={"variants": {"second": variant}})
    for stage in ("split", "train", "evaluate"):
        stages.run(stage, catalog, workspace, "second")
    trained = load_file(workspace.fold("second", 1) / "weights.safetensors")
    assert torch.equal(trained["fc.weight"], weights["fc.weight"])
    assert start(Run("second", variant, workspace)).startswith(
        "Training started from the weights of theirs, imported from theirs.pth (SHA-256 "
    )

    before = json.loads(workspace.training_record("second").read_text())["id"]
    import_checkpoint(catalog, workspace, path, "second", classes=CLASSES, name="theirs", force=True)
    stages.run("train", catalog, workspace, "second")  # the same weights in another order of classes
    again = load_file(workspace.fold("second", 1) / "weights.safetensors")
    assert torch.equal(again["fc.weight"], turned["fc.weight"])
    assert json.loads(workspace.training_record("second").read_text())["id"] != before


def test_the_class_is_that_of_the_largest_logit_where_probabilities_tie():
    logits = np.array([[1e-20, 2e-20, 0], [0, 0, 1e-20]], dtype=np.float32)
    samples = pd.DataFrame({"sample": ["a", "b"], "seed": 0, "fold": 1, "subject": "p", "label": [1, 2]})
    frame = _predictions(samples, logits, CLASSES, {})
    assert frame["predicted"].tolist() == [1, 2]
    assert frame[[f"p_{name}" for name in CLASSES]].to_numpy() == pytest.approx(1 / 3)


def test_what_does_not_fit_is_said(project, tmp_path):
    catalog, workspace, weights = project
    path = publish(weights, tmp_path / "a.pth")
    with pytest.raises(UserError, match="no fold 2: it has 1"):
        evaluate_checkpoint(catalog, workspace, "small", path, fold=2, out=tmp_path / "out")
    with pytest.raises(UserError, match="--order names anger"):
        evaluate_checkpoint(catalog, workspace, "small", path, fold=1, out=tmp_path / "out", order=["anger"])
    with pytest.raises(UserError, match=r"dvc repro split@small"):
        evaluate_checkpoint(catalog, Workspace(tmp_path), "small", path, fold=1, out=tmp_path / "out")
    del weights["fc.bias"]
    with pytest.raises(UserError, match=r"only in the network: fc\.bias"):
        evaluate_checkpoint(
            catalog, workspace, "small", publish(weights, tmp_path / "c.pth"), fold=1, out=tmp_path / "out"
        )
