"""Deep check: opens every file of a dataset, as the align stage will."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from duchenne.datasets import problems
from duchenne.datasets.index import Index
from duchenne.engines import Engine, Task
from duchenne.media.frames import RestError, Span, read_frames
from duchenne.media.images import ImageError

MARKS = ("onset", "apex")
"""Frame numbers that must exist."""
_BATCH = 64
"""Number of files per task: decoding one image takes less time than sending a task."""


def decode_all(index: Index, root: Path, max_megapixels: float, engine: Engine) -> Index:
    """Return the index with a problem added for every image and frame that cannot be decoded.

    Args:
        index: the samples to decode.
        root: the dataset's root.
        max_megapixels: larger images count as problems, as they do when faces are aligned.
        engine: decodes the files.
    """
    columns = ["path", "kind", "first", "last", *MARKS]
    records = index.rows[columns].astype(object).where(index.rows[columns].notna(), None).groupby("path", sort=False)
    todo = [group.to_dict("records") for _, group in records]
    tasks = [
        Task(f"decode, from file {i + 1}", _damaged, (todo[i : i + _BATCH], root, max_megapixels))
        for i in range(0, len(todo), _BATCH)
    ]
    found = {}
    with tqdm(total=len(todo), desc="decode", unit="file", delay=1) as bar, closing(engine.run(tasks)) as ended:
        for done in ended:
            found[done.task.name] = done.result()
            bar.update(min(_BATCH, bar.total - bar.n))
    listed = [problem for task in tasks for problem in found[task.name]]
    return replace(index, problems=pd.concat([index.problems, problems.frame(listed)], ignore_index=True))


def _damaged(files: list[list[dict]], root: Path, max_megapixels: float) -> list[tuple[None, str, str, str]]:
    """Find the problems of some files; each file is given as a list of its samples."""
    found = []
    for samples in files:
        path, kind = samples[0]["path"], samples[0]["kind"]
        spans = [Span(sample["first"], sample["last"]) for sample in samples]
        numbers = set()
        for number, image in read_frames(root / path, kind, max_megapixels, spans):
            numbers.add(number)
            if isinstance(image, ImageError):
                where = "" if kind == "image" or isinstance(image, RestError) else f"frame {number} "
                found.append((None, "path", path, f"{where}{image}"))
        if len(numbers) == 1 and kind != "image" and not isinstance(image, ImageError):
            found.append((None, "path", path, "has one frame only: a clip needs motion"))
        if kind == "video":
            marks = {(name, sample[name]) for sample in samples for name in MARKS if sample[name] is not None}
            lost = [(name, number) for name, number in sorted(marks) if number not in numbers]
            found += [(None, name, path, f"frame {number} is not in the video") for name, number in lost]
    return found
