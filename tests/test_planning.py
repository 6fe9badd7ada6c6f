"""`duchenne plan`: work, time, disk and stages of variants, against numbers that are computed here in another way."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from dvc_tools import Project
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from test_staleness import PARAMS
from training_tools import CLASSES, SMALL, write_store
from typer.testing import CliRunner

from duchenne import cli, config
from duchenne.config import whole_library
from duchenne.datasets.index import read_index
from duchenne.planning import costs, rerun
from duchenne.planning.costs import Size
from duchenne.planning.estimate import Estimate, about, duration, exactly
from duchenne.planning.plan import COPIES, FACES, PARTS, SPLIT, TRAINING, as_json, make_plan
from duchenne.planning.printing import print_plan, print_rerun
from duchenne.planning.schedule import enough, makespan
from duchenne.planning.work import samples_of, work_of
from duchenne.stages import run
from duchenne.training.fingerprint import code_version
from duchenne.workspace import Workspace

DURATIONS = st.lists(st.floats(0.01, 1e5), max_size=80)
LIBRARY = whole_library()


def plan_of(name: str, root: Path, **options: object):
    return make_plan(LIBRARY, Workspace(root), [name], **({"cores": 16} | options))


# ---------------------------------------------------------------------------------------------------------- schedule


@settings(max_examples=60, deadline=None)
@given(DURATIONS, st.integers(1, 100))
def test_the_time_of_folds_is_between_its_bounds_and_falls_with_every_gpu(durations: list[float], machines: int):
    found = makespan(durations, machines)
    longest, work = max(durations, default=0.0), sum(durations)
    assert found >= max(longest, work / machines) * (1 - 1e-9)
    assert found <= (work / machines + longest) * (1 + 1e-9)  # Graham's bound of any list
    assert makespan(durations, machines + 1) <= found * (1 + 1e-9)
    assert makespan(durations, 1) == pytest.approx(work)


@settings(max_examples=60, deadline=None)
@given(DURATIONS.filter(bool))
def test_no_more_gpus_than_enough_help(durations: list[float]):
    least = enough(durations)
    assert makespan(durations, least) == pytest.approx(max(durations))
    assert least == 1 or makespan(durations, least - 1) > max(durations)


def test_the_longest_folds_come_first():
    assert (
        makespan([2, 2, 2, 3, 3], 2) == 7
    )  # 3 + 2 + 2 and 3 + 2; the shortest first would take 2 + 2 + 3 = 7, in this
    assert makespan([1, 1, 4], 2) == 4  # order 1 + 4 = 5


# -------------------------------------------------------------------------------------------------------------- work


def test_hours_of_raf_db_follow_from_its_recipe(tmp_path: Path):
    recipe = LIBRARY.variants["poster_v2_rafdb"].recipe
    assert (recipe.epochs, recipe.batch_size, bool(recipe.sam_rho)) == (200, 144, True)
    plan = plan_of("poster_v2_rafdb", tmp_path, rate=50e12)
    (variant,) = plan.variants
    assert (variant.work.trained, variant.work.tested) == (12271, 3068)
    assert variant.size.macs == pytest.approx(8.59e9, rel=1e-3)  # docs/paper-vs-code.md
    trained = 12271 * 200 * 2 * 6 * variant.size.macs
    measured = 3068 * 200 * 2 * variant.size.macs  # the epoch is picked on the test part
    assert variant.device_seconds.value == pytest.approx((trained + measured) / 50e12)
    parts = plan.parts(1)
    assert parts[FACES] == pytest.approx([15339 / 31 / 16, 15339 / (20 * 31) ** 0.5 / 16, 15339 / 20 / 16])
    assert parts[SPLIT].value == pytest.approx((15339**2 / 2 + 12271 * 3068) * 6e-9)
    states = 200 * 4 * 4 * variant.size.params
    assert parts[TRAINING].low == pytest.approx(variant.device_seconds.low + states / 2e9)
    assert parts[TRAINING].high == pytest.approx(variant.device_seconds.high + states / 0.2e9)
    assert plan.seconds(8).value - parts[TRAINING].value < plan.seconds(1).value - parts[TRAINING].value
    assert plan.parts(64)[TRAINING] == plan.parts(8)[TRAINING] == parts[TRAINING]
    assert plan.parts(64)[FACES] == plan.parts(8)[FACES]  # the cores of one machine


def test_damage_predicts_the_test_part_35_times_more(tmp_path: Path):
    report = LIBRARY.report.model_copy(update={"robustness": True})
    catalogs = (LIBRARY, LIBRARY.model_copy(update={"report": report}))
    plans = [make_plan(each, Workspace(tmp_path), ["poster_v2_rafdb"], 16, 50e12) for each in catalogs]
    once, more = (plan.variants[0].tested.value for plan in plans)
    assert more == pytest.approx(36 * once)
    assert plans[0].parts(1)[TRAINING] == plans[1].parts(1)[TRAINING]


def test_the_assumed_rate_may_be_wrong_by_three(tmp_path: Path):
    low, value, high = plan_of("poster_v2_rafdb", tmp_path).variants[0].device_seconds
    exact = plan_of("poster_v2_rafdb", tmp_path, rate=costs.RATE).variants[0].device_seconds.value
    assert (low, value, high) == pytest.approx((exact / 3, exact, exact * 3))


def test_disk_of_raf_db(tmp_path: Path):
    plan = plan_of("poster_v2_rafdb", tmp_path)
    disk = {name: count.value for name, count in plan.disk().items()}
    assert disk["faces"] == pytest.approx(2 * 15339 * 13.1e3)
    assert disk["weights"] == pytest.approx(3 * 4 * plan.variants[0].size.params)
    assert plan.total_disk().value == pytest.approx(sum(disk.values()))
    assert plan.variants[0].memory == pytest.approx(144 / 16 * 3.2e9)


def test_leaving_one_subject_out_trains_every_sample_in_all_folds_but_one(tmp_path: Path):
    plan = plan_of("frl_dgt_megc2019", tmp_path)
    (variant,) = plan.variants
    assert len(variant.folds) == 68
    assert variant.work.trained == pytest.approx(442 * 67, rel=0.002)  # folds of equal size, rounded
    assert [len(work_of(LIBRARY, Workspace(tmp_path), "frl_dgt_smic").folds)] == [16]
    assert work_of(LIBRARY, Workspace(tmp_path), "frl_dgt_smic").trained == 164 * 15
    assert "Rounds of folds: 9 on 8, 2 on 64." in plan.why()
    one, eight, many = (plan.parts(count)[TRAINING].value for count in (1, 8, 64))
    assert one / eight == pytest.approx(68 / 9)
    assert one / many == pytest.approx(34)


def test_a_shared_dataset_counts_once_and_a_start_counts_before(tmp_path: Path):
    one, two = plan_of("ifdd_3dvit_dfew", tmp_path), plan_of("ifdd_2dcnn_dfew", tmp_path)
    both = make_plan(LIBRARY, Workspace(tmp_path), ["ifdd_3dvit_dfew", "ifdd_2dcnn_dfew"], 16)
    assert len(both.datasets) == 1
    assert both.parts(1)[FACES] == one.parts(1)[FACES] == two.parts(1)[FACES]
    assert both.parts(1)[TRAINING].value == pytest.approx(one.parts(1)[TRAINING].value + two.parts(1)[TRAINING].value)
    demo = plan_of("poster_v2_demo", tmp_path)
    assert [(variant.name, variant.generation) for variant in demo.variants] == [
        ("poster_t_demo", 0), ("poster_v2_demo", 1),
    ]  # fmt: skip
    assert demo.parts(64)[TRAINING] == demo.parts(1)[TRAINING]  # it waits for the weights that it starts from


def test_too_few_cores_make_the_gpu_wait(tmp_path: Path):
    few, many = (plan_of("ifdd_2dcnn_dfew", tmp_path, cores=cores).variants[0] for cores in (1, 64))
    own = few.work.folds[0]
    clips = 100 * (own.train + own.val + own.test)  # the test part too, which costs little with one view of a clip
    assert few.folds[0].loading.low == pytest.approx(clips / 55)
    assert few.folds[0].whole.value > few.folds[0].loading.value > few.folds[0].device.value
    assert many.folds[0].loading.value < many.folds[0].device.value
    assert few.cores_needed == pytest.approx(many.cores_needed)
    assert 1 < few.cores_needed < 64


@pytest.mark.parametrize("name", LIBRARY.variants)
def test_every_variant_of_the_library_has_a_plan_without_its_dataset(name: str, tmp_path: Path):
    plan = plan_of(name, tmp_path, size_of=lambda variant, classes: Size(8_000_000_000, 58_000_000))
    out = StringIO()
    print_plan(plan, 1, (1, 8, 64), Console(file=out, width=100))
    assert name in out.getvalue()
    json.dumps(as_json(plan, (1, 8)), allow_nan=False)
    if plan.variants[-1].folds:
        assert plan.seconds(1).value >= plan.seconds(8).value >= plan.seconds(64).value > 0
        assert plan.seconds(1).low <= plan.seconds(1).value <= plan.seconds(1).high
    else:
        assert "dvc repro index@" in plan.unknown()[0]


def test_what_is_not_known_is_said():
    unknown = {name for name in LIBRARY.variants if not work_of(LIBRARY, Workspace(Path("nowhere")), name).folds}
    assert {LIBRARY.variants[name].dataset for name in unknown} == {
        "lfw_emotion", "london", "casme2_5", "ferplus", "casme3",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------ files on disk


@pytest.fixture
def small(tmp_path: Path) -> tuple[config.Catalog, Workspace]:
    """A project with an index and a face store of 20 pictures, and no split."""
    workspace = Workspace(tmp_path)
    samples = write_store(workspace.faces("drawn"), 20)
    files = [f"{name}.png" for name in samples["sample"]]
    (tmp_path / "raw").mkdir()
    for file in files:
        (tmp_path / "raw" / file).write_bytes(b"\x89PNG\r\n\x1a\n")
    table = samples.assign(path=files, label=[CLASSES[label] for label in samples["label"]])
    table.to_csv(tmp_path / "raw" / "manifest.csv", index=False)
    block = {"layout": "manifest", "root": str(tmp_path / "raw"), "classes": CLASSES}
    variant = {
        "dataset": "drawn",
        "init_from": "scratch",
        "protocol": {"kind": "loso", "val_share": 0},
        "selection": "last",
        "model": {"architecture": "test_resnet", "options": SMALL},
        "recipe": {"epochs": 3, "batch_size": 4, "lr": 1e-3},
    }
    tree = {"rendered": {}, "landmark_nets": {}, "datasets": {"drawn": block}}
    tree |= {"variants": {"own": variant, "sam": variant | {"recipe": variant["recipe"] | {"sam_rho": 0.05}}}}
    catalog = config.check(tree, Path("params.yaml"), workspace)
    run("index", catalog, workspace, "drawn")
    return catalog, workspace


def test_an_index_and_a_store_give_exact_numbers(small: tuple[config.Catalog, Workspace]):
    catalog, workspace = small
    rows = read_index(workspace.index("drawn")).rows
    work = work_of(catalog, workspace, "own")
    assert [fold.test for fold in work.folds] == rows["subject"].value_counts().sort_index().tolist()
    assert all(fold.train == 20 - fold.test for fold in work.folds)
    assert work.source == "the index of drawn"
    assert samples_of(catalog, workspace, "drawn").frames == exactly(1)
    plan = make_plan(catalog, workspace, ["own"], 2)
    stored = sum(path.stat().st_size for path in workspace.faces("drawn").glob("*.arrow"))
    assert plan.datasets[0].each.basis == "measured here"
    assert plan.disk()["faces"].value == pytest.approx(2 * stored)


def test_a_split_counts_more_than_an_index(small: tuple[config.Catalog, Workspace]):
    catalog, workspace = small
    parts = ["train"] * 3 + ["val"] * 2 + ["test"] * 4
    table = pd.DataFrame({"sample": [f"s{i}" for i in range(9)], "fold": 1, "part": parts})
    workspace.split("own").parent.mkdir(parents=True)
    table.to_parquet(workspace.split("own"))
    (fold,) = work_of(catalog, workspace, "own").folds
    assert (fold.number, fold.train, fold.val, fold.test) == (1, 3, 2, 4)


def test_a_history_of_the_network_counts_more_than_operations(small: tuple[config.Catalog, Workspace]):
    catalog, workspace = small
    for fold, speeds in {1: [1.0, 8.0, 10.0, 9.0], 2: [12.0]}.items():
        path = workspace.fold("own", fold) / "history.csv"
        path.parent.mkdir(parents=True)
        pd.DataFrame({"epoch": range(len(speeds)), "images_per_second": speeds}).to_csv(path, index=False)
    begun = workspace.fold_state("own", 2) / "history.csv"  # the same fold in work/ counts once
    begun.parent.mkdir(parents=True)
    pd.DataFrame({"epoch": [1], "images_per_second": [1000.0]}).to_csv(begun, index=False)
    median = (8.5 + 12.0) / 2
    speed = costs.recorded(catalog, workspace, "own", at_once=1)
    assert speed is not None
    assert (speed.rate.value, speed.basis, speed.whole) == (median, "measured here", True)
    assert speed.source == "models/own/fold_1/history.csv"
    assert costs.recorded(catalog, workspace, "own", at_once=8).rate.value == 2 * median  # of two folds
    assert costs.recorded(catalog, workspace, "sam", at_once=1).rate.value == median / 2  # two passes
    plan = make_plan(catalog, workspace, ["own"], 2, measured_on_cpu=True)
    trained = sum(20 - test for test in (fold.test for fold in plan.variants[0].work.folds))
    tested = 20 / 3  # every sample once an epoch, in a third of the time of a step
    assert plan.variants[0].device_seconds.value == pytest.approx((trained + tested) * 3 / median)
    assert plan.device == "machine"
    assert make_plan(catalog, workspace, ["own"], 2, rate=1e12).variants[0].speed.basis == "assumed"


def test_measuring_runs_training_steps(small: tuple[config.Catalog, Workspace]):
    from duchenne.planning.measuring import measured

    catalog, _ = small
    compute = config.Compute(device="cpu", precision="fp32")
    speed = measured(catalog.variants["sam"], 3, compute, seconds=0.05)
    assert speed.rate.value > 0
    assert (speed.basis, speed.whole) == ("measured here", False)
    assert "steps of 4, fp32" in speed.source
    half = catalog.variants["sam"].model_copy(update={"precision": "bf16"})
    assert "steps of 4, bf16" in measured(half, 3, compute, seconds=0.01).source


def test_metrics_of_more_predictions_take_longer():
    assert costs.evaluated(10_000) == pytest.approx((0.95, 86e6))
    assert costs.evaluated(100_000) == pytest.approx((20.69, 224e6))
    assert costs.evaluated(300_000)[0] > 3 * 20.69  # faster than in proportion
    assert costs.evaluated(10)[0] == pytest.approx(0.2)


# ------------------------------------------------------------------------------------------------------------- stages


def test_a_project_without_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project = Project(tmp_path / "new")
    project.params(PARAMS)
    monkeypatch.chdir(project.root)
    done = CliRunner().invoke(cli.app, ["plan", "ifdd", "--json", "--gpus", "4"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["rerun"]["stages"][-2:] == [
        {"name": name, "state": "runs", "why": "never run"} for name in ("complexity@ifdd", "report")
    ]
    assert set(found["seconds"]) == {"1", "4", "8", "64"}
    assert found["variants"][0]["folds"] == 5


def test_finished_folds_in_work_are_known_by_their_code(tmp_path: Path):
    workspace = Workspace(tmp_path)
    catalog = LIBRARY.with_library("variants", "poster_v2_rafdb")
    for fold, code in {1: code_version("poster_v2"), 2: "other", 10: ""}.items():
        done = workspace.fold_state("poster_v2_rafdb", fold) / "done"
        done.mkdir(parents=True)
        (done / "finished.json").write_text(json.dumps({"key": "k", "code": code}))
        (done / "history.csv").write_bytes(b"epoch\n1\n\xf5\n")  # damaged
    found = rerun.folds(catalog, workspace, "poster_v2_rafdb")
    assert [(fold.name, fold.finished, fold.epochs) for fold in found] == [
        ("fold 1", True, 2),
        ("fold 2", False, 2),
        ("fold 10", False, 2),
    ]
    out = StringIO()
    print_rerun([], "", {"poster_v2_rafdb": found}, Console(file=out, width=200))
    assert "1 finished fold in work/" in out.getvalue()


def test_outside_a_repository_dvc_is_not_asked(tmp_path: Path):
    found, remark = rerun.stages(LIBRARY, LIBRARY, Workspace(tmp_path), ["poster_v2_rafdb"])
    assert not found
    assert "is not a DVC repository" in remark


# ------------------------------------------------------------------------------------------------- words and mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["poster_v2_rafbd"], "there is no variant 'poster_v2_rafbd' (did you mean 'poster_v2_rafdb'?)"),
        (["poster_v2_rafdb", "--measure", "--rate", "1e12"], "--measure and --rate give the same number"),
        (["poster_v2_rafdb", "--params", "nowhere.yaml"], "nowhere.yaml does not exist"),
    ],
)
def test_a_mistake_is_one_message(words: list[str], message: str):
    done = CliRunner().invoke(cli.app, ["plan", *words])
    assert done.exit_code == 1
    assert message in str(done.exception)


def test_every_part_has_a_basis(tmp_path: Path):
    plan = plan_of("poster_v2_rafdb", tmp_path)
    bases = as_json(plan, (1,))["bases"]
    assert set(bases) == set(PARTS)
    assert (bases[TRAINING], bases[FACES], bases[COPIES]) == ("assumed", "measured elsewhere", "assumed")


def test_no_false_digits():
    assert [about(value) for value in (0, 0.5, 99.6, 123456)] == ["0", "0.5", "100", "120,000"]
    assert duration(Estimate(3600, 7200, 14400)) == "2 (1 to 4) h"
    assert duration(Estimate(7000, 7200, 7400)) == "2 h"
