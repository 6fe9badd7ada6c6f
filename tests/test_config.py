"""params.yaml: accepted files, and messages about all others."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from duchenne import config
from duchenne.config import CatalogError
from duchenne.datasets.settings import Dataset
from duchenne.emotions import EMOTIONS
from duchenne.errors import nearest
from duchenne.papers.library import SECTIONS, library
from duchenne.training.settings import Model
from duchenne.workspace import Workspace

PARAMS = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture
def tree() -> dict:
    return YAML(typ="safe", pure=True).load(PARAMS)


def load(tree: dict, tmp_path: Path) -> config.Catalog:
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(copy.deepcopy(tree), path)
    return config.load(path)


def test_the_shipped_file_is_valid_and_complete():
    loaded = config.load(PARAMS)
    assert set(loaded.variants) == {"poster_v2_demo", "poster_t_demo", "ifdd_2dcnn_demo", "frl_dgt_demo"}
    for section in SECTIONS:
        for name, block in getattr(loaded, section).items():
            assert block == getattr(config.whole_library(), section)[name]
    assert len(PARAMS.read_text("utf-8").splitlines()) <= 150  # three screens


def wrong(tree: dict, *path_and_value: object) -> dict:
    *path, key, value = path_and_value
    block = tree
    for part in path:
        block = block[part]
    block[key] = value
    return tree


LIBRARY = library()
NO_START = {key: value for key, value in LIBRARY["variants"]["poster_v2_demo"].items() if key != "init_from"}
MISTAKES = {
    "misspelt key": (("variants", "poster_v2_demo", "sed", 1), "unknown key (did you mean 'seed'?)"),
    "nested misspelt key": (("variants", "poster_v2_demo", "recipe", "epoch", 3), "(did you mean 'epochs'?)"),
    "misspelt option": (
        ("variants", "poster_v2_demo", "model", "options", {"vit_depht": 2}),
        "variants.poster_v2_demo.model.options: poster_v2 has no option 'vit_depht' (did you mean 'vit_depth'?)",
    ),
    "unknown option": (
        ("variants", "poster_t_demo", "model", {"architecture": "mobilenetv2_clip", "options": {"x": 2}}),
        "variants.poster_t_demo.model.options: mobilenetv2_clip has no option 'x' (it has frames)",
    ),
    "misspelt choice": (("variants", "poster_v2_demo", "selection", "vall"), "(did you mean 'val'?)"),
    "training loss by another figure": (
        ("variants", "poster_v2_demo", "selection", "train"),
        "selection train picks the epoch of the lowest training loss: set monitor: loss",
    ),
    "misspelt dataset": (("variants", "poster_v2_demo", "dataset", "synth_dem"), "(did you mean 'synth_demo'?)"),
    "contradiction": (
        ("datasets", "synth_demo", "root", "elsewhere"),
        "rendered.synth_demo goes to data/raw/synth_demo",
    ),
    "dataset not there": (("datasets", {}), "variants.poster_v2_demo.dataset: there is no 'synth_demo' in datasets"),
    "not rendered": (("rendered", {}), "datasets.synth_demo: there is no 'synth_demo' in rendered"),
    "in the library": (("variants", "poster_v2_demo", "dataset", "raf_db"), "`duchenne add raf_db` adds it"),
    "start not there": (
        ("variants", "poster_v2_demo", "init_from", "poster_v2_synth"),
        "`duchenne add poster_v2_synth`",
    ),
    "no start": (("variants", "poster_v2_demo", NO_START), "variants.poster_v2_demo.init_from: is missing"),
    "not an emotion": (("datasets", "synth_demo", "classes", ["happines", "anger"]), "(did you mean 'happiness'?)"),
    "wrong type": (("variants", "poster_v2_demo", "seed", "seven"), "variants.poster_v2_demo.seed"),
    "empty range": (("rendered", "synth_demo", "intensity", [1.0, 0.5]), "is empty"),
    "landmark net without faces": (
        ("landmark_nets", {"mobilefacenet68": LIBRARY["landmark_nets"]["mobilefacenet68"]}),
        "there is no 'synth_landmarks' in rendered",
    ),
    "landmark net without its start": (
        ("landmark_nets", {"mobilefacenet68_2": LIBRARY["landmark_nets"]["mobilefacenet68_2"]}),
        "there is no 'mobilefacenet68' in landmark_nets",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_named_with_its_place(mistake: str, tree: dict, tmp_path: Path):
    path_and_value, expected = MISTAKES[mistake]
    with pytest.raises(CatalogError) as caught:
        load(wrong(tree, *path_and_value), tmp_path)
    assert expected in str(caught.value)


def test_an_imported_network_is_a_start_and_no_name_of_a_run(
    tree: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    card = tmp_path / "models" / "theirs" / "fold_1" / "card.json"
    card.parent.mkdir(parents=True)
    wrong(tree, "variants", "poster_v2_demo", "init_from", "theirs")
    card.write_text('{"classes": []}')  # trained here once, by a variant that is gone
    with pytest.raises(CatalogError, match=r"poster_v2_demo\.init_from: there is no 'theirs' in variants"):
        load(tree, tmp_path)
    card.write_text('{"classes": [], "imported": {"file": "theirs.pth"}}')
    assert load(tree, tmp_path).variants["poster_v2_demo"].init_from == "theirs"
    monkeypatch.chdir("/")
    assert config.load(tmp_path / "params.yaml", Workspace(tmp_path))  # of a project elsewhere
    monkeypatch.chdir(tmp_path)
    wrong(tree, "variants", "theirs", tree["variants"].pop("poster_t_demo"))
    with pytest.raises(CatalogError, match="'theirs' cannot be run: models/theirs holds an imported network"):
        load(tree, tmp_path)


def test_every_mistake_is_reported_at_once(tree: dict, tmp_path: Path):
    wrong(tree, "variants", "poster_v2_demo", "sed", 1)
    wrong(tree, "datasets", "synth_demo", "rot", "x")
    with pytest.raises(CatalogError) as caught:
        load(tree, tmp_path)
    assert "'seed'" in str(caught.value)
    assert "'root'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no blocks: it needs compute, report"),
        ("# nothing yet\n", "holds no blocks"),
        ("datasets:\nvariants: {}\nrendered: {}\nlandmark_nets: {}\n", "datasets: is empty: write `datasets: {}`"),
        ("datasets: {}\nvariants: {}\nrendered: ~\nlandmark_nets: {}\n", "rendered: is empty: write `rendered: {}`"),
    ],
)
def test_empty_maps_are_told(tmp_path: Path, text: str, said: str):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError, match=said):
        config.load(path)
    with pytest.raises(CatalogError, match="cannot be read: Is a directory"):
        config.load(tmp_path)


def test_a_truth_value_is_not_a_label():
    with pytest.raises(ValueError, match="YAML reads this label as true: put it in quotes"):
        Dataset(layout="manifest", root="x", classes=["anger", "fear"], labels={True: "anger"})


def test_anchors_are_refused_where_they_stand(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text("compute: &mine {jobs: 1}\nreport: *mine\n", encoding="utf-8")
    with pytest.raises(CatalogError, match=r"params\.yaml, line 1: anchors and aliases \(&mine\)"):
        config.load(path)


def test_missing_and_broken_files(tmp_path: Path):
    with pytest.raises(CatalogError, match="does not exist"):
        config.load(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("run: [")
    with pytest.raises(CatalogError, match="not valid YAML"):
        config.load(tmp_path / "broken.yaml")


@given(st.sampled_from(EMOTIONS))
def test_every_name_is_nearest_to_itself(name: str):
    assert nearest(name, EMOTIONS) == f" (did you mean {name!r}?)"


def test_packaged_weights_are_not_their_owners():
    files = {"mobilefacenet": "packaged", "ir50": "ir50.pth"}
    model = Model(architecture="poster_v2", pretrained=files)
    assert model.published == ["ir50"]
    assert model.files["mobilefacenet"].is_file()
    assert Model(architecture="poster_v2", pretrained={"ir50": "ir50.pth"}) == model
    with pytest.raises(
        ValueError, match="no weights of ir50 are packaged; only those of mobilefacenet, ifdd_2dcnn, dgm are"
    ):
        Model(architecture="poster_v2", pretrained={"ir50": "packaged"})


def test_the_landmark_branch_is_the_packaged_one_where_there_is_one():
    assert list(Model(architecture="poster_t").files) == ["mobilefacenet"]
    assert Model(architecture="poster_t", pretrained={"mobilefacenet": None}).files == {}
    assert Model(architecture="ifdd_2dcnn").pretrained == {}
    assert Model(architecture="poster_l", pretrained={"mobilefacenet": "theirs.pth"}).published
    with pytest.raises(ValueError, match="pretrained"):
        Model(architecture="poster_t", pretrained="ir50.pth")
