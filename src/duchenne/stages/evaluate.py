"""Evaluate stage: from checkpoints to predictions, features and metrics in ``results/<variant>``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from duchenne.config import Catalog
from duchenne.errors import UserError
from duchenne.files import replacing, write_json
from duchenne.stages.samples import with_faces
from duchenne.workspace import Workspace

if TYPE_CHECKING:  # slow to import
    from torch import nn

    from duchenne.faces.store import FaceStore


def run(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Predict every test sample with the network that was not trained on it, and measure."""
    from duchenne.training.trained import load_trained

    out = workspace.results(variant)
    measure_folds(catalog, workspace, variant, lambda fold, *_: load_trained(workspace.fold(variant, fold)), out)
    histories = [
        pd.read_csv(folder / "history.csv").assign(fold=fold) for fold, folder in workspace.folds(variant).items()
    ]
    with replacing(out / "history.csv") as path:
        pd.concat(histories, ignore_index=True).to_csv(path, index=False)


def measure_folds(
    catalog: Catalog,
    workspace: Workspace,
    variant: str,
    network: Callable[[int, pd.DataFrame, FaceStore], tuple[nn.Module, dict[str, Any]]],
    out: Path,
    only: int | None = None,
) -> dict[str, Any]:
    """Predict and measure the test part of each fold with that fold's network and card."""
    from duchenne.datasets.index import read_index
    from duchenne.evaluation.statistics import evaluate as measure
    from duchenne.evaluation.statistics import evaluate_parts, evaluate_without
    from duchenne.faces.store import FaceStore
    from duchenne.splits import count_tested, remaining
    from duchenne.training.trained import predict

    config = catalog.variants[variant]
    store = FaceStore(workspace.faces(config.dataset))
    table = read_index(workspace.index(config.dataset))
    split = pd.read_parquet(workspace.split(variant))
    every = split[split.part == "test"]
    if only is not None:
        if only not in set(every.fold):
            raise UserError(f"{variant} has no fold {only}: it has {', '.join(map(str, sorted(set(every.fold))))}")
        every = every[every.fold == only]
    parts = with_faces(every, table.rows, store)
    predictions, features = [], []
    for fold, samples in parts.groupby("fold"):
        model, card = network(int(fold), samples, store)
        logits, vectors = predict(model, store, samples, card, catalog.compute)
        predictions.append(_predictions(samples, logits, table.classes))
        features.append(vectors)
    frame = pd.concat(predictions, ignore_index=True)

    how = {"classes": table.classes, "bootstrap": catalog.report.bootstrap, "seed": config.seed}
    metrics = measure(frame, **how)
    if catalog.datasets[config.dataset].facts.parts:  # names of samples begin with the name of a part
        metrics |= evaluate_parts(frame, frame["sample"].str.partition("/")[0], **how)
    copies = remaining(pd.read_parquet(workspace.duplicates(variant)), split)
    copies = copies[copies["fold"].isin(every["fold"])]
    tested = copies[copies["part"] == "test"]
    copied = pd.MultiIndex.from_frame(frame[["fold", "sample"]]).isin(
        pd.MultiIndex.from_frame(tested[["fold", "sample"]])
    )
    metrics |= {"near_duplicates": count_tested(copies)} | evaluate_without(frame, copied, **how)
    metrics |= {"missed": len(every) - len(parts), "selection": config.selection}

    with replacing(out / "predictions.parquet") as path:
        frame.to_parquet(path, index=False)
    with replacing(out / "features.npz") as path, path.open("wb") as file:
        matrix = np.concatenate(features).astype(np.float16)
        np.savez(file, sample=frame["sample"].to_numpy(str), fold=frame["fold"].to_numpy(), features=matrix)
    names = dict(enumerate(table.classes))
    with replacing(out / "confusion.csv") as path:
        pairs = {"actual": frame.label.map(names), "predicted": frame.predicted.map(names)}
        pd.DataFrame(pairs).to_csv(path, index=False)
    write_json(out / "metrics.json", metrics)
    return metrics


def _predictions(samples: pd.DataFrame, logits: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """Return a row per sample: the class of its largest logit, and probabilities (float64) of logits (N, classes)."""
    from scipy.special import softmax

    probabilities = softmax(logits.astype(float), axis=1)
    frame = samples[["sample", "fold", "subject", "label"]].reset_index(drop=True)
    frame["predicted"] = logits.argmax(axis=1)
    frame["confidence"] = probabilities.max(axis=1)
    columns = {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)}
    return frame.assign(**columns)
