"""A small face store of drawn pictures, and a variant that learns them in seconds."""

import hashlib
import json
from pathlib import Path

import cv2
import datasets
import numpy as np
import pandas as pd

from duchenne import stages
from duchenne.config import Catalog
from duchenne.protocol import Protocol
from duchenne.training.settings import Compute, Model, Recipe, Variant
from duchenne.workspace import Workspace

CLASSES = ["anger", "happiness", "surprise"]
COMPUTE = Compute(device="cpu", precision="fp32")
SMALL = {"pretrained_cfg_overlay": {"input_size": [3, 64, 64]}}


def write_store(
    folder: Path, count: int, size: int = 64, classes: int = len(CLASSES), lengths: list[int] | None = None
) -> pd.DataFrame:
    """``count`` noisy pictures, each with a bright bar at the height of its class; returns sample, label, subject.

    With ``lengths`` videos of so many frames, numbered from 1.
    """
    rng = np.random.default_rng(count)
    rows = []
    for i, length in enumerate(lengths or [1] * count):
        images = rng.integers(40, 120, (length, size, size, 3), dtype=np.uint8)
        top = (i % classes) * size // classes
        images[:, top : top + size // classes] += 100
        row = {
            "sample": f"s{i:03d}",
            "frame_numbers": list(range(1, length + 1)) if lengths else [0],
            "frames": [cv2.imencode(".png", image)[1].tobytes() for image in images],
            "transforms": [[1.0, 0, 0, 0, 1, 0]] * length,
            "boxes": [[0.0, 0, size, size]] * length,
            "confidence": [1.0] * length,
            "doubtful": [False] * length,
            "faces": [1] * length,
            "phash": hashlib.sha256(f"{count} {i}".encode()).hexdigest(),  # as far apart as two people
        }
        rows.append(row)
    datasets.Dataset.from_list(rows).save_to_disk(str(folder))
    meta = {"size": size, "encoding": "png", "detector": "none"}
    (folder / "store.json").write_text(json.dumps(meta))
    pd.DataFrame(columns=["sample", "frame", "reason"]).to_parquet(folder / "failures.parquet")
    labels = [i % classes for i in range(count)]
    subjects = [f"p{i // classes}" for i in range(count)]
    return pd.DataFrame({"sample": [row["sample"] for row in rows], "label": labels, "subject": subjects})


def parts(samples: pd.DataFrame, train: int, val: int) -> pd.DataFrame:
    """The first samples train, the next validate, the rest test."""
    names = ["train"] * train + ["val"] * val + ["test"] * (len(samples) - train - val)
    return samples.assign(part=names)


def variant(
    *,
    architecture: str = "test_resnet",
    selection: str = "val",
    monitor: str = "uar",
    seed: int = 0,
    options: dict | None = None,
    **recipe,
) -> Variant:
    """A variant whose recipe is the one given over quick defaults."""
    defaults = {"epochs": 3, "batch_size": 8, "lr": 2e-3, "sam_rho": 0.05}
    return Variant(
        dataset="drawn",
        protocol=Protocol(kind="holdout"),
        model=Model(architecture=architecture, options=SMALL if options is None else options),
        recipe=Recipe(**(defaults | recipe)),
        selection=selection,
        monitor=monitor,
        seed=seed,
    )


def drawn_project(root: Path, **block: object) -> tuple[Catalog, Workspace]:
    """A project with noisy pictures of 30 people, split into two folds for the run ``small`` of a tiny network.

    Args:
        block: further fields of the variant.
    """
    rng, rows = np.random.default_rng(0), []
    (root / "raw").mkdir()
    for i in range(90):
        picture = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) // 2
        picture[i % 3 * 21 : i % 3 * 21 + 21] += np.uint8(rng.integers(0, 25))
        cv2.imwrite(str(root / "raw" / f"{i:02d}.png"), picture)
        rows.append({"path": f"{i:02d}.png", "label": CLASSES[i % 3], "subject": f"p{i // 3}"})
    pd.DataFrame(rows).to_csv(root / "raw" / "manifest.csv", index=False)
    small = {
        "dataset": "drawn",
        "init_from": "scratch",
        "protocol": {"kind": "kfold", "folds": 2, "val_share": 0.3, "near_duplicates": "ignore"},
        "model": {"architecture": "tiny"},
        "recipe": {"epochs": 4, "batch_size": 8, "lr": 0.03, "augment": {"hflip": 0}},
        "selection": "last",
    }
    faces = {"mode": "aligned", "size": 64, "encoding": "png"}
    catalog = Catalog.model_validate(
        {
            "datasets": {"drawn": {"layout": "manifest", "root": root / "raw", "classes": CLASSES, "faces": faces}},
            "variants": {"small": small | block},
            "compute": {"jobs": 1, "device": "cpu", "precision": "fp32", "folds_at_once": 1},
            "report": {"bootstrap": 100},
        }
    )
    workspace = Workspace(root)
    for stage, name in (("index", "drawn"), ("align", "drawn"), ("split", "small")):
        stages.run(stage, catalog, workspace, name)
    return catalog, workspace
