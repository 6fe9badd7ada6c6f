"""Damaged and swapped files of a finished run: who reads one says which it is and what to do."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import training_networks  # noqa: F401  (registers the tiny networks)
from safetensors.torch import load_file
from training_tools import drawn_project

from duchenne import sealed, stages
from duchenne.chunks import Chunk, resumable
from duchenne.config import Catalog
from duchenne.engines import Local
from duchenne.errors import UserError
from duchenne.reporting.runs import open_run
from duchenne.training.checkpoint import Checkpoints
from duchenne.training.errors import TrainingError
from duchenne.training.fingerprint import start_digest
from duchenne.workspace import Workspace

Project = tuple[Catalog, Workspace]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    recipe = {"epochs": 1, "batch_size": 8, "lr": 0.03}
    catalog, workspace = drawn_project(tmp_path_factory.mktemp("project"), recipe=recipe, calibration="temperature")
    for stage in ("train", "evaluate"):
        stages.run(stage, catalog, workspace, "small")
    return catalog, workspace


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    catalog, workspace = finished
    for name in ("data", "models", "results", "work"):
        if (workspace.root / name).exists():
            shutil.copytree(workspace.root / name, tmp_path / name)
    return catalog, Workspace(tmp_path)


def flip(path: Path) -> None:
    """Change a digit of a text, or a bit within a binary file."""
    data = path.read_bytes()
    digits = (
        [found.start() for found in re.finditer(rb"(?<=[.\d])\d", data)] if path.suffix in (".json", ".csv") else []
    )
    place = digits[len(digits) // 2] if digits else len(data) * 3 // 5
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def evaluate(catalog: Catalog, workspace: Workspace) -> None:
    stages.run("evaluate", catalog, workspace, "small")


def everything(catalog: Catalog, workspace: Workspace) -> None:
    run = open_run(workspace, catalog, "small")
    for name in (
        "metrics",
        "every_prediction",
        "every_epoch",
        "groups",
        "features",
        "record",
        "origin",
        "cards",
        "parts",
    ):
        getattr(run, name)


FILES: list[tuple[str, Callable[[Catalog, Workspace], None]]] = [
    ("data/index/drawn.parquet", evaluate),
    ("data/splits/small.parquet", evaluate),
    ("data/splits/small.duplicates.parquet", evaluate),
    ("models/small/fold_2/weights.safetensors", evaluate),
    ("models/small/fold_2/card.json", evaluate),
    ("models/small/fold_2/history.csv", evaluate),
    ("models/small/training.json", everything),
    ("results/small/predictions.parquet", everything),
    ("results/small/metrics.json", everything),
    ("results/small/groups.json", everything),
    ("results/small/features.npz", everything),
    ("results/small/history.csv", everything),
    ("results/small/record.json", everything),
]


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize(("name", "read"), FILES, ids=[name for name, _ in FILES])
def test_a_damaged_file_is_named(name: str, read: Callable, damage: Callable, project: Project):
    path = project[1].root / name
    damage(path)
    with pytest.raises(UserError, match=re.escape(str(path))) as raised:
        read(*project)
    assert re.search("dvc (repro|pull)", str(raised.value))


def test_damaged_landmarks_do_not_pass_for_those_of_another_training(project: Project):
    path = project[1].landmarks("drawn")
    path.parent.mkdir(parents=True)
    sealed.write_table(path, pd.DataFrame({"sample": ["a"] * 100}))
    flip(path)
    with pytest.raises(UserError, match=re.escape(str(path))):
        stages.run("train", *project, "small")


def test_an_undamaged_run_is_read(project: Project):
    evaluate(*project)
    everything(*project)


@pytest.mark.parametrize(
    ("name", "entry", "read"),
    [("models/small/fold_1/card.json", "classes", "cards"), ("results/small/complexity.json", "variant", "sizes")],
)
def test_the_page_has_no_numbers_of_another_run(name: str, entry: str, read: str, project: Project):
    path = project[1].root / name
    sealed.write_sealed(path, (sealed.read_sealed(path) if path.exists() else {}) | {entry: "other"})
    with pytest.raises(UserError, match=re.escape(str(path))):
        getattr(open_run(project[1], project[0], "small"), read)


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json", "history.csv"])
def test_a_file_of_another_fold_is_named(name: str, project: Project):
    model = project[1].model("small")
    shutil.copy2(model / "fold_2" / name, model / "fold_1" / name)
    with pytest.raises(UserError, match=str(model / "fold_1")):
        evaluate(*project)


def test_the_network_of_another_fold_is_named(project: Project):
    model = project[1].model("small")
    shutil.rmtree(model / "fold_1")
    shutil.copytree(model / "fold_2", model / "fold_1")
    with pytest.raises(TrainingError, match=r"fold_1/card.json is of another network: its fold is 2, not 1"):
        evaluate(*project)


def test_a_network_that_saw_other_samples_is_not_measured(project: Project):
    path = project[1].split("small")
    split = sealed.read_table(path)
    sealed.write_table(path, split.assign(part=split["part"].where(split["part"] != "val", "train")))
    with pytest.raises(UserError, match=r"fold_1/card.json: its network was trained on other samples"):
        evaluate(*project)


def test_a_run_of_a_version_without_seals_is_read(project: Project):
    root = project[1].root
    for path in [*root.rglob("*.json"), *root.rglob("*.parquet")]:
        if path.suffix == ".parquet" and path.parent.name != "index":  # whose metadata counts
            pd.read_parquet(path).to_parquet(path, index=False)
        elif path.suffix == ".json" and isinstance(value := sealed.read_json(path), dict):
            bare = {name: each for name, each in value.items() if name not in (sealed.KEY, sealed.FILES)}
            sealed.write_json(path, {name: each for name, each in bare.items() if name != "weights_sha256"})
    (project[1].faces("drawn") / "checksums.parquet").unlink()
    evaluate(*project)
    everything(*project)


def test_a_temperature_does_not_change_what_a_start_counts_by(project: Project):
    fold = project[1].fold("small", 1)
    card = sealed.read_sealed(fold / "card.json")
    calibrated = start_digest(fold / "card.json")
    card.pop("calibration")
    sealed.write_sealed(fold / "card.json", card)
    assert start_digest(fold / "card.json") == calibrated


def test_a_damaged_state_is_named(tmp_path: Path):
    def checkpoints() -> Checkpoints:
        return Checkpoints(tmp_path, "key", "code")

    tables = {"history": [{"epoch": 1, "train_loss": 0.5}]}
    weights = {"w": torch.arange(500.0)}
    checkpoints().save({"epoch": 1, "selected": 1, "tables": tables, "moments": torch.arange(500.0)}, weights)
    state, best = tmp_path / "state.pt", tmp_path / "epoch_1.safetensors"
    for path in (state, best):
        data = path.read_bytes()
        flip(path)
        with pytest.raises(TrainingError, match=path.name):
            checkpoints().resume(torch.device("cpu"))
        path.write_bytes(data)
    flip(tmp_path / "history.csv")
    resumed = checkpoints()
    assert resumed.resume(torch.device("cpu"))["moments"].equal(torch.arange(500.0))
    resumed.finish({"fold": 1}, 1)
    assert load_file(tmp_path / "done" / "weights.safetensors")["w"].equal(weights["w"])
    assert pd.read_csv(tmp_path / "done" / "history.csv")["train_loss"].tolist() == [0.5]


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json", "history.csv", "finished.json"])
def test_a_damaged_finished_fold_is_named_and_trained_again(name: str, tmp_path: Path, caplog):
    checkpoints = Checkpoints(tmp_path, "key", "code")
    state = {"epoch": 1, "selected": 1, "tables": {"history": [{"epoch": 1, "train_loss": 0.25}]}}
    checkpoints.save(state, {"w": torch.arange(50.0)})
    checkpoints.finish({"std": [0.25, 0.5]}, 1)
    assert checkpoints.finished()
    flip(tmp_path / "done" / name)
    assert not checkpoints.finished()
    assert name in caplog.text
    assert "trained again" in caplog.text


@pytest.mark.parametrize(("key", "code", "what"), [("x", "code", "configuration, split or data"), ("key", "x", "code")])
def test_a_finished_fold_of_another_training_is_named_and_trained_again(
    key: str, code: str, what: str, tmp_path: Path, caplog
):
    first = Checkpoints(tmp_path, "key", "code")
    state = {"epoch": 1, "selected": 1, "tables": {"history": [{"epoch": 1, "train_loss": 0.25}]}}
    first.save(state, {"w": torch.ones(2)})
    first.finish({}, 1)
    assert not Checkpoints(tmp_path, key, code).finished()
    assert f"{tmp_path / 'done' / 'finished.json'}: {what} changed after it was written" in caplog.text
    assert "trained again" in caplog.text


def write(text: str, out: Path) -> None:
    out.write_text(text, encoding="utf-8")


def test_a_damaged_chunk_is_named_and_made_again(tmp_path: Path, caplog):
    chunks = [Chunk(tmp_path / f"{name}.txt", 1, write, (name,)) for name in ("first", "second")]
    resumable(chunks, "write", Local(1))
    (tmp_path / "first.txt").write_text("fIrst", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        resumable(chunks, "write", Local(1))
    assert (tmp_path / "first.txt").read_text(encoding="utf-8") == "first"
    assert "first.txt is damaged" in caplog.text
    assert "second.txt" not in caplog.text
