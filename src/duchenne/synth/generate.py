"""Render a whole set in parallel; an interrupted run resumes, and every sample is independent of all others.

A sample's random numbers come from the seed, its subject, its class and its number alone, so it is the same bytes
whatever the size of the set, the number of processes or the order of the work.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from duchenne.chunks import Chunk, digest, resumable
from duchenne.engines import Engine
from duchenne.files import read_json, temporary, write_json
from duchenne.sealed import write_table
from duchenne.shortage import naming
from duchenne.sources import source_digest
from duchenne.synth.clips import render_clip
from duchenne.synth.expression import PROTOTYPES
from duchenne.synth.plan import Task, plan
from duchenne.synth.render import renderer
from duchenne.synth.settings import Synth
from duchenne.synth.stills import render_still

SHAPING = ("subjects", "per_class", "test_share", "folds", "classes")
"""Fields that choose among samples and do not change any of them; a mixture is with another of the classes."""


def generate(config: Synth, out: Path, work: Path, engine: Engine | None = None) -> None:
    """Render the set that ``config`` describes to the folder ``out``.

    Finished samples stay in ``work`` and are not rendered again while the configuration and this package are the same;
    when they change, those of the former ones are deleted at the end. ``out`` appears complete or not at all.

    Args:
        engine: renders the samples; None: one process per core of this machine.

    Raises:
        ValueError: a class for which no expression is defined.
    """
    if unknown := sorted(set(config.classes) - set(PROTOTYPES)):
        raise ValueError(f"synth.classes: no expression is defined for {unknown}; choose from {sorted(PROTOTYPES)}")
    tasks, done = plan(config), work / _key(config)
    chunks = [Chunk(done / task.sample, 1, _render, (config, task)) for task in tasks]
    if not all(chunk.path.exists() for chunk in chunks):
        renderer()  # the first use on a machine builds caches that the processes share
    person = min(config.per_class * len(config.classes), 16)  # samples of one person, who is expensive to build
    folders = resumable(chunks, f"render {out.name}", engine, together=person)
    _assemble(config, tasks, folders, out)
    for former in work.iterdir():
        if former != done and re.fullmatch("[0-9a-f]{16}", former.name):
            shutil.rmtree(former)


def _render(config: Synth, task: Task, folder: Path) -> None:
    """Render a sample into ``folder``, with its truth in ``sample.json``."""
    render = render_still if config.kind == "image" else render_clip
    with threadpool_limits(1):  # the processes share the cores, and sums must not depend on how many there are
        truth, frames = render(config, task, folder)
    write_json(folder / "sample.json", {"truth": truth, "frames": frames})


def _key(config: Synth) -> str:
    """Name of the folder of finished samples; it changes with anything that changes a sample."""
    shaping = set(SHAPING) - ({"classes"} if config.mixture[1] else set())
    return digest(config.model_dump_json(exclude=shaping), source_digest(__name__))


def split_of(subject: int, test_share: float) -> str:
    """Return the official part of a subject; it stays the same when the set grows.

    Multiples of the golden ratio fill 0..1 evenly.
    """
    return "test" if (subject + 1) * 0.6180339887498949 % 1.0 < test_share else "train"


def _assemble(config: Synth, tasks: list[Task], folders: list[Path], out: Path) -> None:
    """Make the finished set beside ``out``, then swap it in."""
    rows, frames = [], []
    fresh, old = temporary(out), temporary(out.with_name(f"{out.name}.old"))
    try:
        with naming(out, fresh):
            for task, folder in zip(tasks, folders, strict=True):
                record = read_json(folder / "sample.json")
                files = record["truth"].pop("files")
                for name in files:
                    (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(folder / name, fresh / name)
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
            write_table(fresh / "truth.parquet", table)
            if frames:
                write_table(fresh / "frames.parquet", pd.DataFrame(frames))
            if out.exists():
                out.replace(old)
            fresh.replace(out)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
