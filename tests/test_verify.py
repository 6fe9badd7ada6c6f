"""`duchenne verify` on a real DVC project: damage of each kind is named, an untouched project passes."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo
from dvc_tools import ROOT, Project
from ruamel.yaml import YAML
from sklearn import metrics as sk
from typer.testing import CliRunner

from duchenne import cli, config, stages
from duchenne.evaluation import groups
from duchenne.evaluation.robustness import curves, summarise
from duchenne.files import file_digest, write_json
from duchenne.sealed import FILES, digests, read_sealed, write_sealed
from duchenne.verification.findings import Checked
from duchenne.verification.run import verify
from duchenne.workspace import Workspace

CLASSES = ["anger", "happiness"]


def variant(**seeds: object) -> dict:
    """A network of a few weights, whose epoch is picked in validation."""
    return {
        "dataset": "mine",
        "init_from": "scratch",
        "protocol": {"kind": "kfold", "folds": 2, "val_share": 0.3, "near_duplicates": "ignore"},
        "model": {
            "architecture": "test_resnet",
            "options": {"pretrained_cfg_overlay": {"input_size": [3, 64, 64]}},
        },
        "recipe": {"epochs": 2, "batch_size": 8, "lr": 1e-3},
        "selection": "val",
        "calibration": "temperature",
        "test_each_epoch": True,
    } | seeds


PARAMS = {
    "rendered": {},
    "landmark_nets": {},
    "compute": {"jobs": 1, "folds_at_once": 1, "precision": "fp32", "loader_workers": 0},
    "report": {"bootstrap": 100, "gallery": 4},
    "datasets": {
        "mine": {
            "layout": "manifest",
            "root": "data/raw/mine",
            "manifest": "labels.csv",
            "classes": CLASSES,
            "faces": {"size": 64, "mode": "aligned", "detector": "none"},
        }
    },
    "variants": {"one": variant(seed=0), "two": variant(seeds=[1, 2])},
}


@pytest.fixture(scope="module", autouse=True)
def groups_of_few() -> Iterator[None]:
    """Groups of people are measured from ten samples on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "SAMPLES", 10)
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two runs whose stages ran in this process; report, maps and sizes are a few bytes that DVC keeps like others."""
    project = Project(tmp_path_factory.mktemp("a project"))
    project.params(PARAMS)
    shutil.copy(ROOT / ".gitignore", project.root)
    random, raw, rows = np.random.default_rng(0), project.root / "data" / "raw" / "mine", []
    for i in range(24):
        picture = cv2.resize(
            random.integers(0, 255, (8, 8, 3), dtype=np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC
        )
        path = raw / CLASSES[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)
        rows.append({"path": path.relative_to(raw), "label": path.parent.name, "gender": "fm"[i // 2 % 2]})
    pd.DataFrame(rows).to_csv(raw / "labels.csv", index=False)
    with chdir(project.root):
        catalog, places = config.load(), Workspace()
        stages.run("settings", catalog, places)
        for stage in stages.OF_A_DATASET:
            stages.run(stage, catalog, places, "mine")
        for name in catalog.variants:
            for stage in ("split", "train", "evaluate", "robustness"):
                stages.run(stage, catalog, places, name)
        with Repo() as repo:
            for path in (Path(out.fs_path) for stage in repo.index.stages for out in stage.outs):
                if not path.exists():  # of a stage that did not run here
                    file = path if path.suffix else path / "index.html"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(json.dumps({"file": str(path.relative_to(project.root))}))
            repo.commit(force=True)
    subprocess.run(["git", "add", "."], cwd=project.root, check=True)
    return project


def check(project: Project, *names: str, allow_missing: bool = False) -> Checked:
    with chdir(project.root):
        return verify(config.load(), Workspace(), names, allow_missing)


def found(done: Checked) -> dict[str, str]:
    """Path -> what is said of it."""
    lines: dict[str, str] = {}
    for finding in done.findings:
        lines[finding.path] = f"{lines.get(finding.path, '')}{finding.text}; {finding.fix}\n"
    return lines


@pytest.fixture(scope="module")
def whole(project: Project) -> Checked:
    """Result for one run of the project as it is, whose files are copies of the cache."""
    return check(project, "one")


@contextmanager
def kept(project: Project, *names: str) -> Iterator[list[Path]]:
    """Paths that are as before after the block, times and permissions included."""
    paths = [project.root / name for name in names]
    before = [(path, path.read_bytes(), path.stat()) for path in paths]
    try:
        yield paths
    finally:
        for path, data, was in before:
            if path.exists():
                path.chmod(0o644)
            path.write_bytes(data)  # into the same inode, by which DVC recognises a file
            path.chmod(stat.S_IMODE(was.st_mode))
            os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file; its size, times, inode and permissions stay."""
    was = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(was.st_size // 2)
        (byte,) = file.read(1)
        file.seek(was.st_size // 2)
        file.write(bytes([byte ^ 1]))
    path.chmod(stat.S_IMODE(was.st_mode))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def cached(project: Project, name: str) -> str:
    """Path of the cache object of an output."""
    with Repo(project.root) as repo:
        (out,) = repo.find_outs_by_path(str(project.root / name))
        return str(Path(out.cache_path).relative_to(project.root))


def test_an_untouched_project_passes(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project.root)
    said = CliRunner().invoke(cli.app, ["verify"])
    assert said.exit_code == 0, said.output
    (line,) = said.stdout.splitlines()
    assert line.startswith("runs: 2, values computed again: ")
    assert line.endswith("all agree")
    done = json.loads(CliRunner().invoke(cli.app, ["verify", "two", "--json"]).stdout)
    metrics = json.loads((project.root / "results/two/metrics.json").read_text())
    assert done["ok"]
    assert (done["findings"], done["not checked"]) == ([], [])
    assert done["checked"]["runs"] == 1
    assert done["checked"]["metrics"] > len(metrics)
    assert done["checked"]["objects"] > 10
    assert done["checked"]["bytes"] > (project.root / "models/two/fold_1/weights.safetensors").stat().st_size


def test_the_numbers_follow_from_the_predictions_by_other_code_too(project: Project):
    stated = json.loads((project.root / "results/one/metrics.json").read_text())
    frame = pd.read_parquet(project.root / "results/one/predictions.parquet")
    label, predicted = frame["label"], frame["predicted"]
    p = frame[[f"p_{name}" for name in CLASSES]].to_numpy()
    expected = {
        "war": sk.accuracy_score(label, predicted),
        "uar": sk.balanced_accuracy_score(label, predicted),
        "uf1": sk.f1_score(label, predicted, average="macro", zero_division=0.0),
        "kappa": sk.cohen_kappa_score(label, predicted),
        "auc": sk.roc_auc_score(label, p[:, 1]),
        "nll": sk.log_loss(label, p),
        **{f"recall_{name}": (predicted == i)[label == i].mean() for i, name in enumerate(CLASSES)},
        "n": 24,
        "war_fold_mean": (label == predicted).groupby(frame["fold"]).mean().mean(),
        "war_fold_std": (label == predicted).groupby(frame["fold"]).mean().std(),
    }
    draws = np.random.default_rng(0).integers(24, size=(100, 24))  # no subjects: samples are drawn
    spread = (label == predicted).to_numpy()[draws].mean(axis=1)
    expected |= dict(zip(("war_low", "war_high"), np.percentile(spread, [2.5, 97.5]), strict=True))
    assert {key: stated[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    record = json.loads((project.root / "results/one/record.json").read_text())
    assert (record["bootstrap"], record["seed"]) == (100, 0)


FLIPPED = [
    "data/index/mine.parquet",
    "data/landmarks/mine.parquet",
    "data/splits/one.parquet",
    "models/one/fold_1/card.json",
    "models/one/fold_1/history.csv",
    "models/one/fold_2/weights.safetensors",
    "results/one/confusion.csv",
    "results/one/features.npz",
    "results/one/history.csv",
    "results/one/metrics.json",
    "results/one/predictions.parquet",
    "results/one/record.json",
    "reports/index.html",
]


def test_a_flipped_bit_in_any_file_is_found_though_size_and_time_are_as_before(project: Project):
    (shard,) = (project.root / "data/faces/mine").glob("*.arrow")
    names = [*FLIPPED, shard.relative_to(project.root).as_posix()]
    with kept(project, *names) as paths:
        for path in paths:
            flip(path)
        assert project.status() == set()  # DVC sees nothing
        said = found(check(project))
    assert said.keys() == set(names)
    for name in names:
        (line,) = said[name].splitlines()  # no consequence beside the cause
        assert "changed after " in line
        assert f"`dvc checkout {name}`" in line


@pytest.mark.parametrize("name", ["models/one/fold_1/card.json", "data/index/mine.problems.csv"])
def test_a_file_that_another_is_checked_by_is_one_line_when_it_alone_is_damaged(project: Project, name: str):
    with kept(project, name) as (path,):
        flip(path)
        assert found(check(project, "one")).keys() == {name}


def test_damaged_objects_of_the_cache_are_named_and_the_advice_helps(project: Project):
    names = ["results/one/predictions.parquet", "models/two"]
    objects = [cached(project, name) for name in names]
    assert objects[1].endswith(".dir")
    with kept(project, *objects) as paths:
        flip(paths[0])
        assert project.status() == set()  # DVC sees nothing
        flip(paths[1])
        done = check(project)
        said = found(done)
        assert said.keys() == set(objects)
        assert {finding.kind for finding in done.findings} == {"cache"}
        for name, text in zip(names, map(said.get, objects), strict=True):
            assert f"DVC's copy of {name} " in text
            assert (
                f"delete it, then `dvc commit --force {'train@two' if name == 'models/two' else 'evaluate@one'}`"
                in text
            )
        for path in paths:
            path.unlink()
        with chdir(project.root), Repo() as repo:
            for stage in ("train@two", "evaluate@one"):
                repo.commit(stage, force=True)
        assert found(check(project)) == {}


def test_swapped_cut_deleted_and_foreign_files_are_told_apart(project: Project):
    swapped, cut, gone, raw = (
        "results/one/predictions.parquet",
        "models/one/fold_1/weights.safetensors",
        "results/two/features.npz",
        "data/raw/mine/anger/0.png",
    )
    foreign = project.root / "data" / "faces" / "mine" / "notes.txt"
    with kept(project, swapped, cut, gone, raw) as paths:
        shutil.copy(project.root / "results/two/predictions.parquet", paths[0])
        os.truncate(paths[1], 100)
        paths[2].unlink()
        flip(paths[3])
        foreign.write_text("mine")
        done = check(project)
        said = found(done)
        only = found(check(project, "two"))
        foreign.unlink()
    assert said.keys() == {swapped, cut, gone, "data/raw/mine", "data/faces/mine/notes.txt"}
    assert "holds the contents of results/two/predictions.parquet" in said[swapped]
    compared = [line for line in done.skipped if line.startswith("one: comparisons with damaged files (")]
    assert [(swapped in line, cut in line) for line in compared] == [(True, True)]
    assert "changed after train@one wrote it" in said[cut]
    assert f"is missing: evaluate@two wrote it; dvc checkout {gone}" in said[gone]
    assert "some file in it is not as it was when index@mine, align@mine ran" in said["data/raw/mine"]
    assert "was not written by align@mine; delete it" in said["data/faces/mine/notes.txt"]
    assert only.keys() == {gone, "data/raw/mine", "data/faces/mine/notes.txt"}


def test_an_edited_lock_file_and_what_has_not_run_are_told(project: Project):
    files = "dvc.lock", "params.yaml", "stages/split.py", "stages/index.py"
    with kept(project, *files) as (lock, params, source, lost):
        yaml = YAML(typ="safe")
        content = yaml.load(lock.read_text())
        outs = {out["path"]: out for out in content["stages"]["evaluate@one"]["outs"]}
        outs["results/one/metrics.json"]["md5"] = "0" * 32
        del content["stages"]["complexity@two"]
        content["stages"]["train@two"]["deps"][-1]["md5"] = "1" * 32
        dep = content["stages"]["train@two"]["deps"][-1]["path"]
        yaml.dump(content, lock)
        params.write_text(params.read_text().replace("lr: 0.001", "lr: 0.002", 1))
        source.write_text(source.read_text() + "# edited\n")
        lost.unlink()
        said = found(check(project))
    assert "dvc.lock was edited" in said["results/one/metrics.json"]
    assert said["complexity@two"].startswith("has not run yet")
    assert "train@two" in said[dep]
    assert "changed after split@one, split@two read it" in said["stages/split.py"]
    assert "params.yaml: variants.one.recipe" in said["train@one"]
    assert "params.yaml: variants" in said["report"]
    assert "changed after settings read it" in said["params.yaml"]
    stages_told = {"complexity@two", "train@one", "report"}
    assert "is missing: index@mine read it" in said["stages/index.py"]
    assert said.keys() == {"results/one/metrics.json", dep, *files[1:]} | stages_told


def test_without_dvc_the_numbers_are_checked_alone(project: Project, tmp_path: Path):
    copy = shutil.copytree(project.root, tmp_path / "moved", ignore=shutil.ignore_patterns(".dvc", ".git", "src"))
    path = copy / "results" / "one" / "metrics.json"
    stated = json.loads(path.read_text())
    path.write_text(json.dumps(stated | {"war": stated["war"] + 0.1, "uar_low": stated["uar_low"] + 1e-11}))
    card = copy / "models" / "two" / "fold_1" / "card.json"
    content = json.loads(card.read_text())
    content["selection"]["epoch"] = 3 - content["selection"]["epoch"]
    content["classes"] = content["classes"][::-1]
    card.write_text(json.dumps(content))
    frame = pd.read_parquet(copy / "results" / "two" / "predictions.parquet")
    frame.loc[3, "label"] = 1 - frame.loc[3, "label"]
    frame.loc[4, "predicted"] = 1 - frame.loc[4, "predicted"]
    frame.loc[5, "sample"] = "stranger"
    frame.to_parquet(copy / "results" / "two" / "predictions.parquet", index=False)
    with chdir(copy):
        done = verify(config.load(), Workspace())
    said = found(done)
    assert done.skipped == ["files: this folder is not under DVC (no .dvc folder)"]
    assert f"war is {stated['war'] + 0.1}, the predictions give {stated['war']}" in said["results/one/metrics.json"]
    assert "uar_low is" in said["results/one/metrics.json"]
    assert said["results/one/metrics.json"].count("the predictions give") == 2
    assert f"its epoch is {content['selection']['epoch']}; by its rule (val)" in said["models/two/fold_1/card.json"]
    assert "classes is ['happiness', 'anger'], that of the index" in said["models/two/fold_1/card.json"]
    two = said["results/two/predictions.parquet"]
    assert f"sample {frame.loc[3, 'sample']!r} with another label than in the index" in two
    assert f"sample {frame.loc[4, 'sample']!r} with a prediction that is not the most probable class" in two
    assert "sample 'stranger' that the index does not have" in two
    assert "sample 'stranger' not in the test part of its fold" in two


def relist(record: Path) -> None:
    """Give a record the digests of the files beside it as they are now: what is wrong is not damage."""
    value = read_sealed(record)
    write_sealed(record, value | {FILES: digests(record.with_name(name) for name in value[FILES])})


def test_values_under_other_rules_follow_from_the_kept_logits(project: Project, tmp_path: Path):
    copy = shutil.copytree(project.root, tmp_path / "moved", ignore=shutil.ignore_patterns(".dvc", ".git", "src"))
    path = copy / "models" / "one" / "fold_1" / "rules.parquet"
    table = pd.read_parquet(path)
    other = table["rule"] == "test"
    table.loc[other, "epoch"] += 7
    table.loc[other, [f"logit_{name}" for name in CLASSES]] *= -1
    table.to_parquet(path, index=False)
    card = path.with_name("card.json").read_bytes()
    relist(path.with_name("card.json"))
    with chdir(copy):
        said = found(verify(config.load(), Workspace(), ["one"]))
        assert said.keys() == {"results/one/metrics.json", "models/one/fold_1/card.json"}
        assert said["models/one/fold_1/card.json"].startswith("is not what was evaluated")
        for key in ("epoch_rule_test is", "_test_minus_val_low is"):
            assert key in said["results/one/metrics.json"]
        path.with_name("card.json").write_text("{")
        assert path.relative_to(copy).as_posix() not in found(verify(config.load(), Workspace(), ["one"]))
        path.unlink()
        path.with_name("card.json").write_bytes(card)
        said = found(verify(config.load(), Workspace(), ["one"]))
        assert said.keys() == {"models/one/fold_1/rules.parquet"}
        assert said["models/one/fold_1/rules.parquet"].startswith("is missing")
        lenient = verify(config.load(), Workspace(), ["one"], allow_missing=True)
    assert found(lenient) == {}
    assert any("values under other rules" in line for line in lenient.skipped)


def test_values_before_calibration_of_groups_and_under_damage_follow_from_stored_values(
    project: Project, tmp_path: Path
):
    copy = shutil.copytree(project.root, tmp_path / "moved", ignore=shutil.ignore_patterns(".dvc", ".git", "src"))
    results = copy / "results" / "one"
    clean = pd.read_parquet(results / "predictions.parquet")
    damaged = pd.concat([clean.assign(severity=severity, predicted=severity % 2) for severity in (1, 2)])
    table = curves(clean, {"blur": damaged}, CLASSES, 100, 0)
    table.to_csv(results / "robustness.csv", index=False)
    write_json(results / "robustness.json", summarise(table))
    made = digests([results / "robustness.csv", results / "robustness.json"])
    write_sealed(results / "robustness.record.json", {FILES: made})
    with chdir(copy):
        before = verify(config.load(), Workspace(), ["one"])
    assert found(before) == {}

    metrics = json.loads((results / "metrics.json").read_text())
    wrong = ["nll_uncalibrated", "ece_uncalibrated_low", "uar_gap_gender", "war_gap_gender_high"]
    write_json(results / "metrics.json", metrics | {key: metrics[key] + 1e-6 for key in wrong})
    groups_file = json.loads((results / "groups.json").read_text())
    groups_file["columns"][0]["groups"][1]["war"] += 1e-6
    write_json(results / "groups.json", groups_file)
    table.assign(war=table["war"] + [0.125, 0, 0]).to_csv(results / "robustness.csv", index=False)
    relist(results / "record.json")
    relist(results / "robustness.record.json")
    with chdir(copy):
        said = found(verify(config.load(), Workspace(), ["one"]))
        shutil.rmtree("models/one")
        shutil.rmtree("data/index")
        lenient = verify(config.load(), Workspace(), ["one"], allow_missing=True)
    for key in wrong:
        assert f"{key} is {metrics[key] + 1e-6}, the predictions give" in said["results/one/metrics.json"]
    assert said["results/one/metrics.json"].count("\n") == len(wrong)
    assert said["results/one/groups.json"].startswith("columns 0 groups 1 war is ")
    assert said["results/one/robustness.csv"].startswith(f"war is {metrics['war'] + 0.125}, the predictions give")
    assert said["results/one/robustness.json"].startswith("war_kept is ")
    assert "the values in robustness.csv give" in said["results/one/robustness.json"]
    assert "results/one/metrics.json" not in found(lenient)  # these are not compared without cards and index


@pytest.mark.parametrize("kind", ["hardlink", "symlink"])
def test_a_cache_of_links_is_read_once(project: Project, whole: Checked, tmp_path: Path, kind: str):
    copy = shutil.copytree(project.root, tmp_path / "linked")
    with Repo(copy) as repo, repo.config.edit("repo") as settings:
        settings["cache"]["type"] = [kind]
    with Repo(copy) as repo:
        repo.checkout(relink=True)
    with chdir(copy):
        done = verify(config.load(), Workspace(), ["one"])
        assert found(done) == {}
        assert done.counts["objects"] == whole.counts["objects"]
        assert (
            whole.counts["bytes"] - done.counts["bytes"] > Path("models/one/fold_1/weights.safetensors").stat().st_size
        )
        path = Path("results/one/predictions.parquet")
        flip(path.resolve() if kind == "symlink" else path)
        said = found(verify(config.load(), Workspace(), ["one"]))
    assert said.keys() == {path.as_posix(), cached(project, path.as_posix())}


def test_a_clone_with_pulled_files_passes_and_missing_ones_may_be_allowed(project: Project, tmp_path: Path):
    copy = shutil.copytree(project.root, tmp_path / "pulled")
    for name in (".dvc/cache", ".dvc/tmp", "data/raw/mine", "data/faces/mine"):
        shutil.rmtree(copy / name)
    with chdir(copy):
        strict = found(verify(config.load(), Workspace()))
        lenient = verify(config.load(), Workspace(), allow_missing=True)
        assert strict["data/faces/mine"].startswith("is missing: align@mine wrote it; `dvc pull data/faces/mine`")
        assert found(lenient) == {}
        assert any("objects of DVC's cache: not in the cache" in line for line in lenient.skipped)
        assert any(line.startswith("data/raw/mine: not on this machine") for line in lenient.skipped)
        with Repo() as repo, repo.config.edit("repo") as settings:
            settings["remote"]["store"] = {"url": str(project.root / ".dvc" / "cache")}
            settings["core"]["remote"] = "store"
        with Repo() as repo:
            repo.pull()
        done = verify(config.load(), Workspace())
        assert found(done) == {}
        assert done.skipped == ["data/raw/mine: not on this machine, and no stage makes it"]


def test_a_run_states_its_origin_and_the_same_machine_the_same_bytes(project: Project):
    record = project.root / "results/one/record.json"
    before, stated = record.read_bytes(), json.loads(record.read_text())
    card = json.loads((project.root / "models/one/fold_1/card.json").read_text())
    assert stated["command"] == "dvc repro evaluate@one"
    assert stated["versions"] == card["versions"]
    assert {"duchenne", "torch", "numpy", "python"} <= stated["versions"].keys()
    assert (stated["machine"], stated["machine"]["device"]) == (card["machine"], "cpu")
    assert stated["machine"]["cores"] >= 1
    assert stated["networks"]["fold_1"]["precision"] == card["precision"] == "fp32"
    assert stated["networks"]["fold_1"]["weights"] == card["weights_sha256"]
    assert card["weights_sha256"] == file_digest(project.root / "models/one/fold_1/weights.safetensors")
    assert stated["data"]["split"] == file_digest(project.root / "data/splits/one.parquet")
    assert stated["code"] == {"commit": "", "changed": True}  # nothing is committed
    assert str(project.root) not in before.decode() + json.dumps(card)
    kept_results = [path.relative_to(project.root).as_posix() for path in record.parent.glob("*.*")]
    with kept(project, *kept_results), chdir(project.root):
        (project.root / "dvc.lock").rename("lock")  # as when the stage ran
        stages.run("evaluate", config.load(), Workspace(), "one")
        Path("lock").rename("dvc.lock")
        again = record.read_bytes()
    assert again == before
