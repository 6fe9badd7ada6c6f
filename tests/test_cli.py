"""Every command of ``duchenne``, run on small real inputs, and one mistake each: a clear error and exit status 1."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from urllib.error import HTTPError, URLError

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from dvc_tools import ROOT
from ruamel.yaml import YAML
from safetensors.torch import load_file
from training_tools import CLASSES, SMALL
from typer.main import get_command

from duchenne import cli, config, stages
from duchenne.commands.common import print_json, readable_errors
from duchenne.files import read_json
from duchenne.workspace import Workspace

OWN = {
    "dataset": "drawn",
    "init_from": "scratch",
    "protocol": {"kind": "kfold", "folds": 3, "val_share": 0.2},
    "model": {"architecture": "test_resnet", "options": SMALL},
    "recipe": {"epochs": 1, "batch_size": 8, "lr": 2e-3},
}
PARAMS = {
    "compute": {"jobs": 1, "device": "cpu", "precision": "fp32", "folds_at_once": 1},
    "report": {"bootstrap": 100, "gallery": 4, "tsne_iterations": 250},
    "rendered": {},
    "landmark_nets": {},
    "datasets": {
        "drawn": {
            "layout": "manifest",
            "root": "raw",
            "classes": CLASSES,
            "faces": {"mode": "aligned", "detector": "none", "size": 64, "encoding": "png"},
        }
    },
    "variants": {"first": OWN, "second": OWN | {"seed": 1}},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 36 drawn faces, on which two variants were trained and evaluated."""
    root = tmp_path_factory.mktemp("commands")
    (root / "raw").mkdir()
    rng, rows = np.random.default_rng(0), []
    for i in range(36):
        picture = rng.integers(40, 120, (64, 64, 3), dtype=np.uint8)
        picture[i % 3 * 21 : i % 3 * 21 + 21] += 100
        cv2.imwrite(str(root / "raw" / f"{i}.png"), picture)
        rows.append({"path": f"{i}.png", "label": CLASSES[i % 3], "subject": f"p{i // 3}"})
    pd.DataFrame(rows).to_csv(root / "raw" / "manifest.csv", index=False)
    YAML(typ="safe").dump(json.loads(json.dumps(PARAMS)), root / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        catalog, workspace = config.load(), Workspace(root)
        for stage in stages.OF_A_DATASET:
            stages.run(stage, catalog, workspace, "drawn")
        for variant in catalog.variants:
            for stage in stages.OF_A_VARIANT:
                stages.run(stage, catalog, workspace, variant)
    return root


@pytest.fixture
def duchenne(finished: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run the command in that folder; returns exit status, output and errors."""
    monkeypatch.chdir(finished)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["duchenne", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capfd.readouterr()

    return run


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of the shipped params.yaml."""
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def test_variants(duchenne):
    status, out, _ = duchenne("variants")
    assert status == 0
    (first,) = [line for line in out.splitlines() if "first *" in line]
    assert "there" in first
    status, out, _ = duchenne("variants", "--paper", "poster_v2", "--table", "3")
    assert status == 0
    assert "poster_v2_rafdb" in out
    assert "92.21" in out
    assert "first" not in out


def test_add_and_remove(duchenne, params: Path):
    before = params.read_text(encoding="utf-8")
    status, out, _ = duchenne("add", "ifdd_2dcnn_dfew", "--params", params)
    assert status == 0
    assert {"added datasets.dfew", "added variants.ifdd_2dcnn_dfew"} <= set(out.splitlines())
    assert "ifdd_2dcnn_dfew" in config.load(params).variants
    status, out, _ = duchenne("remove", "ifdd_2dcnn_dfew", "--params", params)
    assert status == 0
    assert "removed variants.ifdd_2dcnn_dfew" in out.splitlines()
    assert params.read_text(encoding="utf-8") == before


def test_check(duchenne):
    status, out, _ = duchenne("check", "drawn")
    assert status == 0
    assert "36" in out
    status, out, _ = duchenne("check", "drawn", "--deep", "--json")
    assert status == 0
    assert json.loads(out)["complete"] is True


def test_compare(duchenne):
    status, out, _ = duchenne("compare", "first", "second", "--json")
    assert status == 0
    found = json.loads(out)
    wars = [json.loads((Path("results") / name / "metrics.json").read_text())["war"] for name in ("first", "second")]
    assert [run["war"] for run in found["runs"]] == pytest.approx(wars)
    status, out, _ = duchenne("compare", "first", "second")
    assert status == 0
    assert "right alone / the first alone" in out


def test_complexity(duchenne):
    status, out, _ = duchenne("complexity", "first", "--json")
    assert status == 0
    (row,) = json.loads(out)
    weights = load_file("models/first/fold_1/weights.safetensors")
    learnt = sum(value.numel() for name, value in weights.items() if "running" not in name and "num_b" not in name)
    assert row["params"] == pytest.approx(learnt / 1e6)
    assert "| `test_resnet` | 0.37 |" in duchenne("complexity", "first")[1]


def test_plan(duchenne):
    status, out, _ = duchenne("plan", "first", "--json")
    assert status == 0
    found = json.loads(out)
    (row,) = found["variants"]
    assert (row["folds"], row["basis"]) == (3, "measured here")
    assert row["samples a second"]["value"] > 0
    assert "is not a DVC repository" in found["rerun"]["remark"]
    assert [fold["finished"] for fold in found["rerun"]["folds in work"]["first"]] == [True] * 3
    status, out, _ = duchenne("plan", "first", "--no-rerun", "--gpus", "2")
    assert status == 0
    assert "on 2 machines" in out


def test_folds(duchenne):
    assert duchenne("folds", "first")[:2] == (0, "1,2,3\n")


def test_licences(duchenne):
    status, out, _ = duchenne("licences", "--json")
    assert status == 0
    assert any("BSD" in str(entry) for entry in json.loads(out) if "torch" in entry.values())


def test_folds_before_the_split(duchenne, monkeypatch: pytest.MonkeyPatch, finished: Path, tmp_path: Path):
    shutil.copy(finished / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    status, _, err = duchenne("folds", "first")
    assert (status, err) == (1, "error: data/splits/first.parquet is missing: run `dvc repro split@first`\n")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train", "which variant? python stages/train.py VARIANT"),
        ("train firts 1", "there is no variant 'firts' (did you mean 'first'?)"),
        ("align drawm", "there is no dataset 'drawm' (did you mean 'drawn'?)"),
    ],
)
def test_a_stage_called_by_hand_names_a_mistake(
    command: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
):
    YAML(typ="safe").dump(json.loads(json.dumps(PARAMS)), tmp_path / "params.yaml")  # without anchors
    monkeypatch.chdir(tmp_path)
    name, *arguments = command.split()
    monkeypatch.setattr("sys.argv", [f"stages/{name}.py", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.stage(import_module(f"duchenne.stages.{name}").run)
    assert (end.value.code, capsys.readouterr().err) == (1, f"error: {message}\n")


def test_evaluate(duchenne, tmp_path: Path):
    torch.save(load_file("models/first/fold_2/weights.safetensors"), tmp_path / "published.pth")
    status, out, _ = duchenne(
        "evaluate", "--checkpoint", tmp_path / "published.pth", "--variant", "first", "--fold", 2, "--out", tmp_path
    )
    assert status == 0
    ours = pd.read_parquet("results/first/predictions.parquet")
    ours = ours[ours["fold"] == 2]
    assert json.loads(out)["war"] == pytest.approx((ours["label"] == ours["predicted"]).mean())


def test_import(duchenne, tmp_path: Path):
    torch.save(load_file("models/first/fold_2/weights.safetensors"), tmp_path / "published.pth")
    order = ",".join(CLASSES)
    words = ("import", tmp_path / "published.pth", "--variant", "first", "--classes", order, "--out", tmp_path / "out")
    status, out, _ = duchenne(*words)
    assert status == 0
    assert f"order of the classes: {', '.join(CLASSES)} (named by the user)" in out
    results = []
    for model in (tmp_path / "out", "models/first/fold_2"):
        words = ("--variant", "first", "--fold", 2, "--out", tmp_path / "results")
        status, out, err = duchenne("evaluate", "--model", model, *words)
        assert (status, err) == (0, "")
        results.append(json.loads(out))
    assert results[0] == results[1]
    status, _, err = duchenne("evaluate", "--model", tmp_path, "--checkpoint", tmp_path, "--variant", "first")
    assert status == 1
    assert "either a published file (--checkpoint) or the folder of a network (--model)" in err


def test_report(duchenne):
    status, out, _ = duchenne("report")
    assert status == 0
    page = Path(out.splitlines()[-1])
    assert page.name == "index.html"
    assert {"first", "second"} <= set(page.read_text(encoding="utf-8").replace("<", " ").replace(">", " ").split())


def test_smoke_walks_every_stage_on_two_folds_in_a_scratch_folder(duchenne, tmp_path: Path):
    status, out, _ = duchenne("smoke", "first", "--samples", 18, "--scratch", tmp_path)
    assert status == 0
    page = Path(out.splitlines()[-1])
    assert page.is_relative_to(tmp_path)
    assert "first" in page.read_text(encoding="utf-8")
    assert len(pd.read_parquet(tmp_path / "data" / "index" / "drawn.parquet")) == 18
    predictions = pd.read_parquet(tmp_path / "results" / "first" / "predictions.parquet")
    assert predictions["fold"].nunique() == 2
    metrics = json.loads((tmp_path / "results" / "first" / "metrics.json").read_text())
    assert metrics["n"] == len(predictions)
    assert metrics["war"] == pytest.approx((predictions["label"] == predictions["predicted"]).mean())


def test_predict(duchenne):
    wanted = pd.read_parquet("results/first/predictions.parquet").iloc[0]
    picture = Path("raw") / wanted["sample"]
    status, out, _ = duchenne("predict", picture, "--model", f"models/first/fold_{wanted['fold']}")
    assert status == 0
    answer = json.loads(out)
    assert answer["source"] == str(picture)
    found = [answer["probabilities"][name] for name in CLASSES]
    assert found == pytest.approx(wanted[[f"p_{name}" for name in CLASSES]].tolist(), abs=1e-4)


def test_an_error_of_the_file_system_is_one_line(duchenne, monkeypatch: pytest.MonkeyPatch):
    status, _, err = duchenne("predict", "raw/0.png", "--model", "models/first/fold_1", "--out", "raw/0.png/rows.csv")
    assert (status, err) == (1, "error: raw/0.png/rows.csv.parts: Not a directory\n")
    with pytest.raises(OSError, match="of a library"), readable_errors():
        raise OSError("of a library")
    monkeypatch.setattr(sys, "stdout", None)  # closed by the shell (>&-)
    print_json({})


def test_ui(duchenne):
    """Its options are those of ``mlflow ui``, which explains them."""
    status, out, _ = duchenne("ui", "--", "--help")
    assert status == 0
    assert "--backend-store-uri" in out


def test_ui_of_a_server_is_at_its_address(duchenne, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    status, _, err = duchenne("ui")
    assert status == 1
    assert "runs go to the server at http://***@127.0.0.1:9: open that address in a browser" in err


def test_export(duchenne, tmp_path: Path):
    out = tmp_path / "first.pt2"
    status, said, _ = duchenne("export", "models/first/fold_1", "--format", "torch", "--out", out)
    assert status == 0
    assert "batch x 3 x 64 x 64 float32" in said
    assert json.loads(out.with_name("first.pt2.json").read_text())["classes"] == CLASSES


def test_serve(finished: Path):
    """As its own process, which an interruption ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from duchenne.cli import main; main()", "serve", "models/first/fold_1"]
    command += ["--port", str(port)]
    wanted = pd.read_parquet(finished / "results/first/predictions.parquet")
    wanted = wanted[wanted["fold"] == 1].iloc[0]
    with subprocess.Popen(command, cwd=finished, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout.readline() == f"models/first/fold_1 at http://127.0.0.1:{port}; try:\n"
            picture = base64.b64encode((finished / "raw" / wanted["sample"]).read_bytes()).decode()
            body = json.dumps({"dataframe_records": [{"image": picture}]}).encode()
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
            )
            (answer,) = json.loads(_answered(server, request))["predictions"]
        finally:
            server.send_signal(signal.SIGINT)
    assert server.returncode == 0
    found = [answer[name] for name in CLASSES]
    assert found == pytest.approx(wanted[[f"p_{name}" for name in CLASSES]].tolist(), abs=1e-4)


def test_studio(duchenne, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Until an interruption, which a thread sends."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, err = duchenne("studio", "--port", port)
        assert status == 1
        assert f"127.0.0.1:{port} cannot be used: Address already in use; give another --port or --host" in err
    found = []

    def ask() -> None:
        try:
            for _ in range(600):
                with suppress(URLError), urllib.request.urlopen(f"http://127.0.0.1:{port}/about", timeout=60) as answer:
                    found.extend(json.load(answer)["models"])
                    return
                time.sleep(0.1)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=ask)
    thread.start()
    status, out, _ = duchenne("studio", "--port", port)
    thread.join()
    assert (status, out) == (0, f"duchenne studio: http://127.0.0.1:{port} (Ctrl-C ends it)\n")
    assert found == [f"{name}/fold_{k}" for name in ("first", "second") for k in (1, 2, 3)]
    monkeypatch.chdir(tmp_path)
    assert "models/ has no trained network: run `dvc repro`" in duchenne("studio")[2]


def _answered(server: subprocess.Popen, request: urllib.request.Request) -> bytes:
    """The answer of a server that is starting."""
    while True:
        assert server.poll() is None, server.stdout.read()
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except HTTPError:
            raise  # it has started
        except URLError:
            time.sleep(0.1)


def test_doctor(duchenne):
    status, out, _ = duchenne("doctor")
    assert status == 0
    assert "valid; datasets: 1, variants: 2" in out


def test_verify(duchenne):
    status, out, _ = duchenne("verify", "first")
    assert (status, out.splitlines()[0]) == (0, "not checked: files: this folder is not under DVC (no .dvc folder)")
    assert out.splitlines()[-1].startswith("runs: 1, values computed again: ")


def test_groups(duchenne):
    status, out, _ = duchenne("groups", "first", "--json")
    assert (status, json.loads(out)["first"]["columns"]) == (0, [])  # the set has no column of people


def test_transfer(duchenne, finished: Path):
    status, out, _ = duchenne("transfer", "first", "--to", "drawn", "--json")
    (record,) = json.loads(out)
    assert (status, record["n"]) == (0, 36)
    shutil.rmtree(finished / "results" / "transfer")


def test_gap(duchenne):
    """The two runs differ in nothing but the seed, over three folds."""
    status, out, _ = duchenne("gap", "first", "--json")
    found = json.loads(out)
    (seeds,) = (part for part in found["parts"] if part["part"] == "seeds")
    runs = [read_json(Path("results", name, "metrics.json"))["uar"] for name in ("first", "second")]
    assert (status, found["target"]) == (0, None)
    assert seeds["changes"]["uar"]["value"] == pytest.approx(max(runs) - sum(runs) / 2)
    assert "the best of 2 seeds" in duchenne("gap", "second")[1]


def test_canary(duchenne, finished: Path):
    status, out, _ = duchenne("canary", "first", "--folds", "1", "--permutations", "3", "--json")
    found = json.loads(out)
    assert status == (0 if found["passed"] else 1)
    assert found["canary"]["n"] == 12
    shutil.rmtree(finished / "work" / "canary")


MISTAKES = {
    "variants": (["--table", "8"], "--table needs --paper"),
    "add": (["poster_v2_rafd"], "did you mean 'poster_v2_rafdb'"),
    "remove": (["frist"], "there is no block 'frist' (did you mean 'first'?)"),
    "canary": (["frist"], "there is no variant 'frist' (did you mean 'first'?)"),
    "check": (["drwn"], "there is no dataset 'drwn' (did you mean 'drawn'?)"),
    "compare": (["first", "third"], "third"),
    "complexity": (["frist"], "there is no variant 'frist' (did you mean 'first'?)"),
    "doctor": (["--params", "absent.yaml"], "absent.yaml does not exist"),
    "evaluate": (["--checkpoint", "absent.pth", "--variant", "first"], "absent.pth"),
    "export": (["models/first"], "models/first holds no trained network"),
    "gap": (["frist"], "there is no variant 'frist' (did you mean 'first'?)"),
    "folds": (["frist"], "there is no variant 'frist' (did you mean 'first'?)"),
    "groups": (["third"], "third"),
    "import": (["absent.pth", "--variant", "first"], "absent.pth"),
    "report": (["--params", "absent.yaml"], "absent.yaml"),
    "serve": (["models/first", "--clips", "raw"], "models/first holds no trained network"),
    "studio": (["models/first"], "models/first holds no trained network"),
    "smoke": (["frist"], "there is no variant 'frist' (did you mean 'first'?)"),
    "plan": (["frist"], "there is no variant 'frist' (did you mean 'first'?)"),
    "predict": (["absent.png", "--model", "models/first/fold_1"], "absent.png"),
    "transfer": (["first", "--to", "drwn"], "drwn"),
    "ui": (["--no-such-option"], "--no-such-option"),
    "verify": (["frist"], "there is no run 'frist' (did you mean 'first'?)"),
}
"""Command -> arguments that are wrong, and what its message says."""


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_clear_error(duchenne, command: str):
    words, message = MISTAKES[command]
    status, out, err = duchenne(command, *words)
    assert status == (2 if command == "ui" else 1)  # MLflow's own status
    assert message in err
    assert "Traceback" not in out + err


def test_every_command_is_tested():
    commands = get_command(cli.app).commands.keys()
    assert commands == MISTAKES.keys() | {"licences"}  # takes nothing that could be wrong
    with_a_test = {word for name in globals() if name.startswith("test_") for word in name.split("_")}
    assert commands <= with_a_test
