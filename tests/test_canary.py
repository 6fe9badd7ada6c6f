"""Canaries: labels without knowledge, what chance allows, planted leaks, and the command on a small set."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import cv2
import datasets
import numpy as np
import pandas as pd
import pytest
import training_networks  # noqa: F401 - registers the network tiny
from ruamel.yaml import YAML
from training_tools import CLASSES

from duchenne import cli, config, stages
from duchenne.canary.chance import LEVEL, chance, networks_needed
from duchenne.canary.labels import one_a_person, permuted
from duchenne.canary.planted import plant
from duchenne.canary.run import Settings, _Runs
from duchenne.datasets import problems
from duchenne.datasets.index import Index, as_schema, read_index, write_index
from duchenne.faces.hashing import face_hash
from duchenne.faces.store import FaceStore
from duchenne.protocol import Protocol
from duchenne.splits import LeakError, check_leaks
from duchenne.workspace import Workspace

PEOPLE = 24
RECIPE = {"epochs": 12, "batch_size": 8, "lr": 0.03, "augment": {"hflip": 0.0}}
BLOCK = {
    "dataset": "drawn",
    "init_from": "scratch",
    "protocol": {"kind": "official", "val_share": 0.0},
    "model": {"architecture": "tiny", "options": {}},
    "recipe": RECIPE,
    "selection": "last",
}
PARAMS = {
    "compute": {"jobs": 1, "device": "cpu", "precision": "fp32", "folds_at_once": 1, "loader_workers": 0},
    "report": {"bootstrap": 200},
    "rendered": {},
    "landmark_nets": {},
    "datasets": {"drawn": {"layout": "manifest", "root": "raw", "classes": CLASSES, "faces": {"size": 64}}},
    "variants": {
        "plain": BLOCK,
        "best": BLOCK | {"selection": "test", "recipe": RECIPE | {"lr": 0.3}},
        "folded": BLOCK | {"protocol": {"kind": "kfold", "folds": 3, "val_share": 0.0}},
        "second": BLOCK | {"init_from": "plain", "precision": "bf16"},
        "lenient": BLOCK | {"protocol": BLOCK["protocol"] | {"near_duplicates": "ignore"}},
        "unprepared": BLOCK,
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 people with a picture of each class, a bright bar at its height; half of the people test."""
    root = tmp_path_factory.mktemp("canary")
    (root / "raw").mkdir()
    YAML(typ="safe").dump(json.loads(json.dumps(PARAMS)), root / "params.yaml")
    workspace, rng, faces, rows = Workspace(root), np.random.default_rng(0), [], []
    for i in range(PEOPLE * len(CLASSES)):
        person, label = divmod(i, len(CLASSES))
        picture = cv2.resize(
            rng.integers(20, 160, (16, 16, 3), dtype=np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC
        )
        picture[label * 21 : label * 21 + 21] += 60
        name = f"p{person:02d}_{CLASSES[label]}"
        data = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
        face = {"sample": name, "frame_numbers": [0], "frames": [data], "transforms": [[1.0, 0, 0, 0, 1, 0]]}
        face |= {"boxes": [[0.0, 0, 64, 64]], "confidence": [1.0], "doubtful": [False], "faces": [1]}
        faces.append(face | {"phash": face_hash(picture)})
        rows.append({"sample": name, "kind": "image", "path": name, "label": label, "emotion": CLASSES[label]})
        rows[-1] |= {"subject": f"p{person:02d}", "split": "test" if person % 2 else "train"}
    datasets.Dataset.from_list(faces).save_to_disk(str(workspace.faces("drawn")))
    meta = {"size": 64, "encoding": "png", "detector": "none"}
    (workspace.faces("drawn") / "store.json").write_text(json.dumps(meta), "utf-8")
    write_index(Index(as_schema(pd.DataFrame(rows)), problems.frame([]), CLASSES), workspace.index("drawn"))
    workspace.landmarks("drawn").parent.mkdir(parents=True)
    pd.DataFrame({"sample": []}).to_parquet(workspace.landmarks("drawn"))
    catalog = config.load(root / "params.yaml")
    for variant in sorted(catalog.variants.keys() - {"unprepared"}):
        stages.run("split", catalog, workspace, variant)
    return root


@pytest.fixture
def canary(project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run the command in that folder; returns exit status, output and errors."""
    monkeypatch.chdir(project)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["duchenne", "canary", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capfd.readouterr()

    return run


def files(folder: Path) -> dict[str, str]:
    """Digest of every file outside ``work``."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "work" not in path.relative_to(folder).parts]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def table() -> pd.DataFrame:
    """Two folds of 40 samples, in which half of the samples swap sides."""
    rows = [
        {"sample": f"s{i:02d}", "fold": fold, "part": part, "label": i % 3, "votes": [i % 3, i]}
        for fold in (1, 2)
        for i in range(40)
        for part in ["val" if i >= 36 else "test" if (i % 2 == 0) == (fold == 1) else "train"]
    ]
    return pd.DataFrame(rows)


def test_labels_are_permuted_in_training_and_validation_alone():
    before = table().sort_values(["fold", "part", "sample"], ignore_index=True)
    after = permuted(before.sample(frac=1, random_state=1), seed=3)  # whatever the order of the rows
    assert after[["sample", "fold", "part"]].equals(before[["sample", "fold", "part"]])
    changed = after["label"] != before["label"]
    assert set(after.loc[changed, "part"]) == {"train", "val"}
    assert changed[after["part"] == "train"].mean() > 0.4
    for (_, part), rows in after.groupby(["fold", "part"]):
        assert Counter(rows["label"]) == Counter(before.loc[rows.index, "label"]), part
    assert [votes[0] for votes in after["votes"]] == after["label"].tolist()  # they move together
    assert not permuted(before, seed=4)["label"].equals(after["label"])


def test_one_label_a_person():
    samples = pd.DataFrame({"subject": [f"p{i % 9}" for i in range(90)], "label": 0})
    labelled = one_a_person(samples, 3, seed=0)
    per_person = labelled.groupby("subject")["label"].unique()
    assert (per_person.map(len) == 1).all()
    assert Counter(int(labels[0]) for labels in per_person) == {0: 3, 1: 3, 2: 3}


def test_chance_is_what_the_exchanges_of_names_give():
    rng = np.random.default_rng(5)
    counts = rng.integers(0, 9, (2, 3, 3)).astype(float)
    of_class = counts.sum(axis=(0, 2))
    orders = list(itertools.permutations(range(3)))
    exact = [
        np.mean([(counts[0, c, a[c]] + counts[1, c, b[c]]) / of_class[c] for c in range(3)])
        for a in orders
        for b in orders
    ]
    found = chance(counts, np.ones((2, 3), bool))
    assert found.uar == pytest.approx(exact[0])
    assert found.guessing == pytest.approx(np.mean(exact)) == pytest.approx(1 / 3)
    assert found.p == pytest.approx(np.mean(np.array(exact) >= exact[0] - 1e-9), abs=0.015)
    assert found.allowed == pytest.approx(np.quantile(exact, 1 - LEVEL), abs=0.02)


def test_only_classes_of_the_training_part_are_exchanged():
    counts = np.array([[[5.0, 5, 0], [5, 5, 0], [4, 4, 2]]])
    found = chance(counts, np.array([[True, True, False]]))
    assert found.guessing == pytest.approx((0.5 + 0.5 + 0.2) / 3)


@pytest.mark.parametrize(("classes", "networks"), [(2, 6), (3, 3), (4, 2), (7, 1)])
def test_the_verdict_needs_so_many_networks(classes: int, networks: int):
    assert networks_needed(classes) == networks
    perfect = np.tile(10 * np.eye(classes), (networks, 1, 1))
    assert not chance(perfect, np.ones((networks, classes), bool)).explains
    if networks > 1:
        assert chance(perfect[1:], np.ones((networks - 1, classes), bool)).explains


def data(project: Path) -> tuple[pd.DataFrame, pd.DataFrame, FaceStore]:
    workspace = Workspace(project)
    split = pd.read_parquet(workspace.split("plain"))
    return split, read_index(workspace.index("drawn")).rows, FaceStore(workspace.faces("drawn"))


@pytest.mark.parametrize(
    ("leak", "why", "count"),
    [
        ("subject", "subject 'p01' is in test and train", 12),
        ("source", "source 'clip of p01_anger' is in test and train", 36),
        ("copy", "the same photograph in test and train", 36),
        ("mirror", "the same photograph, mirrored, in test and train", 36),
    ],
)
def test_a_planted_leak_is_refused(project: Path, tmp_path: Path, leak: str, why: str, count: int):
    split, rows, store = data(project)
    planted = plant(leak, split, rows, store, tmp_path / "copies", seed=0)
    with pytest.raises(LeakError) as caught:
        check_leaks(planted.rows, planted.split, planted.store.hashes(), Protocol(kind="official"))
    assert len(caught.value.pairs) == count
    assert caught.value.pairs["why"].iloc[0] == why
    kept = planted.split.merge(planted.samples, on=["fold", "sample"])
    assert set(kept["part"]) == {"train"}
    assert len(kept) == len(planted.samples) == (12 if leak == "subject" else 36)
    assert split.equals(data(project)[0])


def test_a_mirrored_copy_is_the_mirrored_face(project: Path, tmp_path: Path):
    split, rows, store = data(project)
    planted = plant("mirror", split, rows, store, tmp_path / "copies", seed=0)
    assert (planted.store.frame("p01_anger~mirror") == store.frame("p01_anger")[:, ::-1]).all()
    assert (planted.store.frame("p00_anger") == store.frame("p00_anger")).all()


def test_a_copy_carries_the_scored_label(project: Path, tmp_path: Path):
    split, rows, store = data(project)
    planted = plant("copy", split, rows, store, tmp_path / "copies", seed=0)
    runs = _Runs(config.load(project / "params.yaml"), Workspace(project), Settings(samples=9), [])
    _, samples = runs.samples_of("plain", "copy", 0, planted)
    labels = samples.set_index("sample")["label"]
    tested = samples[samples["part"] == "test"]
    assert [labels[f"{name}~copy"] for name in tested["sample"]] == tested["label"].tolist()
    true = rows.set_index("sample")["label"]
    assert 0.1 < (tested["label"] == true[tested["sample"]].to_numpy()).mean() < 0.6
    assert samples["part"].value_counts().to_dict() == {"train": 9 + 36, "test": 36}


def test_permuted_labels_fall_to_guessing_and_the_run_is_not_touched(canary, project: Path):
    before = files(project)
    status, out, _ = canary("plain", "--control", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["falls to guessing"] is True
    assert (found["folds"], found["permutations"], found["canary"]["n"], found["canary"]["subjects"]) == (1, 3, 36, 12)
    one = found["canary"]
    assert one["uar"] == pytest.approx(np.mean(one["each"]))
    assert one["low"] < one["uar"] < one["high"]
    assert one["uar"] <= one["allowed"] < 0.7
    assert found["true labels"]["uar"] > 0.9
    assert files(project) == before
    weights = project / "work/canary/plain/permuted_0/fold_1/network/weights.safetensors"
    written = weights.stat().st_mtime_ns
    status, out, _ = canary("plain")
    assert status == 0
    assert out.splitlines()[-1] == "falls to guessing: yes"
    assert f"UAR {100 * one['uar']:.1f} %" in out
    assert weights.stat().st_mtime_ns == written  # finished ones are kept


def test_the_best_epoch_on_test_samples_is_above_guessing(canary):
    status, out, _ = canary("best", "--permutations", 6)
    assert (status, "falls to guessing: no" in out) == (1, True), out
    assert "use selection val or last" in out.splitlines()[-1]


def test_a_start_is_a_canary_too(canary, project: Path):
    shutil.rmtree(project / "work" / "canary", ignore_errors=True)
    status, out, _ = canary("second", "--epochs", 2)
    assert status == 0
    assert "shortened to 2 of 12 epochs" in out
    assert sorted(path.name for path in (project / "work/canary").iterdir()) == ["plain", "second"]
    cards = [project / f"work/canary/{name}/permuted_2/fold_1/network/card.json" for name in ("plain", "second")]
    assert [json.loads(card.read_text("utf-8"))["precision"] for card in cards] == ["fp32", "bf16"]


def test_every_fold_is_measured(canary):
    status, out, _ = canary("folded", "--epochs", 2, "--json")
    found = json.loads(out)
    assert (status, found["folds"], found["permutations"], found["canary"]["n"]) == (0, 3, 1, 72)
    cards = sorted(Path("work/canary/folded").glob("permuted_0/fold_*/network/card.json"))
    assert [json.loads(card.read_text("utf-8"))["seed"] for card in cards] == [0, 10_000, 20_000]  # other first weights
    status, out, _ = canary("folded", "--epochs", 2, "--folds", 1, "--samples", 20)
    assert status == 0
    assert "20 training samples a fold, 1 fold(s)" in out
    assert "1 fold(s) x 3 permutation(s), 24 test samples" in out


@pytest.mark.parametrize("leak", ["copy", "subject"])
def test_a_leak_that_is_not_refused_shows(canary, leak: str):
    if leak == "copy":
        status, out, _ = canary("lenient", "--plant", leak, "--samples", 9, "--epochs", 30)
        assert "refused" not in out
        assert out.splitlines()[-1] == "the leak shows: yes"
    else:
        status, out, _ = canary("plain", "--plant", leak)
        assert "planted subject: refused by splits.check_leaks (LeakError): 12 leak(s)" in out
    assert status == 0


def test_networks_of_others_are_left_out():
    name = "ifdd_2dcnn_demo"
    catalog = config.load(Path(__file__).parents[1] / "params.yaml")
    runs = _Runs(catalog, Workspace(Path("nowhere")), Settings(), [])
    assert runs.recipe_of(name, 0, "permuted").model.pretrained == {}
    assert "knows expressions of other people" in runs.notes[0]
    assert set(runs.recipe_of("poster_t_demo", 0, "permuted").model.pretrained) == {"mobilefacenet"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plain", "--permutations", "1"], "Give --permutations 3 or more"),
        (["plain", "--anyway"], "give --plant too"),
        (["unprepared"], "run `dvc repro split@unprepared landmarks@drawn`"),
        (["poster_v2_rafdb"], "run `duchenne add poster_v2_rafdb`"),
        (["plian"], "did you mean 'plain'?"),
    ],
)
def test_what_is_missing_is_said(canary, words: list[str], message: str):
    status, _, err = canary(*words)
    assert status == 1
    assert message in err
