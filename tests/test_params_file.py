"""Edits of params.yaml by `duchenne add`, `duchenne remove` and `dvc exp run -S`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML
from typer.testing import CliRunner

from duchenne import cli, config, params_file
from duchenne.config import complete
from duchenne.errors import UserError
from duchenne.papers.library import library
from duchenne.training.settings import Variant

SHIPPED = Path(__file__).parents[1] / "params.yaml"
HEAD = """\
# mine
compute: {jobs: 2} # two cores

datasets:
  # where my faces lie
  raf_db: {layout: raf_db, root: /data/raf} # on the big disk
# the end of my datasets

rendered: {}
landmark_nets: {}
variants: {}
"""


def read(path: Path) -> dict:
    return YAML(typ="safe", pure=True).load(path)


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(HEAD, encoding="utf-8")
    return path


def test_a_file_that_does_not_exist_leaves_no_folder(tmp_path: Path):
    with pytest.raises(UserError, match="does not exist"):
        params_file.add(tmp_path / "typo" / "params.yaml", [("variants", "poster_v2_rafdb")])
    assert not list(tmp_path.iterdir())


def test_blocks_of_ones_own_are_added_once_and_replace_nothing(params: Path):
    params_file.add(params, [("variants", "poster_v2_rafdb")])
    block = {key: value for key, value in library()["variants"]["poster_v2_rafdb"].items() if key != "seed"}
    whole = {"variants": {"mine": block | {"seed": 3}}, "datasets": {"raf_db": read(params)["datasets"]["raf_db"]}}
    change = params_file.add_blocks(params, whole)
    assert (change.done, change.kept) == (["variants.mine"], ["datasets.raf_db"])
    assert config.load(params).variants["mine"].seed == 3
    again = params.read_bytes()
    assert params_file.add_blocks(params, whole).done == []
    with pytest.raises(UserError, match=r"has another variants\.mine: rename or remove it first"):
        params_file.add_blocks(params, {"variants": {"mine": block | {"seed": 4}}})
    assert params.read_bytes() == again


@pytest.mark.parametrize("form", ["block", "indented", "windows", "absent", "last"])
def test_a_field_is_given_to_a_block_and_nothing_else_changes(params: Path, form: str):
    params_file.add(params, [("variants", "poster_t_demo"), ("variants", "poster_v2_demo")])
    text = params.read_text("utf-8")
    assert "    seeds: []\n" in text
    if form in ("absent", "last"):
        text = text.replace("    seeds: []\n", "")
    if form == "indented":
        head, body = text.split("variants:\n")
        text = head + "variants:\n" + "".join(f"  {line}" for line in body.splitlines(keepends=True))
    name = "poster_v2_demo" if form == "last" else "poster_t_demo"
    if form == "last":
        text = text.rstrip("\n")
    text = text.replace("\n", "\r\n") if form == "windows" else text
    params.write_bytes(text.encode("utf-8"))
    before = config.load(params)
    params_file.set_field(params, "variants", name, "seeds", [0, 1, 2])
    after = config.load(params)
    assert after.variants[name] == before.variants[name].model_copy(update={"seeds": [0, 1, 2]})
    assert {**after.variants, name: None} == {**before.variants, name: None}
    written = params.read_bytes().decode("utf-8")
    assert [line for line in written.splitlines() if "seeds:" not in line] == [
        line for line in text.splitlines() if "seeds:" not in line
    ]
    assert written.count("\r\n") == (written.count("\n") if form == "windows" else 0)
    with pytest.raises(UserError, match=rf"variants\.{name} has seeds already: change it by hand"):
        params_file.set_field(params, "variants", name, "seeds", [3])


def test_a_block_on_one_line_is_left_to_the_user(params: Path):
    params_file.add(params, [("variants", "poster_t_demo")])
    block = read(params)["variants"]["poster_t_demo"]
    head = params.read_text("utf-8").split("variants:\n")[0]
    params.write_text(f"{head}variants:\n  poster_t_demo: {json.dumps(block)}\n", "utf-8")
    before = params.read_bytes()
    with pytest.raises(UserError, match="by hand"):
        params_file.set_field(params, "variants", "poster_t_demo", "seeds", [0, 1])
    with pytest.raises(UserError, match=r"has no variants\.mien"):
        params_file.set_field(params, "variants", "mien", "seeds", [0, 1])
    assert params.read_bytes() == before


def test_adding_keeps_every_line_and_a_root_of_ones_own(params: Path):
    change = params_file.add(params, [("variants", "poster_v2_rafdb"), ("variants", "ifdd_2dcnn_20")])
    assert set(change.done) == {
        "variants.poster_v2_rafdb", "variants.ifdd_2dcnn_20", "variants.ifdd_2dcnn_strong",
        "datasets.synth_video_20", "datasets.synth_video_strong",
        "rendered.synth_video_20", "rendered.synth_video_strong",
    }  # fmt: skip
    assert change.kept == ["datasets.raf_db"]
    lines = params.read_text("utf-8").splitlines()
    kept = [line for line in HEAD.splitlines() if line and not line.endswith("{}")]
    assert [line for line in lines if line in kept] == kept
    assert lines.index("# the end of my datasets") > lines.index("  synth_video_20:")
    found = config.load(params)
    assert found.datasets["raf_db"].root == Path("/data/raf")
    assert found.variants["ifdd_2dcnn_20"] == Variant.model_validate(library()["variants"]["ifdd_2dcnn_20"])
    assert params_file.add(params, [("variants", "poster_v2_rafdb")]).done == []


def test_removing_undoes_adding(params: Path):
    params_file.add(params, [("variants", "poster_v2_rafdb"), ("variants", "poster_t_demo")])
    before = params.read_text("utf-8")
    params_file.add(params, [("variants", "frl_dgt_demo")])
    change = params_file.remove(params, [("variants", "frl_dgt_demo")])
    assert change.done == ["variants.frl_dgt_demo", "datasets.synth_micro_demo", "rendered.synth_micro_demo"]
    assert params.read_text("utf-8") == before
    change = params_file.remove(params, [("variants", "poster_v2_rafdb")])
    assert change.kept == ["datasets.raf_db"]
    params_file.remove(params, [("variants", "poster_t_demo")])
    assert read(params) == read_text(HEAD)


def read_text(text: str) -> dict:
    return YAML(typ="safe", pure=True).load(text)


def test_what_another_run_starts_from_stays(params: Path):
    params_file.add(params, [("variants", "ifdd_2dcnn_20")])
    before = params.read_text("utf-8")
    with pytest.raises(UserError, match=r"variants\.ifdd_2dcnn_strong is used by ifdd_2dcnn_20"):
        params_file.remove(params, [("variants", "ifdd_2dcnn_strong")])
    with pytest.raises(UserError, match=r"has no variants\.poster_v2_demo"):
        params_file.remove(params, [("variants", "poster_v2_demo")])
    assert params.read_text("utf-8") == before


def test_a_file_in_another_form_is_not_damaged(params: Path):
    flow = HEAD.replace("datasets:", "datasets: {").replace("# the end", "} # the end")
    params.write_text(flow, encoding="utf-8")
    before = params.read_text("utf-8")
    with pytest.raises(UserError, match="by hand"):
        params_file.add(params, [("datasets", "dfew")])
    assert params.read_text("utf-8") == before


FORMS = {
    "deeper": HEAD.replace("  # where", "    # where").replace("  raf_db:", "    raf_db:"),
    "windows": HEAD.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("form", FORMS)
def test_indentation_and_line_ends_are_kept(params: Path, form: str):
    params.write_bytes(FORMS[form].encode())
    before = params.read_bytes()
    params_file.add(params, [("variants", "poster_t_demo"), ("datasets", "dfew")])
    assert "poster_t_demo" in config.load(params).variants
    ends = params.read_bytes()
    assert ends.count(b"\r\n") == (ends.count(b"\n") if form == "windows" else 0)
    params_file.remove(params, [("variants", "poster_t_demo"), ("datasets", "dfew")])
    assert params.read_bytes() == before


FLOW = "{datasets: {}, variants: {}, rendered: {}, landmark_nets: {}}\n"


@pytest.mark.parametrize("text", [FLOW, HEAD.replace("variants: {}", "variants: {\n}")])
def test_other_forms_are_left_to_the_user(params: Path, text: str):
    params.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"params\.yaml is written in a form that cannot be edited line by line"):
        params_file.add(params, [("variants", "poster_t_demo")])
    assert params.read_text("utf-8") == text


def test_what_is_in_use_is_not_removed_and_a_link_stays_one(params: Path, tmp_path: Path):
    link = tmp_path / "link.yaml"
    link.symlink_to(params)
    params_file.add(link, [("variants", "poster_t_demo")])
    with pytest.raises(UserError, match=r"datasets\.synth_demo is used by poster_t_demo: remove these too"):
        params_file.remove(link, [("datasets", "synth_demo")])
    assert link.is_symlink()
    assert "poster_t_demo" in params.read_text("utf-8")


def test_every_variant_survives_the_file_and_dvcs_override_reaches_it_and_no_other(tmp_path: Path):
    """All variants of the library at once, each given another value by what `dvc exp run -S` calls."""
    path = tmp_path / "params.yaml"
    shutil.copy(SHIPPED, path)
    params_file.add(path, [("variants", name) for name in library()["variants"]])
    before = read(path)
    found = config.load(path)
    for name, block in library()["variants"].items():
        assert found.variants[name] == Variant.model_validate(block)
    fields = ("recipe.lr=0.0123", "seed=17", "recipe.label_smoothing=0.21", "protocol.val_share=0.25")
    wanted = {name: fields[number % len(fields)] for number, name in enumerate(before["variants"])}
    apply_overrides(path, [f"variants.{name}.{value}" for name, value in wanted.items()])
    after = read(path)
    for name, value in wanted.items():
        place, _, text = value.partition("=")
        block = before["variants"][name]
        *parts, last = place.split(".")
        for part in parts:
            block = block[part]
        assert block[last] != float(text)
        block[last] = float(text)
    assert after == before
    assert "nothing here makes a result stale" in path.read_text("utf-8")


@pytest.mark.parametrize("name", ["poster_v2_rafdb", "ifdd_3dvit_dfew", "frl_dgt_megc2019"])
def test_a_complete_block_says_the_same_and_has_every_plain_field(name: str):
    block = library()["variants"][name]
    whole = complete(block)
    assert Variant.model_validate(whole) == Variant.model_validate(block)
    assert {"seed", "monitor", "selection"} <= whole.keys()
    assert {"label_smoothing", "ema_decay", "sampler", "clip_grad"} <= whole["recipe"].keys()
    assert {"near_duplicates", "hash_distance"} <= whole["protocol"].keys()
    assert ("mix" in whole["recipe"]) == ("mix" in block["recipe"])


def test_the_commands(params: Path):
    def run(*words: str) -> str:
        done = CliRunner().invoke(cli.app, [*words, "--params", str(params)], env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done.stdout

    said = run("add", "--paper", "poster_v2", "--table", "5", "poster_t_demo")
    assert "added variants.poster_v2_caer_s" in said
    assert "kept yours of" not in said  # RAF-DB is not part of Table 5
    listed = run("variants", "--paper", "poster_v2", "--table", "5")
    assert "poster_v2_caer_s *" in listed
    assert "93.00" in listed
    assert "poster_v2_rafdb" not in listed
    text = params.read_text("utf-8").replace("seed: 0", "seed: 3")
    params.write_text(text, encoding="utf-8")
    assert "poster_t_demo * (differs from the library)" in run("variants", "--available")
    assert "frl_dgt_megc2019" not in run("variants", "--available")
    assert "frl_dgt_megc2019" in run("variants", "--dataset", "megc2019")
    assert "removed variants.poster_t_demo" in run("remove", "poster_t_demo")
