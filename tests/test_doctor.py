"""`duchenne doctor`: what it finds, and that only what stops params.yaml gives exit status 1."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from typer.testing import CliRunner

from duchenne import cli, doctor

DATASET = {
    "layout": "folder",
    "classes": ["happiness", "sadness"],
    "faces": {"mode": "aligned", "detector": "none"},
}
VARIANT = {
    "dataset": "mine",
    "init_from": "scratch",
    "protocol": {"kind": "holdout"},
    "model": {"architecture": "resnet10t"},
    "recipe": {"epochs": 1, "batch_size": 4, "lr": 1e-3},
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(project: Path, compute: dict | None = None, dataset: dict | None = None) -> None:
    blocks = {"datasets": {"mine": {**DATASET, "root": "raw", **(dataset or {})}}, "variants": {"v": VARIANT}}
    blocks |= {"rendered": {}, "landmark_nets": {}}
    YAML(typ="safe").dump({"compute": compute or {}, **blocks}, project / "params.yaml")


def ask(*words: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Exit status, and the findings by topic."""
    done = CliRunner().invoke(cli.app, ["doctor", "--json", *words])
    said, topics = json.loads(done.stdout), {}
    for finding in said["findings"]:
        topics.setdefault(finding["topic"], []).append(finding)
    assert said["ok"] == (done.exit_code == 0)
    return done.exit_code, topics


def test_outside_a_project_the_machine_is_checked(project: Path):
    status, found = ask()
    assert status == 0
    assert found["params.yaml"][0]["state"] == "warning"
    assert f"torch {torch.__version__.partition('+')[0]}" in found["packages"][0]["text"]
    assert {"GPU", "precision", "processor", "disk", "MLflow", "weights"} <= found.keys()
    assert "made by the first run" in found["MLflow"][0]["text"]
    assert list(project.iterdir()) == []


def test_a_missing_dataset_is_a_problem_until_it_is_there(project: Path):
    write(project)
    status, found = ask()
    assert status == 1
    assert found["datasets"] == [
        {
            "topic": "datasets",
            "state": "problem",
            "text": "mine: raw does not exist",
            "fix": "put it there (docs/datasets.md), or: duchenne remove mine",
        }
    ]
    (project / "raw").mkdir()
    status, found = ask()
    assert (status, found["datasets"][0]["state"]) == (0, "ok")


def test_a_file_of_a_model_that_is_not_there_is_a_problem(project: Path):
    (project / "raw").mkdir()
    write(project, dataset={"faces": {"mode": "detect", "detector": "yunet", "detector_model": "yunet.onnx"}})
    status, found = ask()
    assert status == 1
    assert "datasets.mine.faces.detector_model: yunet.onnx does not exist" in found["datasets"][0]["text"]


def test_an_error_in_params_is_shown_with_its_place(project: Path):
    write(project, compute={"devize": "cpu"})
    status, found = ask()
    assert status == 1
    assert "compute.devize: unknown key (did you mean 'device'?)" in found["params.yaml"][0]["text"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device")
def test_a_device_that_is_not_there_is_a_problem(project: Path):
    (project / "raw").mkdir()
    write(project, compute={"device": "cuda"})
    status, found = ask()
    assert status == 1
    assert any("compute.device 'cuda' cannot be used here" in each["text"] for each in found["GPU"])


def test_more_threads_than_cores_are_a_warning(project: Path):
    write(project, compute={"fold": {"cores": 1000}})
    _, found = ask()
    assert [each["state"] for each in found["engine"]] == ["ok", "warning"]
    assert "each fold computes in 1000 threads" in found["engine"][1]["text"]


def test_a_missing_package_is_a_problem_only_where_it_is_needed(project: Path, monkeypatch: pytest.MonkeyPatch):
    (project / "raw").mkdir()
    present = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda module: module != "dlib" and present(module))
    for faces, status, state in (
        (DATASET["faces"], 0, "warning"),
        ({"mode": "detect", "detector": "dlib"}, 1, "problem"),
    ):
        write(project, dataset={"faces": faces})
        ended, found = ask()
        assert (ended, found["extras"][0]["state"]) == (status, state)
        assert found["extras"][0]["fix"] == "pip install 'duchenne[dlib]'"


def test_damaged_weights_are_a_problem(project: Path, monkeypatch: pytest.MonkeyPatch):
    path = doctor.PACKAGED["dgm"]
    (project / path.name).write_bytes(path.read_bytes()[:-1])
    (project / path.with_suffix(".json").name).write_bytes(path.with_suffix(".json").read_bytes())
    monkeypatch.setitem(doctor.PACKAGED, "dgm", project / path.name)
    status, found = ask()
    assert status == 1
    assert found["weights"][0]["text"] == "packaged weights damaged: dgm"


def test_a_server_that_does_not_answer_is_a_warning(project: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("DUCHENNE_MLFLOW_TIMEOUT", "0.5")
        status, found = ask()
    assert (status, found["MLflow"][0]["state"]) == (0, "warning")
    assert "does not answer: no answer within 0.5 s" in found["MLflow"][0]["text"]
    assert "secret" not in found["MLflow"][0]["text"]


def test_a_running_stage_is_named(project: Path):
    tmp = project / ".dvc" / "tmp"
    tmp.mkdir(parents=True)
    (project / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    one = {"cmd": "dvc repro", "pid": os.getpid()}
    (tmp / "rwlock").write_text(json.dumps({"write": {"models/v": one}, "read": {}}))
    _, found = ask()
    running, repository = found["DVC"]
    assert running["text"] == f"a stage is running: dvc repro (process {os.getpid()})"
    assert str(project / ".dvc" / "cache") in repository["text"]
    assert "no remote" in repository["text"]


@pytest.mark.parametrize("lock", ["", "schema: '2.0'\nstages:\n  a:\n    cmd: x\n    deps:\n    - pa"])
def test_files_that_a_killed_dvc_has_cut_off_are_named(tmp_path: Path, lock: str):
    files = tmp_path / "dvc.lock", tmp_path / "rwlock"
    assert list(doctor._cut_off(*files)) == []
    files[0].write_text("schema: '2.0'\nstages: {}\n")
    files[1].write_text("{}")
    assert list(doctor._cut_off(*files)) == []
    for path, text in zip(files, (lock, ""), strict=True):
        path.write_text(text)
    assert [path for path, _ in doctor._cut_off(*files)] == [*files]


def test_the_table_shows_what_json_says(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "250")
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert done.exit_code == 0
    assert "cd to the project's folder, or give its --params" in done.stdout
