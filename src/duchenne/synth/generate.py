"""Render a whole set: in parallel, resumable at any kill, every sample independent of all others.

A sample's random numbers come from the seed, its subject, its class and its number alone, so it is the same bytes
whatever the size of the set, the number of processes or the order of the work.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import joblib
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from duchenne.files import write_json
from duchenne.sources import source_digest
from duchenne.synth.clips import render_clip
from duchenne.synth.expression import PROTOTYPES
from duchenne.synth.plan import Task, plan
from duchenne.synth.render import renderer
from duchenne.synth.settings import Synth
from duchenne.synth.stills import render_still

SHAPING = ("subjects", "per_class", "test_share", "folds", "classes")
"""Fields that choose among samples and do not change any of them."""


def generate(config: Synth, out: Path, work: Path, jobs: int = -1, backend: str = "loky") -> None:
    """Render the set that ``config`` describes and put it at ``out``.

    What is finished stays in ``work`` and is not rendered again while the configuration and this package are the same.
    ``out`` appears whole or not at all.

    Args:
        jobs: processes; -1: one a core.
        backend: a joblib backend.

    Raises:
        ValueError: a class that this module has no expression for.
    """
    if unknown := sorted(set(config.classes) - set(PROTOTYPES)):
        raise ValueError(f"synth.classes: no expression is known for {unknown}; known: {sorted(PROTOTYPES)}")
    done = work / _fingerprint(config)
    tasks = plan(config)
    missing: dict[int, list[Task]] = {}
    for task in tasks:
        if not _truth_file(done, task).exists():
            missing.setdefault(task.subject, []).append(task)
    with tqdm(total=len(tasks), unit="sample", desc=f"render {out.name}") as bar:
        bar.update(len(tasks) - sum(map(len, missing.values())))
        if missing:
            renderer()  # the first use on a machine builds caches that the workers share
            calls = (joblib.delayed(_render)(config, chunk, done) for chunk in _chunks(missing))
            for count in joblib.Parallel(jobs, backend=backend, return_as="generator_unordered")(calls):
                bar.update(count)
    _assemble(config, tasks, done, out)


def _chunks(missing: dict[int, list[Task]], most: int = 16) -> Iterator[list[Task]]:
    """Work for one call: samples of one person."""
    for tasks in missing.values():
        for start in range(0, len(tasks), most):
            yield tasks[start : start + most]


def _render(config: Synth, tasks: list[Task], done: Path) -> int:
    render = render_still if config.kind == "image" else render_clip
    cv2.setNumThreads(1)
    # one thread: the processes share the cores, and sums must not depend on how many there are
    with threadpool_limits(1):
        for task in tasks:
            truth, frames = render(config, task, done)
            # last, so that a truth file vouches for every picture of its sample
            write_json(_truth_file(done, task), {"truth": truth, "frames": frames})
    return len(tasks)


def _truth_file(done: Path, task: Task) -> Path:
    return done / "truth" / f"{task.sample}.json"


def _fingerprint(config: Synth) -> str:
    """Names the folder of finished samples: anything that changes a sample changes it."""
    named = config.model_dump_json(exclude=set(SHAPING)) + source_digest(__name__)
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def split_of(subject: int, test_share: float) -> str:
    """The official part of a subject, the same when the set grows: multiples of the golden ratio fill 0..1 evenly."""
    return "test" if (subject + 1) * 0.6180339887498949 % 1.0 < test_share else "train"


def _assemble(config: Synth, tasks: list[Task], done: Path, out: Path) -> None:
    """Make the finished set beside ``out``, then swap it in."""
    rows, frames = [], []
    fresh, old = (out.with_name(f".{out.name}.{os.getpid()}.{word}") for word in ("part", "old"))
    shutil.rmtree(fresh, ignore_errors=True)
    for task in tasks:
        record = json.loads(_truth_file(done, task).read_text(encoding="utf-8"))
        files = record["truth"].pop("files")
        for name in files:
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(done / name, fresh / name)
        rows.append(
            record["truth"]
            | {
                "split": split_of(task.subject, config.test_share) if config.kind == "image" else None,
                "fold": 1 + task.subject % config.folds if config.kind == "video" else None,
            }
        )
        frames += record["frames"]
    table = pd.DataFrame(rows)
    table["fps"] = table["fps"].astype("Float64")
    for column in ("fold", "onset", "apex", "offset", "n_frames"):
        table[column] = table[column].astype("Int64")
    table.to_parquet(fresh / "truth.parquet", index=False)
    if frames:
        pd.DataFrame(frames).to_parquet(fresh / "frames.parquet", index=False)
    if out.exists():
        out.replace(old)
    fresh.replace(out)
    shutil.rmtree(old, ignore_errors=True)
