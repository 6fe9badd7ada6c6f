"""The whole road, walked by DVC itself in a project of its own: a rendered set, a variant of two folds, the report."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from duchenne import cli, config, smoke
from duchenne.files import file_digest
from duchenne.landmark_net.train import WEIGHTS
from duchenne.predict import Predictor
from duchenne.tracking import uri
from duchenne.workspace import Workspace

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CLASSES = ["happiness", "surprise"]
SYNTH = {"kind": "image", "classes": CLASSES, "subjects": 12, "test_share": 0.34, "seed": 4}
FAST = {"epochs": 2, "batch_size": 4, "lr": 1e-3}
PARAMS = {
    "rendered": {"tiny": SYNTH},
    "landmark_nets": {},
    "compute": {"jobs": 2, "folds_at_once": 1},
    "report": {"show_faces": True, "bootstrap": 100, "gallery": 4, "tsne_iterations": 250},
    "datasets": {
        "tiny": {
            "layout": "synth",
            "root": "data/raw/tiny",
            "classes": CLASSES,
            "faces": {"size": 224},
        }
    },
    "variants": {
        "folds": {
            "dataset": "tiny",
            "init_from": "scratch",
            "protocol": {"kind": "kfold", "folds": 2, "val_share": 0.2},
            "model": {"architecture": "resnet10t"},
            "recipe": FAST,
        },
    },
}
OFFICIAL = PARAMS["variants"]["folds"] | {"protocol": {"kind": "official", "val_share": 0.2}}
OFFICIAL = PARAMS["variants"]["folds"] | {"protocol": {"kind": "official", "val_share": 0.2}}


class Project:
    """A fresh clone with other parameters, in a folder with a space in its name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("src", "stages", "dvc.yaml", ".dvcignore", "models/scratch", "data/raw/README.md"):
            source, target = ROOT / name, root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy2(source, target)
        self.env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
        self.env.pop("MLFLOW_TRACKING_URI", None)
        self.env["PYTHONPATH"] = str(root / "src")  # its own code
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        self.dvc("init", "--quiet")

    def params(self, params: dict) -> None:
        yaml = YAML(typ="safe")
        yaml.representer.ignore_aliases = lambda _: True  # anchors are refused
        yaml.dump(params, self.root / "params.yaml")

    def dvc(self, *words: str, check: bool = True) -> str:
        command = [sys.executable, "-m", "dvc", *words]
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"dvc {' '.join(words)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout + done.stderr

    def killed(self, *words: str, when: Path) -> None:
        """Start dvc and kill it with all its children as soon as the file exists."""
        command = [sys.executable, "-m", "dvc", *words]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, cwd=self.root, env=self.env, start_new_session=True, **quiet)
        while process.poll() is None and not list(self.root.glob(str(when))):
            time.sleep(0.02)
        assert process.poll() is None, f"ended before {when} appeared"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def changed(*path_and_value: object, of: dict = PARAMS) -> dict:
    """Parameters with one value changed."""
    params = json.loads(json.dumps(of))
    *path, key, value = path_and_value
    block = params
    for part in path:
        block = block[part]
    block[key] = value
    return params


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("a project"))
    project.params(PARAMS)
    project.dvc("repro")
    return project


def test_every_stage_leaves_what_it_promises(project: Project):
    page = (project.root / "reports" / "index.html").read_text()
    results = project.root / "results" / "folds"
    metrics = json.loads((results / "metrics.json").read_text())
    predictions = pd.read_parquet(results / "predictions.parquet")
    assert metrics["n"] == len(predictions)
    assert metrics["war_low"] <= metrics["war"] <= metrics["war_high"]
    assert metrics["war"] == pytest.approx((predictions.label == predictions.predicted).mean())
    assert predictions.fold.nunique() == 2
    assert "folds" in page
    split = pd.read_parquet(project.root / "data" / "splits" / "folds.parquet")
    assert (split[split.part == "test"]["sample"].value_counts() == 1).all()


def test_a_second_repro_runs_nothing(project: Project):
    assert "Running stage" not in project.dvc("repro")


def test_a_landmark_network_starts_from_the_one_before(tmp_path: Path):
    first = {"dataset": "tiny", "init_from": "scratch", "limit": 4, "epochs": 1, "batch_size": 2}
    project = Project(tmp_path / "nets")
    project.params(PARAMS | {"landmark_nets": {"a": first, "b": first | {"init_from": "a"}}})
    project.dvc("repro", "landmark_net@b")
    models = project.root / "models"
    card = json.loads((models / "b" / "card.json").read_text())
    assert card["config"]["start_sha256"] == file_digest(models / "a" / WEIGHTS)


def test_one_variants_recipe_makes_that_variant_stale_and_no_other(project: Project):
    def stale(params: dict) -> set[str]:
        project.params(params)
        try:
            return set(json.loads(project.dvc("status", "--json")))
        finally:
            project.params(PARAMS)

    another_lr = ("recipe", "lr", 2e-3)
    assert stale(changed("variants", "folds", *another_lr)) == {"settings", "train@folds", "report"}
    both = changed("variants", "official", OFFICIAL)
    new = {f"{stage}@official" for stage in ("split", "train", "evaluate", "explain", "complexity")}
    new |= {"settings", "report"}
    assert stale(both) == new
    assert stale(changed("variants", "folds", *another_lr, of=both)) == new | {"train@folds"}
    assert stale(changed("variants", "official", *another_lr, of=both)) == new


def test_what_is_left_out_has_its_default_and_makes_stale_what_uses_it(project: Project):
    def stale(params: dict) -> set[str]:
        project.params(params)
        try:
            project.dvc("repro", "settings")
            return set(json.loads(project.dvc("status", "--json")))
        finally:
            project.params(PARAMS)
            project.dvc("repro", "settings")

    without = {key: value for key, value in PARAMS["datasets"]["tiny"].items() if key != "faces"}  # it was the default
    assert stale(changed("datasets", "tiny", without)) == {"index@tiny", "report"}  # which shows the block
    assert stale(changed("report", "bootstrap", 101)) == {"evaluate@folds", "report"}
    assert stale(changed("report", "gallery", 5)) == {"report"}
    face_stages = {"index@tiny", "align@tiny", "landmarks@tiny"}
    assert stale(changed("datasets", "tiny", "faces", {"size": 128})) == face_stages | {"report"}


EDITS = {
    "a default of the recipe": (
        "training/settings.py",
        "label_smoothing: Share = Field(0.0",
        "label_smoothing: Share = Field(0.1",
        "train",
    ),
    "a default of the faces": (
        "faces/settings.py",
        "quality: int = Field(95",
        "quality: int = Field(94",
        "align landmarks",
    ),
    "a default of the protocol": (
        "protocol.py",
        "hash_distance: int = Field(24",
        "hash_distance: int = Field(23",
        "split",
    ),
    "a default of the page": ("reporting/settings.py", "gallery: int = Field(24", "gallery: int = Field(23", ""),
    "another network": ("models/lifting.py", '"""', '"""X', ""),
    "what every network needs": (
        "models/official.py",
        '"""',
        '"""X',
        "align landmarks train evaluate explain complexity",
    ),
    "how predictions are made": ("stages/evaluate.py", "logits.argmax(axis=1)", "logits.argmin(axis=1)", "evaluate"),
    "who validates": ("datasets/subset.py", '"""', '"""X', "index split evaluate report"),
    "the augmentation": ("training/augment.py", '"""', '"""X', "train evaluate explain"),
    "the store": ("faces/store.py", '"""', '"""X', "align landmarks split train evaluate explain report"),
}


def test_an_edit_makes_stale_what_uses_it_and_nothing_else(project: Project):
    of = dict.fromkeys(("split", "train", "evaluate", "explain", "complexity"), "folds")
    of |= dict.fromkeys(("synthesize", "index", "align", "landmarks"), "tiny")
    wrong = {}
    for what, (file, before, after, expected) in EDITS.items():
        path = project.root / "src" / "duchenne" / file
        text = path.read_text(encoding="utf-8")
        assert before in text, what
        path.write_text(text.replace(before, after, 1), encoding="utf-8")
        project.dvc("repro", "settings")
        found = set(json.loads(project.dvc("status", "--json")))
        path.write_text(text, encoding="utf-8")
        if found != (stale := {f"{stage}@{of[stage]}" if stage in of else stage for stage in expected.split()}):
            wrong[what] = found ^ stale
    project.dvc("repro", "settings")
    assert not wrong


def test_a_misspelt_key_stops_with_a_suggestion(project: Project):
    project.params(changed("variants", "folds", "selektion", "last"))
    try:
        said = project.dvc("repro", check=False)
    finally:
        project.params(PARAMS)
    assert "did you mean 'selection'?" in said
    assert "Traceback" not in said
    assert "Running stage" not in project.dvc("repro")  # what was there before comes back from DVC's cache


def test_dvc_shows_metrics_and_plots(project: Project):
    shown = json.loads(project.dvc("metrics", "show", "--json"))
    assert set(shown[""]["data"]) == {"results/folds/metrics.json"}
    project.dvc("plots", "show", "--out", "plots")
    assert "folds" in (project.root / "plots" / "index.html").read_text()


def test_mlflow_has_a_parent_a_variant_and_a_child_a_fold(project: Project):
    mlflow.set_tracking_uri(uri(Workspace(project.root)))
    runs = mlflow.search_runs(search_all_experiments=True)
    parents = runs[runs["tags.mlflow.parentRunId"].isna()].set_index("tags.variant")
    assert set(parents.index) == {"folds"}
    assert runs["tags.mlflow.parentRunId"].value_counts().to_dict() == {parents.loc["folds", "run_id"]: 2}
    metrics = json.loads((project.root / "results" / "folds" / "metrics.json").read_text())
    assert parents.loc["folds", "metrics.uar"] == pytest.approx(metrics["uar"])


def test_a_trained_fold_names_the_expression_of_a_picture_as_the_pipeline_did(project: Project):
    predictions = pd.read_parquet(project.root / "results" / "folds" / "predictions.parquet").iloc[0]
    index = pd.read_parquet(project.root / "data" / "index" / "tiny.parquet").set_index("sample")
    picture = project.root / "data" / "raw" / "tiny" / index.loc[predictions["sample"], "path"]
    fold = project.root / "models" / "folds" / f"fold_{predictions['fold']}"
    answer = Predictor(fold)(picture)
    said = CliRunner().invoke(cli.app, ["predict", str(picture), "--model", str(fold)])
    assert json.loads(said.stdout) == {"source": str(picture), **answer}
    # the store's JPEG is the only difference
    for name in CLASSES:
        assert answer["probabilities"][name] == pytest.approx(predictions[f"p_{name}"], abs=0.1)


@pytest.mark.parametrize(
    ("stage", "trace"),
    [
        ("synthesize@tiny", "work/synthesize/tiny/*/s*/sample.json"),
        ("align@tiny", "work/align/tiny/*.arrow"),
        ("train@folds", "work/train/folds/fold_2/state.pt"),
    ],
)
def test_a_kill_changes_nothing(project: Project, stage: str, trace: str):
    """What a stage leaves after a SIGKILL in its middle equals what it left when nobody interrupted it."""
    before = pd.read_parquet(project.root / "results" / "folds" / "predictions.parquet")
    lock = YAML(typ="safe").load(project.root / "dvc.lock")["stages"][stage]["outs"]
    shutil.rmtree(project.root / "work" / stage.partition("@")[0])
    project.killed("repro", "--force", "--single-item", "--no-run-cache", stage, when=Path(trace))
    finished = project.root / "work" / "train" / "folds" / "fold_1" / "done" / "weights.safetensors"
    trained = finished.stat().st_mtime_ns
    project.dvc("repro", "--force", "--single-item", "--no-run-cache", stage)
    assert finished.stat().st_mtime_ns == trained  # a finished fold is not trained again
    if stage.startswith("train"):  # a history holds seconds
        project.dvc("repro", "evaluate@folds")
        after = pd.read_parquet(project.root / "results" / "folds" / "predictions.parquet")
        pd.testing.assert_frame_equal(before, after)
    else:
        assert YAML(typ="safe").load(project.root / "dvc.lock")["stages"][stage]["outs"] == lock


@pytest.mark.parametrize(("variant", "folds"), [("folds", 2), ("official", 1)])
def test_smoke_walks_every_stage_in_a_scratch_folder(project: Project, tmp_path: Path, variant: str, folds: int):
    project.params(changed("variants", "official", OFFICIAL))
    try:
        whole = config.load(project.root / "params.yaml")
    finally:
        project.params(PARAMS)
    page = smoke.run(whole, variant, 16, tmp_path)
    assert page.is_relative_to(tmp_path)
    assert variant in page.read_text()
    assert len(pd.read_parquet(tmp_path / "data" / "index" / "tiny.parquet")) <= 24
    predictions = pd.read_parquet(tmp_path / "results" / variant / "predictions.parquet")
    assert predictions["fold"].nunique() == folds
    metrics = json.loads((tmp_path / "results" / variant / "metrics.json").read_text())
    assert metrics["n"] == len(predictions)
    assert metrics["war"] == pytest.approx((predictions["label"] == predictions["predicted"]).mean())
