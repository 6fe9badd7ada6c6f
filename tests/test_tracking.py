"""MLflow: what is sent, that nothing is sent twice, and that a server that is down costs nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from duchenne import catalog
from duchenne.tracking import EXPERIMENT, Tracker, uri
from duchenne.workspace import Workspace

VARIANT = catalog.load(Path(__file__).parents[1] / "params.yaml").variants["poster_v2_rafdb"]
VARIANT = VARIANT.model_copy(update={"reproduces": "poster_v2_rafdb"})  # whatever a test calls it

RAW = Path("data/raw/raf_db")


def row(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "lr": 0.1, "train_loss": 1 / epoch, "val_loss": float("nan")}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "a folder")
    workspace.split("v").parent.mkdir(parents=True)
    workspace.split("v").write_bytes(b"split")
    for fold in (1, 2):
        folder = workspace.model("v") / f"fold_{fold}"
        folder.mkdir(parents=True)
        pd.DataFrame([row(1), row(2)]).to_csv(folder / "history.csv", index=False)
        (folder / "card.json").write_text(json.dumps({"classes": ["anger", "neutral"], "takes": "pair"}))
        (folder / "weights.safetensors").write_bytes(b"weights")
    workspace.results("v").mkdir(parents=True)
    (workspace.results("v") / "metrics.json").write_text(json.dumps({"war": 0.9, "uar": 0.8, "selection": "test"}))
    index = workspace.index(VARIANT.dataset)
    index.parent.mkdir(parents=True)
    pd.DataFrame({"sample": ["a", "b"], "emotion": ["anger", "fear"], "subject": ["1", "2"]}).to_parquet(index)
    lock = {"path": "data/raw/raf_db", "md5": "0123.dir"}
    (workspace.root / "dvc.lock").write_text(json.dumps({"stages": {f"index@{VARIANT.dataset}": {"deps": [lock]}}}))
    workspace.reports.mkdir()
    (workspace.reports / "index.html").write_text("<p>report</p>")
    return workspace


def runs(workspace: Workspace) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow leaves its own there
        mlflow.set_tracking_uri(uri(workspace))
    return mlflow.search_runs(experiment_names=[EXPERIMENT])


@pytest.mark.slow
def test_epochs_then_everything_else(workspace: Workspace):
    tracker = Tracker(workspace, "v", VARIANT, RAW)
    tracker.epoch(1, row(1))
    tracker.publish()
    Tracker(workspace, "v", VARIANT, RAW).publish()  # a second time adds nothing

    table = runs(workspace)
    parent = table[table["tags.mlflow.parentRunId"].isna()]
    children = table[table["tags.mlflow.parentRunId"] == parent.run_id.item()]
    assert len(table) == 3
    assert parent["metrics.war"].item() == 0.9
    assert parent["tags.data"].item() == "0123.dir"
    (inputs,) = mlflow.get_run(parent.run_id.item()).inputs.dataset_inputs
    assert inputs.dataset.name == VARIANT.dataset
    assert parent["metrics.paper_war"].item() == pytest.approx(0.9221)
    assert parent["metrics.difference_war"].item() == pytest.approx(0.9 - 0.9221)
    assert parent["params.recipe.lr"].item() == "3.5e-05"
    assert parent["tags.selection"].item() == "test"
    assert parent["tags.basis"].item() == "code"
    assert parent["tags.paper"].item().startswith("POSTER++, Table 3")
    client = mlflow.MlflowClient(uri(workspace))
    for run in children.run_id:
        history = client.get_metric_history(run, "train_loss")
        assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5)]
    assert {item.path for item in client.list_artifacts(parent.run_id.item())} >= {"results", "report"}
    model = client.search_logged_models(parent.experiment_id.tolist())[0]
    signature = mlflow.models.get_model_info(model.model_uri).signature
    assert [column.name for column in signature.inputs] == ["video", "onset", "apex"]
    assert [column.name for column in signature.outputs] == ["emotion", "note", "anger", "neutral"]


def test_another_configuration_is_another_run(workspace: Workspace):
    Tracker(workspace, "v", VARIANT, RAW).epoch(1, row(1))
    Tracker(workspace, "v", VARIANT.model_copy(update={"seed": 7})).epoch(1, row(1))
    parents = runs(workspace).query("`tags.mlflow.parentRunId`.isna()")
    assert set(parents["params.seed"]) == {"0", "7"}


def test_workspaces_of_one_process_keep_to_themselves(workspace: Workspace, tmp_path: Path):
    Tracker(workspace, "v", VARIANT, RAW).epoch(1, row(1))
    other = Workspace(tmp_path / "another folder")
    shutil.copytree(workspace.root / "data", other.root / "data")
    Tracker(other, "v", VARIANT.model_copy(update={"seed": 7}), RAW).epoch(1, row(1))
    assert set(runs(workspace)["params.seed"].dropna()) == {"0"}
    assert set(runs(other)["params.seed"].dropna()) == {"7"}


def test_a_server_that_is_down_loses_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: nobody listens
    Tracker(workspace, "v", VARIANT, RAW).epoch(1, row(1))
    assert "sent next time" in caplog.text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    Tracker(workspace, "v", VARIANT, RAW).epoch(1, row(2))
    assert set(runs(workspace)["params.seed"].dropna()) == {"0"}
