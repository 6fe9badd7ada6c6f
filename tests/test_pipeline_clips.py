"""Videos and micro-expressions through every stage: rendered clips, the real networks at an epoch, the report."""

from __future__ import annotations

import base64
import json

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
from predict_tools import answered

import duchenne
from duchenne import stages
from duchenne.config import Catalog
from duchenne.datasets.index import read_index
from duchenne.tracking import uri
from duchenne.workspace import Workspace

pytestmark = pytest.mark.slow

EMOTIONS = ["happiness", "surprise"]
EXPRESSIONS = ["negative", "positive", "surprise"]
QUICK = {"optimizer": "adamw", "lr": 1e-4, "batch_size": 2, "eval_batch_size": 4}
VARIANTS = {
    "video": {
        "dataset": "videos",
        "init_from": "scratch",
        "protocol": {"kind": "kfold", "folds": 2, "val_share": 0},
        "model": {"architecture": "ifdd_2dcnn"},
        "recipe": {**QUICK, "epochs": 1, "clip": {"frames": 16}, "mix": {"mixup": 0.8}},
        "selection": "last",
    },
    "micro": {
        "dataset": "micros",
        "init_from": "scratch",
        "protocol": {"kind": "loso", "val_share": 0},
        "model": {"architecture": "frl_dgt"},
        "recipe": {**QUICK, "epochs": 1, "pretrain_epochs": 1, "augment": {"apex_random": 0.4}},
        "selection": "last",
    },
}
SETS = {
    # 18 frames a clip: one window of 16, and the rest is dropped
    "videos": {"kind": "video", "classes": EMOTIONS, "subjects": 2, "seconds": (0.72, 0.72), "size": 160},
    "micros": {"kind": "micro", "classes": EXPRESSIONS, "subjects": 2, "frames": (8, 9), "size": 160},
}

FACES = {"videos": {"encoding": "jpeg"}, "micros": {"encoding": "png"}}
RUNS = [("video", 4, 2, EMOTIONS), ("micro", 6, 2, EXPRESSIONS)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Workspace]:
    root = tmp_path_factory.mktemp("clips")
    roots = {name: str(root / "data" / "raw" / name) for name in SETS}
    datasets = {
        name: {
            "layout": "synth",
            "classes": synth["classes"],
            "root": roots[name],
            "faces": FACES[name],
        }
        for name, synth in SETS.items()
    }
    catalog = Catalog.model_validate(
        {
            "rendered": SETS,
            "datasets": datasets,
            "variants": VARIANTS,
            "compute": {"jobs": 1, "device": "cpu", "precision": "fp32", "folds_at_once": 1},
            "report": {"bootstrap": 100, "gallery": 4, "tsne_iterations": 250},
        }
    )
    workspace = Workspace(root)
    for dataset in SETS:
        for stage in ("synthesize", *stages.OF_A_DATASET):
            stages.run(stage, catalog, workspace, dataset)
    for variant in VARIANTS:
        for stage in stages.OF_A_VARIANT:
            stages.run(stage, catalog, workspace, variant)
    stages.run("report", catalog, workspace)
    return catalog, workspace


@pytest.mark.parametrize(("variant", "samples", "folds", "classes"), RUNS)
def test_every_sample_is_predicted_once_by_a_network_that_never_saw_its_subject(
    project, variant, samples, folds, classes
):
    _, workspace = project
    predictions = pd.read_parquet(workspace.results(variant) / "predictions.parquet")
    assert len(predictions) == predictions["sample"].nunique() == samples
    assert predictions["fold"].nunique() == folds
    np.testing.assert_allclose(predictions[[f"p_{name}" for name in classes]].sum(axis=1), 1, rtol=1e-5)
    split = pd.read_parquet(workspace.split(variant))
    for fold, rows in predictions.groupby("fold"):
        trained = split[(split["fold"] == fold) & (split["part"] == "train")]["sample"]
        assert not set(trained.str[:5]) & set(rows["subject"])

    metrics = json.loads((workspace.results(variant) / "metrics.json").read_text())
    assert metrics["war"] == pytest.approx((predictions["label"] == predictions["predicted"]).mean())
    assert metrics["folds"] == folds
    by_fold = predictions["label"].eq(predictions["predicted"]).groupby(predictions["fold"]).mean()
    assert metrics["war_fold_mean"] == pytest.approx(by_fold.mean())
    assert metrics["war_fold_std"] == pytest.approx(by_fold.std())
    assert variant in (workspace.reports / "index.html").read_text()


def test_a_micro_expression_is_learnt_without_labels_first(project):
    _, workspace = project
    for fold in (1, 2):
        pretraining = pd.read_csv(workspace.model("micro") / f"fold_{fold}" / "pretraining.csv")
        history = pd.read_csv(workspace.model("micro") / f"fold_{fold}" / "history.csv")
        assert len(pretraining) == len(history) == 1
        assert (history["train_displacement"] > 0).all()


def test_predict_names_a_clip_as_the_pipeline_did(project):
    catalog, workspace = project
    for variant, frames in (("video", ()), ("micro", ("onset", "apex"))):
        wanted = pd.read_parquet(workspace.results(variant) / "predictions.parquet").iloc[0]
        dataset = catalog.variants[variant].dataset
        index = pd.read_parquet(workspace.index(dataset)).set_index("sample")
        row = index.loc[wanted["sample"]]
        fold = workspace.model(variant) / f"fold_{wanted['fold']}"
        answer = answered(fold, catalog.datasets[dataset].root / row["path"], *(int(row[name]) for name in frames))
        for name, share in answer["probabilities"].items():
            assert share == pytest.approx(wanted[f"p_{name}"], abs=0.02)  # frames are stored as JPEG, or as PNG


def test_mlflow_serves_a_network_of_clips(project, tmp_path):
    catalog, workspace = project
    row = read_index(workspace.index("videos")).rows.iloc[0]
    frames = [cv2.imread(path) for path in sorted((catalog.datasets["videos"].root / row["path"]).iterdir())]
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 25, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()
    mlflow.set_tracking_uri(uri(workspace))
    runs = mlflow.search_runs(search_all_experiments=True).set_index("tags.variant")
    parents = runs[runs["tags.mlflow.parentRunId"].isna()]["run_id"]
    assert set(parents.index) == set(VARIANTS)
    children = {parents[variant]: folds for variant, _, folds, _ in RUNS}
    assert runs["tags.mlflow.parentRunId"].value_counts().to_dict() == children
    parent = parents["video"]
    (model,) = mlflow.MlflowClient().get_run(parent).outputs.model_outputs
    assert duchenne.load(f"models:/{model.model_id}", workspace=workspace.root).takes == "clip"
    served = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    answers = served.predict(pd.DataFrame({"video": [base64.b64encode(path.read_bytes()).decode()]}))
    answer = answered(workspace.model("video") / "fold_1", path)
    assert answers["emotion"].tolist() == [answer["emotion"]]
    np.testing.assert_allclose(answers[EMOTIONS], [list(answer["probabilities"].values())], atol=1e-4)
