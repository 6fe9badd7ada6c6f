"""The library of named variants: reading of its files, and blocks copied by `duchenne add`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duchenne.errors import UserError
from duchenne.papers import library as module
from duchenne.papers.library import FILES, defined_in, library, merge, required_by, resolve, section_of
from duchenne.papers.printed import papers, reproducing

TREES = st.recursive(
    st.integers() | st.none(), lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3), max_leaves=8
).filter(lambda tree: isinstance(tree, dict))


def test_changes_are_merged_map_by_map_and_dots_name_one_place():
    block = {"model": {"options": {"a": 1, "b": 2}}, "recipe": {"lr": 1.0, "scale": [1, 2]}, "seed": 0}
    changes = {"model.options.b": 3, "recipe": {"scale": [5], "clip.frames": 8}, "seed": None}
    assert merge(block, changes) == {
        "model": {"options": {"a": 1, "b": 3}},
        "recipe": {"lr": 1.0, "scale": [5], "clip": {"frames": 8}},
        "seed": None,
    }
    assert block["model"]["options"]["b"] == 2


@given(TREES, TREES)
def test_merging_twice_is_merging_once(block: dict, changes: dict):
    once = merge(block, changes)
    assert merge(once, changes) == once
    assert merge({}, block) == block


def test_a_chain_of_bases_is_merged_from_its_far_end():
    blocks = {"a": {"x": 1, "y": {"z": 1}}, "b": {"base": "a", "y.z": 2}, "c": {"base": "b", "x": 3}}
    assert resolve("c", blocks) == {"x": 3, "y": {"z": 2}}
    with pytest.raises(ValueError, match=r"there is no base 'aa' \(did you mean 'a'\?\)"):
        resolve("d", blocks | {"d": {"base": "aa"}})
    with pytest.raises(ValueError, match="a circle of bases: a -> b -> a"):
        resolve("a", {"a": {"base": "b"}, "b": {"base": "a"}})


def test_a_grid_makes_a_block_for_each_value(tmp_path, monkeypatch: pytest.MonkeyPatch):
    text = "variants:\n  v_{}_{}: {dataset: d, grid: {seed: [1, 2], model.options.form: {plain: x y}}}\n"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    found = {name: resolve(name, {name: block}) for _, name, block in module._read("mine")}
    form = {"model": {"options": {"form": "x y"}}, "dataset": "d"}
    assert found == {"v_1_plain": form | {"seed": 1}, "v_2_plain": form | {"seed": 2}}
    (tmp_path / "mine.yaml").write_text("variants:\n  v: {grid: {seed: [1]}}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"one \{\} in the name for each key of grid"):
        list(module._read("mine"))


def test_a_variant_comes_with_its_dataset_rendering_and_starts():
    found = required_by("variants", "ifdd_2dcnn_20")
    assert set(found["variants"]) == {"ifdd_2dcnn_20", "ifdd_2dcnn_strong"}
    assert set(found["datasets"]) == set(found["rendered"]) == {"synth_video_20", "synth_video_strong"}
    assert set(required_by("landmark_nets", "mobilefacenet68_2")["landmark_nets"]) == {
        "mobilefacenet68",
        "mobilefacenet68_2",
    }
    with pytest.raises(UserError, match="did you mean 'poster_v2_rafdb'"):
        required_by("variants", "poster_v2_rafd")


def test_what_the_official_code_trains_with():
    variants = library()["variants"]
    assert variants["poster_v2_rafdb"]["recipe"]["lr"] == 3.5e-5
    assert variants["poster_v2_affectnet_7"]["recipe"]["lr"] == 1e-6
    assert variants["poster_v2_affectnet_7"]["recipe"]["augment"]["erase"] == {
        "probability": 1.0,
        "scale": [0.05, 0.05],
    }
    assert variants["poster_affectnet_7"]["model"]["options"] == {"token_conv": False}
    assert variants["poster_image_only_rafdb"]["model"]["pretrained"] == {"ir50": "data/raw/weights/ir50.pth"}
    assert variants["ifdd_3dvit_mafw"]["recipe"]["clip"] == {
        "frames": 32, "stride": 2, "train": "random_window", "test": "random_window", "repeat": "last",
    }  # fmt: skip
    assert variants["frl_dgt_megc2019_dis"]["recipe"]["pretrain_epochs"] == 0
    assert not [name for blocks in library().values() for name in blocks if name.startswith("_")]


def test_a_paper_and_a_table_name_their_variants():
    assert reproducing("poster_v2", "6") == reproducing("poster_v2", "Table 6")
    assert set(reproducing("poster_v2", "8")) >= {"poster_v2_rafdb", "poster_v2_affectnet_7_no_vit"}
    assert "poster_v2_rafdb_text" in reproducing("poster_v2")  # no table prints it
    assert set(reproducing("frl_dgt", "composite")) == {"frl_dgt_megc2019"}
    with pytest.raises(UserError, match="no paper is called 'poster2'"):
        reproducing("poster2")
    with pytest.raises(UserError, match="poster_v2 has no table '99': it has Table 3"):
        reproducing("poster_v2", "99")
    named = {name for file in FILES for name in defined_in(file)}
    assert named == set(library()["variants"])
    assert [paper.slug for paper in papers()][:3] == ["poster_supplement", "poster_v2", "ifdd"]


def test_a_name_is_found_in_its_section():
    assert section_of("raf_db") == "datasets"
    assert section_of("synth_landmarks") == "rendered"
    assert section_of("mobilefacenet68") == "landmark_nets"
    with pytest.raises(UserError, match="did you mean 'frl_dgt_smic'"):
        section_of("frl_dgt_smik")
