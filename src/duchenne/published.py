"""Evaluation of published weights on a dataset, in the same way as trained runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import confusion_matrix
from torch import nn

from duchenne.config import Catalog
from duchenne.datasets.index import read_index
from duchenne.errors import UserError
from duchenne.faces.store import FaceStore
from duchenne.models.contract import create
from duchenne.models.official import load_official
from duchenne.stages.evaluate import measure_folds
from duchenne.training.trained import make_card
from duchenne.workspace import Workspace

log = logging.getLogger(__name__)


def evaluate_checkpoint(
    catalog: Catalog,
    workspace: Workspace,
    variant: str,
    checkpoint: Path,
    fold: int,
    out: Path,
    order: list[str] | None = None,
) -> dict[str, Any]:
    """Measure published weights on the test part of a variant, without training; returns the metrics.

    Warns when the outputs look like the right classes in a different order: training on a folder tree gives the
    alphabetical order of its folder names, which is not stored in a checkpoint.

    Published weights run in float32, like those of their owners, unless ``compute.precision`` says bf16: with ``auto``
    the result does not depend on the machine.

    Args:
        checkpoint: published file of weights for the variant's network.
        fold: fold whose test part is used; 1 if there are no folds.
        out: folder of predictions, features and metrics.
        order: classes in the order of the checkpoint's outputs; None: the dataset's.

    Raises:
        UserError: The faces or the split do not exist yet, there is no such fold, the classes of ``order`` are not
            those of the dataset, or an entry does not fit.
    """
    config = catalog.variants[variant]
    for path in (workspace.faces(config.dataset), workspace.split(variant), workspace.duplicates(variant)):
        if not path.exists():
            raise UserError(f"{path} is missing: run `duchenne add {variant}`, then `dvc repro split@{variant}`")
    classes = read_index(workspace.index(config.dataset)).classes
    order = order or classes
    if sorted(order) != sorted(classes):
        raise UserError(f"--order names {', '.join(order)}; the classes of {config.dataset} are {', '.join(classes)}")

    def published(fold: int, samples: pd.DataFrame, store: FaceStore) -> tuple[nn.Module, dict[str, Any]]:
        model = create(config.model.architecture, config.model.options, len(classes))
        load_official(model, checkpoint)
        last = model.get_submodule(model.default_cfg["classifier"])
        for entry in last.parameters():
            entry.data = entry.data[[order.index(name) for name in classes]]
        precision = "bf16" if catalog.compute.precision == "bf16" else "fp32"
        return model, make_card(model, config, classes, fold, samples, store, precision, selected=None)

    metrics = measure_folds(catalog, workspace, variant, published, out, only=fold)
    frame = pd.read_parquet(out / "predictions.parquet")
    counts = confusion_matrix(frame["predicted"], frame["label"], labels=range(len(classes)))
    outputs, meant = linear_sum_assignment(counts, maximize=True)
    if counts[outputs, meant].sum() / len(frame) > metrics["war"] + 0.2:
        by_class = dict(zip((classes[i] for i in outputs), (classes[i] for i in meant), strict=True))
        log.warning(
            "the outputs seem to be in another order: try --order %s", ",".join(by_class[name] for name in order)
        )
    return metrics
