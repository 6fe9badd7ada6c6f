"""docs/own-pictures.md, carried out: its table, blocks and commands, on rendered faces, with a small network."""

from __future__ import annotations

import json
import shlex
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from docs_tools import ROOT, blocks, shell_lines
from PIL import Image
from ruamel.yaml import YAML
from training_tools import SMALL
from typer.testing import CliRunner, Result

from duchenne import config, stages
from duchenne.cli import app
from duchenne.workspace import Workspace

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "own-pictures.md"
COLUMNS, ROWS = ("neutral", "happy"), ("anna", "ben", "carla", "dora")
PLACES = {"neutral": 4, "happy": 3}
"""Column of an expression in docs/faces.jpg, which has a person in each row."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Result]]:
    """A project in which every command of the page ran, and what each printed."""
    root = tmp_path_factory.mktemp("first")
    sheet = Image.open(ROOT / "docs" / "faces.jpg")
    for row, person in enumerate(ROWS):
        (root / "pictures" / person).mkdir(parents=True)
        for expression in COLUMNS:
            left, top = 131 * PLACES[expression] + 1, 131 * row + 23
            face = sheet.crop((left, top, left + 128, top + 127)).resize((256, 254))
            face.save(root / "pictures" / person / f"{expression}_1.jpg")
    done = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # no server: nothing is tracked, nothing stops
        (code,) = [code for _, code in blocks(PAGE, "python")]
        exec(compile(code, PAGE.name, "exec"), {})
        (root / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
        for line in shell_lines(PAGE):
            for words in line.commands:
                if words[:2] == ["duchenne", "smoke"]:
                    continue  # the stages of the last command, once more
                done[" ".join(words[:2])] = run(words)
                if words[:2] == ["duchenne", "remove"]:
                    write_blocks(root / "params.yaml")
    return root, done


def write_blocks(path: Path) -> None:
    """Add the blocks of the page, with a network and a report that take seconds."""
    (added,) = [YAML(typ="safe").load(block) for _, block in blocks(PAGE, "yaml")]
    variant = added["variants"]["first"]
    assert variant["model"]["architecture"] == "resnet18"
    variant["model"] = {"architecture": "test_resnet", "options": SMALL}
    variant["recipe"]["epochs"] = 1
    params = YAML(typ="safe").load(path)
    assert params["variants"] == params["datasets"] == {}
    quick = {"report": {"bootstrap": 100, "tsne_iterations": 250}, "compute": {"jobs": 1, "device": "cpu"}}
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params | json.loads(json.dumps(quick | added)), file)


def run(words: list[str]) -> Result | None:
    """Run a command of the page; `dvc repro` runs its stages in this process."""
    if words == ["dvc", "repro"]:
        catalog, workspace = config.load(), Workspace()
        stages.run("settings", catalog, workspace)
        for stage in stages.OF_A_DATASET:
            stages.run(stage, catalog, workspace, "mine")
        for stage in stages.OF_A_VARIANT:
            stages.run(stage, catalog, workspace, "first")
        stages.run("report", catalog, workspace)
        return None
    assert words[0] == "duchenne"
    if words[1] == "predict" and words[2] == "holiday.jpg":
        Image.open("pictures/ben/happy_1.jpg").save("holiday.jpg")
    result = CliRunner().invoke(app, words[1:], env={"COLUMNS": "200"})
    assert result.exit_code == 0, f"{shlex.join(words)}: {result.output}"
    return result


def test_the_table_names_every_picture(project):
    table = pd.read_csv(project[0] / "pictures" / "labels.csv")
    assert table["label"].value_counts().to_dict() == {"neutral": 4, "happy": 4}
    assert set(table["subject"]) == set(ROWS)


def test_check_finds_what_is_there(project):
    assert "happiness" in project[1]["duchenne check"].output


def test_people_are_in_one_part(project):
    data = project[0] / "data"
    parts = pd.read_parquet(data / "splits" / "first.parquet").merge(pd.read_parquet(data / "index" / "mine.parquet"))
    assert parts.groupby("subject")["part"].nunique().eq(1).all()
    assert set(parts["part"]) == {"train", "val", "test"}


def test_the_report_has_the_run(project):
    page = (project[0] / "reports" / "index.html").read_text(encoding="utf-8")
    assert 'id="run-first"' in page
    assert json.loads((project[0] / "results" / "first" / "metrics.json").read_text())["subjects"] == 1


def test_it_predicts(project):
    row = pd.read_json(StringIO(project[1]["duchenne predict"].stdout), lines=True).iloc[0]
    assert row["source"] == "holiday.jpg"
    assert row["emotion"] in ("neutral", "happiness")
