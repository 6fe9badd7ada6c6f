"""params.yaml: what is accepted, and what a person is told about the rest."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from duchenne import catalog
from duchenne.catalog import CatalogError

PARAMS = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture
def tree() -> dict:
    return YAML(typ="safe", pure=True).load(PARAMS)


def load(tree: dict, tmp_path: Path) -> catalog.Catalog:
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(copy.deepcopy(tree), path)
    return catalog.load(path)


def test_the_shipped_file_is_valid_and_complete():
    loaded = catalog.load(PARAMS)
    assert set(loaded.run.variants) <= set(loaded.variants)
    assert loaded.variants["poster_v2_rafdb"].recipe.lr == 3.5e-5
    assert loaded.variants["poster_v2_rafdb_honest"].selection == "val"


def wrong(tree: dict, *path_and_value: object) -> dict:
    *path, key, value = path_and_value
    block = tree
    for part in path:
        block = block[part]
    block[key] = value
    return tree


RUN_FIRST = {"root": "data/raw/synth_landmarks", "init_from": "scratch"}
RUN_SECOND = {"root": "data/raw/synth_landmarks_2", "init_from": "mobilefacenet68"}
MISTAKES = {
    "misspelt key": (("variants", "poster_v2_demo", "sed", 1), "unknown key (did you mean 'seed'?)"),
    "nested misspelt key": (("datasets", "synth_demo", "synth", "subject", 3), "(did you mean 'subjects'?)"),
    "misspelt choice": (("variants", "poster_v2_demo", "selection", "vall"), "(did you mean 'val'?)"),
    "training loss by another figure": (
        ("variants", "poster_v2_demo", "selection", "train"),
        "selection train picks the epoch of the lowest training loss: set monitor: loss",
    ),
    "misspelt dataset": (("variants", "poster_v2_demo", "dataset", "synth_dem"), "(did you mean 'synth_demo'?)"),
    "misspelt run": (("run", "variants", "frl_dgt_dem", {"dataset": "synth_demo"}), "(did you mean 'frl_dgt_demo'?)"),
    "contradiction": (("run", "datasets", "synth_demo", {"root": "elsewhere"}), "make them equal"),
    "dataset not run": (("run", "datasets", {}), "run.datasets: add 'synth_demo'"),
    "not rendered": (("run", "synthesize", []), "run.synthesize: add 'synth_demo'"),
    "not an emotion": (("datasets", "synth_demo", "classes", ["happines", "anger"]), "(did you mean 'happiness'?)"),
    "wrong type": (("variants", "poster_v2_demo", "seed", "seven"), "variants.poster_v2_demo.seed"),
    "empty range": (("datasets", "synth_demo", "synth", "intensity", [1.0, 0.5]), "is empty"),
    "landmark net of nothing": (
        ("landmark_nets", "mobilefacenet68_2", "init_from", "mobilefacenet"),
        "'mobilefacenet68'",
    ),
    "landmark net without faces": (
        ("run", "landmark_nets", {"mobilefacenet68": RUN_FIRST}),
        "run.synthesize: add 'synth_landmarks'",
    ),
    "landmark net not run": (
        ("run", "landmark_nets", {"mobilefacenet68_2": RUN_SECOND}),
        "run.landmark_nets: add 'mobilefacenet68'",
    ),
    "start not run": (("variants", "poster_v2_demo", "init_from", "poster_v2_synth"), "make them equal"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_named_with_its_place(mistake: str, tree: dict, tmp_path: Path):
    path_and_value, expected = MISTAKES[mistake]
    with pytest.raises(CatalogError) as caught:
        load(wrong(tree, *path_and_value), tmp_path)
    assert expected in str(caught.value)


def test_every_mistake_is_reported_at_once(tree: dict, tmp_path: Path):
    wrong(tree, "variants", "poster_v2_demo", "sed", 1)
    wrong(tree, "datasets", "london", "rot", "x")
    with pytest.raises(CatalogError) as caught:
        load(tree, tmp_path)
    assert "'seed'" in str(caught.value)
    assert "'root'" in str(caught.value)


def test_a_mistake_behind_an_anchor_is_said_once(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.read_text().replace("optimizer: adamw", "optimizer: adamww", 1))
    with pytest.raises(CatalogError) as caught:
        catalog.load(path)
    assert str(caught.value).count("adamww") == 1


def test_missing_and_broken_files(tmp_path: Path):
    with pytest.raises(CatalogError, match="does not exist"):
        catalog.load(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("run: [")
    with pytest.raises(CatalogError, match="not valid YAML"):
        catalog.load(tmp_path / "broken.yaml")


@given(st.sampled_from(catalog.EMOTIONS))
def test_every_name_is_nearest_to_itself(name: str):
    assert catalog.nearest(name, catalog.EMOTIONS) == f" (did you mean {name!r}?)"


def test_packaged_weights_are_not_their_owners():
    files = {"mobilefacenet": "packaged", "ir50": "ir50.pth"}
    model = catalog.Model(architecture="poster_v2", pretrained=files)
    assert model.published == ["ir50"]
    assert model.files["mobilefacenet"].is_file()
    assert catalog.Model(architecture="poster_v2", pretrained={"ir50": "ir50.pth"}) == model
    with pytest.raises(ValueError, match="no weights of ir50 are packaged; only those of mobilefacenet are"):
        catalog.Model(architecture="poster_v2", pretrained={"ir50": "packaged"})


def test_the_landmark_branch_is_the_packaged_one_where_there_is_one():
    assert list(catalog.Model(architecture="poster_t").files) == ["mobilefacenet"]
    assert catalog.Model(architecture="poster_t", pretrained={"mobilefacenet": None}).files == {}
    assert catalog.Model(architecture="ifdd_2dcnn").pretrained == {}
    assert catalog.Model(architecture="poster_l", pretrained={"mobilefacenet": "theirs.pth"}).published
    with pytest.raises(ValueError, match="pretrained"):
        catalog.Model(architecture="poster_t", pretrained="ir50.pth")
