"""Opening every file of a dataset, as the align stage will."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from duchenne.datasets import problems
from duchenne.datasets.index import Index

_BATCH = 64
"""Samples a task: one image is decoded in less time than a task takes to send."""


def decode_all(index: Index, root: Path, max_megapixels: float, jobs: int, backend: str) -> Index:
    """The index with a problem more for every image and frame that cannot be decoded.

    Args:
        index: its rows are decoded.
        root: the dataset's root.
        max_megapixels: larger images count as problems, as they do when faces are aligned.
        jobs: processes; -1: one a core.
        backend: of joblib.
    """
    records = index.rows[["kind", "path"]].to_dict("records")
    tasks = [delayed(_damaged)(records[i : i + _BATCH], root, max_megapixels) for i in range(0, len(records), _BATCH)]
    found = []
    with tqdm(total=len(records), desc="decode", unit="sample", delay=1) as bar:
        for damaged in Parallel(jobs, backend=backend, return_as="generator")(tasks):
            found += damaged
            bar.update(min(_BATCH, bar.total - bar.n))
    return replace(index, problems=pd.concat([index.problems, problems.frame(found)], ignore_index=True))


def _damaged(records: list[dict], root: Path, max_megapixels: float) -> list[tuple[None, str, str, str]]:
    from duchenne.faces.clips import read_frames  # here, for that package reads names of files through this one
    from duchenne.faces.images import ImageError

    found = []
    for record in records:
        for number, image in read_frames(root / record["path"], record["kind"], max_megapixels):
            if isinstance(image, ImageError):
                where = "" if record["kind"] == "image" else f"frame {number} "
                found.append((None, "path", record["path"], f"{where}{image}"))
    return found
