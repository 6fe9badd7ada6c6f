"""Why a number is not the paper's: runs that `duchenne gap --add` adds are trained, and each part is what they show."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import training_networks  # noqa: F401  (registers the tiny networks)
from reporting_tools import run_of
from ruamel.yaml import YAML
from training_tools import CLASSES
from typer.testing import CliRunner

from duchenne import config, stages
from duchenne.cli import app
from duchenne.config import whole_library
from duchenne.errors import UserError
from duchenne.evaluation.comparing import compare
from duchenne.evaluation.statistics import evaluate
from duchenne.evaluation.together import measure_together
from duchenne.files import read_json, write_json
from duchenne.metrics import METRICS
from duchenne.papers.library import SECTIONS
from duchenne.papers.printed import printed
from duchenne.reporting.gap import against, conclusion, gap_of, target_of
from duchenne.reporting.gap_parts import PARTS
from duchenne.reporting.gap_question import FREE, Question, differing, resolved
from duchenne.reporting.runs import Run, open_run
from duchenne.sealed import FILES, read_sealed, write_sealed
from duchenne.workspace import Workspace

OWN: dict[str, Any] = {
    "dataset": "drawn",
    "init_from": "start",
    "protocol": {"kind": "official", "val_share": 0.2, "near_duplicates": "ignore"},
    "model": {"architecture": "tiny"},
    "recipe": {"epochs": 3, "batch_size": 8, "lr": 0.01, "augment": {"hflip": 0.0}},
    "reproduces": "poster_v2_rafdb",  # prints WAR and UAR, of epochs picked on the test part
}
START: dict[str, Any] = {**OWN, "dataset": "other", "init_from": "scratch", "reproduces": None, "seed": 5}
START["recipe"] = OWN["recipe"] | {"epochs": 9}
DRAWN = {
    "layout": "manifest",
    "root": "raw",
    "classes": CLASSES,
    "faces": {"mode": "aligned", "detector": "none", "size": 64, "encoding": "png"},
}
BOOTSTRAP = 100
PARAMS = {
    "compute": {"jobs": 1, "device": "cpu", "precision": "fp32", "folds_at_once": 1},
    "report": {"bootstrap": BOOTSTRAP},
    "rendered": {},
    "landmark_nets": {},
    "datasets": {"drawn": DRAWN, "other": DRAWN},
    "variants": {"start": START, "mine": OWN},
}
ADDED = {
    "mine_random_weights": "weights",
    "mine_their_faces": "alignment",
    "mine_their_validation": "validation",
}


def run_stages(*variants: str) -> None:
    """Run the stages up to the metrics; nothing is tracked."""
    catalog, workspace = config.load(), Workspace()
    for name in {catalog.variants[name].dataset for name in variants} - {*PARAMS["datasets"]}:
        for stage in ("index", "align"):
            stages.run(stage, catalog, workspace, name)
    for name in variants:
        for stage in ("split", "train", "evaluate"):
            stages.run(stage, catalog, workspace, name)


def opened() -> tuple[config.Catalog, dict[str, Run]]:
    catalog = config.load()
    return catalog, {name: open_run(Workspace(), catalog, name) for name in catalog.variants}


def gap(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["gap", *words, "--json"], catch_exceptions=False)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn faces, two of which are in both parts, and two runs on them; the others are added later."""
    root = tmp_path_factory.mktemp("gap")
    (root / "raw").mkdir()
    rng, rows, pictures = np.random.default_rng(0), [], []
    for i in range(72):
        picture = rng.integers(30, 150, (64, 64, 3), dtype=np.uint8)
        picture[i % 3 * 21 : i % 3 * 21 + 21] += rng.integers(0, 20, dtype=np.uint8)
        pictures.append(pictures[i - 48] if i in (48, 49) else picture)
        cv2.imwrite(str(root / "raw" / f"{i:02d}.png"), pictures[-1])
        part = "train" if i < 48 else "test"
        rows.append({"path": f"{i:02d}.png", "label": CLASSES[i % 3], "subject": f"p{i // 3}", "split": part})
    pd.DataFrame(rows).to_csv(root / "raw" / "manifest.csv", index=False)
    YAML(typ="safe").dump(json.loads(json.dumps(PARAMS)), root / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for dataset, stage in itertools.product(PARAMS["datasets"], ("index", "align")):
            stages.run(stage, config.load(), Workspace(), dataset)
        patch.setattr("duchenne.tracking.Tracker.begin", lambda *_: None)
        run_stages("start", "mine")
    return root


@pytest.fixture(scope="module")
def before(root: Path) -> dict[str, Any]:
    """What is measured with these two runs alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return gap("mine")


@pytest.fixture(scope="module")
def after(root: Path, before: dict[str, Any]) -> dict[str, Any]:
    """What is measured when the runs that some parts offer have been added and trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        words = [word for part in dict.fromkeys(ADDED.values()) for word in ("--add", part)]
        done = CliRunner().invoke(app, ["gap", "mine", *words], catch_exceptions=False)
        added = [f"added variants.{name}" for name in ADDED]
        assert done.stdout.splitlines()[:-1] == ["added datasets.drawn_their_faces", *added]
        patch.setattr("duchenne.tracking.Tracker.begin", lambda *_: None)
        run_stages(*ADDED)
        return gap("mine")


@pytest.fixture(autouse=True)
def there(root: Path, after: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLUMNS", "200")


def part_of(found: dict[str, Any], name: str, counterpart: str | None = None) -> dict[str, Any]:
    (one,) = (one for one in found["parts"] if one["part"] == name and one["run"] == counterpart)
    return one


def metrics(run: str) -> dict[str, float]:
    return read_json(Path("results") / run / "metrics.json")


def test_every_part_is_measured_or_says_what_would(before: dict[str, Any]):
    told = {one["part"] for one in before["parts"]} | {one["part"] for one in before["not_measured"]}
    assert {part.name for part in PARTS} == told
    assert all(one["why"] for one in before["not_measured"])
    offers = {name: one for one in before["not_measured"] for name in one["blocks"].get("variants", {})}
    assert {name: offers[name]["part"] for name in ADDED} == ADDED
    assert all(one["add"] == f"`duchenne gap mine --add {one['part']}`, then `dvc repro`" for one in offers.values())
    (recipe,) = (one for one in before["not_measured"] if one["part"] == "recipe")  # the paper's is for another network
    assert recipe["add"].startswith("add a copy of variants.mine that differs in recipe.* or")
    assert offers["mine_their_faces"]["blocks"]["datasets"]["drawn_their_faces"]["faces"].get("size", 224) == 224


def test_the_rule_of_choice_is_that_of_the_metrics(before: dict[str, Any]):
    mine = metrics("mine")
    assert mine["epoch_rule_last"] == mine["epoch_rule_val"] > mine["epoch_rule_test"]
    last, test = (one for one in before["parts"] if one["part"] == "rule")
    assert (last["status"], test["status"]) == ("nothing", "measured")
    assert last["instead"] == "last epoch: the same epoch"
    assert test["as_in_target"]
    for name in ("war", "uar"):
        ends = [mine[f"{name}_test_minus_val{end}"] for end in ("", "_low", "_high")]
        assert list(test["changes"][name].values()) == pytest.approx(ends)
        assert before["ours"][name]["low"] == pytest.approx(mine[f"{name}_low"])


def test_the_rule_of_the_paper_is_counted():
    """The same run, had it reported its last epoch: the paper's code picks the best one on the test part."""
    catalog, runs = opened()
    run = runs["mine"]
    run.config, run.every_prediction = run.config.model_copy(update={"selection": "last"}), run.rules["last"]
    found = gap_of(run, catalog, {"mine": run}, bootstrap=50)
    (picked,) = (one for one in found.findings if one.part == "rule" and "optimistic" in one.instead)
    assert picked.counted
    for name in ("war", "uar"):
        gained = metrics("mine")[f"{name}_rule_test"] - metrics("mine")[f"{name}_rule_last"]
        assert picked.changes[name].value == found.explained[name].value == pytest.approx(gained)


@pytest.mark.parametrize("name", ["mine_random_weights", "mine_their_faces"])
def test_a_counterpart_differs_by_what_both_measured(after: dict[str, Any], name: str):
    found = part_of(after, ADDED[name], name)
    # as the library's variant of the printed value has it, which starts from published weights, not from random ones
    assert found["as_in_target"] == (name == "mine_their_faces")
    first, second = (pd.read_parquet(Path("results") / run / "predictions.parquet") for run in ("mine", name))
    same = compare(first, second, CLASSES, BOOTSTRAP).metrics
    for metric in ("war", "uar"):
        change = found["changes"][metric]
        assert change["value"] == pytest.approx(metrics(name)[metric] - metrics("mine")[metric])
        assert (change["low"], change["high"]) == pytest.approx(tuple(same.loc[metric, ["low", "high"]]), abs=0.1)


def test_runs_of_two_rules_are_compared_under_one(after: dict[str, Any]):
    """The counterpart has no validation part, so it has no epoch that was best there."""
    found = part_of(after, "validation", "mine_their_validation")
    assert "best test UAR" in found["note"]
    assert found["as_in_target"]
    value = metrics("mine_their_validation")["war_rule_test"] - metrics("mine")["war_rule_test"]
    assert found["changes"]["war"]["value"] == pytest.approx(value)


def seeded(run: Run, catalog: config.Catalog, predictions: str, *seeds: int) -> Run:
    """A run of this folder as if it were of the same block with other seeds, whose networks predict alike."""
    other = open_run(Workspace(), catalog, predictions)
    frame = other.every_prediction
    other.config = run.config.model_copy(update={"seed": seeds[0], "seeds": [*seeds]})
    other.every_prediction, other.rules = pd.concat([frame.assign(seed=seed) for seed in seeds]), {}
    return other


def test_the_best_seed_is_compared_with_the_mean_of_all():
    """One run has the first seed, the other another one."""
    catalog, runs = opened()
    other = seeded(runs["mine"], catalog, "mine_random_weights", 1)
    found = gap_of(runs["mine"], catalog, {"mine": runs["mine"], other.name: other}, bootstrap=50)
    (seeds,) = (one for one in found.findings if one.part == "seeds")
    values = {name: [metrics("mine")[name], metrics("mine_random_weights")[name]] for name in ("war", "uar")}
    best = int(np.argmax(values["war"]))
    for name, own in values.items():
        assert seeds.changes[name].value == pytest.approx(own[best] - np.mean(own))
    assert f"WAR {100 * np.std(values['war'], ddof=1):.2f}" in seeds.note
    assert not seeds.counted
    assert "seeds" not in {absent.part for absent in found.absent}


def test_the_seeds_of_the_run_that_is_compared_with_are_counted():
    catalog, runs = opened()
    run, other = runs["mine"], seeded(runs["mine"], catalog, "mine_random_weights", 1)
    both = {"mine": run, other.name: other}
    found = gap_of(run, catalog, both, against(run, other.name, "", catalog, both), bootstrap=50)
    (counted,) = (one for one in found.findings if one.counted)
    assert (counted.part, counted.instead) == ("seeds", "seed 1")
    assert counted.changes == found.difference == found.explained
    assert {one.value for one in found.unexplained.values()} == {0.0}


def test_runs_with_other_seeds_are_compared_in_those_that_both_have():
    catalog, runs = opened()
    run = seeded(runs["mine"], catalog, "mine", 1, 2)
    other = runs["mine_random_weights"]
    other.config, other.rules = other.config.model_copy(update={"seed": 2}), {}
    other.every_prediction = other.every_prediction.assign(seed=2)
    found = gap_of(run, catalog, runs | {"mine": run}, bootstrap=50)
    (weights,) = (one for one in found.findings if one.part == "weights")
    assert weights.note == "of seed 2, which both have"
    value = metrics("mine_random_weights")["war"] - metrics("mine")["war"]
    assert weights.changes["war"].value == pytest.approx(value)


def test_seeds_are_added_to_the_block_of_the_run(tmp_path: Path):
    params = tmp_path / "params.yaml"
    shutil.copy("params.yaml", params)
    done = CliRunner().invoke(app, ["gap", "start", "--add", "seeds", "--params", str(params)], catch_exceptions=False)
    assert "variants.start has the seeds 5, 6, 7" in done.stdout
    before, after = config.load(), config.load(params)
    assert after.variants.pop("start") == before.variants.pop("start").model_copy(update={"seeds": [5, 6, 7]})
    assert after.variants == before.variants


def test_a_change_that_two_runs_show_is_counted_once():
    """One of two counterparts has all fields of the target, the other one of them."""
    catalog, runs = opened()
    run, target, part = runs["mine"], runs["mine_random_weights"], runs["mine_their_faces"]
    change = {"epochs": 5, "lr": 1.0}
    for other, keys in ((target, change), (part, ["lr"])):
        recipe = run.config.recipe.model_copy(update={key: change[key] for key in keys})
        other.config = run.config.model_copy(update={"recipe": recipe})
    known = {"mine": run, part.name: part, target.name: target}
    found = gap_of(run, catalog, known, against(run, target.name, "", catalog, known), bootstrap=50)
    counted = {one.counterpart: one.counted for one in found.findings if one.part == "recipe"}
    assert counted == {target.name: True, part.name: False}
    assert found.explained == found.difference


def test_what_remains_is_what_the_counted_changes_leave(after: dict[str, Any]):
    theirs = printed("poster_v2_rafdb")
    counted = [one for one in after["parts"] if one["as_in_target"]]
    assert {one["part"] for one in counted} == {"rule", "validation", "alignment"}
    for name in ("war", "uar"):
        missing = theirs[name].value - metrics("mine")[name]
        assert after["difference"][name]["value"] == pytest.approx(missing)
        explained = sum(one["changes"][name]["value"] for one in counted)
        assert after["explained"][name]["value"] == pytest.approx(explained)
        rest = after["unexplained"][name]
        assert rest["value"] == pytest.approx(missing - explained)
        assert rest["low"] < rest["value"] < rest["high"]


def test_near_duplicates_are_left_out(before: dict[str, Any]):
    found = part_of(before, "duplicates")
    assert "(2)" in found["instead"]
    mine = metrics("mine")
    for name in ("war", "uar"):
        assert found["changes"][name]["value"] == pytest.approx(mine[f"{name}_without_duplicates"] - mine[name])


def test_the_command_prints_a_table_and_a_conclusion():
    done = CliRunner().invoke(app, ["gap", "mine"], catch_exceptions=False)
    assert "92.21" in done.stdout
    assert "Alignment *" in done.stdout
    assert "not measured: Recipe and options" in done.stdout
    assert "3 changes towards it explain" in done.stdout


def test_a_value_or_a_run_of_ones_own_is_compared_with():
    ours = metrics("mine")["uar"]
    found = gap("mine", "--against", "50")
    assert found["difference"]["uar"]["value"] == pytest.approx(0.5 - ours)
    found = gap("mine", "--against", "0.5", "--metric", "kappa")
    assert found["theirs"] == {"kappa": 0.5}
    other = gap("mine", "--against", "mine_random_weights")
    weights = part_of(other, "weights", "mine_random_weights")
    assert weights["as_in_target"]
    assert other["difference"] == other["explained"] == weights["changes"]
    assert other["unexplained"]["war"]["value"] == pytest.approx(0)
    assert other["differs_from_target_in"] == "init_from scratch"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["mien"], "there is no variant 'mien' (did you mean 'mine'?)"),
        (["mine", "--against", "min"], "neither a number nor a variant of params.yaml (did you mean 'mine'?)"),
        (["mine", "--against", "mine"], "--against mine: name another run"),
        (["mine", "--against", "150"], "UAR cannot be 150: in per cent it lies between 0 and 100"),
        (["mine", "--against", "50", "--metric", "acc"], "there is no metric 'acc'"),
        (["mine", "--metric", "war"], "--metric says what --against is a value of"),
        (["mine", "--add", "weight"], "there is no part 'weight' (did you mean 'weights'?)"),
        (["mine", "--add", "duplicates"], "there is nothing to add for duplicates: it is measured"),
    ],
)
def test_a_mistake_is_named(words: list[str], error: str):
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UserError) as raised:
        CliRunner().invoke(app, ["gap", *words], catch_exceptions=False)
    assert error in str(raised.value)
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("file", "change", "why"),
    [
        (
            "predictions.parquet",
            lambda frame: frame.iloc[1:],
            "mine_random_weights was tested on other samples: 23 of 24 are in both",
        ),
        (
            "predictions.parquet",
            lambda frame: frame.assign(label=(frame["label"] + 1) % 3),
            "mine_random_weights has another label of 24 test samples",
        ),
        ("predictions.parquet", None, "mine_random_weights cannot be read: results/mine_random_weights/predictions"),
        ("metrics.json", None, "mine_random_weights is in params.yaml and not finished"),
    ],
)
def test_a_counterpart_that_cannot_be_compared_is_named_and_the_others_are_measured(
    file: str, change: Callable[[pd.DataFrame], pd.DataFrame] | None, why: str
):
    path = Path("results/mine_random_weights") / file
    whole, record = path.read_bytes(), path.with_name("record.json")
    known = read_sealed(record)
    try:
        if change:
            change(pd.read_parquet(path)).to_parquet(path, index=False)
            write_sealed(record, {name: each for name, each in known.items() if name != FILES})
        else:
            path.unlink()
        found = gap("mine")
    finally:
        path.write_bytes(whole)
        write_sealed(record, known)
    (absent,) = (one for one in found["not_measured"] if one["part"] == "weights")
    assert absent["why"].startswith(why)
    assert "weights" not in {one["part"] for one in found["parts"]}
    assert part_of(found, "alignment", "mine_their_faces")


def test_a_run_that_is_not_finished_has_no_gap():
    catalog, runs = opened()
    runs["mine"].workspace = Workspace(Path("elsewhere"))
    with pytest.raises(UserError, match="mine is not finished: run `dvc repro evaluate@mine` first"):
        gap_of(runs["mine"], catalog, runs)


def test_another_precision_is_a_part_of_its_own():
    """A run of the same block whose card says bf16 is a counterpart for the precision, and for nothing else."""
    catalog, runs = opened()
    run, other = runs["mine"], open_run(Workspace(), catalog, "mine_random_weights")
    other.config = run.config.model_copy(update={"precision": "bf16"})
    other.cards = {1: {"precision": "bf16"}}
    both = {"mine": run, other.name: other}
    found = gap_of(run, catalog, both, bootstrap=50)
    (precision,) = (one for one in found.findings if one.counterpart)
    assert (precision.part, precision.instead, precision.counted) == ("precision", "precision bf16", False)
    back = gap_of(other, catalog, both, bootstrap=50)
    (precision,) = (one for one in back.findings if one.counterpart)
    assert (precision.instead, precision.counted) == ("precision fp32", True)
    other.config = other.config.model_copy(update={"init_from": "scratch"})
    mixed = gap_of(run, catalog, both, bootstrap=50)
    assert not any(one.counterpart for one in mixed.findings)  # differs in two parts


def test_a_counterpart_that_happened_to_be_trained_in_another_precision_is_named():
    """Both blocks leave the precision to the machine; the cards say in which they were trained."""
    catalog, runs = opened()
    runs["mine_random_weights"].cards = {1: {"precision": "bf16"}}
    found = gap_of(runs["mine"], catalog, runs, bootstrap=50)
    (absent,) = (one for one in found.absent if one.part == "weights")
    assert absent.why == "mine_random_weights was trained in bf16, mine in fp32"
    runs["mine_random_weights"].config = runs["mine"].config.model_copy()
    found = gap_of(runs["mine"], catalog, runs, bootstrap=50)
    assert [one.counterpart for one in found.findings if one.part == "precision"] == ["", "mine_random_weights"]


def test_the_owners_network_is_compared_where_it_was_measured():
    folder = Path("results/published/mine")
    folder.mkdir(parents=True)
    frame = pd.read_parquet("results/mine/predictions.parquet")
    try:
        frame.assign(predicted=frame["label"]).to_parquet(folder / "predictions.parquet", index=False)
        write_json(folder / "record.json", {"command": "duchenne evaluate --variant mine"})
        network = part_of(gap("mine"), "network", "published/mine")
        frame.iloc[:9].to_parquet(folder / "predictions.parquet", index=False)
        (part,) = (one for one in gap("mine")["not_measured"] if one["part"] == "network")
    finally:
        shutil.rmtree(folder)
    assert network["changes"]["war"]["value"] == pytest.approx(1 - metrics("mine")["war"])
    assert not network["as_in_target"]
    assert "duchenne evaluate --variant mine" in network["note"]
    assert "published/mine was tested on other samples: 9 of 24 are in both" in part["why"]


def test_missing_test_samples_bound_the_change():
    """One face of three classes is lost: WAR is at worst that of one more mistake, at best of one more hit."""
    catalog, runs = opened()
    run = runs["mine"]
    lost = run.predictions.iloc[0]
    run.predictions = run.every_prediction = run.predictions.iloc[1:].reset_index(drop=True)
    run.metrics |= evaluate(run.predictions, CLASSES, BOOTSTRAP)
    run.metrics["epoch_rule_last"] = None
    run.rules = {}
    found = gap_of(run, catalog, {"mine": run}, bootstrap=BOOTSTRAP)
    (bound,) = (one for one in found.findings if one.status == "bounded")
    hits, n = run.metrics["war"] * 23, 24
    assert (bound.changes["war"].low, bound.changes["war"].high) == pytest.approx(
        (hits / n - run.metrics["war"], (hits + 1) / n - run.metrics["war"])
    )
    assert bound.note == f"missing: {CLASSES[lost['label']]} 1"


def test_an_imported_network_is_not_a_run():
    write_json(Path("models/theirs/fold_1/card.json"), {"imported": {"variant": "poster_v2_rafdb"}})
    with pytest.raises(UserError, match="theirs is an imported network"):
        CliRunner().invoke(app, ["gap", "theirs"], catch_exceptions=False)


def test_a_printed_mean_over_folds_is_compared_with_ours():
    frame = pd.DataFrame(
        {
            "sample": list("abcdef"), "subject": None, "fold": [1, 1, 1, 1, 2, 2],
            "label": [0, 0, 1, 1, 0, 1], "predicted": [0, 0, 1, 1, 1, 1],
        }
    )  # fmt: skip
    how = {"classes": ["a", "b"], "metric": METRICS["war"], "bootstrap": 50}
    assert measure_together([frame], over_folds=True, **how).values.tolist() == [0.75]
    assert measure_together([frame], **how).values.tolist() == pytest.approx([5 / 6])


def test_tables_of_a_part_of_the_samples_draw_the_same_people():
    """The difference of a table and itself without one person is that person's alone, in every resample."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"sample": range(60), "fold": 1, "label": rng.integers(2, size=60)}).assign(
        subject=lambda f: "p" + (f["sample"] // 3).astype(str), predicted=rng.integers(2, size=60)
    )
    part = frame[frame["subject"] != "p19"]
    both = measure_together([frame, part], ["a", "b"], METRICS["war"], bootstrap=300, seed=1)
    alone = measure_together([frame], ["a", "b"], METRICS["war"], bootstrap=300, seed=1)
    assert (both.spread[0] == alone.spread[0]).all()
    never = both.spread[0] == both.spread[1]
    assert 0.2 < never.mean() < 0.6  # p19 is in no draw of 20 people with a probability of 0.36


def test_every_field_of_a_block_belongs_to_one_part_or_to_none_that_could_be_compared():
    """A field in no part: a run that differs in it is shown by no part, and it must be meant so."""
    catalog = whole_library()
    fields = {key for variant in catalog.variants.values() for key in resolved(variant, catalog)}
    fields |= {"model.pretrained.ir50", "data.labels.glad", "data.columns.file", "data.rendered.size"}
    shared = {field: [part.name for part in PARTS if part.fits({field})] for field in fields - {*FREE}}
    assert {field for field, names in shared.items() if len(names) > 1} == set()
    alone = {field for field, names in shared.items() if not names}
    assert {field for field in alone if not field.startswith(("data.classes", "data.splits", "data.factors"))} == {
        "model.architecture", "protocol.kind", "protocol.folds", "protocol.test_share", "protocol.seed",
    }  # fmt: skip


def test_a_run_without_a_printed_value_says_so():
    catalog, runs = opened()
    assert target_of(runs["start"]) is None
    found = gap_of(runs["start"], catalog, runs, bootstrap=50)
    parts = {one.part for one in (*found.findings, *found.absent)}
    assert parts == {part.name for part in PARTS} - {"network"}  # of which there is none without a paper
    assert conclusion(found).startswith("No paper prints a value for this run")
    assert found.difference == {}


def test_a_table_of_ones_own_with_the_name_of_a_rendered_set_counts_by_its_own_block():
    """Otherwise two such datasets on the same pictures would differ in what is rendered too."""
    synth = {"kind": "image", "classes": CLASSES, "subjects": 4}
    tree = PARAMS | {"rendered": {"drawn": synth}, "datasets": {"drawn": DRAWN, "other": DRAWN | {"limit": 8}}}
    catalog = config.Catalog.model_validate(tree)
    mine = catalog.variants["mine"]
    blocks = [resolved(mine.model_copy(update={"dataset": name}), catalog) for name in ("drawn", "other")]
    assert differing(*blocks) == {"data.limit"}


OFFERED = {
    "poster_v2_rafdb_honest": {"weights", "alignment", "duplicates", "validation", "recipe", "precision"},
    "ifdd_3dvit_dfew": {"weights", "alignment", "recipe", "precision"},
    "ifdd_3dvit_dfew_paper": {"weights", "alignment", "recipe", "precision"},
    "frl_dgt_megc2019": {"alignment", "precision"},
}
"""Variant of the library -> parts with something to add to it."""


@pytest.mark.parametrize("name", OFFERED)
def test_what_is_offered_differs_in_one_part_alone(name: str):
    """Blocks for licensed datasets can be used as they are, and are counterparts of the variant."""
    catalog = whole_library()
    catalog = catalog.model_copy(update={"variants": {name: catalog.variants[name]}})
    known = {"war": 0.5, "uar": 0.5, "uf1": 0.5, "folds": 1, "war_fold_mean": 0.5, "uar_fold_mean": 0.5}
    table = pd.DataFrame({"fold": [1] * 10, "split": "train"})
    facts = {"cards": {1: {"precision": "bf16"}}, "rows": table, "parts": table.iloc[2:]}
    run = run_of(name, catalog.variants[name], metrics=known, **facts)
    question = Question(run, catalog, {name: run}, target_of(run), ["uar"])
    offers = [(part, offer) for part in PARTS if part.offer for offer in part.offer(question, part)]
    assert [offer.seeds for part, offer in offers if part.name == "seeds"] == [(0, 1, 2)]
    assert {part.name for part, offer in offers if any(offer.blocks.values())} == OFFERED[name]
    written = catalog.model_dump(mode="json", exclude_defaults=True)
    for part, offer in offers:
        tree = {section: written.get(section, {}) | offer.blocks.get(section, {}) for section in SECTIONS}
        whole = config.Catalog.model_validate(tree)
        for added in offer.blocks.get("variants", {}):
            fields = differing(question.block, resolved(whole.variants[added], whole))
            assert part.fits(fields), (part.name, fields)
            assert whole.variants[added].reproduces == question.target.name
    assert ("ifdd_3dvit_dfew_as_ifdd_3dvit_dfew_paper" in str(offers)) == (name == "ifdd_3dvit_dfew")
