"""The whole pipeline, run by DVC in a separate project: a rendered set, a variant of three folds, the report."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from textwrap import indent

import mlflow
import pandas as pd
import pytest
from docs_tools import blocks
from dvc.repo import Repo
from dvc_tools import ROOT, Project
from predict_tools import answered
from safetensors.torch import load_file
from torch.testing import assert_close
from typer.testing import CliRunner

from duchenne import cli, config, stages
from duchenne.errors import UserError
from duchenne.files import file_digest
from duchenne.tracking import uri
from duchenne.workspace import Workspace

pytestmark = pytest.mark.slow

CLASSES = ["happiness", "surprise"]
PARAMS = {
    "rendered": {"tiny": {"kind": "image", "classes": CLASSES, "subjects": 9, "test_share": 0.34, "seed": 4}},
    "landmark_nets": {},
    "compute": {"jobs": 1, "folds_at_once": 1},
    "report": {"show_faces": True, "bootstrap": 100, "gallery": 4, "tsne_iterations": 250},
    "datasets": {
        "tiny": {"layout": "synth", "root": "data/raw/tiny", "classes": CLASSES, "faces": {"size": 112}},
    },
    "variants": {
        "folds": {
            "dataset": "tiny",
            "init_from": "scratch",
            "protocol": {"kind": "kfold", "folds": 3, "val_share": 0.2},
            "model": {
                "architecture": "test_resnet",
                "options": {"pretrained_cfg_overlay": {"input_size": [3, 64, 64]}},
            },
            "recipe": {"epochs": 2, "batch_size": 4, "lr": 1e-3},
        },
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("a project"))
    project.params(PARAMS)
    project.dvc("repro")
    return project


@pytest.fixture
def workspace(project: Project, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The project's folder, from which relative paths of params.yaml count."""
    monkeypatch.chdir(project.root)
    return Workspace(project.root)


def test_every_stage_leaves_what_it_promises(workspace: Workspace):
    results = workspace.results("folds")
    metrics = json.loads((results / "metrics.json").read_text())
    predictions = pd.read_parquet(results / "predictions.parquet")
    assert metrics["n"] == len(predictions) == 18
    assert metrics["war_low"] <= metrics["war"] <= metrics["war_high"]
    assert metrics["war"] == pytest.approx((predictions["label"] == predictions["predicted"]).mean())
    assert predictions["fold"].nunique() == 3
    assert "folds" in (workspace.reports / "index.html").read_text()
    split = pd.read_parquet(workspace.split("folds"))
    assert (split[split["part"] == "test"]["sample"].value_counts() == 1).all()


def test_a_second_repro_runs_nothing(project: Project):
    assert "Running stage" not in project.dvc("repro")


def test_dvc_shows_metrics_and_plots(project: Project):
    with Repo(project.root) as repo:
        shown = repo.metrics.show()[""]["data"]
    assert [name.rpartition("results/")[2] for name in sorted(shown)] == ["folds/metrics.json", "folds/robustness.json"]
    project.dvc("plots", "show", "--out", "plots")
    assert "folds" in (project.root / "plots" / "index.html").read_text()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of a server that speaks S3's protocol, with an empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """An empty remote of DVC: its settings."""
    if request.param == "folder":
        return {"url": str(tmp_path / "store")}
    boto3 = pytest.importorskip("boto3", reason="the extra s3 is not installed")
    key = {"access_key_id": "key", "secret_access_key": "secret"}
    server = {"endpointurl": request.getfixturevalue("bucket"), "region": "us-east-1"}
    named = {"endpoint_url": server["endpointurl"], "region_name": "us-east-1"}
    boto3.client("s3", **named, aws_access_key_id="key", aws_secret_access_key="secret").create_bucket(Bucket="bucket")
    return {"url": "s3://bucket/duchenne"} | server | key


def clone(project: Project, folder: Path, remote: dict[str, str]) -> Project:
    """A clone with an empty cache, after a commit; both have the remote."""
    user = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["add", "--all"], [*user, "commit", "--quiet", "--allow-empty", "--message", "runs"]):
        subprocess.run(["git", *words], cwd=project.root, check=True)
    subprocess.run(["git", "clone", "--quiet", str(project.root), str(folder)], check=True)
    for root in (project.root, folder):
        with Repo(root) as repo, repo.config.edit("local") as settings:
            settings["remote"], settings["core"] = {"store": remote}, {"remote": "store"}
    other = copy(project)
    other.root, other.env = folder, project.env | {"PYTHONPATH": str(folder / "src")}
    return other


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_clone_pulls_results_and_report_and_runs_nothing(project: Project, remote: dict[str, str], tmp_path: Path):
    other = clone(project, tmp_path / "clone", remote)
    project.dvc("push")
    other.dvc("pull")
    for name in ("reports", "results", "models"):
        assert contents(other.root / name) == contents(project.root / name)
    assert other.status() == set()
    assert "Running stage" not in other.dvc("repro")


def test_results_are_pushed_without_faces(project: Project, tmp_path: Path):
    """``dvc push report evaluate@... train@...``, as docs/sharing.md shows."""
    other = clone(project, tmp_path / "clone", {"url": str(tmp_path / "store")})
    targets = ["report", "evaluate@folds", "train@folds"]
    project.dvc("push", *targets)
    other.dvc("pull", *targets)
    faces = set(contents(project.root / "data" / "faces").values())
    assert faces
    assert not faces & set(contents(tmp_path / "store").values())
    for name in ("reports", "models"):
        assert contents(other.root / name) == contents(project.root / name)
    assert (other.root / "results" / "folds" / "metrics.json").exists()


def test_faces_that_are_not_to_be_pushed_are_aligned_again_and_nothing_is_trained(project: Project, tmp_path: Path):
    """``push: false`` in dvc.yaml, as docs/sharing.md shows."""
    (block,) = [text for _, text in blocks(ROOT / "docs" / "sharing.md", "yaml")]
    pipeline = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    plain = "      outs:\n        - data/faces/${key}\n"
    assert pipeline.count(plain) == 1
    store = tmp_path / "store"
    try:
        (project.root / "dvc.yaml").write_text(pipeline.replace(plain, indent(block, 6 * " ")), encoding="utf-8")
        other = clone(project, tmp_path / "clone", {"url": str(store)})
        assert project.status() == set()
        project.dvc("push")
    finally:
        (project.root / "dvc.yaml").write_text(pipeline, encoding="utf-8")
    faces = set(contents(project.root / "data" / "faces").values())
    assert not faces & set(contents(store).values())
    assert "data/faces/tiny" in other.dvc("pull", check=False)
    assert re.findall("Running stage '(.*)'", other.dvc("repro")) == ["align@tiny"]
    assert contents(other.root / "reports") == contents(project.root / "reports")


def test_mlflow_has_a_parent_a_variant_and_a_child_a_fold(workspace: Workspace):
    mlflow.set_tracking_uri(uri(workspace))
    runs = mlflow.search_runs(search_all_experiments=True)
    parents = runs[runs["tags.mlflow.parentRunId"].isna()].set_index("tags.variant")
    assert set(parents.index) == {"folds"}
    assert runs["tags.mlflow.parentRunId"].value_counts().to_dict() == {parents.loc["folds", "run_id"]: 3}
    metrics = json.loads((workspace.results("folds") / "metrics.json").read_text())
    assert parents.loc["folds", "metrics.uar"] == pytest.approx(metrics["uar"])


def test_a_trained_fold_names_the_expression_of_a_picture_as_the_pipeline_did(workspace: Workspace):
    predictions = pd.read_parquet(workspace.results("folds") / "predictions.parquet").iloc[0]
    index = pd.read_parquet(workspace.index("tiny")).set_index("sample")
    picture = workspace.raw("tiny") / index.loc[predictions["sample"], "path"]
    fold = workspace.model("folds") / f"fold_{predictions['fold']}"
    answer = answered(fold, picture)
    said = CliRunner().invoke(cli.app, ["predict", str(picture), "--model", str(fold)])
    assert json.loads(said.stdout) == answer | {"source": str(picture)}
    # the store's JPEG is the only difference
    for name in CLASSES:
        assert answer["probabilities"][name] == pytest.approx(predictions[f"p_{name}"], abs=0.1)


def weights(workspace: Workspace) -> dict[str, str]:
    return {path.parent.name: file_digest(path) for path in workspace.model("folds").glob("*/weights.safetensors")}


def test_a_killed_training_resumes_and_gives_the_same_weights(project: Project, workspace: Workspace):
    before = weights(workspace)
    work = workspace.work("train", "folds")
    shutil.rmtree(work)
    command, quiet = [sys.executable, "stages/train.py", "folds"], subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=project.root, env=project.env, stderr=quiet, start_new_session=True)
    while process.poll() is None and not (work / "fold_2" / "state.pt").exists():
        time.sleep(0.005)
    assert process.poll() is None, "it ended before the second fold had an epoch"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (work / "fold_2" / "state.pt").exists()
    finished = work / "fold_1" / "done" / "weights.safetensors"
    trained = finished.stat().st_mtime_ns
    project.python(*command[1:])
    assert finished.stat().st_mtime_ns == trained  # a finished fold is not trained again
    assert len(before) == 3
    assert weights(workspace) == before


def test_folds_of_several_jobs_are_one_run_and_are_copied_later(project: Project, workspace: Workspace):
    before, state = weights(workspace), workspace.work("train", "folds")
    for folder in (state, workspace.model("folds")):
        shutil.rmtree(folder)
    (project.root / "mlflow.db").rename(project.root / "kept.db")
    command = [sys.executable, "stages/train.py", "folds"]
    jobs = [
        subprocess.Popen([*command, fold], cwd=project.root, env=project.env, stderr=subprocess.PIPE, text=True)
        for fold in ("1", "2", "3")
    ]
    said = [job.communicate()[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], said
    assert sum("resumes" in text or "Traceback" in text for text in said) == 0
    assert not workspace.model("folds").exists()
    assert not (project.root / "mlflow.db").exists()  # a file is for one machine
    first = json.loads((state / "training.json").read_text())
    trained = {path: path.stat().st_mtime_ns for path in state.glob("*/done/weights.safetensors")}
    assert len(trained) == 3
    (project.root / "kept.db").rename(project.root / "mlflow.db")
    project.python("stages/train.py", "folds")
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert weights(workspace) == before
    assert json.loads(workspace.training_record("folds").read_text()) == first


def test_the_script_of_a_slurm_job_trains_its_fold(project: Project, workspace: Workspace):
    """docs/slurm.md's ``train.sbatch``, as Slurm starts it; an environment variable of Slurm gives the fold."""
    page = (ROOT / "docs" / "slurm.md").read_text(encoding="utf-8")
    scripts = dict(re.findall(r'```bash title="([^"]+)"\n(.*?)```', page, re.DOTALL))
    assert {"train.sbatch", "submit.sh"} <= set(scripts)
    before, state = weights(workspace), workspace.work("train", "folds")
    shutil.rmtree(state / "fold_2")
    environment = project.root / ".venv" / "bin" / "activate"
    environment.parent.mkdir(parents=True)
    environment.write_text("hash -r\n", encoding="utf-8")  # PATH is that of the tests
    given = project.env | {"VARIANT": "folds", "SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_ID": "1"}
    for name, text in scripts.items():
        (project.root / name).write_text(text, encoding="utf-8")
        subprocess.run(["bash", "-n", name], cwd=project.root, check=True)
    subprocess.run(["bash", "-e", "train.sbatch"], cwd=project.root, env=given, capture_output=True, check=True)
    assert file_digest(state / "fold_2" / "done" / "weights.safetensors") == before["fold_2"]


def test_a_fold_that_is_not_there_is_refused_with_those_that_are(workspace: Workspace):
    with pytest.raises(UserError, match="folds has no fold '4': its folds are 1, 2, 3"):
        stages.run("train", config.load(), workspace, "folds", "1", "4")


def test_lost_folds_are_trained_again_two_at_once_and_give_the_same(workspace: Workspace):
    work, model = workspace.work("train", "folds"), workspace.model("folds")
    before = {fold: load_file(model / f"fold_{fold}" / "weights.safetensors") for fold in (1, 2, 3)}
    kept = work / "fold_1" / "done" / "weights.safetensors"
    written = kept.stat().st_mtime_ns
    for folder in (work / "fold_2", work / "fold_3", model):
        shutil.rmtree(folder)
    whole = config.load(workspace.root / "params.yaml")
    compute = whole.compute.model_copy(update={"folds_at_once": 2, "loader_workers": 1})
    stages.run("train", whole.model_copy(update={"compute": compute}), workspace, "folds")
    assert kept.stat().st_mtime_ns == written
    for fold, entries in before.items():  # another number of threads changes the last bits
        after = load_file(model / f"fold_{fold}" / "weights.safetensors")
        assert_close(after, entries, rtol=1e-3, atol=1e-4)
