"""A small face store of drawn pictures, and a variant that learns them in seconds."""

import json
from pathlib import Path

import cv2
import datasets
import numpy as np
import pandas as pd

from duchenne.catalog import Compute, Model, Protocol, Recipe, Variant

CLASSES = ["anger", "happiness", "surprise"]
COMPUTE = Compute(device="cpu", precision="fp32")
SMALL = {"pretrained_cfg_overlay": {"input_size": [3, 64, 64]}}


def write_store(folder: Path, count: int, size: int = 64, classes: int = len(CLASSES)) -> pd.DataFrame:
    """``count`` noisy pictures, each with a bright bar at the height of its class; returns sample, label, subject."""
    rng = np.random.default_rng(count)
    rows = []
    for i in range(count):
        image = rng.integers(40, 120, (size, size, 3), dtype=np.uint8)
        top = (i % classes) * size // classes
        image[top : top + size // classes] += 100
        rows.append({"sample": f"s{i:03d}", "frames": [cv2.imencode(".png", image)[1].tobytes()], "phash": f"{i:016x}"})
    still = {
        "frame_numbers": [0],
        "transforms": [[1.0, 0, 0, 0, 1, 0]],
        "boxes": [[0.0, 0, size, size]],
        "confidence": [1.0],
    }
    datasets.Dataset.from_list([row | still for row in rows]).save_to_disk(str(folder))
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
