"""A network of docs/extending.md, added as in the guide: one module and one block make it available in every stage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from network_tools import documented
from ruamel.yaml import YAML
from training_tools import CLASSES

from duchenne.sources import PACKAGE

pytestmark = pytest.mark.slow

STAGES = """
import sys
from pathlib import Path

from duchenne import stages
from duchenne.config import load
from duchenne.workspace import Workspace

catalog, workspace = load(), Workspace(Path())
stages.run("settings", catalog, workspace)
assert "torch" not in sys.modules
for stage in stages.OF_A_DATASET:
    stages.run(stage, catalog, workspace, "drawn")
for stage in stages.OF_A_VARIANT:
    stages.run(stage, catalog, workspace, "mine")

from duchenne.prediction.model import Model
from duchenne.reporting.page import write_report

write_report(workspace, catalog, workspace.reports)
print(Model("models/mine/fold_1").predict("raw/0.png")["emotion"][0])
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project in which every stage ran for the guide's network, and what was predicted for its first picture."""
    root = tmp_path_factory.mktemp("extending")
    package = shutil.copytree(PACKAGE, root / "src" / "duchenne")
    (package / "models" / "places_net.py").write_text(documented("python"))
    rng, rows = np.random.default_rng(0), []
    (root / "raw").mkdir()
    for i in range(18):
        picture = rng.integers(40, 120, (64, 64, 3), dtype=np.uint8)
        picture[i % 3 * 21 : i % 3 * 21 + 21] += 100
        cv2.imwrite(str(root / "raw" / f"{i}.png"), picture)
        rows.append({"path": f"{i}.png", "label": CLASSES[i % 3], "split": "train" if i < 12 else "test"})
    pd.DataFrame(rows).to_csv(root / "raw" / "manifest.csv", index=False)
    (block,) = YAML(typ="safe").load(documented("yaml")).values()
    block |= {"dataset": "drawn", "selection": "last"}
    block["protocol"] |= {"val_share": 0, "near_duplicates": "ignore"}
    faces = {"mode": "aligned", "size": 64, "encoding": "png"}
    params = {
        "compute": {"jobs": 1, "device": "cpu", "precision": "fp32", "folds_at_once": 1},
        "report": {"bootstrap": 100, "tsne_iterations": 250, "gallery": 2},
        "rendered": {},
        "datasets": {"drawn": {"layout": "manifest", "root": "raw", "classes": CLASSES, "faces": faces}},
        "landmark_nets": {},
        "variants": {"mine": block},
    }
    with (root / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    done = subprocess.run(
        [sys.executable, "-c", STAGES],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return root, done.stdout.split()[-1]


def test_it_is_trained_and_predicts(project: tuple[Path, str]):
    root, predicted = project
    card = json.loads((root / "models" / "mine" / "fold_1" / "card.json").read_text())
    assert (card["architecture"], card["options"], card["takes"]) == ("places_net", {"width": 32}, "image")
    assert len(pd.read_csv(root / "models" / "mine" / "fold_1" / "history.csv")) == 3
    assert predicted in CLASSES


def test_it_is_evaluated(project: tuple[Path, str]):
    results = project[0] / "results" / "mine"
    assert json.loads((results / "metrics.json").read_text())["n"] == 6
    assert np.load(results / "features.npz")["features"].shape == (6, 32)


def test_it_is_counted(project: tuple[Path, str]):
    size = json.loads((project[0] / "results" / "mine" / "complexity.json").read_text())
    convolution, score, head = 32 * 3 * 49, 32 + 1, 3 * 32 + 3
    assert size["params"] == pytest.approx((convolution + 32 + 64 + score + head) / 1e6)
    assert size["macs"] == pytest.approx((256 * (convolution + 32) + 3 * 32) / 1e9)
    assert size["basis"] == "code"


def test_it_is_explained_with_the_words_of_its_module(project: tuple[Path, str]):
    pictures = json.loads((project[0] / "results" / "mine" / "maps" / "maps.json").read_text())
    assert pictures
    for picture in pictures:
        assert picture["file"] in ("looks_right.png", "looks_wrong.png")
        assert "each with 2 maps" in picture["alt"]
        assert "Attention: the share of each cell" in picture["caption"]
        assert "Grad-CAM" in picture["caption"]
        assert "the layer stem.2," in picture["caption"]


def test_the_page_calls_it_by_its_title(project: tuple[Path, str]):
    page = (project[0] / "reports" / "index.html").read_text()
    assert "PlacesNet" in page
    assert "Where it looks" in page


def test_dvc_knows_it_by_its_own_sources(project: tuple[Path, str]):
    root, _ = project
    settings = json.loads((root / "data" / "settings" / "networks" / "mine.json").read_text())
    module = root / "src" / "duchenne" / "models" / "places_net.py"
    code = "from duchenne.sources import network_digest as d; print(d('places_net'), d('frl_dgt'))"

    def digests() -> list[str]:
        env = os.environ | {"PYTHONPATH": str(root / "src")}
        return subprocess.check_output([sys.executable, "-c", code], env=env, text=True).split()

    before = digests()
    assert settings["sources"] == before[0]
    text = module.read_text()
    module.write_text(text + "#")
    after = digests()
    module.write_text(text)
    assert after[0] != before[0]
    assert after[1] == before[1]
