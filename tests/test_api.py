"""``import duchenne``: its functions give what the stages give, and refuse what cannot be used."""

from __future__ import annotations

import ast
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from torch.utils.data import DataLoader
from training_tools import CLASSES, SMALL

import duchenne
from duchenne import config, stages
from duchenne.errors import UserError
from duchenne.files import read_json
from duchenne.metrics import METRICS
from duchenne.tracking import uri
from duchenne.weights import PACKAGED
from duchenne.workspace import Workspace

PARAMS = {
    "compute": {"jobs": 1, "device": "cpu", "precision": "fp32", "folds_at_once": 1},
    "report": {"bootstrap": 100},
    "rendered": {},
    "datasets": {
        "mine": {
            "layout": "manifest",
            "root": "raw",
            "classes": CLASSES,
            "faces": {"mode": "aligned", "size": 64, "encoding": "png"},
        },
        "clips": {"layout": "manifest", "root": "clips", "classes": CLASSES[:2], "faces": {"mode": "aligned"}},
    },
    "landmark_nets": {},
    "variants": {
        "my_first": {
            "dataset": "mine",
            "init_from": "scratch",
            "protocol": {"kind": "official", "val_share": 0, "near_duplicates": "ignore"},
            "model": {"architecture": "test_resnet", "options": SMALL},
            "recipe": {"epochs": 2, "batch_size": 6, "lr": 1e-3},
            "selection": "last",
        }
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of 24 drawn pictures of eight people and two clips, of which the stages made a trained run."""
    root = tmp_path_factory.mktemp("api")
    rng, rows = np.random.default_rng(0), []
    (root / "raw").mkdir()
    for i in range(24):
        picture = rng.integers(40, 120, (64, 64, 3), dtype=np.uint8)
        picture[i % 3 * 21 : i % 3 * 21 + 21] += 100
        cv2.imwrite(str(root / "raw" / f"{i:02}.png"), picture)
        split = "train" if i < 12 else "test"
        rows.append({"path": f"{i:02}.png", "label": CLASSES[i % 3], "subject": f"p{i // 3}", "split": split})
    pd.DataFrame(rows).to_csv(root / "raw" / "manifest.csv", index=False)
    for clip, length in (("a", 3), ("b", 2)):
        (root / "clips" / clip).mkdir(parents=True)
        for number in range(1, length + 1):
            cv2.imwrite(str(root / "clips" / clip / f"{number}.png"), np.full((20, 30, 3), 10 * number, np.uint8))
    pd.DataFrame({"path": ["a", "b"], "label": CLASSES[:2]}).to_csv(root / "clips" / "manifest.csv", index=False)
    with (root / "params.yaml").open("w") as file:
        YAML().dump(PARAMS, file)
    (root / "photos").mkdir()
    for name in ("photo.jpg", "photos/1.jpg", "photos/2.jpg"):
        cv2.imwrite(str(root / name), np.full((80, 60, 3), 120, np.uint8))
    before = Path.cwd()
    os.chdir(root)
    try:
        catalog, workspace = config.load(), Workspace(root)
        for stage in ("index", "align"):
            stages.run(stage, catalog, workspace, "mine")
        for stage in ("split", "train", "evaluate"):
            stages.run(stage, catalog, workspace, "my_first")
        yield root
    finally:
        os.chdir(before)


def test_importing_it_imports_nothing_slow():
    code = "import sys, duchenne; dir(duchenne); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "timm", "numpy", "pandas", "cv2", "pydantic", "mlflow", "sklearn"}


def test_its_names_are_those_that_type_checkers_see():
    tree = ast.parse(Path(duchenne.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"duchenne.api.{module}" for name, module in duchenne._MODULES.items()}
    assert sorted(seen) == duchenne.__all__
    for name, module in seen.items():
        assert getattr(duchenne, name) is getattr(sys.modules[module], name)
        assert name in dir(duchenne)
    with pytest.raises(AttributeError, match="'duchenne' has no attribute 'predikt'"):
        duchenne.predikt  # noqa: B018


# networks


def test_models_are_listed_and_created():
    assert duchenne.list_models("ifdd_*") == ["ifdd_2dcnn", "ifdd_3dvit"]
    packaged = load_file(PACKAGED["dgm"])
    for given, same in (({}, False), ({"pretrained": {"dgm": "packaged"}}, True)):
        network = duchenne.create_model("frl_dgt", full_face=False, **given)
        assert network.num_classes == 7
        assert torch.equal(network.dgm.state_dict()["conv1.0.weight"], packaged["conv1.0.weight"]) == same
    assert duchenne.create_model("frl_dgt", num_classes=0, full_face=False).num_classes == 0
    (last,) = duchenne.create_model("test_resnet", features_only=True, out_indices=[-1])(torch.zeros(1, 3, 64, 64))
    assert last.ndim == 4


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("poster_v3", {}, r"no network is called 'poster_v3' \(did you mean 'poster_v2'\?\)"),
        ("poster_v2", {"vit_dept": 1}, r"poster_v2 has no option 'vit_dept' \(did you mean 'vit_depth'\?\)"),
        ("poster_v2", {"in_chans": 1}, "poster_v2 takes 3 channels, not in_chans=1"),
        ("poster_v2", {"pretrained": True}, "pretrained=True: nothing is downloaded"),
        ("frl_dgt", {"pretrained": {"dgn": "packaged"}}, "no weights of dgn are packaged"),
        ("frl_dgt", {"pretrained": {"checkpoint": "x.pth"}}, "FrlDgt has no part checkpoint; its parts: dgm"),
        ("frl_dgt", {"num_classes": -2}, "num_classes is -2"),
    ],
)
def test_a_network_that_cannot_be_created(name: str, given: dict, said: str):
    with pytest.raises(UserError, match=said):
        duchenne.create_model(name, **given)


def test_a_trained_network_is_loaded_from_a_folder_or_from_mlflow(project: Path):
    model = duchenne.load(Path("models/my_first/fold_1"), device="cpu")
    assert (model.classes, model.precision) == (CLASSES, "fp32")
    assert repr(model).startswith("Model('models/my_first/fold_1': ")
    own = model.predict([project / "photo.jpg", np.zeros((64, 64, 3), np.uint8), Image.new("RGB", (64, 64))])
    assert len(own) == 3
    assert own["emotion"].isin(CLASSES).all()
    client = mlflow.MlflowClient(uri(Workspace(project)))
    run = client.create_run(client.get_experiment_by_name("duchenne").experiment_id).info.run_id
    client.log_artifacts(run, "models/my_first/fold_1", "model/artifacts/fold_1")
    for address in (f"runs:/{run}", f"runs:/{run}/model"):
        again = duchenne.load(address, workspace=project).predict(project / "photo.jpg")
        pd.testing.assert_frame_equal(again, own[:1])
    with pytest.raises(UserError, match=rf"runs:/{run}/model/none: MLflow at sqlite:.* has no such model"):
        duchenne.load(f"runs:/{run}/model/none")
    client.log_artifacts(run, "photos", "pictures")
    with pytest.raises(UserError, match=rf"runs:/{run}/pictures is not one trained fold: it has no card.json"):
        duchenne.load(f"runs:/{run}/pictures")


def test_a_trained_network_that_is_not_there(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for given, said in (
        ("models/my_first", "holds no trained network: card.json is missing; give one of its folds, such as"),
        ("models/none", "models/none does not exist"),
        ("runs:/0123456789abcdef", "runs:/0123456789abcdef: MLflow at sqlite:.* has no such model: .*not found"),
        ("models:/none/1", "models:/none/1: MLflow at sqlite:.* has no such model: .*not found"),
    ):
        with pytest.raises(UserError, match=said):
            duchenne.load(given)
    with pytest.raises(UserError, match=r"runs:/1: .* has no mlflow.db: give the project's folder as workspace"):
        duchenne.load("runs:/1", workspace=tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError, match=r"loading runs:/1 needs mlflow: pip install 'duchenne\[pipeline\]'"):
        duchenne.load("runs:/1")


def test_the_guide_gives_what_it_shows(project: Path):
    """Every statement of docs/python.md runs, and every value after an arrow is what the line gives."""
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    shown = 0
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        lines = block.splitlines()
        for node in ast.parse(block).body:
            if not isinstance(node, ast.Expr):
                exec(compile(ast.Module([node], []), "docs/python.md", "exec"), names)
                continue
            value = eval(compile(ast.Expression(node.value), "docs/python.md", "eval"), names)
            if expected := re.search(r"# → (.+)$", lines[node.end_lineno - 1]):
                assert str(value) == expected[1]
                shown += 1
    assert shown == page.count("# →") - 1  # the text names the arrow once
    packaged = load_file(PACKAGED["mobilefacenet"])
    assert torch.equal(names["net"].face_landback.state_dict()["conv1.conv.weight"], packaged["conv1.conv.weight"])


# evaluation


def drawn_predictions(count: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    shares = rng.dirichlet([1, 1, 1], count)
    return pd.DataFrame(
        {"truth": rng.integers(0, 3, count), "subject": [f"p{i % 7}" for i in range(count)], "p": list(shares)}
    )


def test_it_agrees_with_scikit_learn():
    frame = drawn_predictions()
    proba = np.stack(frame["p"])
    truth, predicted = frame["truth"].to_numpy(), proba.argmax(1)
    found = duchenne.evaluate(truth, predicted, proba, classes=CLASSES)
    assert found["war"] == pytest.approx(accuracy_score(truth, predicted))
    assert found["uar"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert found["uf1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert set(METRICS) <= found.keys()
    assert found["resampled"] == "samples"
    assert found["war_low"] < found["war"] < found["war_high"]


def test_it_agrees_with_the_stage(project: Path):
    stored = read_json(project / "results" / "my_first" / "metrics.json")
    frame = pd.read_parquet(project / "results" / "my_first" / "predictions.parquet")
    proba = frame[[f"p_{name}" for name in CLASSES]].to_numpy()
    how = {"groups": frame["subject"], "classes": CLASSES, "bootstrap": 100}
    found = duchenne.evaluate(frame["label"], frame["predicted"], proba, **how)
    assert found.keys() == stored.keys() - {"folds", "missed", "near_duplicates", "selection"}
    assert found.items() <= stored.items()
    named = frame["label"].map(dict(enumerate(CLASSES)))
    table = pd.DataFrame(proba[:, ::-1], columns=CLASSES[::-1])
    assert duchenne.evaluate(named, proba=table, **how) == found


def test_classes_that_are_numbers_are_the_labels_themselves():
    found = duchenne.evaluate([1, 2, 2, 3], [1, 2, 3, 3], classes=[1, 2, 3])
    assert [found[f"recall_{number}"] for number in (1, 2, 3)] == [1, 0.5, 1]


def test_without_probabilities_names_alone_are_enough():
    found = duchenne.evaluate(["fear", "joy", "joy"], ["fear", "joy", "fear"], groups=["a", None, "b"], bootstrap=20)
    assert {name for name in METRICS if name in found} == {
        name for name, metric in METRICS.items() if metric.needs == "predicted"
    }
    assert found["recall_joy"] == 0.5
    assert duchenne.evaluate([1, 7, 7], [1, 7, 1], bootstrap=20)["recall_7"] == 0.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (([0, 1], [0]), "lengths differ: y_true 2, y_pred 1"),
        (([0, 1], None, None, None), "give the predictions: y_pred, proba or both"),
        (([0, 1], [0, 1], None, ["a"]), "lengths differ: y_true 2, y_pred 2, groups 1"),
        (([0, 1], None, [[1, 0]]), "lengths differ: y_true 2, proba 1"),
        (([], []), "y_true is empty"),
        (([0, np.nan], [0, 1]), "y_true: sample 1 has no value"),
        (([[0], [1]], [0, 1]), r"y_true has the shape \(2, 1\)"),
        ((["joy", "fear"], ["joy", "faer"], None, None, ["fear", "joy"]), "y_pred: 'faer' of sample 1 is not one of"),
        ((["joy", "fear"], [0, 1]), "labels are names and numbers"),
        (([0, 5], None, [[1, 0], [0, 1]]), "y_true: 5 of sample 1 is not one of the classes 0, 1"),
        ((["a", "b"], None, [[1, 0], [0, 1]]), "classes is missing: give the names in the order of the columns"),
        (([0, 1], None, [[1, 0], [np.nan, 1]]), "probabilities of sample 1 are not shares that sum to 1"),
        (([0, 1], None, [[0.5, 0.4], [0, 1]]), "probabilities of sample 0 are not shares that sum to 1"),
        (([0, 1], None, [0.5, 0.4]), r"proba has the shape \(2,\)"),
        (([0, 1], None, [[1, 0], [0, 1]], None, ["a", "b", "c"]), "proba has 2 columns for 3 classes"),
        (([0, 1], [0, 1], None, None, ["a", "a"]), "classes names 'a' twice"),
        (([0, 1], [0, 1], None, None, None, 0), "bootstrap is 0"),
    ],
)
def test_predictions_that_cannot_be_evaluated(given: tuple, said: str):
    with pytest.raises(UserError, match=said):
        duchenne.evaluate(*given)


def test_runs_are_compared_by_name_path_or_table(project: Path):
    frame = pd.read_parquet(project / "results" / "my_first" / "predictions.parquet")
    right = frame[["sample", "subject"]].assign(label=frame["label"].map(dict(enumerate(CLASSES))))
    right["predicted"] = right["label"]
    found = duchenne.compare("my_first", right[::-1], bootstrap=50)
    stored = read_json(project / "results" / "my_first" / "metrics.json")
    assert found.metrics.loc["war", "first"] == pytest.approx(stored["war"])
    assert found.metrics.loc["war", "second"] == 1
    assert found.mcnemar.only_first == 0
    assert len(found.disagreements) == (frame["label"] != frame["predicted"]).sum()
    for first in (project / "results" / "my_first", project / "results" / "my_first" / "predictions.parquet", frame):
        again = duchenne.compare(first, right, bootstrap=50)
        pd.testing.assert_frame_equal(again.metrics, found.metrics)
    alone = duchenne.compare(frame, right, groups=dict.fromkeys(frame["sample"]), bootstrap=50)
    assert alone.metrics.loc["war", "low"] != found.metrics.loc["war", "low"]  # samples are drawn, not people


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda frame: "my_frist",
            r"'my_frist' is neither a file nor a finished run in results \(did you mean 'my_first'\?\)",
        ),
        (lambda frame: frame.drop(columns="predicted"), "b has no column 'predicted'"),
        (lambda frame: frame[1:], "not tested on the same samples"),
        (lambda frame: frame.assign(label=0), "have another label in the second run"),
        (lambda frame: frame.assign(label=9), "label of b: 9 of sample 0 is not one of the classes anger"),
        (lambda frame: frame.assign(sample="x"), "b: sample 'x' is predicted twice"),
        (lambda frame: frame.astype({"label": float}).assign(label=np.nan), "b: sample .* has no label"),
        (lambda frame: frame[:0], "b has no row"),
    ],
)
def test_runs_that_cannot_be_compared(project: Path, change, said: str):
    frame = pd.read_parquet(project / "results" / "my_first" / "predictions.parquet")
    with pytest.raises(UserError, match=said):
        duchenne.compare("my_first", change(frame))


# datasets


def test_aligned_faces_are_items_and_batches(project: Path):
    faces = duchenne.open_dataset("mine")
    assert len(faces) == 24
    item = faces[4]
    expected = {"label": 1, "emotion": CLASSES[1], "sample": "04.png", "subject": "p1", "part": "train", "fold": 0}
    assert {key: value for key, value in item.items() if key != "image"} == expected
    np.testing.assert_array_equal(item["image"], cv2.imread("raw/04.png")[..., ::-1])
    test = duchenne.open_dataset(project / "data" / "index" / "mine.parquet", part="test", transform=np.mean)
    assert len(test) == 12
    assert isinstance(test[0]["image"], float)
    assert pickle.loads(pickle.dumps(faces))[4]["sample"] == "04.png"
    batches = list(DataLoader(faces, batch_size=8, num_workers=1))
    assert batches[0]["image"].shape == (8, 64, 64, 3)
    assert torch.cat([batch["label"] for batch in batches]).tolist() == faces.labels.tolist()
    assert [name for batch in batches for name in batch["subject"]] == faces.subjects.tolist()


def test_a_project_elsewhere_may_start_from_its_imported_networks(tmp_path: Path):
    card = tmp_path / "models" / "theirs" / "fold_1" / "card.json"
    card.parent.mkdir(parents=True)
    card.write_text('{"imported": {"file": "theirs.pth"}}')
    root = tmp_path / "clips" / "a"
    root.mkdir(parents=True)
    cv2.imwrite(str(root / "1.png"), np.zeros((20, 30, 3), np.uint8))
    pd.DataFrame({"path": ["a"], "label": CLASSES[:1]}).to_csv(root.parent / "manifest.csv", index=False)
    block = PARAMS["variants"]["my_first"] | {"dataset": "clips", "init_from": "theirs"}
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(PARAMS | {"variants": {"second": block}}, file)
    assert len(duchenne.open_dataset("clips", aligned=False, workspace=tmp_path)) == 1


def test_a_split_gives_part_and_fold(project: Path):
    faces = duchenne.open_dataset("mine", part="train", split="my_first")
    assert len(faces) == 12
    assert (faces[0]["part"], faces[0]["fold"]) == ("train", 1)


def test_pictures_and_clips_as_they_are_need_no_stage(project: Path):
    clips = duchenne.open_dataset("clips", aligned=False)
    assert [clip["image"].shape for clip in clips] == [(3, 20, 30, 3), (2, 20, 30, 3)]
    assert clips[0]["image"][:, 0, 0, 0].tolist() == [10, 20, 30]
    assert (clips[0]["subject"], clips[0]["part"]) == ("", "")
    moved = project / "elsewhere"
    (project / "clips").rename(moved)
    try:
        assert len(duchenne.open_dataset("clips", moved, aligned=False)) == 2
        with pytest.raises(UserError, match=r"sample 'a': clips/a, frame 0 cannot be read: No such file"):
            clips[0]
    finally:
        moved.rename(project / "clips")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dataset": "mien"}, r"there is no dataset 'mien' \(did you mean 'mine'\?\)"),
        (
            {"dataset": "clips"},
            r"data/faces/clips holds no aligned faces: run `dvc repro align@clips` in ",
        ),
        ({"dataset": "mine", "root": "raw"}, "root is the folder of pictures as they are: add aligned=False"),
        ({"dataset": "raf_db", "aligned": False}, "there is no such folder: put the dataset there"),
        (
            {"dataset": "mine", "part": "tset"},
            r"no part 'tset' \(did you mean 'test'\?\): it has test, train",
        ),
        ({"dataset": "clips", "aligned": False, "part": "test"}, "its owners name none: give split, a variant"),
        (
            {"dataset": "mine", "split": "my_frist"},
            r"my_frist.parquet does not exist \(did you mean 'my_first'\?\): run",
        ),
        ({"dataset": "mine", "split": "my_first", "fold": 2}, "my_first has no fold 2: it has 1"),
        (
            {"dataset": "clips", "aligned": False, "split": "my_first"},
            "no sample of the split of my_first is in",
        ),
        ({"dataset": "data/index/none.parquet"}, "there is no such index"),
        ({"dataset": "results/my_first/predictions.parquet"}, "is not in data/index of a project"),
    ],
)
def test_datasets_that_cannot_be_opened(project: Path, given: dict, said: str):
    with pytest.raises(UserError, match=said):
        duchenne.open_dataset(**given)


# faces


def test_every_face_of_a_picture_is_aligned(shared: Path):
    files = sorted((shared / "data" / "london").rglob("*.jpg"))[:2]
    near, far = (cv2.resize(cv2.imread(str(file))[..., ::-1], (400, 400)) for file in files)
    two = np.hstack([near, np.pad(cv2.resize(far, (300, 300)), ((50, 50), (50, 50), (0, 0)), mode="edge")])
    faces = duchenne.align(two, size=112)
    assert len(faces) == 2
    (main,) = duchenne.align(Image.fromarray(two), faces="main", size=112)
    np.testing.assert_allclose(main.points, faces[0].points, atol=8)  # found at another size
    for face in faces:
        assert face.image.shape == (112, 112, 3)
        x0, y0, x1, y1 = face.box
        assert ((face.points > [x0 - 60, y0 - 60]) & (face.points < [x1 + 60, y1 + 60])).all()
        assert not face.doubtful
        eyes, mouth = face.au_centers[:2], face.au_centers[7]
        assert eyes[0, 0] < mouth[0] < eyes[1, 0]
        assert eyes[:, 1].max() < mouth[1]
        np.testing.assert_allclose(eyes[:, 1], 0.32 * 112, atol=4)
        given = duchenne.align(two, faces=[face.box], size=112)[0]
        np.testing.assert_array_equal(given.image, face.image)
    assert faces[0].box[2] < 400 < faces[1].box[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("none.jpg",), "none.jpg: no such file"),
        ((np.zeros((4, 4, 3)),), r"the picture is float64 \(4, 4, 3\): give uint8"),
        ((np.zeros((4, 4, 4), np.uint8),), r"uint8 \(4, 4, 4\)"),
        ((np.zeros((4, 4), np.uint8), "every"), "faces is 'every': give all, main, or the boxes"),
        ((np.zeros((4, 4), np.uint8), [[3, 0, 1, 2]]), "faces: give boxes"),
        ((np.zeros((4, 4), np.uint8), "all", 3), "size: Input should be greater than or equal to 32"),
        ((np.zeros((4, 4), np.uint8), "all", 64, "yunet"), "detector yunet needs detector_model"),
    ],
)
def test_pictures_that_cannot_be_aligned(given: tuple, said: str):
    with pytest.raises(UserError, match=said):
        duchenne.align(*given)
