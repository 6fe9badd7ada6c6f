"""Blocks of the README in DVC itself: defaults work, invalid names are refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from PIL import Image
from ruamel.yaml import YAML

from duchenne import config, smoke, stages
from duchenne.errors import UserError
from duchenne.faces.settings import Faces
from duchenne.workspace import Workspace

ROOT = Path(__file__).parents[1]


def minimal() -> dict:
    """The README's blocks without what has a default, and the maps that the shipped file has already."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks: dict = {}
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        blocks |= YAML(typ="safe").load(block)
    dataset = blocks["datasets"]["mine"] | {"layout": "folder", "root": "data/raw/mine"}
    for key in ("manifest", "faces"):
        del dataset[key]
    return {"rendered": {}, "landmark_nets": {}, "datasets": {"mine": dataset}, "variants": blocks["variants"]}


def write(params: dict, path: Path) -> None:
    """As YAML without anchors: no two places share an object."""
    yaml = YAML(typ="safe")
    yaml.representer.ignore_aliases = lambda _: True
    yaml.dump(params, path)


def dvc(root: Path, *words: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    for label in ("smiling", "neutral"):
        folder = tmp_path / "data" / "raw" / "mine" / label
        folder.mkdir(parents=True)
        for number in range(3):
            Image.effect_noise((64, 64), 50).convert("RGB").save(folder / f"{number}.jpg")
    YAML(typ="safe").dump(minimal(), tmp_path / "params.yaml")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    dvc(tmp_path, "init", "--quiet")
    return tmp_path


@pytest.mark.slow
def test_a_dataset_of_defaults_runs_and_a_dotted_name_is_refused(project: Path):
    done = dvc(project, "repro", "index@mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "data" / "index" / "mine.parquet").exists()
    with Repo(project) as repo:  # a stage whose parameters are not all in the file fails when its turn comes
        asked = [dep for stage in repo.index.stages for dep in stage.deps if isinstance(dep, ParamsDependency)]
        assert asked
        assert [missing for dep in asked if (missing := set(dep.params) - dep.read_params().keys())] == []

    params = minimal()
    params["datasets"]["my.set"] = params["datasets"].pop("mine")
    YAML(typ="safe").dump(params, project / "params.yaml")
    done = dvc(project, "repro")
    assert done.returncode != 0
    assert "'my.set' is not a valid name" in done.stderr + done.stdout
    assert "call it 'my_set'" in done.stderr + done.stdout
    assert "are missing from" not in done.stderr + done.stdout


KILLS = [
    ("index@mine", "dvc", "moved to data/index/mine.problems.csv"),
    ("align@mine", "stage", "created work/align/mine/.#_#.arrow.#.#.part"),
    ("split@my_first", "group", "created data/splits/.my_first.parquet.#.#.part"),
]
"""Stage, victim, and the change of files after which it is killed."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="follows files by inotify")
def test_killed_commands_end_with_the_files_of_one_that_was_not(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import chaos

    params = minimal()
    params["datasets"]["mine"]["faces"] = {"mode": "aligned", "detector": "none", "size": 64}
    params["compute"] = {"jobs": 1}
    write(params, project / "params.yaml")
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, project)

    killed = chaos.Project(project, params, "split@my_first")
    order = ["start", "settings", *(stage for stage, *_ in KILLS)]
    plan = [chaos.Kill(stage, victim, change=change) for stage, victim, change in KILLS]
    killed.run(plan, chaos.Timing(dict.fromkeys(order, 0.0)))
    assert (killed.wrong, killed.beside) == ([], {})
    done = [(stage, what) for stage, what, _ in killed.killed]
    planned = [(stage, victim) for stage, victim, _ in KILLS]
    assert done == [kill for kill in planned if kill in done]
    assert len(done) >= 2  # on a busy machine a command can end before its kill
    assert chaos.left(project) == []

    whole = tmp_path_factory.mktemp("whole")
    shutil.copytree(project / "data" / "raw", whole / "data" / "raw")
    shutil.copy(project / "params.yaml", whole)
    monkeypatch.chdir(whole)
    for stage, *names in (["settings"], *(name.split("@") for name in order[2:])):
        stages.run(stage, config.load(), Workspace(), *names)
    assert chaos.differences(whole, project) == []
    assert {path.name for path in (project / "work").iterdir()} == {"align", "locks"}
    assert list((project / "work" / "align").iterdir()) == []


def test_settings_hold_what_was_left_out(tmp_path: Path):
    YAML(typ="safe").dump(minimal(), tmp_path / "params.yaml")
    workspace = Workspace(tmp_path)
    stages.run("settings", config.load(tmp_path / "params.yaml"), workspace)
    found = {path.relative_to(workspace.settings).as_posix(): path for path in workspace.settings.rglob("*.json")}
    of_each = {"datasets/mine", "faces/mine"}
    of_each |= {f"{kind}/my_first" for kind in ("protocols", "training", "networks", "printed")}
    assert found.keys() == {f"{name}.json" for name in of_each | {"evaluate", "explain", "report", "robustness"}}
    assert json.loads(found["training/my_first.json"].read_text())["recipe"]["label_smoothing"] == 0
    assert "faces" not in json.loads(found["datasets/mine.json"].read_text())
    network = json.loads(found["networks/my_first.json"].read_text())
    assert (network["architecture"], network["options"], network["classes"]) == ("poster_v2", {}, 2)
    assert json.loads(found["evaluate.json"].read_text()) == {"bootstrap": 2000}
    assert json.loads(found["explain.json"].read_text()) == {"show_faces": True}
    assert json.loads(found["faces/mine.json"].read_text()) == Faces().model_dump(mode="json")


def test_a_misspelt_network_or_option_is_told_before_any_work(tmp_path: Path):
    params = minimal()
    params["variants"]["my_first"]["model"] = {"architecture": "resnet10"}
    write(params, tmp_path / "params.yaml")
    with pytest.raises(UserError, match="no network is called 'resnet10'"):
        smoke.run(config.load(tmp_path / "params.yaml"), "my_first", 16, tmp_path / "scratch")
    for network in ("test_resnet", "ifdd_2dcnn"):  # their options are not in the source
        params["variants"]["my_first"]["model"] = {"architecture": network, "options": {"widht": 3}}
        write(params, tmp_path / "params.yaml")
        with pytest.raises(UserError, match=rf"^variants\.my_first\.model\.options: {network} cannot .*'widht'"):
            smoke.run(config.load(tmp_path / "params.yaml"), "my_first", 16, tmp_path / "scratch")
    assert not [file for file in (tmp_path / "scratch").rglob("*.*") if file.suffix != ".lock"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda p: p["datasets"].update({"my.set": p["datasets"]["mine"]}),
            "'my.set' is not a valid name.*call it 'my_set'",
        ),
        (lambda p: p["variants"].update({"a@b c": p["variants"]["my_first"]}), "'a@b c' is not.*call it 'a_b_c'"),
        (lambda p: p["datasets"].update({2024: p["datasets"]["mine"]}), "datasets.2024: YAML reads this name as int"),
        (lambda p: p["variants"]["my_first"].pop("init_from"), "my_first.init_from: is missing.*scratch"),
        (lambda p: p.pop("landmark_nets"), r"landmark_nets: is missing.*add `landmark_nets: {}`"),
        (lambda p: p["datasets"]["mine"].update(root="~/mine"), r"datasets.mine.root: DVC does not know ~: write /"),
        (lambda p: p["variants"].update({"published": p["variants"]["my_first"]}), "'published' cannot be run"),
    ],
    ids=["dot", "signs", "number", "init_from", "map", "home", "taken"],
)
def test_what_dvc_cannot_take_is_told(tmp_path: Path, change, said: str):
    params = minimal()
    change(params)
    write(params, tmp_path / "params.yaml")
    with pytest.raises(config.CatalogError, match=said):
        config.load(tmp_path / "params.yaml")


@pytest.mark.parametrize("name", ["3classes", "a-b", "007", "null"])
def test_quoted_names_of_digits_and_words_of_yaml_are_names(tmp_path: Path, name: str):
    params = minimal()
    params["datasets"][name] = params["datasets"]["mine"]
    write(params, tmp_path / "params.yaml")
    assert name in config.load(tmp_path / "params.yaml").datasets
