"""Benchmark of long runs: a long video, many clips and many epochs must not need more and more of anything.

    python benchmarks/long.py                                  # all parts in full: 100,000, 10,000 and 500
    python benchmarks/long.py video --frames 5000 --trace      # a look, with what Python allocates

Parts: ``video`` predicts a video with a network of a few weights and keeps the rows (``--out``, as ``duchenne predict``
does); ``clips`` aligns, annotates, learns and measures a set of tiny clips; ``epochs`` trains 500 epochs in one
process, and again in processes that are killed after every ten. Each prints memory (PSS of all its processes, after
freed memory is returned to the system), open files, threads, files on the disk and processor time per 1,000 units
(frames, clips, epochs), after a tenth, a half and all of the units.

Rule: a line is drawn through the second half (Theil and Sen's, which a few outliers do not move). What rises along it
by more than the allowance of :data:`ALLOWED` and by more than a tenth of its median, of time a quarter, GROWS. Of
memory, a clip may take :data:`KEPT` bytes, because the names and labels of all samples are in memory, and a row of
results as well; of time, an epoch :data:`ROW` for each epoch before it, whose rows it writes again. Time is judged
where there are :data:`SHORT` seconds of it. Exit status 1: something grows.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import multiprocessing
import os
import sqlite3
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import psutil
import torch
from scipy.stats import theilslopes
from torch import Tensor, nn

from duchenne import stages
from duchenne.config import Catalog
from duchenne.faces.store import FaceStore
from duchenne.models.contract import Network, register_network
from duchenne.prediction.options import Options
from duchenne.prediction.run import run as predict
from duchenne.training.checkpoint import Checkpoints
from duchenne.workspace import Workspace

CLASSES = ["anger", "happiness", "surprise"]
SIDE = 64
MEMORY, TIME = "memory, MB", "s per 1,000"
ALLOWED = {MEMORY: 20.0, "open files": 2.0, "threads": 10.0, "files on disk": 2.0, TIME: 0.0, "in Python, MB": 3.0}
"""Rise over the second half that is no growth (chosen by us)."""
KEPT = 20_000
"""Bytes of memory for each clip (chosen by us)."""
ROW = 1e-4
"""Processor time to write a row of the history again, s (chosen by us; 6e-5 was measured)."""
SHORT = 5.0
"""Processor time below which its growth cannot be told from the steps of the clock, s (chosen by us)."""
POINTS = 40
"""Number of points at which a part is measured."""
RESTART = 10
"""Epochs after which a process is killed."""

Point = dict[str, float]


class Small(Network):
    """A linear classifier of the means over 4 x 4 fields of a clip of two frames, or of a picture."""

    def __init__(self, num_classes: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.num_features, self.num_classes = 48, num_classes
        self.head = nn.Linear(self.num_features, num_classes)
        self.pretrained_cfg = self.default_cfg = {
            "input_size": size, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "classifier": "head",
        }  # fmt: skip

    def forward_features(self, x: Tensor) -> Tensor:
        """Return (B, 48) of clips (B, 3, T, H, W) or pictures (B, 3, H, W)."""
        return nn.functional.adaptive_avg_pool2d(x.mean(2) if x.ndim == 5 else x, 4).flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        return self.head(features)


@register_network("a picture's means")
def small_picture(pretrained: bool = False, num_classes: int = 3, **options: Any) -> Small:
    """Return the network of pictures."""
    return Small(num_classes, (3, SIDE, SIDE))


@register_network("a clip's means", takes="clip")
def small_clip(pretrained: bool = False, num_classes: int = 3, **options: Any) -> Small:
    """Return the network of clips."""
    return Small(num_classes, (3, 2, SIDE, SIDE))


class Watch(threading.Thread):
    """Measures this process and its children while something runs.

    Args:
        progress: returns how many units are done.
        units: their number.
        folder: its files are counted.
    """

    def __init__(self, progress: Callable[[], int], units: int, folder: Path) -> None:
        super().__init__(daemon=True)
        self._progress, self._step, self._folder = progress, max(units // POINTS, 1), folder
        self._ended = threading.Event()
        gc.freeze()  # so that collecting costs little: what was imported is no garbage
        self.points: list[Point] = []

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()
        self.look(self._progress())

    def run(self) -> None:
        """Take a point whenever a step of units is done."""
        due = 0
        while not self._ended.wait(0.05):
            if (done := self._progress()) >= due:
                self.look(done)
                due = done + self._step

    def look(self, done: int) -> None:
        """Take a point."""
        self.points.append({"units": done, "clock": spent()} | state(self._folder))


def spent() -> float:
    """Return the processor time of this process and its ended children, s: that of the clock grows with other work."""
    return sum(os.times()[:4])


def shared_fairly(process: int) -> float:
    """Return the memory of a process, MB: what it shares with others counts in parts (PSS, of Linux alone)."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return psutil.Process(process).memory_info().rss / 1e6
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e3


def state(folder: Path) -> Point:
    """Return what this process and its children need, after freed memory is returned to the system."""
    gc.collect()
    with suppress(AttributeError, OSError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)
    found = dict.fromkeys((MEMORY, "open files", "threads"), 0.0)
    own = psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            found[MEMORY] += shared_fairly(process.pid)
            found["open files"] += process.num_fds()
            found["threads"] += process.num_threads()
    found["files on disk"] = sum(len(files) for _, _, files in os.walk(folder))
    if tracemalloc.is_tracing():
        found["in Python, MB"] = tracemalloc.get_traced_memory()[0] / 1e6
    return found


def judge(title: str, points: list[Point], kept: float = 0, row: float = 0, ignored: Iterable[str] = ()) -> bool:
    """Print the table of a part; returns whether nothing grows.

    Args:
        kept: bytes of memory that each unit may take.
        row: processor time that each unit may add to every later one, s.
        ignored: what is not judged.
    """
    table = pd.DataFrame(points).drop_duplicates("units")
    steps = table[["units", "clock"]].diff()
    table[TIME] = 1000 * steps["clock"] / steps["units"]
    table = table[table["units"] > 0.08 * table["units"].max()]
    half = table[table["units"] >= table["units"].max() / 2]
    length, seconds = float(np.ptp(half["units"])), table["clock"].iloc[-1] - points[0]["clock"]
    print(f"\n{title}: {table['units'].max():,.0f} units, {seconds:.0f} s of a core")
    print("| | after a tenth | middle | end | per 1,000 | |\n|---|--:|--:|--:|--:|---|")
    flat = True
    for name in [name for name in ALLOWED if name in table and name not in ignored]:
        values = half[name].replace([np.inf, -np.inf], np.nan)
        known = values.notna()
        slope = float(theilslopes(values[known], half["units"][known])[0]) if known.sum() > 2 else 0.0
        limit = max(
            ALLOWED[name],
            (0.25 if name == TIME else 0.1) * abs(values.median()),
            kept * length / 1e6 if "MB" in name else 0,
            1000 * row * length if name == TIME else 0,
        )
        grows, judged = slope * length > limit, name != TIME or seconds >= SHORT
        flat &= not (grows and judged)
        cells = (table[name].iloc[0], half[name].iloc[0], table[name].iloc[-1], 1000 * slope)
        verdict = ("GROWS" if grows else "flat") if judged else "too short"
        print(f"| {name} | {' | '.join(f'{cell:,.1f}' for cell in cells)} | {verdict} |", flush=True)
    return flat


def project(root: Path, count: int, clips: bool, epochs: int) -> tuple[Catalog, Workspace]:
    """Write ``count`` tiny pictures, or clips of two frames, and return the configuration of a run on them."""
    rng, rows, raw = np.random.default_rng(0), [], root / "raw"
    for number in range(count):
        place = f"{number // 500:03d}/{number:05d}"
        name = place if clips else f"{place}.jpg"
        (raw / place if clips else (raw / place).parent).mkdir(parents=True, exist_ok=True)
        for frame in (1, 2) if clips else (0,):
            picture = cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (SIDE, SIDE))
            cv2.imwrite(str(raw / place / f"{frame}.jpg" if clips else raw / name), picture)
        rows.append({"path": name, "label": CLASSES[number % 3], "subject": f"p{number // 10}"})
    pd.DataFrame(rows).to_csv(raw / "manifest.csv", index=False)
    dataset = {"layout": "manifest", "root": str(raw), "classes": CLASSES}
    dataset |= {"faces": {"mode": "aligned", "detector": "none", "size": SIDE}}
    variant = {
        "dataset": "drawn",
        "init_from": "scratch",
        "protocol": {"kind": "holdout", "test_share": 0.3, "val_share": 0.2, "near_duplicates": "ignore"},
        "model": {"architecture": "small_clip" if clips else "small_picture"},
        "recipe": {"epochs": epochs, "batch_size": 32, "lr": 1e-3, "clip": {"frames": 2}},
    }
    compute = {"jobs": 1, "device": "cpu", "precision": "fp32", "folds_at_once": 1}
    blocks = {"datasets": {"drawn": dataset}, "variants": {"run": variant}, "compute": compute}
    return Catalog.model_validate(blocks | {"report": {"bootstrap": 100}}), Workspace(root)


def prepared(root: Path, count: int, epochs: int) -> tuple[Catalog, Workspace]:
    """Return a project of pictures that can be trained."""
    catalog, workspace = project(root, count, False, epochs)
    for stage, name in (("index", "drawn"), ("align", "drawn"), ("split", "run")):
        stages.run(stage, catalog, workspace, name)
    return catalog, workspace


def long_video(root: Path, given: argparse.Namespace) -> bool:
    """Predict a long video."""
    catalog, workspace = prepared(root, 60, 1)
    stages.run("train", catalog, workspace, "run")
    path, noise = root / "long.avi", np.random.default_rng(0)
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuvj420p"
        pictures = [noise.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(50)]
        for number in range(given.frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pictures[number % 50], format="rgb24")))
        container.mux(stream.encode(None))
    out = root / "out" / "rows.csv"
    plot = {"plot": root / "plot.png"} if given.plot else {}

    def rows() -> int:
        return min(1000 * sum(1 for _ in out.parent.glob("*.parts/*.parquet")), given.frames)  # the last part is empty

    with Watch(rows, given.frames, root / "work") as watch:
        failed, _ = predict(
            workspace.fold("run", 1), {}, [str(path)], [], Options(), show=lambda row: None, out=out, **plot
        )
    if failed or sum(1 for _ in out.open(encoding="utf-8")) != given.frames + 1:
        raise SystemExit(f"not every frame was predicted: {failed}")
    return judge("video: predict", [point for point in watch.points if point["units"]])


def many_clips(root: Path, given: argparse.Namespace) -> bool:
    """Align, annotate, train on and evaluate many clips."""
    from duchenne.faces.arrow import CHUNK

    catalog, workspace = project(root, given.clips, True, 2)
    reads, frame = [0], FaceStore.frame

    def counted(store: FaceStore, sample: str, i: int = 0) -> np.ndarray:
        reads[0] += 1
        return frame(store, sample, i)

    FaceStore.frame = counted  # type: ignore[method-assign]

    def done(stage: str) -> int:
        if stage == "align":
            return CHUNK["frames"] * sum(1 for _ in (work / stage).rglob("[0-9]*.arrow"))
        if stage == "landmarks":
            return CHUNK["image"] * sum(1 for _ in (work / stage).rglob("[0-9]*.arrow"))
        return reads[0] // 2

    work, flat = workspace.root / "work", True
    for stage in ("index", "align", "landmarks", "split", "train", "evaluate"):
        reads[0] = 0
        with Watch(partial(done, stage), given.clips, work) as watch:
            stages.run(stage, catalog, workspace, "drawn" if stage in ("index", "align", "landmarks") else "run")
        points = [point for point in watch.points if point["units"]]
        if len(points) > 4:  # the others read no face
            chunks = ["files on disk"] if stage in ("align", "landmarks") else []  # deleted at the end
            flat &= judge(f"clips: {stage}", points, KEPT, ignored=chunks)
    print(f"files left in work/: {sum(len(files) for _, _, files in os.walk(work))}")
    return flat


def many_epochs(root: Path, given: argparse.Namespace) -> bool:
    """Train many epochs, in one process and in many."""
    flat, process = True, multiprocessing.get_context("fork")  # what is imported here is imported there
    queue: Any = process.SimpleQueue()
    os.environ["MLFLOW_TRACKING_URI"] = ""
    for restart in (0, RESTART):
        catalog, workspace = prepared(root / f"restart_{restart}", 60, given.epochs)
        if not restart:
            child = process.Process(target=_one_process, args=(catalog, workspace, given.epochs, queue))
            child.start()
            points = queue.get()
            child.join()
            flat &= judge("epochs: one process", points, row=ROW)
        else:
            points = []
            for number in range(1, given.epochs // restart + 1):
                began = spent()
                child = process.Process(target=_killed, args=(catalog, workspace, restart, queue))
                child.start()
                measured = queue.get()
                child.join()
                last = number == given.epochs // restart
                if child.exitcode != (0 if last else 9):
                    raise SystemExit(f"the process of epochs {number * restart} ended with {child.exitcode}")
                clock = (points[-1]["clock"] if points else 0) + spent() - began
                points.append(measured | {"units": number * restart, "clock": clock})
            flat &= judge(f"epochs: a new process every {restart}", points[:-1], row=ROW)  # the last one also finishes
        flat &= _tracked(workspace, given.epochs)
    return flat


def _one_process(catalog: Catalog, workspace: Workspace, epochs: int, queue: Any) -> None:
    history = workspace.fold_state("run", 1) / "history.csv"

    def done() -> int:
        return history.read_bytes().count(b"\n") - 1 if history.exists() else 0

    torch.set_num_threads(1)
    with Watch(done, epochs, workspace.root / "work") as watch:
        stages.run("train", catalog, workspace, "run")
    queue.put([point for point in watch.points if point["units"] > 0])


def _killed(catalog: Catalog, workspace: Workspace, restart: int, queue: Any) -> None:
    """Train until so many epochs are saved, and die."""
    torch.set_num_threads(1)
    save, count = Checkpoints.save, 0

    def saved(checkpoints: Checkpoints, state_of: Any, best: Any) -> None:
        nonlocal count
        save(checkpoints, state_of, best)
        count += 1
        if count == restart:
            queue.put(state(workspace.root / "work"))
            if state_of["epoch"] < catalog.variants["run"].recipe.epochs:
                os._exit(9)

    Checkpoints.save = saved  # type: ignore[method-assign]
    stages.run("train", catalog, workspace, "run")


def _tracked(workspace: Workspace, epochs: int) -> bool:
    """Print how many values and runs MLflow has: each epoch must be there once."""
    file = workspace.root / "mlflow.db"
    if not file.exists():
        print("MLflow: not tracked")
        return True
    with closing(sqlite3.connect(file)) as store:
        rows, once = store.execute("SELECT count(*), count(DISTINCT run_uuid || key || step) FROM metrics").fetchone()
        (runs,) = store.execute("SELECT count(*) FROM runs").fetchone()
        (known,) = store.execute("SELECT count(*) FROM metrics WHERE key = 'train_loss'").fetchone()
    good = rows == once and runs == 2 and known == epochs
    print(f"MLflow: {runs} runs, {rows:,} values, {rows - once} of them twice, train_loss of {known} epochs")
    return good


PARTS: dict[str, Callable[[Path, argparse.Namespace], bool]] = {
    "video": long_video,
    "clips": many_clips,
    "epochs": many_epochs,
}


def main() -> None:
    """Run the parts and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", help=f"which of {', '.join(PARTS)}; default: all")
    parser.add_argument("--frames", type=int, default=100_000, help="of the video")
    parser.add_argument("--clips", type=int, default=10_000, help="samples of the set")
    parser.add_argument("--epochs", type=int, default=500, help="of each of the two training runs")
    parser.add_argument("--plot", action="store_true", help="video: also draw the probabilities over time")
    parser.add_argument("--trace", action="store_true", help="also measure what Python allocates; much slower")
    given = parser.parse_intermixed_args()
    if unknown := set(given.parts) - PARTS.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    if given.trace:
        tracemalloc.start()
    flat = True
    for part in given.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            flat &= PARTS[part](Path(folder), given)
    sys.exit(not flat)


if __name__ == "__main__":
    main()
