"""Benchmark of the input of training: samples that one core decodes and augments in a second.

    python benchmarks/input.py [--samples 64] [--rounds 5]

Writes stand-in faces (smooth noise, 224 px, JPEG for images and clips, PNG for pairs) and prints a Markdown table for
the recipes of ``poster_v2_rafdb``, ``ifdd_3dvit_dfew`` and ``frl_dgt_megc2019``: the form of this package and a plain
one, as a ratio of CPU time measured in turns in the same process.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cv2
import datasets
import numpy as np
import pandas as pd
import torch
import typer
from torch.utils.data import Dataset
from torchvision.transforms import v2

from duchenne.config import whole_library
from duchenne.faces.store import SCHEMA, FaceStore, encode
from duchenne.files import write_json
from duchenne.models.contract import create
from duchenne.training import augment
from duchenne.training.device import reuse_memory
from duchenne.training.inputs import inputs

SIZE, LONG = 224, 24
RECIPES = {"poster_v2_rafdb": ("images", 1), "ifdd_3dvit_dfew": ("clips", LONG), "frl_dgt_megc2019": ("pairs", LONG)}
"""Variant -> what its network takes, and the frames of a stand-in sample."""


def write_store(folder: Path, samples: int, length: int, encoding: str) -> tuple[FaceStore, pd.DataFrame]:
    """Write samples of ``length`` frames; returns the store and the rows of the samples."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(samples):
        coarse = rng.integers(0, 256, (length, 14, 14, 3), dtype=np.uint8)
        frames = [cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for frame in coarse]
        noisy = [np.clip(frame + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8) for frame in frames]
        stored = [encode(frame, encoding, 95) for frame in noisy]
        rows.append({"sample": f"s{i}", "frame_numbers": list(range(length)), "frames": stored})
    table = pd.DataFrame(rows).reindex(columns=SCHEMA.names)
    features = datasets.Features.from_arrow_schema(SCHEMA)
    datasets.disable_progress_bars()
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    datasets.Dataset.from_list(records, features=features).save_to_disk(str(folder))
    write_json(folder / "store.json", {})
    columns = {"label": 0, "onset": 0, "apex": length // 2}
    return FaceStore(folder), pd.DataFrame({"sample": [row["sample"] for row in rows]}).assign(**columns)


def plain(faces: Dataset, what: str) -> Callable[[tuple[int, int]], object]:
    """Return the plain form: torchvision's recolouring of frames as (T, 3, H, W) in memory; pairs decoded each time."""
    if what == "clips":
        steps = faces.transform.transforms
        theirs = [v2.ColorJitter(**JITTER) if isinstance(step, augment.ColorJitter) else step for step in steps]
        theirs = [
            v2.ToDtype(torch.float32, scale=True) if isinstance(step, augment.ToDtype) else step for step in theirs
        ]
        faces.transform = v2.Compose([lambda frames: frames.contiguous(), *theirs])
        return faces.__getitem__
    if what == "pairs":
        return lambda item: (faces._grey_frames.clear(), faces[item])
    return faces.__getitem__


JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.4}


def rate(load: Callable[[tuple[int, int]], object], count: int, first: int) -> float:
    """Samples a second of CPU time, each of ``count`` once, with seeds from ``first``."""
    began = time.process_time()
    for row in range(count):
        load((row, first + row))
    return count / (time.process_time() - began)


def main(samples: Annotated[int, typer.Option(min=2)] = 64, rounds: Annotated[int, typer.Option(min=1)] = 5) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    reuse_memory()  # as training does
    typer.echo("| variant | a second and core | plain form | ratio |\n| --- | --- | --- | --- |")
    for name, (what, length) in RECIPES.items():
        config = whole_library().variants[name]
        network = create(config.model.architecture, config.model.options, 7)
        with tempfile.TemporaryDirectory() as folder:
            encoding = "png" if what == "pairs" else "jpeg"
            store, rows = write_store(Path(folder) / "faces", samples, length, encoding)
            new = inputs(network, store, rows, config.recipe, train=True).__getitem__
            old = plain(inputs(network, store, rows, config.recipe, train=True), what)
            found = []
            for turn in range(rounds + 1):  # the first fills what is kept between epochs
                found.append([rate(load, samples, turn * samples) for load in (new, old)])
        ours, theirs = (statistics.median(rates) for rates in zip(*found[1:], strict=True))
        ratio = statistics.median(a / b for a, b in found[1:])
        typer.echo(f"| {name} | {ours:.0f} {what} | {theirs:.0f} | {ratio:.1f} |")


if __name__ == "__main__":
    typer.run(main)
