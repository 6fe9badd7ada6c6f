"""Use the core where no extra is installed, and print as JSON what it did and what the optional parts said.

    python core_only.py FOLDER

The packages of the extras are hidden, installed or not. FOLDER, which must not exist, gets a dataset of aligned faces,
on which a network of a few weights is trained for one epoch and predicts.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from duchenne.extras import EXTRAS

OPTIONAL = {module for modules in EXTRAS.values() for module in modules}


class Hiding:
    """A finder of modules that does not find those of the extras, as where they are not installed."""

    def __init__(self, finder: object) -> None:
        self.finder = finder

    def __getattr__(self, name: str) -> object:
        return getattr(self.finder, name)

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        return None if name.partition(".")[0] in OPTIONAL else self.finder.find_spec(name, path, target)


sys.meta_path[:] = map(Hiding, sys.meta_path)
HEAVY = {"torch", "timm", "pandas", "sklearn", "scipy", "cv2", "datasets"}
COMMAND = ["config", "cli", "extras", "papers.library"]
FACES = ["datasets.build", "splits", "tracking", "faces.build", "faces.annotate", "models.backbones.mobilefacenet"]
CORE = [
    "datasets.audit", "datasets.build", "datasets.deep", "evaluation.comparing", "evaluation.complexity",
    "evaluation.corruptions", "evaluation.embedding", "evaluation.explain", "evaluation.motion",
    "evaluation.statistics", "faces.annotate", "faces.build", "faces.sheets", "landmark_net.train", "models.contract",
    "papers.printed", "params_file", "prediction.run", "published", "reporting.basis", "reporting.compare",
    "reporting.complexity", "reporting.provenance", "reporting.transfer", "smoke", "splits", "stages",
    "stages.robustness", "stages.train", "tracking", "training.fold", "training.trained", "transfer",
]  # fmt: skip

for name in COMMAND:
    importlib.import_module(f"duchenne.{name}")
loaded_by_the_command = sorted(HEAVY & sys.modules.keys())
for name in FACES:
    importlib.import_module(f"duchenne.{name}")
loaded_for_faces = sorted({"accelerate", "sklearn", "timm", "torchvision"} & sys.modules.keys())
for name in CORE:
    importlib.import_module(f"duchenne.{name}")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import training_networks  # noqa: E402, F401  (registers the network `tiny`)
from typer.testing import CliRunner  # noqa: E402

from duchenne import cli, smoke, stages  # noqa: E402
from duchenne.config import Catalog  # noqa: E402
from duchenne.datasets.index import read_index  # noqa: E402
from duchenne.evaluation.embedding import embed  # noqa: E402
from duchenne.extras import MissingExtraError  # noqa: E402
from duchenne.faces.annotate import landmark_dataset  # noqa: E402
from duchenne.faces.build import align_dataset  # noqa: E402
from duchenne.faces.landmarks import landmarker, model_digest  # noqa: E402
from duchenne.faces.settings import Faces  # noqa: E402
from duchenne.faces.store import FaceStore  # noqa: E402
from duchenne.files import read_json  # noqa: E402
from duchenne.models.contract import register_networks  # noqa: E402
from duchenne.prediction.model import Model  # noqa: E402
from duchenne.sealed import write_sealed  # noqa: E402
from duchenne.workspace import Workspace  # noqa: E402

register_networks()
CLASSES = ["happiness", "sadness"]


def catalog(root: Path) -> Catalog:
    """A dataset of aligned faces in class folders, a network of a few weights and one epoch."""
    variant = {
        "dataset": "drawn",
        "protocol": {"kind": "holdout", "test_share": 0.25, "val_share": 0.25},
        "model": {"architecture": "tiny"},
        "recipe": {"epochs": 1, "batch_size": 4, "lr": 1e-3},
    }
    dataset = {"layout": "folder", "root": str(root), "classes": CLASSES}
    dataset["faces"] = {"mode": "aligned", "detector": "none", "size": 64}
    rendered = {"rendered": {"kind": "image", "subjects": 2}}
    compute = {"jobs": 1, "folds_at_once": 1, "device": "cpu", "precision": "fp32"}
    blocks = {"compute": compute, "report": {"bootstrap": 100}, "rendered": rendered}
    return Catalog.model_validate(blocks | {"datasets": {"drawn": dataset}, "variants": {"tiny": variant}})


def draw(root: Path) -> None:
    """Eight noisy pictures a class."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for number in range(8):
            cv2.imwrite(str(root / name / f"{number}.png"), rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))


def said(function: Callable[..., object], *arguments: object) -> str:
    """The message with which a part that needs an extra stops."""
    try:
        function(*arguments)
    except MissingExtraError as error:
        return str(error)
    return "it ran"


def run_core(folder: Path) -> dict[str, object]:
    """Index to evaluation, then a prediction for one picture."""
    config, workspace = catalog(folder / "raw"), Workspace(folder)
    draw(folder / "raw")
    for stage in ("index", "align", "landmarks"):
        stages.run(stage, config, workspace, "drawn")
    for stage in ("split", "train", "evaluate", "complexity"):
        stages.run(stage, config, workspace, "tiny")
    (fold,) = workspace.model("tiny").glob("fold_*")
    (answer,) = Model(fold).stream(folder / "raw" / "sadness" / "3.png")
    tested = read_json(workspace.results("tiny") / "metrics.json")["n"]
    return {"fold": str(fold), "tested": tested, "answer": answer}


def doctor(folder: Path) -> str:
    """What the doctor finds where there is no params.yaml."""
    with contextlib.chdir(folder):
        return CliRunner().invoke(cli.app, ["doctor", "--json"]).stdout


def ask_for_extras(folder: Path, fold: Path) -> dict[str, str]:
    """What each part that needs an extra says."""
    config, workspace = catalog(folder / "raw"), Workspace(folder)
    rows = read_index(workspace.index("drawn")).rows
    detecting = folder / "detecting"
    shutil.copytree(fold, detecting)
    card = read_json(detecting / "card.json")
    settings = {"mode": "detect", "size": 64, "landmarks": "mobilefacenet", "detector": "dlib"}
    alignment = {"settings": settings, "landmark_model": model_digest(Faces())}
    write_sealed(detecting / "card.json", card | {"alignment": alignment})
    store = FaceStore(workspace.faces("drawn"))
    points = folder / "points.parquet"
    return {
        "align": said(align_dataset, rows, folder / "raw", Faces(), folder / "aligned", folder / "work" / "none", 1),
        "landmarks": said(landmark_dataset, store, Faces(mode="aligned", size=64), points, folder / "centres.json", 1),
        "predict": said(Model, detecting),
        "dlib68": said(landmarker, Faces(mode="boxes", landmarks="dlib68")),
        "dlib68 of a file": said(
            landmarker, Faces(mode="boxes", landmarks="dlib68", landmark_model=fold / "weights.safetensors")
        ),
        "synthesize": said(stages.run, "synthesize", config, workspace, "rendered"),
        "explain": said(stages.run, "explain", config, workspace, "tiny"),
        "report": said(stages.run, "report", config, workspace),
        "smoke": said(smoke.run, config, "tiny", 16, folder / "smoke"),
        "feature map": said(embed, np.random.default_rng(0).random((8, 3))),
        "doctor": doctor(folder),
        "studio": str(CliRunner().invoke(cli.app, ["studio"]).exception),
        "ui": str(CliRunner().invoke(cli.app, ["ui"]).exception),
    }


class Warnings(logging.Handler):
    """Keeps what is warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def main() -> None:
    """Print one JSON object."""
    folder, warnings = Path(sys.argv[1]), Warnings()
    logging.getLogger("duchenne").addHandler(warnings)
    core = run_core(folder)
    messages = ask_for_extras(folder, Path(core["fold"]))
    left = sorted(path.name for path in folder.iterdir())
    found = {"core": core, "messages": messages, "warnings": warnings.messages, "left": left}
    found |= {"loaded_by_the_command": loaded_by_the_command, "loaded_for_faces": loaded_for_faces}
    found |= {"imported": sorted(OPTIONAL & sys.modules.keys())}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
