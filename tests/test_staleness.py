"""Stages that DVC runs again after an edit of params.yaml or the code: those affected, and no others.

DVC compares contents, so that outputs need not be real ones: each is a few bytes, which DVC is told to take as those of
its stage.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from importlib.util import cache_from_source
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc_tools import Project, changed

from duchenne import config, stages
from duchenne.planning import rerun
from duchenne.weights import PACKAGED
from duchenne.workspace import Workspace

CLASSES = ["anger", "happiness"]
NET = {"dataset": "faces", "init_from": "scratch", "epochs": 1}
RECIPE = {"epochs": 1, "batch_size": 4, "lr": 1e-3}


def variant(architecture: str, dataset: str = "faces", init_from: str = "scratch", **recipe: object) -> dict:
    """A variant that leaves out whatever has a default."""
    return {
        "dataset": dataset,
        "init_from": init_from,
        "protocol": {"kind": "kfold"},
        "model": {"architecture": architecture},
        "recipe": RECIPE | recipe,
    }


PARAMS = {
    "rendered": {"faces": {"kind": "image", "classes": CLASSES, "subjects": 4}},
    "landmark_nets": {"first": NET, "second": NET | {"init_from": "first"}},
    "datasets": {
        "faces": {"layout": "synth", "root": "data/raw/faces", "classes": CLASSES},
        "own": {"layout": "folder", "root": "data/raw/own", "classes": CLASSES, "faces": {"quality": 95}},
    },
    "variants": {
        "poster": variant("poster_t"),
        "ifdd": variant("ifdd_2dcnn", label_smoothing=0.0),
        "own": variant("frl_dgt", "own", "poster"),
    },
}
ITEMS = {
    "rendered": ("synthesize",),
    "landmark_nets": ("landmark_net",),
    "datasets": ("index", "align", "landmarks"),
    "variants": ("split", "train", "evaluate", "robustness", "explain", "complexity"),
}
ALL = {stage: [f"{stage}@{name}" for name in PARAMS[part]] for part, stages in ITEMS.items() for stage in stages}


def named(words: str) -> set[str]:
    """Stages of words such as ``train@own report``; a stage without @ is that of every item."""
    return {stage for word in words.split() for stage in ALL.get(word, [word])}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of which DVC believes that all stages ran."""
    project = Project(tmp_path_factory.mktemp("finished"))
    project.params(PARAMS)
    project.python("stages/settings.py")
    with Repo(project.root) as repo:
        paths = [Path(out.fs_path) for stage in repo.index.stages for out in stage.outs]
        for path in [*paths, project.root / "data" / "raw" / "own"]:
            file = path if path.suffix else path / "file"
            if not path.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(str(path.relative_to(project.root)), encoding="utf-8")
    project.dvc("commit", "--force")
    assert project.status() == set()
    return project


def run_settings(project: Project) -> None:
    """The settings stage in this process, where the project's code is this code."""
    with chdir(project.root):
        stages.run("settings", config.load(), Workspace())


def stale(project: Project) -> set[str]:
    """Stages that DVC would run once it has run the settings stage, where the project's code is this code."""
    run_settings(project)
    return project.status() - {"settings"}


@contextmanager
def params(project: Project, *path_and_value: object) -> Iterator[None]:
    """For a while, another value of params.yaml."""
    project.params(changed(*path_and_value, of=PARAMS))
    try:
        yield
    finally:
        project.params(PARAMS)


@contextmanager
def edited(path: Path, before: str, after: str) -> Iterator[None]:
    """For a while, another text in a file of Python."""
    text = path.read_text(encoding="utf-8")
    assert before in text, f"{path} has no {before!r}: what does this edit stand for now?"
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    # Python takes compiled code for that of a file of the same size and second.
    compiled = Path(cache_from_source(path))
    compiled.unlink(missing_ok=True)
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")
        compiled.unlink(missing_ok=True)


VALUES = {
    "a recipe": (("variants", "poster", "recipe", "lr", 2e-3), "train@poster report"),
    "a protocol": (("variants", "own", "protocol", "folds", 3), "split@own report"),
    "a calibration": (("variants", "poster", "calibration", "temperature"), "train@poster report"),
    "a precision": (("variants", "poster", "precision", "bf16"), "train@poster report"),
    "a network": (
        ("variants", "ifdd", "model", "options", {"split": "even_odd"}),
        "train@ifdd evaluate@ifdd robustness@ifdd explain@ifdd complexity@ifdd report",
    ),
    "faces as they were by default": (("datasets", "faces", "faces", {"size": 224}), "index@faces report"),
    "the size of faces": (("datasets", "own", "faces", {"size": 128}), "index@own align@own landmarks@own report"),
    "the seed of rendering": (("rendered", "faces", "seed", 9), "synthesize report"),
    "a landmark network": (("landmark_nets", "first", "epochs", 2), "landmark_net@first"),
    "predictions of the test part": (("variants", "poster", "test_each_epoch", False), "train@poster report"),
    "a note": (("variants", "poster", "note", "as published"), "report"),
    "whose printed values": (("variants", "poster", "reproduces", "poster_rafdb"), "complexity@poster report"),
    "resamples": (("report", {"bootstrap": 101}), "evaluate robustness report"),
    "damage": (("report", {"robustness": True}), "robustness report"),
    "faces on the page": (("report", {"show_faces": False}), "explain report"),
    "pictures on the page": (("report", {"gallery": 5}), "report"),
    "where work runs": (("compute", {"engine": "dask", "address": "tcp://host:8786", "fold": {"cores": 1}}), ""),
}


@pytest.mark.parametrize("what", VALUES)
def test_another_value_makes_stale_what_reads_it_and_nothing_else(finished: Project, what: str):
    path_and_value, expected = VALUES[what]
    with params(finished, *path_and_value):
        assert stale(finished) == named(expected)


def test_another_value_makes_stale_even_before_the_settings_stage_ran(finished: Project):
    run_settings(finished)
    with params(finished, "variants", "poster", "recipe", "lr", 2e-3):
        assert finished.status() == {"settings", "train@poster", "report"}
    with params(finished, "variants", "more", variant("poster_t")):
        new = {f"{stage}@more" for stage in ITEMS["variants"]}
        assert finished.status() == new | {"settings", "report"}


NETWORK = ("train", "evaluate", "robustness", "explain", "complexity")


def of(*variants: str) -> str:
    """The stages that run the networks of variants."""
    return " ".join(f"{stage}@{variant}" for stage in NETWORK for variant in variants)


COMMENT = ('"""', '"""X')
EDITS = {
    "a default of rendering": ("synth/settings.py", ("int = Field(1,", "int = Field(2,"), "synthesize"),
    "a default of the recipe": (
        "training/settings.py",
        ("Share = Field(0.0", "Share = Field(0.1"),
        "train evaluate robustness explain",
    ),
    "a default of the faces": ("faces/settings.py", ("Field(95", "Field(94"), "align landmarks report"),
    "a default of a dataset": (
        "datasets/settings.py",
        ('Field(\n        "stop"', 'Field(\n        "skip"'),
        "index report",
    ),
    "a default of the landmark network": ("landmark_net/settings.py", ("Field(0.01", "Field(0.02"), "landmark_net"),
    "a default of the protocol": ("protocol.py", ("Field(24", "Field(23"), "split"),
    "a default of the page": ("reporting/settings.py", ("Field(24", "Field(23"), "report"),
    "a spelling of labels": ("emotions.py", ('"angry": "anger"', '"angry": "disgust"'), "index report"),
    "one network": ("models/ifdd.py", COMMENT, of("ifdd")),
    "a backbone of one network": ("models/backbones/mvit.py", COMMENT, of("ifdd")),
    "what two networks share": ("models/landmark_guided.py", COMMENT, of("poster")),
    "what a network is called": ("models/ifdd.py", ('"IFDD (2DCNN)"', '"IFDD"'), f"{of('ifdd')} report"),
    "what every network needs": ("models/official.py", COMMENT, f"align landmarks landmark_net {' '.join(NETWORK)}"),
    "how predictions are made": ("stages/evaluate.py", ("argmax(axis=1)", "argmin(axis=1)"), "evaluate"),
    "who validates": ("datasets/subset.py", COMMENT, "index split evaluate report"),
    "the map of the features": ("evaluation/embedding.py", COMMENT, "report"),
    "the schedule": ("training/optim.py", COMMENT, "train evaluate robustness explain"),
    "the store": (
        "faces/store.py",
        COMMENT,
        "align landmarks landmark_net split train evaluate robustness explain report",
    ),
    "a kind of damage": ("evaluation/corruptions.py", COMMENT, "robustness report"),
    "the page": ("reporting/page.py", COMMENT, "report"),
    "the command": ("cli.py", COMMENT, ""),
    "an engine": ("engines/base.py", COMMENT, ""),
    "the resources of a fold": ("engines/folds.py", COMMENT, ""),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_makes_stale_what_uses_it_and_nothing_else(finished: Project, what: str):
    file, (before, after), expected = EDITS[what]
    with edited(finished.root / "src" / "duchenne" / file, before, after):
        assert finished.stale() == named(expected)


@pytest.mark.parametrize(
    ("part", "expected"), [("mobilefacenet", "align landmarks landmark_net train@poster"), ("dgm", "")]
)
def test_other_packaged_weights_make_stale_what_starts_from_them(finished: Project, part: str, expected: str):
    path = finished.root / "src" / "duchenne" / "weights" / PACKAGED[part].name
    before = path.read_bytes()
    path.write_bytes(before + b" ")
    try:
        assert finished.stale() == named(expected)
    finally:
        path.write_bytes(before)


def test_other_weights_make_stale_what_starts_from_them(finished: Project):
    with edited(finished.root / "models" / "first" / "file", "first", "second"):
        assert stale(finished) == {"landmark_net@first", "landmark_net@second", "report"}
    with edited(finished.root / "models" / "poster" / "file", "poster", "other"):
        own = {f"{stage}@poster" for stage in ("train", "evaluate", "robustness", "explain")}
        assert stale(finished) == own | {"train@own", "report"}


def test_dvc_follows_an_imported_network_that_a_variant_starts_from(finished: Project):
    fold = finished.root / "models" / "theirs" / "fold_1"
    fold.mkdir(parents=True)
    (fold / "card.json").write_text('{"imported": {"file": "theirs.pth"}}')
    with params(finished, "variants", "own", "init_from", "theirs"):
        assert stale(finished) == {"train@own", "report"}
        with Repo(finished.root) as repo:
            (train,) = [stage for stage in repo.index.stages if stage.addressing.endswith("train@own")]
        assert str(fold.parent) in {dep.fs_path for dep in train.deps}
    shutil.rmtree(fold.parent)
    assert stale(finished) == set()


def test_a_misspelt_key_stops_with_a_suggestion(finished: Project):
    run_settings(finished)
    with params(finished, "variants", "own", "selektion", "last"):
        said = finished.dvc("repro", check=False)
    assert "did you mean 'selection'?" in said
    assert "Traceback" not in said
    assert stale(finished) == set()


def states(project: Project, name: str) -> dict[str, str]:
    """State of each stage of a variant, as `duchenne plan` says it."""
    with chdir(project.root):
        listed = config.load()
        catalog = listed.with_library("variants", name)
        found, remark = rerun.stages(catalog, listed, Workspace(), [name])
    assert ("duchenne add" in remark) == (name not in PARAMS["variants"])
    return {stage.name: stage.state for stage in found}


def test_a_plan_says_what_would_run(finished: Project):
    run_settings(finished)
    faces = {f"{stage}@faces" for stage in ("synthesize", "index", "align", "landmarks")}
    every = {f"{stage}@poster" for stage in stages.OF_A_VARIANT}
    assert states(finished, "poster") == dict.fromkeys({"settings", *faces, *every, "report"}, "done")
    with params(finished, "variants", "poster", "seed", 3):  # a stage reads it through data/settings alone
        found = states(finished, "poster")
    assert {name for name, state in found.items() if state == "runs"} == {"settings", "train@poster", "report"}
    assert {name for name, state in found.items() if state == "follows"} == {
        "evaluate@poster", "explain@poster", "robustness@poster",
    }  # fmt: skip
    assert set(states(finished, "poster_v2_rafdb")) == {"settings"}
