"""Benchmark of growth: time and memory of each step of the pipeline against the number of samples.

    python benchmarks/growth.py                           # 1,000 to 300,000 samples
    python benchmarks/growth.py --sizes 1000 3000 10000   # a look

Writes stand-in faces (48 px, drawn from random numbers, ten a person) and runs each step on them in a process of its
own, with one worker: index, align (``mode: aligned``), split, split with the leak check, one epoch of the loader, and
evaluation with 2,000 resamples. Prints seconds of processor time and the growth of the peak memory, without those of
the imports, for each number of samples, and the exponent of time: the slope of a line through the logarithms of the
three largest sizes. 1 is linear. The leak check compares all pairs of hashes, so that it misses none: its exponent
tends to 2.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from duchenne.config import Catalog
from duchenne.workspace import Workspace

SIZES = (1000, 3000, 10_000, 30_000, 100_000, 300_000)
CLASSES = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
SIDE, PER_SUBJECT, PER_FOLDER = 48, 10, 1000


def write_faces(root: Path, count: int) -> None:
    """Write ``count`` pictures, no two alike, and the manifest that lists them."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        folder = root / f"{number // PER_FOLDER:04d}"
        if number % PER_FOLDER == 0:
            folder.mkdir(parents=True)
        picture = cv2.resize(rng.integers(0, 256, (12, 12, 3), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.jpg"), picture)
        rows.append((f"{folder.name}/{number}.jpg", CLASSES[number % 7], f"p{number // PER_SUBJECT}"))
    pd.DataFrame(rows, columns=["path", "label", "subject"]).to_csv(root / "manifest.csv", index=False)


def catalog_of(root: Path) -> Catalog:
    """Return the configuration of the stand-in dataset and of a variant on it."""
    protocol = {"kind": "holdout", "test_share": 0.2, "val_share": 0.1}
    recipe = {"epochs": 1, "batch_size": 64, "lr": 1e-4, "augment": {"hflip": 0.5}}
    model = {"architecture": "poster_v2"}
    dataset = {
        "layout": "manifest",
        "root": str(root / "raw"),
        "classes": CLASSES,
        "faces": {"mode": "aligned", "size": SIDE},
    }
    variant = {"dataset": "faces", "init_from": "scratch", "protocol": protocol, "model": model, "recipe": recipe}
    return Catalog.model_validate(
        {"compute": {"jobs": 1}, "datasets": {"faces": dataset}, "variants": {"run": variant}}
    )


def prepare_index(catalog: Catalog, workspace: Workspace) -> Callable[[], object]:
    from duchenne.stages import index

    return lambda: index.run(catalog, workspace, "faces")


def prepare_align(catalog: Catalog, workspace: Workspace) -> Callable[[], object]:
    import datasets  # noqa: F401  (imported by the stage)

    from duchenne.faces import build  # noqa: F401
    from duchenne.stages import align

    return lambda: align.run(catalog, workspace, "faces")


def prepare_split(catalog: Catalog, workspace: Workspace) -> Callable[[], object]:
    from duchenne import splits
    from duchenne.datasets.index import read_index

    protocol = catalog.variants["run"].protocol
    return lambda: splits.make_splits(read_index(workspace.index("faces")).rows, protocol)


def prepare_leak_check(catalog: Catalog, workspace: Workspace) -> Callable[[], object]:
    from duchenne import splits  # noqa: F401
    from duchenne.stages import split

    return lambda: split.run(catalog, workspace, "run")


def prepare_loader(catalog: Catalog, workspace: Workspace) -> Callable[[], object]:
    import datasets  # noqa: F401

    from duchenne.datasets.index import read_index
    from duchenne.faces.store import FaceStore
    from duchenne.training.augment import transform
    from duchenne.training.data import Draws, FaceImages, loader

    recipe = catalog.variants["run"].recipe
    data = {"input_size": (3, SIDE, SIDE), "mean": (0.5,) * 3, "std": (0.5,) * 3}

    def run() -> None:
        rows = read_index(workspace.index("faces")).rows
        faces = FaceImages(FaceStore(workspace.faces("faces")), rows, transform(data, recipe.augment))
        for _ in loader(faces, recipe.batch_size, draws=Draws(rows["label"], recipe.batch_size, False, 0)):
            pass

    return run


def prepare_evaluation(catalog: Catalog, workspace: Workspace) -> Callable[[], object]:
    from duchenne.datasets.index import read_index
    from duchenne.evaluation.statistics import evaluate

    def run() -> None:
        rows = read_index(workspace.index("faces")).rows
        logits = np.random.default_rng(0).normal(size=(len(rows), len(CLASSES)))
        logits[np.arange(len(rows)), rows["label"].to_numpy(int)] += 1
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        found = {"predicted": probabilities.argmax(axis=1), "confidence": probabilities.max(axis=1), "fold": 1}
        columns = {f"p_{name}": probabilities[:, place] for place, name in enumerate(CLASSES)}
        evaluate(rows[["sample", "subject", "label"]].assign(**found, **columns), CLASSES)

    return run


STEPS = {
    "index": prepare_index,
    "align": prepare_align,
    "split": prepare_split,
    "split with leak check": prepare_leak_check,
    "loader": prepare_loader,
    "evaluation": prepare_evaluation,
}


def measure(step: str, root: Path, results: multiprocessing.Queue) -> None:
    """Run a step and send its processor time, s, and the growth of the process's peak memory, MB."""
    cv2.setNumThreads(1)
    run = STEPS[step](catalog_of(root), Workspace(root))
    before, start = peak(), time.process_time()
    run()
    results.put((time.process_time() - start, peak() - before))


def peak() -> float:
    """Return the largest memory that this process has had, MB (of Linux, where the unit is kB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def exponent(sizes: list[int], values: list[float]) -> float:
    """Return the slope of a line through the logarithms of the last three points."""
    return float(np.polyfit(np.log(sizes[-3:]), np.log(values[-3:]), 1)[0])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--folder", type=Path, help="where the samples are written; default: a temporary folder")
    chosen = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    seconds: dict[str, list[float]] = {step: [] for step in chosen.steps}
    memory: dict[str, list[float]] = {step: [] for step in chosen.steps}
    print(f"| samples | {' | '.join(chosen.steps)} |\n|--:|{'--:|' * len(chosen.steps)}")
    for count in chosen.sizes:
        root = Path(tempfile.mkdtemp(dir=chosen.folder))
        try:
            write_faces(root / "raw", count)
            for step in chosen.steps:
                results = context.Queue()
                process = context.Process(target=measure, args=(step, root, results))
                process.start()
                process.join()
                if process.exitcode:
                    raise SystemExit(f"{step} failed with {count} samples")
                spent, more = results.get()
                seconds[step].append(spent)
                memory[step].append(more)
        finally:
            shutil.rmtree(root)
        cells = (f"{seconds[step][-1]:.2f} s, {memory[step][-1]:.0f} MB" for step in chosen.steps)
        print(f"| {count:,} | {' | '.join(cells)} |", flush=True)
    if len(chosen.sizes) > 1:
        slopes = (f"{exponent(chosen.sizes, seconds[step]):.2f}" for step in chosen.steps)
        print(f"| exponent of time | {' | '.join(slopes)} |")


if __name__ == "__main__":
    main()
