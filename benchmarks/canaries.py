"""Canaries of every protocol and every choice of the epoch, and planted leaks, on rendered faces.

    python benchmarks/canaries.py FOLDER     # a working folder; what is finished there is not run again

Writes docs/results/canaries.csv; `python benchmarks/results.py` then writes the table. About 10 minutes of a core.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

from duchenne import config, stages
from duchenne.workspace import Workspace

TABLE = Path(__file__).parents[1] / "docs" / "results" / "canaries.csv"
CLASSES = ["happiness", "surprise", "anger"]
PEOPLE = {"faces": 40, "few": 20}
"""Rendered set -> people, each with two pictures of each class; loso takes the smaller one."""
RUNS = {
    "official_last": ["--control"],
    "official_val": ["--control"],
    "official_train": ["--control"],
    "official_test": ["--control", "--permutations", "8"],
    "holdout_last": ["--control"],
    "kfold_last": ["--control", "--permutations", "3"],
    "loso_last": ["--control"],
}
"""Variant -> options of `duchenne canary`."""
LEAKS = ("copy", "mirror", "source", "subject")
PLANTED = ["--anyway", "--samples", "40", "--epochs", "30"]


def block(name: str) -> dict[str, object]:
    """Make a variant from its name, ``<protocol>_<selection>``: the smallest ResNet of timm on faces of 64 px."""
    kind, selection = name.split("_")
    made: dict[str, object] = {
        "dataset": "few" if kind == "loso" else "faces",
        "init_from": "scratch",
        "protocol": {"kind": kind, "folds": 5, "test_share": 0.45, "val_share": 0.2},
        "model": {
            "architecture": "test_resnet",
            "options": {"pretrained_cfg_overlay": {"input_size": [3, 64, 64]}},
        },
        "recipe": {"epochs": 8, "batch_size": 16, "lr": 3e-3, "optimizer": "adamw", "schedule": "one_cycle"},
        "selection": selection,
    }
    return made | ({"monitor": "loss"} if selection == "train" else {})


def prepare(folder: Path) -> None:
    """Write params.yaml, render the faces and split them."""
    faces = {"mode": "detect", "detector": "dlib", "landmarks": "mobilefacenet", "size": 64, "encoding": "png"}
    rendered = {"kind": "image", "classes": CLASSES, "per_class": 2, "test_share": 0.45, "seed": 11, "size": 128}
    params = {
        "compute": {"device": "cpu", "precision": "fp32"},
        "rendered": {name: rendered | {"subjects": n, "intensity": [0.8, 1.1]} for name, n in PEOPLE.items()},
        "datasets": {
            name: {"layout": "synth", "root": f"data/raw/{name}", "classes": CLASSES, "faces": faces} for name in PEOPLE
        },
        "landmark_nets": {},
        "variants": {name: block(name) for name in RUNS},
    }
    folder.mkdir(parents=True, exist_ok=True)
    YAML(typ="safe").dump(json.loads(json.dumps(params)), folder / "params.yaml")  # no anchors for what occurs twice
    with chdir(folder):  # from which the roots of datasets count
        catalog, workspace = config.load(), Workspace()
        for dataset in PEOPLE:
            if not workspace.landmarks(dataset).exists():
                for stage in ("synthesize", *stages.OF_A_DATASET):
                    stages.run(stage, catalog, workspace, dataset)
        for variant in catalog.variants:
            if not workspace.split(variant).exists():
                stages.run("split", catalog, workspace, variant)


def found(folder: Path, name: str, words: list[str]) -> dict:
    """Run `duchenne canary`, or read what an earlier run found."""
    path = folder / "out" / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-c", "from duchenne.cli import main; main()", "canary", *words, "--json"]
        text = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=False, encoding="utf-8").stdout
        json.loads(text)
        path.write_text(text, encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def row(protocol: str, selection: str, one: dict) -> dict[str, object]:
    """Make a row of the table."""
    canary, true = one["canary"], one.get("true labels")
    shown = "" if true is None else f"{100 * true['uar']:.1f} ({100 * true['low']:.1f} to {100 * true['high']:.1f})"
    ends = {f"uar_{end}": f"{canary[end]:.4f}" for end in ("low", "high")}
    return {
        "protocol": protocol,
        "epoch": selection,
        "n": canary["n"],
        "networks": one["folds"] * one["permutations"],
        "true labels: UAR, %": shown,
        "uar": f"{canary['uar']:.4f}",
        **ends,
        "chance allows, %": f"{100 * canary['allowed']:.1f}",
        "p": f"{canary['p']:.3f}" if canary["p"] >= 0.001 else "<0.001",
        "at guessing": "yes" if one["falls to guessing"] else "no",
    }


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    prepare(place)
    rows = [row(*name.split("_"), found(place, name, [name, *more])) for name, more in RUNS.items()]
    for leak in LEAKS:
        words = ["official_last", "--plant", leak, *PLANTED]
        rows.append(row(f"official, planted {leak}", "last", found(place, f"plant_{leak}", words)))
    pd.DataFrame(rows).to_csv(TABLE, index=False, lineterminator="\n")
