"""Several seeds of a run: each fold is trained with each of them, and all are measured together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import training_networks  # noqa: F401  (registers the tiny networks)
from mlflow import MlflowClient
from pydantic import ValidationError
from safetensors.torch import load_file
from training_tools import CLASSES, drawn_project, variant

from duchenne import stages
from duchenne.config import Catalog
from duchenne.errors import UserError
from duchenne.evaluation.statistics import by_seed, evaluate
from duchenne.files import file_digest, read_json
from duchenne.stages.train import networks_of
from duchenne.training.settings import Variant
from duchenne.workspace import Workspace

FURTHER = ("seed_4/fold_1", "seed_4/fold_2")


def with_fields(catalog: Catalog, name: str, **fields: object) -> Catalog:
    """The catalog with fields of a variant changed, or with such a variant beside ``small``."""
    config = Variant.model_validate(catalog.variants["small"].model_dump(exclude={"seed", "seeds"}) | fields)
    return catalog.model_copy(update={"variants": catalog.variants | {name: config}})


def digests(workspace: Workspace, name: str = "small") -> dict[str, str]:
    root = workspace.model(name)
    return {str(path.parent.relative_to(root)): file_digest(path) for path in root.rglob("weights.safetensors")}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Workspace, dict[str, str]]:
    """A run of one seed to which another was added; with the weights of the first."""
    catalog, workspace = drawn_project(tmp_path_factory.mktemp("seeds"), test_each_epoch=True)
    stages.run("train", catalog, workspace, "small")
    before = digests(workspace)
    catalog = with_fields(catalog, "small", seeds=[4, 0], calibration="temperature")
    for stage in ("train", "evaluate"):
        stages.run(stage, catalog, workspace, "small")
    return catalog, workspace, before


def test_a_seed_that_is_added_trains_nothing_again(run: tuple[Catalog, Workspace, dict[str, str]]):
    catalog, workspace, before = run
    after = digests(workspace)
    assert after.keys() == {*before, *FURTHER}
    assert len(set(after.values())) == 4
    assert {name: after[name] for name in before} == before
    folders = workspace.networks("small", catalog.variants["small"].every_seed)
    assert list(folders) == [(0, 1), (0, 2), (4, 1), (4, 2)]
    for (seed, fold), folder in folders.items():
        card = read_json(folder / "card.json")
        assert (card["seed"], card["fold"], card["variant"]["seed"], card["variant"]["seeds"]) == (seed, fold, seed, [])
        assert card["calibration"]["temperature"] > 0
    trained = [path.stat().st_mtime_ns for path in workspace.work("train", "small").rglob("weights.safetensors")]
    stages.run("train", catalog, workspace, "small")
    again = [path.stat().st_mtime_ns for path in workspace.work("train", "small").rglob("weights.safetensors")]
    assert again == trained


def test_results_are_of_all_seeds(run: tuple[Catalog, Workspace, dict[str, str]]):
    _, workspace, _ = run
    results = workspace.results("small")
    frame, metrics = pd.read_parquet(results / "predictions.parquet"), read_json(results / "metrics.json")
    each = by_seed(frame, CLASSES)
    assert list(each.index) == [0, 4]
    assert metrics["uar"] == pytest.approx(each["uar"].mean())
    assert metrics["uar_seed_std"] == pytest.approx(each["uar"].std())
    assert metrics["uar_seed_best"] == each["uar"].max()
    assert (metrics["n"], metrics["seeds"], metrics["folds"], metrics["missed"]) == (90, 2, 2, 0)
    assert {"uar_rule_last", "uar_test_minus_val", "ece_uncalibrated"} <= metrics.keys()
    known = evaluate(frame, CLASSES, 100)
    assert {key: metrics[key] for key in known} == known
    assert len(np.load(results / "features.npz")["sample"]) == 90
    record = read_json(results / "record.json")
    assert record["seeds"] == [0, 4]
    assert {name: entry["weights"] for name, entry in record["networks"].items()} == digests(workspace)
    history = pd.read_csv(results / "history.csv")
    assert history.groupby(["seed", "fold"]).size().tolist() == [4] * 4


@pytest.mark.parametrize("gone", ["fold_2", "seed_4", "seed_4/fold_1"])
def test_a_network_that_is_gone_is_named_and_not_left_out(run: tuple[Catalog, Workspace, dict[str, str]], gone: str):
    catalog, workspace, _ = run
    folder, aside = workspace.model("small") / gone, workspace.root / "aside"
    before = file_digest(workspace.results("small") / "metrics.json")
    folder.rename(aside)
    try:
        with pytest.raises(UserError, match=f"small/{gone}"):
            stages.run("evaluate", catalog, workspace, "small")
    finally:
        aside.rename(folder)
    assert file_digest(workspace.results("small") / "metrics.json") == before


def test_each_network_has_a_run_in_mlflow(run: tuple[Catalog, Workspace, dict[str, str]]):
    """The run of the variant begins anew with the seeds, which are among its parameters.

    Folds that were trained before are sent with the report.
    """
    _, workspace, _ = run
    client = MlflowClient(f"sqlite:///{workspace.root}/mlflow.db")
    experiment = client.get_experiment_by_name("duchenne").experiment_id
    runs = [found.data for found in client.search_runs([experiment])]
    parents = [one for one in runs if "fold" not in one.tags]
    assert [one.params["seeds"] for one in sorted(parents, key=lambda one: one.params["seeds"])] == ["[0, 4]", "[]"]
    of_seeds = [(one.tags["seed"], one.tags["fold"]) for one in runs if "seed" in one.tags]
    assert sorted(of_seeds) == [("4", "1"), ("4", "2")]
    assert all("train_loss" in one.metrics for one in runs if "seed" in one.tags)


def test_a_run_starts_from_the_same_seed_of_another(run: tuple[Catalog, Workspace, dict[str, str]]):
    catalog, workspace, _ = run
    catalog = with_fields(
        catalog, "next", seeds=[0, 4, 5], init_from="small", recipe={"epochs": 1, "batch_size": 8, "lr": 1e-9}
    )
    stages.run("split", catalog, workspace, "next")
    stages.run("train", catalog, workspace, "next", "3", "5")
    assert not workspace.model("next").exists()
    starts = digests(workspace)
    for number, start in {"seed_4/fold_1": "seed_4/fold_1", "seed_5/fold_1": "fold_1"}.items():
        own = load_file(workspace.work("train", "next") / number / "done" / "weights.safetensors")
        theirs = load_file(workspace.model("small") / start / "weights.safetensors")
        for key, value in theirs.items():
            if value.is_floating_point() and "running" not in key:
                assert own[key] == pytest.approx(value, abs=1e-5), key
    assert starts == digests(workspace)


def test_networks_are_numbered_for_jobs():
    config = variant().model_copy(update={"seeds": [2, 7]})
    assert networks_of(config, pd.Series([1, 2, 1, 4])) == {
        1: (2, 1), 2: (2, 2), 4: (2, 4), 5: (7, 1), 6: (7, 2), 8: (7, 4),
    }  # fmt: skip


def test_a_number_that_is_no_network_is_refused(run: tuple[Catalog, Workspace, dict[str, str]]):
    catalog, workspace, _ = run
    with pytest.raises(UserError, match="small has no fold '5': its folds are 1, 2, 3, 4"):
        stages.run("train", catalog, workspace, "small", "5")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": [1, 1]}, "1 more than once"),
        ({"seeds": [-1, 1]}, "seeds.0\n  Input should be greater than or equal to 0"),
        ({"seeds": [1, 2], "seed": 2}, "give seeds alone"),
        ({"seeds": ["a"]}, "integer"),
    ],
)
def test_seeds_that_cannot_be_meant_are_refused(fields: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        Variant.model_validate(variant().model_dump(exclude={"seed", "seeds"}) | fields)
    config = Variant.model_validate(variant().model_dump(exclude={"seed"}) | {"seeds": [3, 1]})
    assert (config.seed, config.every_seed) == (1, [1, 3])
    assert Variant.model_validate(config.model_dump()) == config
