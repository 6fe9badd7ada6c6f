"""The section "A dataset" of docs/extending.md, carried out: two files and a block, then index and check."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_datasets_contract as contract
from datasets_tools import pictures, text
from typer.testing import CliRunner

from duchenne import config
from duchenne.cli import app
from duchenne.datasets import layouts
from duchenne.datasets.contract import layout_names
from duchenne.datasets.index import read_index
from duchenne.stages import index
from duchenne.workspace import Workspace

GUIDE = Path(__file__).parents[1] / "docs/extending.md"
SECTION = GUIDE.read_text(encoding="utf-8").split("## A dataset\n", 1)[1].split("\n## ", 1)[0]
TABLE, CODE, FACTS, BLOCK = re.findall(r"```(?:csv|python|yaml)\n(.*?)```", SECTION, re.DOTALL)
PICTURES = [f"images/{line.split(',')[0]}.png" for line in TABLE.splitlines()[1:]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with the files of the guide."""
    code = re.search(r"`src/duchenne/datasets/layouts/(\w+)\.py`", SECTION)[1]
    facts = re.search(r"`src/duchenne/datasets/layouts/(\w+)\.yaml`", SECTION)[1]
    text(tmp_path / f"layouts/{code}.py", CODE)
    text(tmp_path / f"layouts/{facts}.yaml", FACTS)
    params = f"rendered: {{}}\nlandmark_nets: {{}}\ndatasets:\n  {BLOCK}variants: {{}}\n"
    text(tmp_path / "params.yaml", params)
    text(tmp_path / "data/raw/playground/labels.csv", TABLE)
    pictures(tmp_path / "data/raw/playground", PICTURES)
    monkeypatch.setattr(layouts, "__path__", [*layouts.__path__, str(tmp_path / "layouts")])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_layout_is_found(project: Path):
    assert "playground" in layout_names()


def test_the_index_has_its_samples(project: Path):
    index.run(config.load(), Workspace(), "playground")
    found = read_index(Workspace().index("playground"))
    assert found.classes == ["joy", "boredom", "pain", "neutral"]
    columns = ["sample", "kind", "path", "label", "emotion", "subject", "split"]
    assert found.rows[columns].to_numpy().tolist() == [
        ["playground/ana_01", "image", "images/ana_01.png", 0, "joy", "Ana", "test"],
        ["playground/ana_02", "image", "images/ana_02.png", 2, "pain", "Ana", "test"],
        ["playground/kim_01", "image", "images/kim_01.png", 0, "joy", "Kim", "train"],
        ["playground/kim_02", "image", "images/kim_02.png", 3, "neutral", "Kim", "train"],
        ["playground/lou_01", "image", "images/lou_01.png", 1, "boredom", "Lou", "train"],
    ]
    assert found.left_out == {"label '9' (ignore)": 1}


def test_the_check_is_complete_and_notices_what_is_missing(project: Path):
    done = CliRunner().invoke(app, ["check", "playground", "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.output)
    assert result["complete"]
    assert {(item["what"], item["found"], item["expected"]) for item in result["comparisons"]} >= {
        ("samples", 5, 5),
        ("train", 3, 3),
        ("test pain", 1, 1),
        ("subjects", 3, 3),
    }
    (project / "data/raw/playground" / PICTURES[0]).unlink()
    assert CliRunner().invoke(app, ["check", "playground"]).exit_code == 1


def test_the_contract_holds(project: Path, tmp_path_factory: pytest.TempPathFactory):
    contract.test_a_layout_has_a_reader_and_facts("playground")
    contract.test_fields_that_a_layout_does_not_read_are_refused("playground")
    contract.test_expected_numbers_add_up("playground", "playground")
    for stray in (False, True):
        root = tmp_path_factory.mktemp("empty")
        contract.test_a_root_without_the_dataset_is_one_error_that_says_what_to_do(root, "playground", stray)
